"""``bench report``: the page says what the store says, and works in a real browser from ``file://``."""

import dataclasses
import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pandas
import pytest
from PIL import Image

from benchmark import leaderboard as boards
from benchmark import literature, records, report, report_gallery, report_text
from benchmark.data.locate import cache_dir
from benchmark.errors import BenchError
from benchmark.plan import Request, plan
from benchmark.registry import Registry
from benchmark.runner import Limits, Session, run_all
from benchmark.store import Store
from tests.helpers.browser import CHROMIUM, Browser
from tests.helpers.make_folder import make_folder

PLUGIN = '''
import numpy as np
from benchmark import Method, Predictions

class Staged(Method):
    """Everything that a gallery can show."""
    name, tracks = "staged", frozenset({"embedding", "reconstruction"})
    def train(self, train, *, seed, device, workdir):
        self.space, self.target, self.seed = train.space, train.target(), seed
        self.images = np.asarray(train.stimuli.images)[train.stimulus]
    def predict(self, fmri):
        n = len(fmri)
        images = self.images[:n]
        return Predictions(
            embeddings={self.space: self.target[:n] + np.float32(self.seed % 7) / 100},
            images=images,
            captions=[f"<img src=x onerror=fail()> & thing {i}" for i in range(n)],
            intermediates={"first <stage>": 255 - images, "code": self.target[:n]},
        )

class Broken(Method):
    name, tracks = "broken", frozenset({"embedding", "reconstruction"})
    def train(self, train, *, seed, device, workdir): raise RuntimeError("it broke")
    def predict(self, fmri): raise RuntimeError
'''
METHODS = ("ridge", "oracle", "staged", "broken")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store of four methods on two subjects, and the data behind it."""
    root = tmp_path_factory.mktemp("report")
    (root / "mine.py").write_text(PLUGIN)
    tiny = make_folder(root / "tiny", n_stimuli=16, n_test=6, image_size=16)
    request = Request(dataset="tiny", methods=METHODS, data=tiny, cache=root / "cache", subjects=("S1", "S2"))
    run_all(plan(Registry([root / "mine.py"]), request), Session(Store(root / "runs"), Limits()))
    return root


@pytest.fixture(scope="module")
def page(made):
    """The report of that store."""
    return write(made, made / "page").parent


@pytest.fixture(scope="module")
def extended(made, tmp_path_factory):
    """A report with a ladder and with published numbers, which no method or data set of that store has."""
    items = records.from_store(Store(made / "runs"))
    for item in items:
        if item["method"] == "staged" and item["status"] == "ok":
            own = item["scores"]["reconstruction"]
            rung = {name: score | {"value": 0.987} for name, score in own.items()}
            verdict = "regression: most is lost there"
            item["ladder"] = {"rungs": {"true features": rung}, "features": {"latent": 0.6}, "verdict": verdict}
    row = {"method": "<img src=x> et al. 2020", "protocol": "one", "source": "a paper", "check": "V"}
    published = {"track": "embedding", "dataset": "tiny", "split": "main", "columns": ["two_way"], "note": "a note"}
    published["rows"] = [row | {"values": {"two_way": 0.9}}]
    truth = partial(report_gallery.truth_of, Registry(), data=made / "tiny", cache=made / "cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(literature, "_tables", lambda: [published])
        out = tmp_path_factory.mktemp("extended") / "page"
        return report.write(out, boards.tables(items, {}), made / "runs", truth).parent


def tables_of(made):
    return boards.tables(records.from_store(Store(made / "runs")), {})


def write(made, out, data="tiny", **more):
    truth = partial(report_gallery.truth_of, Registry(), data=data and made / data, cache=made / "cache")
    return report.write(out, tables_of(made), made / "runs", truth, **more)


def content(path):
    """Return what a data file assigns."""
    return json.loads(path.read_text().partition(" = ")[2].rstrip(";\n"))


def gallery(page, number=0):
    return content(page / f"data/tiny/{number}.js")


def of(found, label):
    return next(r for r in found["runs"] if r["label"] == label)


def folder_of(made, run):
    (path,) = (made / "runs").glob(f"tiny/tiny/*/{run['run_id']}")
    return path


def tile(page, sheet, row):
    """Return one picture of a sheet, by the rule that the page uses."""
    line, column = divmod(row % sheet["per"], sheet["columns"])
    x, y = (k * pitch + sheet["margin"] for k, pitch in zip((column, line), sheet["pitch"], strict=True))
    with Image.open(page / sheet["files"][row // sheet["per"]]) as picture:
        return np.asarray(picture)[y : y + sheet["size"][1], x : x + sheet["size"][0]]


def everything(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_tables_are_those_of_the_boards(made, page):
    found = {t["track"]: t for t in content(page / "data/tiny.js")["tables"]}
    expected = tables_of(made)
    assert set(found) == {t.track for t in expected} == {"words", "embedding", "reconstruction"}
    for table in expected:
        shown = found[table.track]
        assert shown["columns"][0]["name"] == shown["ranked"] == table.ranked
        assert {c["name"] for c in shown["columns"]} == set(table.columns)
        rows = {row.label: row for row in table.rows}
        for row in shown["rows"]:
            wanted = rows.pop(row["label"])
            assert (row["rank"], row["control"], row["tags"]) == (wanted.rank, wanted.control, list(wanted.tags))
            assert {c: m["value"] for c, m in row["metrics"].items()} == {
                c: m["value"] for c, m in wanted.metrics.items()
            }
            assert row["interval"] == (None if wanted.interval is None else pytest.approx(wanted.interval))
        assert not rows
    broken = next(r for r in found["embedding"]["rows"] if r["label"] == "broken")
    assert broken["rank"] is None
    assert [(x["status"], x["reason"]) for x in broken["runs"]] == [("failed", "train: RuntimeError: it broke")] * 2


def test_three_subjects_give_an_interval_over_subjects():
    score = {"n": 4, "chance": 0.5, "higher_is_better": True, "version": 1, "protocol": "bench-1"}
    values = {"A": 0.6, "B": 0.7, "C": 0.8}
    items = [
        {
            **{name: "x" for name in ("suite", "dataset", "split", "method", "profile", "run_id", "commit")},
            **{"preset": "default", "seed": 0, "status": "ok", "reason": "", "tags": [], "control": False},
            **{"date": "2026-01-02", "dirty": False, "seconds": {}, "peak_mb": None, "suite_version": "1"},
            **{"split_unit": "stimulus", "subject": subject, "tracks": ["words"]},
            "scores": {"words": {"two_way": score | {"value": value}}},
        }
        for subject, value in values.items()
    ]
    (table,) = boards.tables(items, {})
    shown = report._table(table)
    # t interval of .6, .7, .8: mean ± 4.302653 * .1 / sqrt(3)
    assert shown["rows"][0]["interval"] == pytest.approx((0.7 - 0.2484138, 0.7 + 0.2484138), abs=1e-6)
    assert shown["over"] == "subjects"
    assert shown["rows"][0]["seconds"] is None


def test_the_sheets_hold_the_stimuli_and_what_was_predicted(made, page):
    found = gallery(page)
    stimuli = {s: i for i, s in enumerate(f"stim{i:03d}" for i in range(16))}
    images = np.load(made / "tiny/images.npy")
    for row, item in enumerate(found["items"]):
        np.testing.assert_array_equal(tile(page, found["stimuli"], row), images[stimuli[item["stimulus"]]])
        assert item["captions"][1] == f"thing {stimuli[item['stimulus']]}"
        assert item["word"] == f"word{stimuli[item['stimulus']]}"
    staged = of(found, "staged")
    folder = folder_of(made, staged) / "predictions/fold0"
    assert [i["id"] for i in found["items"]] == json.loads((folder / "items.json").read_text())
    assert [p["name"] for p in staged["pictures"]] == ["", "first <stage>"]  # the code is no picture
    for sheet, name in zip(staged["pictures"], ("images", "intermediates.first <stage>"), strict=True):
        for row, picture in enumerate(np.load(folder / f"{name}.npy")):
            np.testing.assert_array_equal(tile(page, sheet, row), picture)
    assert staged["captions"][2] == "<img src=x onerror=fail()> & thing 2"
    assert of(found, "oracle")["captions"] is None


def test_item_scores_and_retrieved_stimuli(made, page):
    found = gallery(page)
    ids = [i["id"] for i in found["items"]]
    latent = np.load(made / "tiny/latent.npy").astype(float)
    rows = [int(i["stimulus"][4:]) for i in found["items"]]
    for label in ("ridge", "staged", "oracle"):
        run = of(found, label)
        frame = pandas.read_parquet(folder_of(made, run) / "scores.parquet")
        frame = frame[(frame.track == "embedding") & (frame.metric == "two_way")].set_index("item")["value"]
        shown = run["scores"]["embedding"]["two_way"]
        np.testing.assert_allclose(shown, frame[ids], rtol=1e-3)
        predicted = np.load(folder_of(made, run) / "predictions/fold0/embeddings.latent.npy").astype(float)
        units = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (predicted, latent[rows])]
        cosine = units[0] @ units[1].T
        best = run["retrieved"]["embedding"]
        assert best["best"] == np.argsort(-cosine, axis=1)[:, :5].tolist()
        own = np.diag(cosine)[:, None]
        assert best["rank"] == (1 + (cosine > own + 1e-9).sum(1)).tolist()
        assert best["of"] == [6] * 6
    assert of(found, "oracle")["retrieved"]["embedding"]["rank"] == [1] * 6
    assert set(of(found, "staged")["scores"]) == {"embedding", "reconstruction"}
    assert "r2" not in of(found, "staged")["scores"]["embedding"]  # its values are of dimensions, not items


def test_the_first_subject_unless_all_are_asked_for(made, page, tmp_path):
    listed = content(page / "data/tiny.js")["galleries"]
    assert [g["title"] for g in listed] == ["tiny, main, S1, seed 0"]
    both = content(write(made, tmp_path / "all", everything=True).parent / "data/tiny.js")["galleries"]
    assert [g["title"] for g in both] == ["tiny, main, S1, seed 0", "tiny, main, S2, seed 0"]
    found = gallery(tmp_path / "all", 1)
    assert [r["control"] for r in found["runs"]] == [False, False, True]
    assert {r["label"] for r in found["runs"]} == {"ridge", "oracle", "staged"}


def test_every_run_has_its_card_and_those_shown_their_figures(made, page):
    shown = {r["run_id"] for r in gallery(page)["runs"]}
    runs = {run.id: run for run in Store(made / "runs").runs()}
    assert {p.stem for p in (page / "data/tiny/runs").iterdir()} == set(runs)
    assert shown < set(runs)
    for name, run in runs.items():
        found = content(page / f"data/tiny/runs/{name}.js")
        assert found["path"] == str(run.path.relative_to(made / "runs"))
        assert found["json"].encode() == (run.path / "card.json").read_bytes()
        assert f"<h1>{found['title']}" in report_text.html((run.path / "card.md").read_text())
        assert "<h3>What was run</h3>" in found["html"]
        figures = sorted(path.name for path in run.path.glob("*.png"))
        assert found["left_out"] == (0 if name in shown else len(figures))
        assert sorted(Path(f["file"]).name for f in found["figures"]) == (figures if name in shown else [])
        for figure in found["figures"]:
            assert (page / figure["file"]).read_bytes() == (run.path / Path(figure["file"]).name).read_bytes()
    staged = content(page / f"data/tiny/runs/{of(gallery(page), 'staged')['run_id']}.js")
    assert {f["name"] for f in staged["figures"]} >= {"ranks of the right candidate", "what was reconstructed"}


def test_the_sections_below_a_table_are_those_of_the_board(made, extended):
    tables = {t["track"]: t for t in content(extended / "data/tiny.js")["tables"]}
    titles = {track: [s["title"] for s in t["sections"]] for track, t in tables.items()}
    elsewhere = "Reported elsewhere (not measured here, not ranked)"
    assert titles == {
        "words": [],
        "embedding": ["Differences from ridge", elsewhere],
        "reconstruction": ["Differences from ridge", "Ladder"],
    }
    differences = tables["embedding"]["sections"][0]["html"]
    assert ">staged</td>" in differences
    published = tables["embedding"]["sections"][1]["html"]
    assert "&lt;img src=x&gt; et al. 2020" in published
    assert "<img" not in published
    ladder = tables["reconstruction"]["sections"][1]["html"]
    assert "true features" in ladder
    assert "0.987" in ladder


@pytest.mark.parametrize("text", ["<b>x</b>", "<script>fail()</script>", "![x](http://a/b.png)", "[x](javascript:f())"])
def test_markup_in_markdown_is_text(text):
    found = report_text.html(f"- {text}\n\n| {text} |\n|---|\n| {text} |\n")
    for markup in ("<b", "<script", "<img", "<a"):
        assert markup not in found
    assert found.count("x" if "x" in text else "fail()") == 3


def test_the_same_store_gives_the_same_bytes(made, page, tmp_path):
    assert everything(write(made, tmp_path / "again").parent) == everything(page)


def test_nothing_of_it_comes_from_elsewhere(page):
    for name, text in everything(page).items():
        if name.endswith((".html", ".js", ".css")):
            assert b"://" not in text.replace(b"file://", b""), name
    index = (page / "index.html").read_text()
    assert '<script defer src="data/tiny.js"></script>' in index
    assert "<!--" not in index.partition("<body>")[0]


def test_without_the_data_the_stimuli_are_said_to_be_missing(made, tmp_path):
    found = gallery(write(made, tmp_path / "out", data=None).parent)
    assert found["stimuli"] is None
    assert found["notes"][0].startswith("Stimuli are not available: ")
    assert len(found["notes"]) == 1
    assert len(found["items"]) == 6
    staged = of(found, "staged")
    assert len(staged["pictures"]) == 2
    assert len(staged["scores"]["embedding"]["two_way"]) == 6
    assert staged["retrieved"] == {}


def test_stimuli_of_other_data_are_not_shown(made, tmp_path):
    make_folder(tmp_path / "tiny", n_stimuli=16, n_test=6, image_size=16, seed=1)
    truth = partial(report_gallery.truth_of, Registry(), data=tmp_path / "tiny", cache=tmp_path / "cache")
    report.write(tmp_path / "out", tables_of(made), made / "runs", truth)
    found = gallery(tmp_path / "out")
    assert found["notes"] == ["Stimuli are not available: the data or the split are not those of these runs."]
    assert found["stimuli"] is None
    assert len(found["runs"]) == 3


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda run: shutil.rmtree(run / "predictions"), "holds no predictions"),
        (lambda run: (run / "predictions/fold0/images.npy").write_bytes(b"no array"), "cannot be read"),
        (lambda run: (run / "scores.parquet").write_bytes(b"no table"), "cannot be read"),
        (lambda run: (run / "predictions/fold0/items.json").write_text('["fold0/x"]'), "made from other data"),
    ],
)
def test_a_damaged_run_is_named_and_the_others_are_shown(made, page, tmp_path, damage, said):
    shutil.copytree(made, tmp_path / "copy", ignore=shutil.ignore_patterns("page"))
    damage(folder_of(tmp_path / "copy", of(gallery(page), "staged")))
    found = gallery(write(tmp_path / "copy", tmp_path / "out").parent)
    assert {r["label"] for r in found["runs"]} == {"ridge", "oracle"}
    (note,) = found["notes"]
    assert note.startswith("staged is not shown: ")
    assert said in note


def test_a_dataset_of_words_has_no_pictures(made, tmp_path):
    ((place, entries),) = report_gallery.places(tables_of(made))
    truth = report_gallery.truth_of(Registry(), place, made / "tiny", made / "cache")
    folds = {k: (items, dataclasses.replace(s, images=None)) for k, (items, s) in truth.folds.items()}
    truth = dataclasses.replace(truth, folds=folds)
    found = report_gallery.gallery(place, entries, made / "runs", truth, tmp_path, "p")
    assert found["stimuli"] is None
    assert found["items"][0]["word"].startswith("word")
    assert found["notes"] == []
    assert of(found, "oracle")["retrieved"]["embedding"]["rank"] == [1] * 6


@pytest.mark.parametrize(("height", "width", "channels"), [(200, 100, 3), (100, 37, 1)])
def test_large_pictures_shrink_and_do_not_run_into_each_other(tmp_path, height, width, channels):
    level = np.random.default_rng(0).integers(0, 256, (130, 1, 1, channels), dtype=np.uint8)
    pictures = np.broadcast_to(level, (130, height, width, channels))
    sheet = report_gallery._sheet(tmp_path, "a b/s", [pictures[:60], pictures[60:]])
    assert sheet["files"] == ["a%20b/s-0.jpg", "a%20b/s-1.jpg"]
    scale = min(1, 128 / max(height, width))
    assert sheet["size"] == [round(width * scale), round(height * scale)]
    assert all(p % 8 == 0 for p in sheet["pitch"])
    named = sheet | {"files": [name.replace("%20", " ") for name in sheet["files"]]}
    for row in (0, 9, 10, 99, 100, 129):
        found = tile(tmp_path, named, row).reshape(-1, channels).astype(int)
        assert np.abs(found - level[row].reshape(channels)).max() <= 6  # what JPEG does to one colour


def test_a_report_appears_whole_or_not_at_all(made, tmp_path, monkeypatch):
    out = tmp_path / "out"
    write(made, out)
    before = everything(out)
    write(made, out)  # an earlier report is replaced
    assert everything(out) == before

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report, "_table", full)
    with pytest.raises(BenchError, match="No space left"):
        write(made, out)
    assert everything(out) == before
    with pytest.raises(BenchError):
        write(made, tmp_path / "new")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_bad_input_is_one_sentence(bench, made, tmp_path):
    def said(*arguments):
        code, out, err = bench("report", *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1), err
        return err

    assert "--store nowhere: no such folder" in said("--store", "nowhere")
    (tmp_path / "empty").mkdir()
    assert "holds no run" in said("--store", "empty")
    assert "holds no run of suite mini" in said("--store", made / "runs", "--suite", "mini")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    assert "--out mine: holds other files" in said("--store", made / "runs", "--out", "mine")
    assert (tmp_path / "mine/thesis.txt").read_text() == "years of work"
    (tmp_path / "mine/index.html").write_text(f"{report.MARK}")
    assert "holds other files" in said("--store", made / "runs", "--out", "mine")


def test_the_verb(bench, made, page, tmp_path):
    shutil.copytree(made / "runs", tmp_path / "runs")
    code, out, err = bench("report", "--data", made / "tiny", "--suite", "tiny")
    assert code == 0, err
    assert out.startswith("report: runs/report/index.html (")
    assert everything(tmp_path / "runs/report") == everything(page)
    assert bench("report", "--data", made / "tiny")[0] == 0  # again, and the report in the store is no run
    assert cache_dir().is_dir()


needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium in PATH (Debian: apt install chromium)")
READY = "document.documentElement.dataset.ready"
TITLES = "[...document.querySelectorAll('.grid button')].map(b => b.querySelector('span').textContent)"
OPEN = "document.getElementById('item').open"
# Every picture in view is a file that can be decoded.
LOADED = """Promise.all([...document.querySelectorAll('.tile')].map(tile => {
  const image = new Image();
  image.src = tile.style.backgroundImage.slice(5, -2);
  return image.decode().then(() => image.naturalWidth);
})).then(widths => widths.length && widths.every(w => w > 0))"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture
def opened(browser, page):
    """A browser at the report; whatever the test does, no error may be in its console and no request leave the disk."""
    yield from visit(browser, page)


@pytest.fixture
def opened_extended(browser, extended):
    """The same at the report with a ladder and published numbers."""
    yield from visit(browser, extended)


def visit(browser, page):
    browser.errors.clear()
    browser.urls.clear()
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])
    browser.open("about:blank")
    browser.open((page / "index.html").as_uri(), READY)
    browser.js("localStorage.clear()")
    yield browser
    assert browser.errors == []
    assert browser.urls
    assert all(url.startswith((page.as_uri(), "data:", "about:")) for url in browser.urls), browser.urls


def choose(browser, name, value):
    browser.js(f"(s => {{ s.value = {value!r}; s.dispatchEvent(new Event('change')); }})($('choose-{name}'))")


@needs_chromium
def test_browser_sorts(opened, page):
    table = content(page / "data/tiny.js")["tables"][0]
    methods = "[...document.querySelectorAll('section')[0].querySelectorAll('tbody th button')].map(b => b.textContent)"
    heads = "[...document.querySelectorAll('section')[0].querySelectorAll('thead th')]"
    assert opened.js(methods) == [r["label"] for r in table["rows"]]
    for name, first in (("l1", False), ("cosine", True)):
        known = {r["label"]: r["metrics"][name]["value"] for r in table["rows"] if name in r["metrics"]}
        absent = [r["label"] for r in table["rows"] if name not in r["metrics"]]
        place = opened.js(f"{heads}.findIndex(th => th.textContent.startsWith('{name} '))")
        for descending in (first, not first):  # the best first, then the worst
            opened.click("section:first-of-type thead button", place)
            assert opened.js(methods) == sorted(known, key=known.get, reverse=descending) + absent
            assert opened.js(f"{heads}[{place}].ariaSort") == ("descending" if descending else "ascending")


@needs_chromium
def test_browser_filters_and_toggles_controls(opened):
    methods = "[...new Set([...document.querySelectorAll('tbody th button')].map(b => b.textContent))].sort().join()"
    assert opened.js(methods) == "broken,oracle,ridge,staged"
    opened.key("/")
    assert opened.js("document.activeElement.id") == "filter"
    for letter in "STAG":
        opened.key(letter)
    assert opened.js(methods) == "staged"
    opened.key("Escape")
    assert opened.js("document.getElementById('filter').value") == ""
    assert opened.js(methods) == "broken,oracle,ridge,staged"
    opened.click("#controls")
    assert opened.js(methods) == "broken,ridge,staged"


@needs_chromium
def test_browser_shows_a_rows_runs(opened):
    place = opened.js("[...document.querySelectorAll('tbody th button')].findIndex(b => b.textContent === 'broken')")
    opened.click("tbody th button", place)
    assert "failed: train: RuntimeError: it broke" in opened.js("document.querySelector('tr.more').textContent")
    assert opened.js("document.activeElement.getAttribute('aria-expanded')") == "true"


@needs_chromium
def test_browser_opens_the_card_of_a_run(opened, page):
    run = of(gallery(page), "staged")
    place = opened.js("[...document.querySelectorAll('tbody th button')].findIndex(b => b.textContent === 'staged')")
    opened.click("tbody th button", place)
    opened.js("document.querySelector('tr.more a').focus()")
    opened.key("Enter")
    opened.wait(f"{READY} === '#run/tiny/{run['run_id']}' && document.querySelector('.prose h3') !== null")
    assert opened.js("document.querySelector('h2').textContent") == "staged on tiny/S1 seed 0"
    assert opened.js("document.querySelectorAll('section').length") == 0  # the boards are gone
    figures = "[...document.querySelectorAll('.figures img')]"
    assert min(opened.js(f"Promise.all({figures}.map(i => i.decode().then(() => i.naturalWidth)))")) > 100
    saved = opened.js("fetch(document.querySelector('a[download]').href).then(r => r.text())")
    assert saved == (folder_of(page.parent, run) / "card.json").read_text()
    opened.js("history.back()")
    opened.wait("document.querySelectorAll('section').length == 3")


@needs_chromium
def test_browser_shows_what_stands_below_the_tables(opened_extended):
    browser = opened_extended
    titles = "[...document.querySelectorAll('summary')].map(s => s.textContent)"
    found = browser.js(titles)
    assert found.count("By subject") == 3
    for title, text in (
        ("Differences from ridge", "staged"),
        ("Ladder", "0.987"),
        ("Reported elsewhere (not measured here, not ranked)", "<img src=x> et al. 2020"),
    ):
        element = f"document.querySelectorAll('summary')[{found.index(title)}]"
        assert not browser.js(f"{element}.parentElement.open")
        browser.js(f"{element}.focus()")
        browser.key("Enter")
        browser.wait(f"{element}.parentElement.open")
        assert text in browser.js(f"{element}.parentElement.querySelector('table').innerText")
    assert browser.js("document.querySelectorAll('main img').length") == 0


@needs_chromium
def test_browser_shows_values_by_subject(opened, page):
    table = content(page / "data/tiny.js")["tables"][0]
    part = "[...document.querySelectorAll('details')].find(d => d.textContent.startsWith('By subject'))"
    for name in (table["ranked"], "cosine"):
        choice = f"s.value = {name!r}; s.dispatchEvent(new Event('change'))"
        opened.js(f"{part}.open = true; (s => {{ {choice} }})({part}.querySelector('select'))")
        shown = opened.js(f"[...{part}.querySelectorAll('tr')].map(r => [...r.children].map(c => c.textContent))")
        assert shown[0] == ["method", "mean", "S1", "S2"]
        rows = [row for row in table["rows"] if name in row["metrics"]]
        for row, (label, mean, *values) in zip(rows, shown[1:], strict=True):
            known = row["metrics"][name]
            assert label == row["label"]
            assert [float(mean), *map(float, values)] == pytest.approx(
                [known["value"], *known["subjects"].values()], abs=5.1e-4 if known["value"] < 10 else 0.051
            )


@needs_chromium
def test_browser_is_no_wider_than_a_phone(opened, page):
    run, item = (gallery(page)[name][0] for name in ("runs", "items"))
    name = item["id"].replace("/", "%2F")
    views = ("#boards/tiny", "#gallery/tiny/0", f"#run/tiny/{run['run_id']}", f"#gallery/tiny/0/{name}")
    opened.call("Emulation.setDeviceMetricsOverride", width=400, height=800, deviceScaleFactor=1, mobile=False)
    for view in views:
        opened.js(f"location.hash = {view!r}")
        opened.wait(f"{READY} === {view!r}")
        for element in ("document.documentElement", "document.querySelector('#item')"):
            assert opened.js(f"{element}.scrollWidth <= {element}.clientWidth"), (view, element)
    opened.call("Emulation.setDeviceMetricsOverride", width=1400, height=900, deviceScaleFactor=1, mobile=False)


@needs_chromium
def test_browser_opens_items_and_moves_between_them(opened, page):
    found = gallery(page)
    opened.click("nav a", 1)
    opened.wait(f"{TITLES}.length == 6")
    assert opened.js(LOADED)
    names = [i["name"] for i in found["items"]]
    for label in ("ridge", "staged"):
        choose(opened, "method", label)
        metric = opened.js("document.getElementById('choose-metric').value").split("/")
        value = dict(zip(names, of(found, label)["scores"][metric[0]][metric[1]], strict=True))
        shown = opened.js(TITLES)
        assert shown == sorted(names, key=lambda n: (value[n], names.index(n)))  # worst first
        assert metric[1] == found["ranked"][metric[0]]
    opened.js("document.querySelectorAll('.grid button')[1].focus()")
    opened.key("ArrowRight")
    opened.key("Enter")
    opened.wait(OPEN)
    title = "document.getElementById('item-title').textContent"
    assert shown[2] in opened.js(title)
    assert opened.js(LOADED)
    cards = opened.js("[...document.querySelectorAll('.card h3')].map(h => h.firstChild.textContent)")
    assert cards == [r["label"] for r in found["runs"]]
    text = opened.js("document.getElementById('item').textContent")
    row = names.index(shown[2])
    assert of(found, "staged")["captions"][row] in text  # shown as it is, not run
    assert "first <stage>" in text
    assert opened.js("document.querySelectorAll('#item img, #item stage').length") == 0
    assert opened.js("document.querySelectorAll('#item .right').length") >= 1  # the oracle's
    opened.key("ArrowRight")
    opened.wait(f"{title}.includes({shown[3]!r})")
    opened.key("ArrowLeft")
    opened.wait(f"{title}.includes({shown[2]!r})")
    opened.key("Escape")
    opened.wait(f"!{OPEN}")
    opened.wait(f"location.hash == '#gallery/tiny/0' && document.activeElement.textContent.includes({shown[2]!r})")
    opened.key("/")
    for letter in shown[4]:
        opened.key(letter)
    assert opened.js(TITLES) == [shown[4]]


@needs_chromium
def test_browser_draws_the_right_tile(opened, page, made, tmp_path):
    """Pixels of the screen: 16 x 16 pictures are drawn six times as large, without blending."""
    opened.click("nav a", 1)
    opened.wait(f"{TITLES}.length == 6")
    assert opened.js(LOADED)
    opened.screenshot(tmp_path / "seen.png")
    with Image.open(tmp_path / "seen.png") as picture:
        seen = np.asarray(picture.convert("RGB"))
    images = np.load(made / "tiny/images.npy")
    for place, name in enumerate(opened.js(TITLES)):
        tile = (
            f"(r => [r.x, r.y, r.width, r.height])(document.querySelectorAll('.tile')[{place}].getBoundingClientRect())"
        )
        x, y, width, height = (round(v) for v in opened.js(tile))
        assert (width, height) == (96, 96)
        inner = seen[y + 3 : y + 96 : 6, x + 3 : x + 96 : 6]  # the middle of every enlarged pixel
        np.testing.assert_array_equal(inner, images[int(name[4:])])


@needs_chromium
def test_browser_orders_and_an_address_opens_an_item(opened, page):
    found = gallery(page)
    names = [i["name"] for i in found["items"]]
    item = found["items"][3]["id"].replace("/", "%2F")
    opened.open("about:blank")
    opened.open(f"{(page / 'index.html').as_uri()}#gallery/tiny/0/{item}", READY)
    opened.wait(OPEN)
    assert found["items"][3]["name"] in opened.js("document.getElementById('item-title').textContent")
    opened.click("#item .head button", 2)
    opened.wait(f"!{OPEN}")
    worst = opened.js(TITLES)
    orders = {}
    for order in ("best", "listed", "random"):
        choose(opened, "order", order)
        orders[order] = opened.js(TITLES)
        assert sorted(orders[order]) == sorted(names)
    assert orders["listed"] == names
    metric = opened.js("document.getElementById('choose-metric').value").split("/")
    scores = dict(zip(names, found["runs"][0]["scores"][metric[0]][metric[1]], strict=True))
    assert [scores[n] for n in orders["best"]] == [scores[n] for n in worst[::-1]]
    choose(opened, "order", "random")
    opened.click(".bar button")
    assert opened.js(TITLES) != orders["random"]


@needs_chromium
def test_browser_themes(opened, page):
    ground = "getComputedStyle(document.body).backgroundColor"
    light = opened.js(ground)
    opened.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    opened.wait(f"{ground} !== {light!r}")  # follows the system
    dark = opened.js(ground)
    opened.click("#theme")
    assert opened.js(ground) == light
    opened.open("about:blank")
    opened.open((page / "index.html").as_uri(), READY)
    assert opened.js(ground) == light  # the choice is kept
    opened.click("#theme")
    assert opened.js(ground) == dark


@needs_chromium
def test_browser_contrast(opened):
    """Text of every role has the contrast of WCAG 2 AA (4.5) on every ground, in both themes."""
    for theme in ("light", "dark"):
        opened.js(f"document.documentElement.dataset.theme = '{theme}'")
        style = "getComputedStyle(document.documentElement).getPropertyValue"
        colour = {
            n: opened.js(f"{style}('--{n}')").strip()
            for n in ("ground", "raised", "chosen", "text", "muted", "accent", "right")
        }
        for name in ("text", "muted", "accent", "right"):
            for under in ("ground", "raised", "chosen"):
                assert contrast(colour[name], colour[under]) >= 4.5, (theme, name, under)


def contrast(a, b):
    """Return the contrast ratio of two colours (#rgb or #rrggbb) as WCAG 2 defines it."""

    def luminance(text):
        digits = text.lstrip("#")
        digits = "".join(2 * d for d in digits) if len(digits) == 3 else digits
        channels = np.array([int(digits[i : i + 2], 16) for i in (0, 2, 4)]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_every_asset_is_package_data():
    import tomllib

    root = Path(__file__).parents[2]
    patterns = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["benchmark"]
    covered = {path for pattern in patterns for path in (root / "benchmark").glob(pattern)}
    assert {p for p in (root / "benchmark/report_assets").iterdir()} <= covered
