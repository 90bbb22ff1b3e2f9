"""The regression guard: what counts as moved, what is only noted, and what is refused."""

import copy
import json
from pathlib import Path

import pytest

from benchmark import records, regress
from benchmark.errors import BenchError


def record(seed=0, value=0.8, method="ridge", subject="S1", version=1, **more):
    score = {"value": value, "version": version, "n": 4, "chance": 0.5, "higher_is_better": True, "note": ""}
    return {
        **{"suite": "mini", "dataset": "d", "split": "d-v1", "preset": "default", "profile": "mini"},
        **{"method": method, "subject": subject, "seed": seed, "run_id": f"r{seed}", "date": "2026-01-01T00:00:00Z"},
        **{"status": "ok", "reason": "", "tracks": ["embedding"], "scores": {"embedding": {"two_way": score}}},
        **{"dataset_fingerprint": "f", "split_checksum": "c", "seconds": {}, "peak_mb": 1.0},
        **more,
    }


def compared(old, new):
    return regress.compare(regress.rows(old), regress.rows(new))


@pytest.mark.parametrize(("change", "moved"), [(0.0, 0), (0.0049, 0), (-0.0049, 0), (0.0051, 1), (-0.0051, 1)])
def test_one_seed_has_the_floor_as_its_band(change, moved):
    report = compared([record()], [record(value=0.8 + change)])
    assert (len(report.moved), report.compared) == (moved, 1)


def test_several_seeds_have_three_standard_deviations():
    old = [record(seed, value) for seed, value in enumerate((0.78, 0.80, 0.82))]  # SD .02
    inside, outside = (compared(old, [record(0, 0.78 + change)]) for change in (0.0599, 0.0601))
    assert not inside.moved
    assert outside.moved == (
        ("mini", "d", "d-v1", "embedding", "ridge", "S1", "0", "two_way", "0.7800", "0.8401", "0.0600", "+0.0601"),
    )


def test_seeds_of_another_subject_or_method_widen_no_band():
    old = [record(), record(1, 0.1, subject="S2"), record(1, 0.1, method="mean")]
    assert len(compared(old, [record(value=0.82)]).moved) == 1


@pytest.mark.parametrize(
    ("new", "why"),
    [
        (record(value=None), "gone"),
        (record(status="failed"), "now failed"),
        (record(dataset_fingerprint="g"), "other data"),
        (record(split_checksum="k"), "another split"),
    ],
)
def test_what_is_gone_or_of_other_data_has_moved(new, why):
    assert [row[-1] for row in compared([record()], [new]).moved] == [why]


def test_a_new_version_of_a_metric_is_noted_and_not_compared():
    report = compared([record()], [record(value=0.1, version=2)])
    assert (report.moved, report.compared) == ((), 0)
    assert "version 1 is now 2" in report.notes[0]


def test_a_run_that_works_again_and_a_new_metric_are_noted():
    new = record()
    new["scores"]["embedding"]["top1"] = dict(new["scores"]["embedding"]["two_way"])
    assert len(compared([record()], [new]).notes) == 1
    report = compared([record(status="failed", scores={})], [record()])
    assert not report.moved
    assert "was failed, now ok" in report.notes[0]


def write_records(folder, *items):
    records.write(folder, items)
    return folder


def store_of(folder, *items):
    """Run directories with what records are made of."""
    for item in items:
        run = folder / item["suite"] / item["dataset"] / item["method"] / f"{item['subject']}{item['seed']}"
        run.mkdir(parents=True)
        names = ("suite", "dataset", "subject", "split", "method", "preset", "profile", "seed")
        facts = {k: item[k] for k in ("tracks", "date", "dataset_fingerprint", "split_checksum", "seconds", "peak_mb")}
        (run / "spec.json").write_text(json.dumps({name: item[name] for name in names}))
        (run / "status.json").write_text(json.dumps({"status": item["status"], "reason": item["reason"]}))
        (run / "provenance.json").write_text(json.dumps(facts))
        (run / "scores.json").write_text(json.dumps({"score_id": "s", "tracks": item["scores"]}))
    return folder


def test_the_verb(bench, tmp_path):
    base = write_records(tmp_path / "records", record(), record(1, 0.801), record(method="mean", subject="S2"))
    same = store_of(tmp_path / "same", record(), record(method="other"))
    code, out, _ = bench("regress", "--baseline", base, "--store", same)
    assert code == 0
    assert "note: not in the store: mini d d-v1 embedding ridge: S1 seed 1" in out
    assert "note: not in the store: mini d d-v1 embedding mean: S2 seed 0" in out
    assert "note: not in the baseline: mini d d-v1 embedding other: S1 seed 0" in out
    assert out.endswith("1 values compared, 0 moved\n")
    assert bench("regress", "--baseline", base, "--store", same) == (0, out, "")
    assert bench("regress", "--baseline", base, "--store", same, "--strict")[0] == 1
    moved = store_of(tmp_path / "moved", record(value=0.79))
    code, out, _ = bench("regress", "--baseline", base / "mini", "--store", moved)
    assert code == 1
    table = [" ".join(line.split()) for line in out.splitlines()[:2]]
    assert table[0] == " ".join(regress._HEAD)
    assert table[1] == "mini d d-v1 embedding ridge S1 0 two_way 0.8000 0.7900 0.0050 -0.0100"
    code, out, _ = bench("regress", "--baseline", base / "mini" / "mean.jsonl", "--store", moved)
    assert (code, out.splitlines()[-1]) == (0, "0 values compared, 0 moved")


def test_a_table_of_json_is_a_baseline_too(bench, tmp_path):
    table = tmp_path / "table.json"
    table.write_text(json.dumps([flat for item in (record(), record(1)) for flat in records.flat(item)]))
    assert bench("regress", "--baseline", table, "--store", store_of(tmp_path / "a", record(), record(1)))[0] == 0
    assert bench("regress", "--baseline", table, "--store", store_of(tmp_path / "b", record(value=0.9)))[0] == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "high", True])
def test_what_is_no_number_is_refused(bench, tmp_path, value):
    base = write_records(tmp_path / "records", record())
    code, out, err = bench("regress", "--baseline", base, "--store", store_of(tmp_path / "s", record(value=value)))
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "expected a finite number" in err
    flat = copy.deepcopy(list(records.flat(record())))
    flat[0]["metrics"]["two_way"]["value"] = value
    (tmp_path / "t.json").write_text(json.dumps(flat))
    code, _, err = bench("regress", "--baseline", tmp_path / "t.json", "--store", store_of(tmp_path / "u", record()))
    assert (code, err.count("\n")) == (2, 1)


@pytest.mark.parametrize("content", ["{}", "[]", "[1]", '[{"suite": "mini"}]', "{", "null", "3"])
def test_a_baseline_that_is_no_table_is_refused(bench, tmp_path, content):
    (tmp_path / "t.json").write_text(content)
    code, out, err = bench("regress", "--baseline", tmp_path / "t.json", "--store", store_of(tmp_path / "s", record()))
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_missing_places_are_refused(bench, tmp_path):
    (tmp_path / "empty").mkdir()
    store = store_of(tmp_path / "s", record())
    for base in (tmp_path / "empty", tmp_path / "none", tmp_path / "none.jsonl"):
        code, _, err = bench("regress", "--baseline", base, "--store", store)
        assert (code, err.count("\n")) == (2, 1)
    base = write_records(tmp_path / "records", record())
    assert bench("regress", "--baseline", base, "--store", tmp_path / "none")[0] == 2


def test_nan_in_committed_records_is_refused(tmp_path):
    base = write_records(tmp_path / "records", record())
    file = base / "mini" / "ridge.jsonl"
    file.write_text(file.read_text().replace("0.8", "NaN"))
    with pytest.raises(BenchError, match="not a record"):
        regress.read(base)


def test_only_the_named_methods_are_compared(bench, tmp_path):
    boards = Path(__file__).parents[2] / "leaderboards" / "records"
    code, _, err = bench("regress", "--baseline", boards, "--store", tmp_path, "--method", "rigde")
    assert code == 2
    assert "--method rigde" in err
