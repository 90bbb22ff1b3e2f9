import json

import pytest

from benchmark import board_page, records
from benchmark import leaderboard as boards
from benchmark.errors import BenchError
from benchmark.suites import Suite, Task, Track

TRACK = Track(("top5", "rank_median"), ranked="top5", space="v")
SUITES = {"s": Suite("s", "1.0", "a suite", (Task("d", "sp", ("A", "B"), {"words": TRACK}),))}


def run(method, subject="A", seed=0, top5=0.5, rank=3.0, status="ok", **more):
    def score(value, higher):
        common = {"n": 10, "chance": 0.1, "higher_is_better": higher, "version": 1, "protocol": "bench-1"}
        return common | {"value": value}

    scores = {"words": {"top5": score(top5, True), "rank_median": score(rank, False)}} if status == "ok" else {}
    record = {
        "suite": "s", "dataset": "d", "subject": subject, "split": "sp", "method": method, "preset": "default",
        "profile": "mini", "seed": seed, "params": {}, "run_id": f"{method}-{subject}-{seed}", "status": status,
        "reason": "" if status == "ok" else "train: it | broke", "tracks": ["words"], "scores": scores,
        "seconds": {"total": 2.0, "train": 1.0}, "date": "2026-01-02T03:04:05Z", "commit": "c" * 40, "dirty": False,
        "source": "x", "suite_version": "1.0", "dataset_version": "1.0", "dataset_fingerprint": "f",
        "split_checksum": "k", "split_unit": "subject", "control": False, "tags": [], "peak_mb": 10.0, "device": "cpu",
        "threads": 1, "versions": {}, "hardware": {}, "weights": {}, "preparation": [],
    }  # fmt: skip
    return record | more


def both(method, top5=0.5, **more):
    return [run(method, "A", top5=top5, **more), run(method, "B", top5=top5, **more)]


def rows(items):
    (table,) = boards.tables(items, SUITES)
    return {row.label: row for row in table.rows}


def test_rows_are_ranked_by_the_mean_over_subjects():
    found = rows([run("a", "A", top5=0.2), run("a", "B", top5=0.8), *both("b", 0.6), *both("c", 0.4)])
    assert {k: r.rank for k, r in found.items()} == {"b": 1, "a": 2, "c": 3}
    assert found["a"].metrics["top5"]["value"] == pytest.approx(0.5)
    assert found["a"].metrics["top5"]["n"] == 20


def test_equal_values_share_a_rank():
    assert [r.rank for r in rows([*both("a", 0.5), *both("b", 0.5), *both("c", 0.1)]).values()] == [1, 1, 3]


def test_seeds_are_averaged_within_a_subject():
    items = [run("a", "A", seed=s, top5=v) for s, v in ((0, 0.1), (1, 0.3))]
    items += [run("b", "A", seed=s, top5=0.15) for s in (0, 1)]
    found = rows(items)
    assert found["a"].metrics["top5"]["value"] == pytest.approx(0.2)
    assert found["a"].metrics["top5"]["n"] == 10


def test_controls_oracles_leaks_and_incomplete_rows_are_never_ranked():
    items = [
        *both("control", 0.9, control=True),
        *both("cheat", 0.9, tags=["oracle"]),
        *both("leak", 0.9, tags=["leaky selection"]),
        run("half", "A", top5=0.9),
        *both("half-failed", 0.9)[:1],
        run("half-failed", "B", status="failed"),
        *both("good", 0.2),
    ]
    found = rows(items)
    assert {k for k, r in found.items() if r.rank} == {"good"}
    assert found["half"].missing == ("B seed 0",)


def test_a_metric_that_is_missing_or_of_two_versions_takes_the_rank():
    short = both("short")
    del short[1]["scores"]["words"]["rank_median"]
    mixed = both("mixed")
    mixed[0]["scores"]["words"]["top5"]["version"] = 0
    found = rows([*short, *mixed])
    assert found["short"].missing == ("rank_median",)
    assert found["mixed"].missing == ("top5 in version 1",)


def without_vectors(method, top5=0.5, reason="not predicted (vectors)", undefined=True):
    items = both(method, top5)
    for item in items:
        score = item["scores"]["words"]["rank_median"]
        score |= {"value": None, "n": 0, "reason": reason} | ({"undefined": True} if undefined else {})
    return items


def test_class_scores_alone_are_ranked_and_marked():
    items = [*without_vectors("classes", 0.9), *both("vectors", 0.5), *without_vectors("old", 0.7, undefined=False)]
    found = rows(items)
    assert {k: r.rank for k, r in found.items()} == {"classes": 1, "vectors": 2, "old": None}
    assert (found["classes"].undefined, found["classes"].missing) == (("rank_median",), ())
    assert found["old"].missing == ("rank_median",)
    text = board_page.render(boards.tables(items, SUITES))["s/words.md"]
    assert "| 1 | [classes](cards/classes.md#d) | 0.900 | – | 20 | 2 | 2.00 | 10 | class scores only |" in text
    assert "- *class scores only*: the method names words" in text


def test_what_is_undefined_for_another_reason_is_ranked_and_not_called_class_scores():
    row = rows([*without_vectors("mute", reason="not predicted (captions)"), *both("good")])["mute"]
    assert (row.rank, row.undefined, row.tags) == (1, ("rank_median",), ())


def test_a_metric_undefined_for_some_runs_only_or_the_ranked_one_takes_the_rank():
    half = [without_vectors("half")[0], both("half")[1]]
    assert rows([*half, *both("good")])["half"].missing == ("rank_median",)
    items = without_vectors("classes")
    for item in items:
        item["columns"] = {"words": {"metrics": ["rank_median", "top5"], "ranked": "rank_median"}}
    found = rows(items)["classes"]
    assert (found.rank, found.missing) == (None, ("rank_median",))


def test_three_subjects_have_a_breakdown_and_an_interval_and_two_have_none():
    values = {"A": 0.2, "B": 0.4, "C": 0.9}
    items = [run("a", s, seed=n, top5=v + d) for s, v in values.items() for n, d in ((0, 0.1), (1, -0.1))]
    row = rows(items)["a"]
    assert row.metrics["top5"]["subjects"] == pytest.approx(values)
    # scipy.stats.ttest_1samp([.2, .4, .9], 0).confidence_interval(.95)
    mean, half = 0.5, 4.302652729911275 * (0.13**0.5) / 3**0.5
    assert row.metrics["top5"]["interval"] == pytest.approx((mean - half, mean + half))
    text = board_page.render(boards.tables(items, SUITES))["s/words.md"]
    assert "| rank | method | top5 ↑ | 95% interval | rank_median ↓ |" in text
    assert "| 1 | [a](cards/a.md#d) | 0.500 | -0.396 to 1.396 | 3.000 |" in text
    assert "| method | mean | 95% interval | A | B | C |" in text
    assert "| a | 0.500 | -0.396 to 1.396 | 0.200 | 0.400 | 0.900 |" in text
    two = board_page.render(boards.tables(both("a"), SUITES))["s/words.md"]
    assert "interval" not in two
    assert "By subject" not in two


def test_failed_runs_are_listed_with_their_reason():
    text = board_page.render(boards.tables([*both("good"), run("bad", "A", status="timeout")], SUITES))["s/words.md"]
    assert "| bad | A | 0 | timeout | train: it \\| broke |" in text
    assert "| bad | | | incomplete | lacks A seed 0, B seed 0 |" in text


def test_every_metric_has_a_column_an_arrow_and_its_chance():
    text = board_page.render(boards.tables(both("good", 0.123456), SUITES))["s/words.md"]
    assert "| rank | method | top5 ↑ | rank_median ↓ | n items | n subjects | s | MB | tags |" in text
    assert "| 1 | [good](cards/good.md#d) | 0.123 | 3.000 | 20 | 2 | 2.00 | 10 |  |" in text
    assert "| | *chance level* | 0.100 | 0.100 | | | | | |" in text
    assert "`k`" in text
    assert "cccccccccc" in text


def test_the_same_records_in_any_order_give_the_same_bytes():
    items = [*both("a", 0.5), *both("b", 0.5), run("c", "A", status="oom")]
    assert board_page.render(boards.tables(records.newest(items), SUITES)) == board_page.render(
        boards.tables(records.newest(items[::-1]), SUITES)
    )


def test_the_json_has_the_documented_names():
    files = board_page.render(boards.tables([*both("a"), run("b", status="failed")], SUITES))
    found = json.loads(files["s/words.json"])
    names = {
        "suite", "dataset", "subject", "split", "method", "seed", "track", "status", "reason", "preset", "profile",
        "seconds", "peak_mb", "metrics", "rank", "tags",
    }  # fmt: skip
    assert all(set(item) == names for item in found["runs"])
    assert found["runs"][0]["metrics"]["top5"] == {"value": 0.5, "n": 10, "chance": 0.1, "higher_is_better": True}
    assert [r["rank"] for r in found["rows"]] == [1, None]


def test_an_edited_missing_or_extra_file_is_stale(tmp_path):
    files = board_page.render(boards.tables(both("a"), SUITES))
    board_page.write(tmp_path, files)
    assert board_page.stale(tmp_path, files) == []
    (tmp_path / "s/words.md").write_text(files["s/words.md"] + " ")
    (tmp_path / "README.md").unlink()
    (tmp_path / "s/old.md").write_text("")
    assert board_page.stale(tmp_path, files) == ["README.md", "s/old.md", "s/words.md"]


def test_records_round_trip_and_the_newest_wins(tmp_path):
    old, new = run("a", top5=0.1), run("a", top5=0.2, date="2026-02-02T00:00:00Z", run_id="later")
    records.write(tmp_path, [new, run("b")])
    records.write(tmp_path, [old])
    found = records.read(tmp_path)
    assert [(r["method"], r["run_id"]) for r in found] == [("a", "later"), ("b", "b-A-0")]


def test_a_damaged_record_is_named(tmp_path):
    (path,) = records.write(tmp_path, [run("a")])
    path.write_text(path.read_text().replace("0.5", "NaN"))
    with pytest.raises(BenchError, match=r"a.jsonl, line 1: not a record \(NaN"):
        records.read(tmp_path)


def test_two_splits_of_a_dataset_are_two_tables_told_apart():
    """Each with the columns and the ranked metric of its own task, also where the records do not state them."""
    few = Track(("rank_median", "top5"), ranked="rank_median", space="v")
    tasks = (*SUITES["s"].tasks, Task("d", "other", ("A", "B"), {"words": few}))
    items = [*both("a", 0.2), *both("a", 0.7, split="other", split_checksum="k2")]
    found = boards.tables(items, {"s": Suite("s", "1.0", "a suite", tasks)})
    assert [(t.split, t.ranked, t.rows[0].metrics["top5"]["value"]) for t in found] == [
        ("other", "rank_median", pytest.approx(0.7)),
        ("sp", "top5", pytest.approx(0.2)),
    ]
    files = board_page.render(found)
    assert "| d (other) | rank_median" in files["README.md"]
    assert "| d (sp) | top5" in files["README.md"]
    assert "## d, split other" in files["s/words.md"]
    one = board_page.render(boards.tables(both("a"), SUITES))["README.md"]
    assert "| d | top5" in one
