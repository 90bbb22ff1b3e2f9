"""Bundles: what goes in, what is refused before anything is written, and what joins the records."""

import io
import json
import shutil
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest

from benchmark import bundle, leaderboard, records
from benchmark import card as cards
from benchmark.errors import BenchError
from benchmark.plan import Request, plan
from benchmark.registry import Registry
from benchmark.runner import Limits, Session, run_all
from benchmark.store import Run, Store
from tests.helpers.make_folder import make_folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small dataset, a store with one run, and its bundle."""
    root = tmp_path_factory.mktemp("made")
    data = make_folder(root / "tiny", image_size=16)
    request = Request(dataset="tiny", methods=("ridge",), data=data, cache=root / "cache", subjects=("S1",))
    run_all(plan(Registry(), request), Session(Store(root / "runs"), Limits()))
    bundle.write(root / "ridge.zip", bundle.choose(root / "runs", "ridge"))
    return root


@pytest.fixture(scope="module")
def members(made):
    """Content of every member of the good bundle by name."""
    with zipfile.ZipFile(made / "ridge.zip") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def run(members):
    return next(iter(members)).partition("/")[0]


@pytest.fixture
def accept(bench, made, tmp_path):
    """Accept a bundle of these members; returns exit code, output and error."""

    def call(content):
        path = tmp_path / "b.zip"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            with zipfile.ZipFile(path, "w") as archive:
                for name, value in content.items() if isinstance(content, dict) else content:
                    archive.writestr(name, value)
        return bench("leaderboard", "--accept", path, "--boards", "boards", "--data", made / "tiny")

    return call


def array(values):
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def refused(answer, said, tmp_path):
    code, out, err = answer
    assert (code, out) == (2, "")
    assert len([line for line in err.splitlines() if line.strip()]) == 1
    assert said in err
    assert not (tmp_path / "boards").exists()
    return True


def test_a_bundle_holds_card_and_predictions_and_nothing_else(made, members, run):
    inside = {name.removeprefix(f"{run}/") for name in members}
    folder = "predictions/fold0"
    assert inside == {"card.json", *(f"{folder}/{n}" for n in ("images.npy", "embeddings.latent.npy", "items.json"))}
    assert cards.parse(members[f"{run}/card.json"], "") == cards.read(bundle.choose(made / "runs", run)[0])
    bundle.write(made / "again.zip", bundle.choose(made / "runs", "method=ridge, seed=0"))
    assert (made / "again.zip").read_bytes() == (made / "ridge.zip").read_bytes()


def test_submit_says_what_it_wrote(bench, made, tmp_path):
    code, out, _ = bench("leaderboard", "--submit", "ridge", "--store", made / "runs", "--out", "x.zip")
    assert code == 0
    size = (tmp_path / "x.zip").stat().st_size
    assert out.strip() == f"x.zip: 1 run, {size / 1e6:.1f} MB"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--submit", "rigde", "--out", "x.zip"), "--submit rigde: no such run"),
        (("--submit", "seeds=0", "--out", "x.zip"), "unknown name 'seeds'"),
        (("--submit", "ridge"), "expected one of"),
        (("--publish", "--check"), "expected one of"),
    ],
)
def test_submit_of_nothing_is_refused(bench, made, tmp_path, arguments, said):
    code, _, err = bench("leaderboard", *arguments, "--store", made / "runs")
    assert code == 2
    assert said in err
    assert not (tmp_path / "x.zip").exists()


def test_a_run_that_failed_is_not_bundled(made, tmp_path):
    store = Path(shutil.copytree(made / "runs", tmp_path / "runs"))
    (folder,) = Store(store).folders()
    (folder / "status.json").write_text('{"status": "failed", "reason": "train: it broke"}')
    with pytest.raises(BenchError, match="expected only such"):
        bundle.choose(store, "ridge")


def test_an_accepted_run_joins_the_records_tagged_and_rendered(accept, bench, made, members, tmp_path):
    code, out, err = accept(members)
    assert code == 0, err
    (item,) = records.read(tmp_path / "boards/records")
    mine = records.record(Run(bundle.choose(made / "runs", "ridge")[0]))
    assert item["tags"] == ["submitted"]
    same = ("run_id", "date", "commit", "source", "params", "versions", "dataset_fingerprint", "split_checksum")
    assert {k: item[k] for k in (*same, "columns", "seconds")} == {k: mine[k] for k in (*same, "columns", "seconds")}
    assert item["items"] == mine["items"]
    assert item["scores"] == mine["scores"]
    text = (tmp_path / "boards/tiny/words.md").read_text()
    assert "| submitted |" in text
    assert "- *submitted*: made and sent in by others" in text
    assert bench("leaderboard", "--check", "--boards", "boards")[0] == 0
    (tmp_path / "boards/tiny/words.md").write_text(text.replace("#tiny) | 1.000", "#tiny) | 0.999"))
    code, out, _ = bench("leaderboard", "--check", "--boards", "boards")
    assert code == 1
    assert out.replace("\n", "").startswith("boards/tiny/words.md: differs from what its records give")


def changed(members, run, change):
    card = json.loads(members[f"{run}/card.json"])
    change(card)
    return members | {f"{run}/card.json": json.dumps(card)}


def test_scores_that_disagree_with_the_predictions_are_refused(accept, members, run, tmp_path):
    bad = changed(members, run, lambda c: c["scores"]["embedding"]["cosine"].update(value=0.99))
    assert refused(accept(bad), "embedding cosine is 0.99 in the bundle and 0.", tmp_path)


def test_a_score_of_an_older_version_or_one_left_out_is_refused(accept, members, run, tmp_path):
    """The ranked metric is asked for; of others, one of the two sides may lack a metric."""
    bad = changed(members, run, lambda c: c["scores"]["words"]["top1"].update(version=0))
    assert refused(accept(bad), "words top1 is 1 in the bundle and 1 from its predictions here (version 0", tmp_path)
    bad = changed(members, run, lambda c: c["scores"]["words"].pop("top5"))
    assert refused(accept(bad), "no top5 of the words track, expected what rows are ranked by", tmp_path)


def test_predictions_that_were_changed_are_refused_by_their_score(accept, members, run, tmp_path):
    name = f"{run}/{FOLD}/embeddings.latent.npy"
    rows = np.load(io.BytesIO(members[name]))
    assert refused(accept(members | {name: array(rows[::-1])}), "in the bundle and", tmp_path)


@pytest.fixture(scope="module")
def boards(made, tmp_path_factory):
    """Boards of two controls and both subjects; their records only."""
    root = tmp_path_factory.mktemp("boards")
    common = {"dataset": "tiny", "data": made / "tiny", "cache": made / "cache", "subjects": ("S1", "S2")}
    planned = plan(Registry(), Request(methods=("mean", "nearest-train"), **common))
    run_all(planned, Session(Store(root / "runs"), Limits()))
    records.write(root / "boards/records", records.from_store(Store(root / "runs")))
    return root / "boards"


def test_a_round_trip_is_ranked_where_whole_and_named_where_a_subject_lacks(bench, made, boards, tmp_path):
    """From one store into a copy of the boards: first one of the two subjects, then the other."""
    shutil.copytree(boards, tmp_path / "boards")
    request = Request(
        dataset="tiny", methods=("ridge",), data=made / "tiny", cache=made / "cache", subjects=("S1", "S2")
    )
    run_all(plan(Registry(), request), Session(Store(tmp_path / "theirs"), Limits()))
    for subject in ("S1", "S2"):
        wanted = f"method=ridge,subject={subject}"
        assert bench("leaderboard", "--submit", wanted, "--out", f"{subject}.zip", "--store", "theirs")[0] == 0
    accept = ("leaderboard", "--boards", "boards", "--data", made / "tiny", "--accept")
    code, out, err = bench(*accept, "S1.zip")
    assert code == 0, err
    assert "tiny words, tiny: ridge not ranked: lacks S2 seed 0" in out
    table = (tmp_path / "boards/tiny/words.md").read_text()
    assert "| – | [ridge](cards/ridge.md#tiny) |" in table
    assert "| ridge | | | incomplete | lacks S2 seed 0 |" in table
    code, out, err = bench(*accept, "S2.zip")
    assert code == 0, err
    assert "tiny words, tiny: ridge rank 1" in out
    assert "not ranked" not in out
    assert "| 1 | [ridge](cards/ridge.md#tiny) |" in (tmp_path / "boards/tiny/words.md").read_text()
    card = (tmp_path / "boards/tiny/cards/ridge.md").read_text()
    for folder in Store(tmp_path / "theirs").folders():
        assert f"| `{folder.name}` | {Run(folder).spec['subject']} | 0 | ok | " in card
    assert '- tags: `["submitted"]`' in card
    assert bench("leaderboard", "--check", "--boards", "boards")[0] == 0


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda s: s["words"]["top5"].update(value=0.99), "words top5 is 0.99, its items give"),
        (lambda s: s["words"]["top5"].update(value=None), "words top5 is None, its items give"),
        (lambda s: s["words"]["top5"].update(n=400), "words top5 is of 400 items, and has 4"),
        (lambda s: s["words"]["top1"].update(value="high"), "words top1 is 'high', expected a finite number"),
        (lambda s: s["words"]["top1"].update(value=float("nan")), "NaN is no number a record may hold"),
    ],
)
def test_a_committed_record_edited_by_hand_is_named_by_every_verb_that_reads_it(
    bench, boards, made, tmp_path, edit, said
):
    shutil.copytree(boards, tmp_path / "boards")
    path = tmp_path / "boards/records/tiny/mean.jsonl"
    items = [json.loads(line) for line in path.read_text().splitlines()]
    edit(items[1]["scores"])
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    for verb in (
        ("leaderboard", "--check", "--boards", "boards"),
        ("leaderboard", "--accept", made / "ridge.zip", "--boards", "boards", "--data", made / "tiny"),
        ("rerun", items[1]["run_id"], "--boards", "boards", "--data", made / "tiny"),
    ):
        code, _, err = bench(*verb)
        assert (code, len([line for line in err.splitlines() if line.startswith("error: ")])) == (2, 1)
        assert "mean.jsonl, line 2: not a record" in err
        assert said in err
    assert not (tmp_path / "boards/README.md").exists()


def test_a_committed_record_of_an_older_metric_version_takes_the_rank_of_its_row(bench, boards, tmp_path):
    shutil.copytree(boards, tmp_path / "boards")
    path = tmp_path / "boards/records/tiny/nearest-train.jsonl"
    items = [json.loads(line) for line in path.read_text().splitlines()]
    items[0]["scores"]["words"]["top5"]["version"] = 0
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    (table,) = [t for t in leaderboard.tables(records.read(tmp_path / "boards/records"), {}) if t.track == "words"]
    (row,) = [row for row in table.rows if row.method == "nearest-train"]
    assert row.missing == ("top5 in version 1",)
    assert bench("leaderboard", "--check", "--boards", "boards")[0] == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["dataset"].update(fingerprint="0" * 64), "the dataset here has checksum"),
        (lambda c: c["split"].update(checksum="0" * 64), "the split here has checksum"),
        (lambda c: c.update(status="failed"), "expected"),
        (lambda c: c.update(run_id="0" * 16), "run 0000000000000000 ok, expected"),
        (lambda c: c.update(date="2999-01-01T00:00:00Z"), "expected a time that is past"),
        (lambda c: c["spec"].update(method="ridge | 1 | [x](http://y)"), "not a card"),
        (lambda c: c["spec"].update(method="ridge | 1 |"), "expected letters"),
        (lambda c: c["spec"].update(preset="<b>"), "expected letters"),
        (lambda c: c["tags"].append("a | b"), "expected plain words"),
        (lambda c: c["spec"].update(subject="S9"), "unknown subject"),
        (lambda c: c["spec"].update(dataset="other"), "other"),
        (lambda c: c["scores"]["words"]["top5"].update(value=float("nan")), "NaN found"),
        (lambda c: c.pop("scores"), "'scores' is a required property"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(accept, members, run, tmp_path, change, said):
    assert refused(accept(changed(members, run, change)), said, tmp_path)


FOLD = "predictions/fold0"
ITEMS = json.dumps(["fold0/stim000", "fold0/stim001", "fold0/stim002", "fold0/stim003"])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (f"{FOLD}/items.json", ITEMS, "for other items than the split's test"),
        (f"{FOLD}/items.json", '{"a": 1}', "no list of texts"),
        (f"{FOLD}/items.json", "[", "not valid JSON"),
        (
            f"{FOLD}/embeddings.latent.npy",
            array(np.full((4, 5), np.nan, np.float32)),
            "holds NaN or infinity in 4 of 4",
        ),
        (f"{FOLD}/embeddings.latent.npy", array(np.zeros((3, 5), np.float32)), "has 3 rows, expected 4"),
        (f"{FOLD}/embeddings.latent.npy", array(np.array([{"a": 1}] * 4)), "cannot be read (Object arrays"),
        (f"{FOLD}/embeddings.latent.npy", array(np.array(["text"] * 4)), "expected numbers"),
        (f"{FOLD}/embeddings.latent.npy", array(np.zeros((4, 5), np.float32))[:-9], "cannot be read"),
        (f"{FOLD}/embeddings.latent.npy", b"", "cannot be read"),
        (f"{FOLD}/images.npy", array(np.zeros((4, 16, 16, 3), np.float32)), "images are float32"),
        (f"{FOLD}/images.npy", None, "nothing for the reconstruction track"),
        (f"{FOLD}/items.json", None, "for other items"),
        ("predictions/fold1/items.json", ITEMS, "folds differ from the split's in 'fold1'"),
        (f"{FOLD}/extra.npy", array(np.zeros(3)), "expected only cards and predictions"),
        (f"{FOLD}/model.pkl", b"\x80\x04.", "expected only cards and predictions"),
        (f"{FOLD}/../../../x.npy", b"", "expected only cards and predictions"),
        (f"{FOLD}/embeddings.../x.npy", b"", "expected only cards and predictions"),
        ("predictions/../items.json", b"", "expected only cards and predictions"),
        ("predictions/a\\b/items.json", b"", "expected only cards and predictions"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(accept, members, run, tmp_path, name, content, said):
    bad = {k: v for k, v in members.items() if k != f"{run}/{name}"}
    if content is not None:
        bad[f"{run}/{name}"] = content
    assert refused(accept(bad), said, tmp_path)


@pytest.mark.parametrize("name", ["/etc/passwd", "../up.json", "C:\\x.json", "README.md", "card.json"])
def test_a_strange_path_is_refused_and_nothing_written(accept, members, tmp_path, name):
    assert refused(accept(members | {name: b"{}"}), "expected only cards and predictions", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"b.zip"}


def test_a_member_given_twice_or_a_link_is_refused(accept, members, run, tmp_path):
    name = f"{run}/{FOLD}/items.json"
    with pytest.warns(UserWarning, match="Duplicate name"):
        answer = accept([*members.items(), (name, members[name])])
    assert refused(answer, "is there twice", tmp_path)
    link = zipfile.ZipInfo(name)
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    rest = [(k, v) for k, v in members.items() if k != name]
    assert refused(accept([*rest, (link, b"/etc/passwd")]), "is a link", tmp_path)


def test_members_that_are_too_large_are_refused(accept, members, run, tmp_path, monkeypatch):
    size = len(members[f"{run}/{FOLD}/images.npy"])
    monkeypatch.setattr(bundle, "MAX_MEMBER", size - 1)
    assert refused(accept(members), f"has {size} bytes, expected at most {size - 1}", tmp_path)
    monkeypatch.setattr(bundle, "MAX_TOTAL", sum(map(len, members.values())) - 1)
    assert refused(accept(members), "expected less", tmp_path)


def test_a_member_larger_than_it_says_is_refused(accept, made, members, run, tmp_path):
    """The sizes that are checked are the archive's own words."""
    content = (made / "ridge.zip").read_bytes()
    size = len(members[f"{run}/{FOLD}/images.npy"]).to_bytes(4, "little")
    assert content.count(size) == 2  # local header and directory
    assert refused(accept(content.replace(size, (100).to_bytes(4, "little"))), "b.zip", tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + bytes(18), b"no archive at all"])
def test_what_is_no_bundle_is_refused(accept, tmp_path, content):
    assert refused(accept(content), "expected a bundle", tmp_path)


def test_a_damaged_archive_is_refused(accept, made, tmp_path):
    content = bytearray((made / "ridge.zip").read_bytes())
    content[200:260] = bytes(60)
    assert refused(accept(bytes(content)), "expected a bundle", tmp_path)


def record(**more):
    base = {"suite": "s", "dataset": "d", "split": "p", "method": "m", "preset": "default", "profile": "mini"}
    return base | {"subject": "A", "seed": 0, "tags": []} | more


def test_own_records_are_not_replaced_and_boards_not_widened():
    there = [record(), record(method="theirs", tags=["submitted"])]
    bundle.check_place(Path("b"), record(method="new"), there)
    bundle.check_place(Path("b"), record(method="theirs"), there)
    bundle.check_place(Path("b"), record(subject="Z", seed=9), [])
    for bad, said in ((record(), "among the records already"), (record(method="n", subject="B"), "has subject B")):
        with pytest.raises(BenchError, match=said):
            bundle.check_place(Path("b"), bad, there)
    with pytest.raises(BenchError, match="has seed 1, which no row of the board has, expected 0"):
        bundle.check_place(Path("b"), record(method="n", seed=1), there)
