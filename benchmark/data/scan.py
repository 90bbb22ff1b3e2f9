"""One bounded pass over a large matrix: blocks of rows, range, NaN and infinity."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmark.api import Stimuli

BLOCK_BYTES = 1 << 25


@dataclass(frozen=True, eq=False)
class Scan:
    """What one pass over responses found, per voxel and per row.

    Attributes
    ----------
    low, high : ndarray of shape (n_voxels,), float32
        Range of the finite values; ``inf`` and ``-inf`` where there is none.
    n_nan : ndarray of shape (n_voxels,), int
    empty_rows, infinite_rows : ndarray of int
        Positions (within the rows asked for) of rows that are all NaN, or hold an infinity.
    """

    low: np.ndarray
    high: np.ndarray
    n_nan: np.ndarray
    empty_rows: np.ndarray
    infinite_rows: np.ndarray


def embedding_faults(stimuli: Stimuli) -> Iterator[str]:
    """Yield target embeddings that hold NaN or infinity."""
    for name, table in stimuli.embeddings.items():
        for start, block in blocks(table):
            bad = ~np.isfinite(block).all(axis=1)
            if bad.any():
                stimulus = str(stimuli.ids[start + int(bad.argmax())])
                yield f"embedding {name!r} of stimulus {stimulus!r} holds NaN or infinity, expected numbers"
                break


def blocks(data: np.ndarray, rows: np.ndarray | None = None) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (position, float32 block) over the rows of a matrix, about 32 MB at a time."""
    n = len(data) if rows is None else len(rows)
    step = max(1, BLOCK_BYTES // max(1, 4 * data.shape[1]))
    for start in range(0, n, step):
        chosen = slice(start, start + step) if rows is None else as_slice(rows[start : start + step])
        yield start, np.asarray(data[chosen], np.float32)


def scan(data: np.ndarray, rows: np.ndarray | None = None) -> Scan:
    """Find range, NaN and infinity in one pass over rows of a (memory-mapped) response matrix."""
    n_voxels = data.shape[1]
    low = np.full(n_voxels, np.inf, np.float32)
    high = -low
    n_nan = np.zeros(n_voxels, np.int64)
    empty, infinite = [], []
    for start, block in blocks(data, rows):
        block_low, block_high = block.min(axis=0), block.max(axis=0)  # NaN where a voxel holds any
        if not (np.isfinite(block_low).all() and np.isfinite(block_high).all()):
            missing = np.isnan(block)
            n_nan += missing.sum(axis=0)
            empty.append(start + np.flatnonzero(missing.all(axis=1)))
            infinite.append(start + np.flatnonzero(np.isinf(block).any(axis=1)))
            block_low = np.where(missing, np.float32(np.inf), block).min(axis=0)
            block_high = np.where(missing, np.float32(-np.inf), block).max(axis=0)
        low, high = np.minimum(low, block_low), np.maximum(high, block_high)
    join = [np.concatenate(found) if found else np.empty(0, int) for found in (empty, infinite)]
    return Scan(low, high, n_nan, *join)


def as_slice(rows: np.ndarray) -> np.ndarray | slice:
    """Return consecutive rows as a slice, which reads without a copy."""
    if len(rows) and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
        return slice(int(rows[0]), int(rows[0]) + len(rows))
    return rows
