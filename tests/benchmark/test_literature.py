"""Published numbers stand apart from measured rows; protocols stand in tables of their own."""

import json
from importlib import resources

import pytest

from benchmark import board_page, literature, protocol
from benchmark import leaderboard as boards
from metrics.table import METRICS
from tests.benchmark.test_leaderboard import run

TABLES = json.loads(resources.files("benchmark").joinpath("literature.json").read_text("utf-8"))["tables"]
LOSO = {"suite": "pereira2018", "dataset": "pereira2018", "split": "pereira2018-loso-v1"}
SUBJECTS = ("A", "B", "C")


def words(method, subject, n=180, **more):
    record = run(method, subject, **more)
    record["scores"]["words"]["rank_median"]["chance"] = (n + 1) / 2
    return record


def board(items):
    return board_page.render(boards.tables(items, {}))


def test_brain2word_stands_below_its_own_protocol_and_is_never_ranked():
    items = [words("mine", s, top5=0.01, **LOSO) for s in SUBJECTS]
    files = board(items)
    text = files["pereira2018/words.md"]
    head, _, tail = text.partition("### Reported elsewhere (not measured here, not ranked)")
    assert "Brain2Word" not in head
    for line in (
        "| Brain2Word mean regularisation, original | 0.0555 | 0.1314 | 0.8464 |",
        "| Brain2Word mean regularisation, reproduction | 0.0565 | 0.1665 | 0.789 |",
        "| Brain2Word, abstract of arXiv version 3 | 0.0522 | 0.1359 | – |",
    ):
        assert line in tail
    found = json.loads(files["pereira2018/words.json"])
    assert [(r["method"], r["rank"]) for r in found["rows"]] == [("mine", 1)]
    assert len(found["reported_elsewhere"][0]["rows"]) == 9


@pytest.mark.parametrize(
    "other",
    [
        {"suite": "mini", "dataset": "synthetic-words", "split": "synthetic-words-v1"},
        LOSO | {"split": "pereira2018-words-v1"},
        LOSO | {"tracks": ["embedding"], "scores": {}},
    ],
)
def test_nothing_is_shown_beside_another_protocol(other):
    record = run("mine") | other
    record["scores"] = {track: run("mine")["scores"]["words"] for track in record["tracks"]}
    assert not any("Reported elsewhere" in text or "reported_elsewhere" in text for text in board([record]).values())


def test_the_file_is_complete_and_says_how_far_every_number_was_checked():
    assert len({(t["track"], t["dataset"], t["split"]) for t in TABLES}) == len(TABLES) == 3
    for table in TABLES:
        assert set(table.get("lower_is_better", ())) <= set(table["columns"])
        for row in table["rows"]:
            assert {"method", "source", "protocol", "check", "values"} <= set(row)
            assert row["check"] in literature.LEGEND
            assert row["values"]
            assert set(row["values"]) <= set(table["columns"])
            assert (row["check"] == "P") == ("unverified" in row)
            assert set(row.get("unverified", ())) < set(row["values"])
            assert "|" not in row["method"] + row["source"] + row["protocol"]
            for name, value in row["values"].items():
                metric = METRICS.get(name)
                assert (metric.lower if metric else 0) <= value <= (metric.upper if metric else 1)
                if metric:
                    assert metric.higher_is_better == (name not in table.get("lower_is_better", ()))


def test_nsd_rows_keep_protocol_and_mark_of_memory():
    lines = literature.section("reconstruction", "nsd", "nsd-982")
    (paper,) = [line for line in lines if line.startswith("| Brain-Diffuser | ")]
    assert paper.startswith("| Brain-Diffuser | 0.254 | 0.356 | 0.942 | 0.962 | (0.872) | (0.915) | (0.775) |")
    assert paper.endswith("| brain-diffuser | paper | P |")
    assert any("effnet_b ↓" in line for line in lines)
    (memory,) = [line for line in lines if line.startswith("| Gu et al. 2023 ")]
    assert "| (0.15) | (0.325) | – |" in memory
    later = literature.section("reconstruction", "nsd", "nsd-1000")
    assert not any("| brain-diffuser |" in line for line in later)
    assert literature.section("reconstruction", "nsd", "nsd-515") == []


def test_two_protocols_of_one_data_set_are_two_tables_that_say_what_they_are():
    items = [
        words("mine", s, 180, **LOSO | {"folds": {"n": 1, "test": 1, "train": 14}, "split_unit": "subject"})
        for s in SUBJECTS
    ] + [
        words(
            "mine", s, 10, **LOSO | {"split": "words", "folds": {"n": 18, "test": 10, "train": 170}},
            split_unit="stimulus",
        )
        for s in SUBJECTS
    ]  # fmt: skip
    found = boards.tables(items, {})
    assert [(t.split, len(t.rows), t.rows[0].rank) for t in found] == [("pereira2018-loso-v1", 1, 1), ("words", 1, 1)]
    text = board_page.render(found)["pereira2018/words.md"]
    first, second = text.split("\n## ")[1:]
    assert "2 tables: each has a data set and a protocol of its own" in text
    assert "leave one subject out" in first
    assert "each subject is tested by a model trained on 14 others" in first
    assert "ranked among 180 candidates: the words of the test side" in first
    assert "leave words out, within each subject: 18 folds, each holding out 10 of 180 words." in second
    assert "ranked among 10 candidates: the held-out words of its fold" in second


def test_a_record_without_folds_and_a_split_of_runs_say_what_is_known():
    bare = [run("mine", "A")]
    assert protocol.sentences("words", "subject", bare).startswith("Protocol: leave one subject out. The words")
    runs = [run("mine", "A", folds={"n": 6, "test": 1, "train": 5})]
    text = protocol.sentences("embedding", "run", runs)
    assert "leave runs out, within each subject: 6 folds, each holding out 1 of 6 runs. The stimuli themselves" in text


def test_a_folder_run_with_two_splits_gives_two_tables(bench, tiny, tmp_path):
    from tests.helpers.make_folder import edit_json, write_split

    ids = [f"stim{i:03d}" for i in range(12)]
    folds = [{"name": f"f{k}", "train": [i for i in ids if i not in ids[k::4]], "test": ids[k::4]} for k in range(4)]
    write_split(tiny / "splits/words.json", {"name": "words", "unit": "stimulus", "average": [], "folds": folds})
    edit_json(tiny / "dataset.json", lambda header: header["splits"].append("splits/words.json"))
    for split in ("main", "words"):
        code, _, err = bench("run", "--dataset", "tiny", "--data", tiny, "--split", split, "--method", "ridge,mean")
        assert code == 0, err
    text = (tmp_path / "runs/leaderboards/tiny/words.md").read_text()
    assert "## tiny, split main" in text
    assert "one fold, holding out 4 of 12 words. A target is ranked among 4 candidates" in text
    assert "4 folds, each holding out 3 of 12 words. A target is ranked among 3 candidates" in text
    rows = json.loads((tmp_path / "runs/leaderboards/tiny/words.json").read_text())["rows"]
    assert sorted((r["split"], r["method"], r["rank"]) for r in rows) == [
        ("main", "mean", None), ("main", "ridge", 1), ("words", "mean", None), ("words", "ridge", 1),
    ]  # fmt: skip
