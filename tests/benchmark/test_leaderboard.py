import json

import pytest

from benchmark import board_numbers, board_page, records
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
    assert "| 1 | [classes](cards/classes.md#d) | 0.900 | – | class scores only |" in text
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
    assert "| rank | method | top5 ↑ | 95% interval | seed SD | rank_median ↓ |" in text
    assert "| 1 | [a](cards/a.md#d) | 0.500 | -0.396 to 1.396 | 0.141 | 3.000 |" in text
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
    assert "| rank | method | top5 ↑ | rank_median ↓ |\n" in text
    assert "| 1 | [good](cards/good.md#d) | 0.123 | 3.000 |\n" in text
    assert "| | *chance level* | 0.100 | 0.100 |\n" in text
    assert "| good | 2 | 20 | 1.00 | – | – | 2.00 | 10 | 2026-01-02 | cccccccccc |\n" in text
    assert "Other metrics" not in text
    assert "`k`" in text
    assert "cccccccccc" in text


def test_more_metrics_than_fit_are_in_tables_of_their_own():
    names = [f"m{i:02d}" for i in range(20)]
    items = [*both("good", tags=["leaky selection"]), *both("mean", control=True)]
    for item in items:
        scores = item["scores"]["words"]
        scores |= {
            name: scores["top5"] | {"value": 0.01 * i, "note": "odd" * (i == 19)} for i, name in enumerate(names)
        }
        item["columns"] = {"words": {"metrics": ["top5", *names], "ranked": "top5"}}
    text = board_page.render(boards.tables(items, SUITES))["s/words.md"]
    assert "| rank | method | top5 ↑ | m00 ↑ | m01 ↑ | m02 ↑ | tags |\n" in text
    assert "| – | [good](cards/good.md#d) | 0.500 | 0.000 | 0.010 | 0.020 | leaky selection |\n" in text
    assert "| – | [mean](cards/mean.md#d) | 0.500 | 0.000 | 0.010 | 0.020 |\n" in text
    others = text.partition("### Other metrics")[2].partition("\n### ")[0]
    heads = [line.count("↑") for line in others.splitlines() if line.startswith("| method |")]
    assert heads == [11, 6]
    assert "| *mean* |" in others
    assert "m19† ↑ |" in others
    assert "† odd" in others


def scaled(items):
    (table,) = boards.tables(items, SUITES)
    return {row.label: row.scaled for row in table.rows}, table.scale


def test_scaled_scores_lie_between_the_shuffled_control_and_the_oracle():
    controls = [*both("shuffled", 0.2, control=True), *both("mean", 0.3, control=True)]
    oracle = both("oracle", 0.8, control=True, tags=["oracle"])
    items = [*both("good", 0.5), *both("bad", 0.05), *controls, *oracle]
    assert scaled(items)[0] == pytest.approx({"good": 0.5, "bad": -0.25, "mean": 1 / 6, "shuffled": 0, "oracle": 1})
    files = board_page.render(boards.tables(items, SUITES))
    assert "| rank | method | top5 ↑ | scaled | rank_median ↓ |\n" in files["s/words.md"]
    assert "| 1 | [good](cards/good.md#d) | 0.500 | 0.500 | 3.000 |\n" in files["s/words.md"]
    sentence = "(score − 0.200) / (0.800 − 0.200), so that 0 is the `shuffled` control and 1 the `oracle`."
    assert sentence in files["s/words.md"]
    rows = {r["method"]: r for r in json.loads(files["s/words.json"])["rows"]}
    assert rows["good"]["scaled"] == pytest.approx(0.5)
    assert rows["good"]["scale"] == pytest.approx({"shuffled": 0.2, "oracle": 0.8})
    # the next control where one is not whole or not there, then the chance level
    assert scaled([*items[:4], *controls[1:], *oracle])[1].control == "mean"
    assert scaled([*items[:4], *oracle])[1] == board_numbers.Scale("chance level", pytest.approx(0.1), 0.8)


def test_scaled_scores_of_a_metric_that_is_better_when_lower_and_without_a_ceiling():
    stated = {"columns": {"words": {"metrics": ["rank_median"], "ranked": "rank_median"}}}
    items = [*both("good", rank=3.0, **stated), *both("shuffled", rank=5.0, control=True, **stated)]
    assert scaled(items) == ({"good": None, "shuffled": None}, None)
    assert "scaled" not in board_page.render(boards.tables(items, SUITES))["s/words.md"]
    assert scaled([*items, *both("oracle", rank=1.0, control=True, **stated)])[0]["good"] == pytest.approx(0.5)
    equal = scaled([*items, *both("oracle", rank=5.0, control=True, **stated)])[0]
    assert set(equal.values()) == {None}
    text = board_page.render(boards.tables([*items, *both("oracle", rank=5.0, control=True, **stated)], SUITES))
    assert "| 1 | [good](cards/good.md#d) | 3.000 | – |" in text["s/words.md"]


def test_the_spread_over_seeds_stands_apart():
    values = {("A", 0): 0.2, ("A", 1): 0.4, ("B", 0): 0.5, ("B", 1): 0.5}
    items = [run("a", s, seed=n, top5=v) for (s, n), v in values.items()]
    row = rows(items)["a"]
    # variances within subjects .02 and 0, pooled: .01
    assert row.seed_sd == pytest.approx(0.1)
    files = board_page.render(boards.tables(items, SUITES))
    assert "| rank | method | top5 ↑ | seed SD | rank_median ↓ |\n" in files["s/words.md"]
    assert "| 1 | [a](cards/a.md#d) | 0.400 | 0.100 | 3.000 |\n" in files["s/words.md"]
    assert "- *seed SD*: standard deviation over seeds" in files["s/words.md"]
    assert json.loads(files["s/words.json"])["rows"][0]["seed_sd"] == pytest.approx(0.1)
    assert "seed SD" not in board_page.render(boards.tables(both("a"), SUITES))["s/words.md"]


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
