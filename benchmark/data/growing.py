"""A ``.npy`` file that grows by whole blocks of rows and survives a kill."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmark.data.files import read_array, write_atomic
from benchmark.errors import BenchError


class GrowingArray:
    """A ``.npy`` file whose header always tells how many rows are whole.

    Rows are written behind the last whole one and only then counted in the header, so that whatever a
    killed process left behind it is cut off when the file is opened again.

    Parameters
    ----------
    path : Path
        Made, with no row, where it is not there.
    row_shape : sequence of int
    dtype : dtype

    Raises
    ------
    BenchError
        Where the file holds rows of another shape or type.
    """

    def __init__(self, path: Path, row_shape: Sequence[int], dtype: np.dtype | type) -> None:
        self.path, self.row_shape, self.dtype = path, tuple(row_shape), np.dtype(dtype)
        if not path.exists():
            write_atomic(path, self._header(0))
        self.rows = whole_rows(path, self.row_shape, self.dtype)
        os.truncate(path, self._size(self.rows))

    def append(self, block: np.ndarray) -> None:
        """Add rows; they are on the disk before the header counts them."""
        block = np.ascontiguousarray(block)
        if block.shape[1:] != self.row_shape or block.dtype != self.dtype:
            raise ValueError(f"{block.dtype} rows of shape {block.shape[1:]}, not {self.dtype} {self.row_shape}")
        rows = self.rows + len(block)
        with self.path.open("r+b") as file:
            file.seek(self._size(self.rows))
            file.write(block.data)
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            file.write(self._header(rows))
            file.flush()
            os.fsync(file.fileno())
        self.rows = rows

    def _header(self, rows: int) -> bytes:
        # numpy pads the header so that its length stays the same while the first axis grows
        out = io.BytesIO()
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": (rows, *self.row_shape)}
        np.lib.format.write_array_header_1_0(out, header)
        return out.getvalue()

    def _size(self, rows: int) -> int:
        return len(self._header(0)) + rows * self.dtype.itemsize * int(np.prod(self.row_shape))


def whole_rows(path: Path, row_shape: Sequence[int], dtype: np.dtype | type) -> int:
    """Return how many whole rows a growing file holds; 0 where it is not there."""
    if not path.exists():
        return 0
    try:
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            shape, fortran, found = np.lib.format.read_array_header_1_0(file)
            room = path.stat().st_size - file.tell()
    except ValueError as error:
        raise BenchError(f"{path}: not a .npy file ({error}), expected one that was begun here; remove it") from None
    expected = f"{np.dtype(dtype)} rows of shape {tuple(row_shape)}"
    if shape[1:] != tuple(row_shape) or found != dtype or fortran:
        raise BenchError(f"{path}: holds {found} rows of shape {shape[1:]}, expected {expected}")
    if room < shape[0] * found.itemsize * int(np.prod(row_shape)):
        raise BenchError(f"{path}: cut short, expected {shape[0]} {expected}; remove it")
    return shape[0]


def read_grown(root: Path, name: str, rows: int, expected: str) -> np.ndarray:
    """Return a finished growing file, memory-mapped; another number of rows is a ``BenchError``."""
    array = read_array(root, name, expected)
    if len(array) != rows:
        raise BenchError(
            f"{root / name}: {len(array)} rows, expected {rows}; where a preparation was interrupted, "
            "the same bench data prepare goes on from there"
        )
    return array
