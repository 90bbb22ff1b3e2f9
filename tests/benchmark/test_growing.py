"""A .npy file that grows: at any moment it is a whole array of the rows that were finished."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.data.growing import GrowingArray, read_grown, whole_rows
from benchmark.errors import BenchError


@given(blocks=st.lists(st.integers(1, 5), min_size=1, max_size=6), tail=st.binary(max_size=40), wide=st.integers(1, 7))
def test_rows_are_those_appended_whatever_a_kill_left_behind(tmp_path_factory, blocks, tail, wide):
    path = tmp_path_factory.mktemp("growing") / "rows.npy"
    rng = np.random.default_rng(0)
    parts = []
    for n in blocks:
        store = GrowingArray(path, (wide, 2), np.float32)
        parts.append(rng.standard_normal((n, wide, 2)).astype(np.float32))
        store.append(parts[-1])
        with path.open("ab") as file:
            file.write(tail)  # a block whose writing was interrupted
    assert GrowingArray(path, (wide, 2), np.float32).rows == sum(blocks)
    np.testing.assert_array_equal(np.load(path), np.concatenate(parts))
    np.testing.assert_array_equal(read_grown(path.parent, path.name, sum(blocks), "rows"), np.concatenate(parts))


def test_a_kill_before_the_header_is_written_leaves_the_rows_before(tmp_path, monkeypatch):
    store = GrowingArray(tmp_path / "rows.npy", (3,), np.uint8)
    store.append(np.ones((2, 3), np.uint8))
    monkeypatch.setattr(GrowingArray, "_header", lambda self, rows: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store.append(np.full((4, 3), 7, np.uint8))
    monkeypatch.undo()
    again = GrowingArray(tmp_path / "rows.npy", (3,), np.uint8)
    assert again.rows == 2
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), np.ones((2, 3)))


def test_other_rows_and_damaged_files_are_refused(tmp_path):
    path = tmp_path / "rows.npy"
    GrowingArray(path, (3,), np.float32).append(np.zeros((4, 3), np.float32))
    with pytest.raises(BenchError, match=r"rows.npy: holds float32 rows of shape \(3,\), expected uint8 rows"):
        GrowingArray(path, (3,), np.uint8)
    with pytest.raises(ValueError, match="rows of shape"):
        GrowingArray(path, (3,), np.float32).append(np.zeros((4, 2), np.float32))
    with pytest.raises(BenchError, match="4 rows, expected 5; where a preparation was interrupted"):
        read_grown(tmp_path, "rows.npy", 5, "rows")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BenchError, match=r"rows.npy: cut short, expected 4"):
        whole_rows(path, (3,), np.float32)
    path.write_bytes(b"not an array")
    with pytest.raises(BenchError, match=r"rows.npy: not a .npy file"):
        whole_rows(path, (3,), np.float32)
    assert whole_rows(tmp_path / "none.npy", (3,), np.float32) == 0
