"""``bench report``: the page says what the store says."""

import dataclasses
import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pandas
import pytest

from benchmark import leaderboard as boards
from benchmark import report, report_gallery, report_text
from benchmark.data.locate import cache_dir
from benchmark.errors import BenchError
from benchmark.registry import Registry
from benchmark.store import Store
from tests.helpers.make_folder import make_folder
from tests.helpers.report_store import content, everything, folder_of, gallery, of, tables_of, tile, write


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


def test_every_asset_is_package_data():
    import tomllib

    root = Path(__file__).parents[3]
    patterns = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["benchmark"]
    covered = {path for pattern in patterns for path in (root / "benchmark").glob(pattern)}
    assert {p for p in (root / "benchmark/report_assets").iterdir()} <= covered
