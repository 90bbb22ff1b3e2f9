"""Identification of an item among the others by Pearson correlation: two-way and pairwise (2v2).

Both count comparisons of correlations, and a comparison that is within float64 rounding (1e-12) is a tie
and counts one half. So duplicate targets tie, scaled or shifted copies of a vector tie, and a method that
predicts the same vector for every item scores 1/2. A vector of zero variance (see `metrics.vectors`)
correlates 0 with everything.

The work is a matrix product over tiles of items and blocks of features. For float32 input the product is
float32 within a block and float64 across blocks. Its error was measured at up to 1.5e-7, plus 5e-6 times
the correlation where the terms are all alike (binary vectors); every comparison closer than four times
that is done again in float64, so the result is the one that float64 gives throughout.
"""

from __future__ import annotations

import os

import numpy as np

from metrics import validate, vectors

TIE = 1e-12
_SCREEN, _SCREEN_SLOPE = 1e-6, 2e-5
_TILE = 2048
_FEATURES = 1024
_PAIR_NUMBERS = 2**17  # blocks that stay in cache


class _Units:
    """Rows of a matrix, centred and of length 1, made block by block when asked for.

    Ordinary float32 rows are only centred in a block, and ``after`` scales what is summed over blocks.
    """

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows
        self.peak, self.mean, self.norm = vectors.spread(rows)
        # float32 may centre the rows where products stay in its range and no mean dwarfs the deviations from it
        deviation = self.norm.min() / np.sqrt(rows.shape[1])
        self.single = (
            rows.dtype == np.float32 and self.peak.max() < 1e15 and self.peak.min() > 1e-10 and deviation > 1e-4
        )
        self.centre = self.mean * self.peak if self.single else None
        self.after = 1 / (self.norm * self.peak) if self.single else np.ones(len(rows))

    def block(self, index: slice | np.ndarray, features: slice, dtype: type) -> np.ndarray:
        block = self.rows[index, features]
        if self.single:
            return np.subtract(block, self.centre[index, None].astype(dtype), dtype=dtype)
        block = block / self.peak[index, None]
        block -= self.mean[index, None]
        block /= self.norm[index, None]
        return block.astype(dtype, copy=False)


def two_way(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Two-way identification of every item.

    For prediction j, the share of the other targets i that correlate less with it than target j does; ties
    count 1/2. Pearson correlation over the dimensions of a vector.

    Parameters
    ----------
    true, predicted : array_like of shape (n, d)
        At least two items.

    Returns
    -------
    ndarray of shape (n,), float64
        In [0, 1]; chance is 1/2 for any n. For a constant prediction the mean over items is 1/2.

    Raises
    ------
    ValueError
        Bad input, see `metrics.validate`.
    """
    true, predicted = validate.vectors("two_way", true, predicted, min_items=2)
    return _identify(_Units(true), _Units(predicted), pairwise=False)


def two_way_strict(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Two-way identification as published evaluations count it: as `two_way`, but a tie counts 0.

    Parameters
    ----------
    true, predicted : array_like of shape (n, d)
        At least two items.

    Returns
    -------
    ndarray of shape (n,), float64
        In [0, 1]; chance is 1/2 without ties. 0 for a constant prediction.

    Raises
    ------
    ValueError
        Bad input, see `metrics.validate`.
    """
    true, predicted = validate.vectors("two_way_strict", true, predicted, min_items=2)
    return _identify(_Units(true), _Units(predicted), pairwise=False, tie=0.0)


def pairwise_2v2(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Pairwise (2v2) identification: the mean over the pairs that an item is part of.

    A pair of items (i, j) is right when corr(true_i, predicted_i) + corr(true_j, predicted_j) exceeds
    corr(true_i, predicted_j) + corr(true_j, predicted_i); ties count 1/2. The mean over items is the share
    of all pairs that are right.

    Parameters
    ----------
    true, predicted : array_like of shape (n, d)
        At least two items.

    Returns
    -------
    ndarray of shape (n,), float64
        In [0, 1]; chance is 1/2. Exactly 1/2 for a constant prediction.

    Raises
    ------
    ValueError
        Bad input, see `metrics.validate`.
    """
    true, predicted = validate.vectors("pairwise_2v2", true, predicted, min_items=2)
    return _identify(_Units(true), _Units(predicted), pairwise=True)


def zero_variance_items(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the items whose own correlation is 0 by rule, shape (n,), bool."""
    return vectors.zero_variance(true) | vectors.zero_variance(predicted)


def _identify(true: _Units, predicted: _Units, pairwise: bool, tie: float = 0.5) -> np.ndarray:
    """Return, for every item, the share of the other items it wins against; ``tie`` is what a tie counts."""
    n = len(true.rows)
    wins = np.zeros(n)
    fast = np.float32 if true.rows.dtype == predicted.rows.dtype == np.float32 else np.float64
    everyone = np.arange(n)
    # of one tile, the product has every item's own correlation too; float64 then settles those that matter
    whole = _product(predicted, everyone, true, everyone, fast) if n <= _TILE else None
    own = _pairs(predicted, everyone, true, everyone) if whole is None else whole.diagonal().copy()

    def margins(items: np.ndarray, others: np.ndarray, dtype: type) -> tuple[np.ndarray, np.ndarray]:
        known = whole is not None and len(items) == n and dtype == fast
        result = whole.copy() if known else _product(predicted, items, true, others, dtype)
        size = np.abs(result)
        if pairwise:
            swapped = whole.T if known else _product(true, items, predicted, others, dtype)
            size += np.abs(swapped)
            result += swapped
            result -= own[others]
        return np.subtract(own[items, None], result, out=result), size

    def margins_of(items: np.ndarray, others: np.ndarray) -> np.ndarray:
        result = own[items] - _pairs(predicted, items, true, others)
        if pairwise:
            result += own[others] - _pairs(true, items, predicted, others)
        return result

    starts = range(0, n, _TILE)
    for first in starts:
        items = everyone[first : first + _TILE]
        # a pair's margin is the same for both of its items: the tiles below the diagonal are not needed
        for second in starts[first // _TILE if pairwise else 0 :]:
            others = everyone[second : second + _TILE]
            margin, size = margins(items, others, fast)
            if first == second:
                np.fill_diagonal(margin, np.inf)  # an item is not compared with itself
            if fast == np.float32:
                rows, columns = np.nonzero(np.abs(margin) <= _SCREEN + _SCREEN_SLOPE * size)
                again = np.unique(rows)
                if whole is not None and len(rows):
                    settled = np.union1d(again, columns) if pairwise else again
                    own[settled] = _pairs(predicted, settled, true, settled)
                # a gathered pair costs about 50 times its share of a matrix product
                if 50 * len(rows) < len(again) * len(others):
                    margin[rows, columns] = margins_of(items[rows], others[columns])
                elif len(rows):
                    own[:] = _pairs(predicted, everyone, true, everyone) if whole is not None else own
                    margin[again], _ = margins(items[again], others, np.float64)
                    if first == second:
                        margin[again, again] = np.inf
            credit = (margin > TIE) + tie * (np.abs(margin) <= TIE)
            if first == second:
                np.fill_diagonal(credit, 0)
            wins[items] += credit.sum(axis=1)
            if pairwise and first != second:
                wins[others] += credit.sum(axis=0)
    return wins / (n - 1)


def _product(a: _Units, rows: np.ndarray, b: _Units, columns: np.ndarray, dtype: type) -> np.ndarray:
    """Correlation of the given rows of ``a`` with those of ``b``, shape (n_rows, n_columns), float64."""
    shape = len(rows), len(columns)
    rows, columns = _as_slice(rows), _as_slice(columns)
    parts = list(vectors.blocks(a.rows.shape[1], 1, _FEATURES))
    n_workers = min(len(parts), os.cpu_count() or 1, 4)

    def some(worker: int) -> np.ndarray:
        total = np.zeros(shape)
        for features in parts[worker::n_workers]:
            total += a.block(rows, features, dtype) @ b.block(columns, features, dtype).T
        return total

    if n_workers == 1:
        total = some(0)
    else:  # every core makes its own blocks, so that none waits while one centres them
        with vectors.workers(n_workers) as pool:
            total = sum(pool.map(some, range(n_workers)))
    total *= a.after[rows, None]
    total *= b.after[columns]
    return total


def _pairs(a: _Units, rows: np.ndarray, b: _Units, columns: np.ndarray) -> np.ndarray:
    """Correlation of row ``rows[k]`` of ``a`` with row ``columns[k]`` of ``b`` for every k, in float64."""
    width = a.rows.shape[1]

    def some(part: slice) -> np.ndarray:
        x, y = _as_slice(rows[part]), _as_slice(columns[part])
        total = np.zeros(part.stop - part.start)
        for features in vectors.blocks(width, len(total), _PAIR_NUMBERS):
            total += np.einsum("kd,kd->k", a.block(x, features, np.float64), b.block(y, features, np.float64))
        return total * a.after[x] * b.after[y]

    return vectors.threaded(some, vectors.blocks(len(rows), width, _PAIR_NUMBERS))


def _as_slice(index: np.ndarray) -> slice | np.ndarray:
    """Return a run of consecutive indices as a slice, which copies nothing."""
    whole = len(index) and index[-1] - index[0] + 1 == len(index)
    return slice(index[0], index[-1] + 1) if whole else index
