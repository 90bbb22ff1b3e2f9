import os
import socket

import pytest

from benchmark.errors import BenchError
from benchmark.spec import RunSpec
from benchmark.store import Store, write_json

SPEC = RunSpec("mini", "tiny", "S1", "main", "ridge", "default")


def fill(path, status="ok"):
    for name, value in {
        "spec": {"method": "ridge"},
        "provenance": {"tracks": ["words"]},
        "scores": {"tracks": {}},
    }.items():
        write_json(path / f"{name}.json", value)
    write_json(path / "status.json", {"status": status, "reason": ""})


def test_a_run_is_there_only_after_commit(tmp_path):
    store = Store(tmp_path / "runs")
    assert store.get(SPEC, "abc") is None
    assert list(store.runs()) == []
    assert not store.root.exists()
    scratch = store.scratch(SPEC, "abc")
    fill(scratch)
    assert store.get(SPEC, "abc") is None
    assert list(store.runs()) == []
    run = store.commit(scratch, SPEC, "abc")
    assert store.get(SPEC, "abc").path == run.path == tmp_path / "runs/mini/tiny/ridge/abc"
    assert [r.id for r in store.runs()] == ["abc"]
    assert list(store.runs("other")) == []


def test_a_commit_replaces_the_old_run_and_leaves_nothing_behind(tmp_path):
    store = Store(tmp_path)
    for status in ("failed", "ok"):
        scratch = store.scratch(SPEC, "abc")
        fill(scratch, status)
        store.commit(scratch, SPEC, "abc")
    assert store.get(SPEC, "abc").status["status"] == "ok"
    assert os.listdir(store.path(SPEC, "abc").parent) == ["abc"]


def test_sweep_removes_what_dead_processes_left_and_nothing_else(tmp_path):
    store = Store(tmp_path)
    mine = store.scratch(SPEC, "abc")
    dead = mine.with_name(f".abc.99999999@{socket.gethostname()}.cafecafe")
    elsewhere = mine.with_name(".abc.99999999@another-node.cafecafe")
    dead.mkdir()
    elsewhere.mkdir()
    store.sweep()
    assert mine.exists()
    assert elsewhere.exists()
    assert not dead.exists()


def test_a_lock_is_held_by_one(tmp_path):
    import filelock

    store = Store(tmp_path)
    with store.lock("abc"), pytest.raises(filelock.Timeout):
        store.lock("abc").acquire(timeout=0)
    store.lock("abc").acquire(timeout=0)


def test_nan_is_never_written(tmp_path):
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "x.json", {"value": float("nan")})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("name", "content"), [("spec", "{"), ("status", "{}"), ("provenance", ""), ("scores", "[")])
def test_a_damaged_run_counts_as_not_there(tmp_path, name, content):
    store = Store(tmp_path)
    scratch = store.scratch(SPEC, "abc")
    fill(scratch)
    run = store.commit(scratch, SPEC, "abc")
    (run.path / f"{name}.json").write_text(content)
    assert store.get(SPEC, "abc") is None
    assert list(store.runs()) == []


def test_a_store_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchError, match=r"--store .*file: cannot be written"):
        Store(tmp_path / "file").scratch(SPEC, "abc")
