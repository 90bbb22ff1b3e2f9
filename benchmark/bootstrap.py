"""Scores that are no means of items: corpus scores and medians, by resampling items."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmark.errors import BenchError
from benchmark.stats import DRAWS, LEVEL, Difference, Interval, median_interval

MIN_CORPUS = 100  # items of a corpus score
MIN_MEDIAN_UNITS = 20  # stimuli of a bootstrapped median
MEDIAN_DRAWS = 2000


def bootstrap_counts(n: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return how often every item is in every resample, shape (draws, n), float32.

    A product with per-item values, shape (n, k), gives the resampled sums of k statistics at once.
    """
    index = rng.integers(n, size=(draws, n))
    index += n * np.arange(draws)[:, None]
    return np.bincount(index.ravel(), minlength=draws * n).reshape(draws, n).astype(np.float32)


def corpus_interval(
    parts: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval | None:
    """Return the BCa bootstrap interval of a score that is a function of sums over items, such as corpus BLEU.

    Parameters
    ----------
    parts : ndarray of shape (n, k)
        What every item adds to the sums (for BLEU: matched and possible n-grams, both lengths).
    statistic : callable
        ``f(sums (m, k)) -> (m,)``.

    Returns
    -------
    (low, high) or None
        None below 100 items, or where every resample gives the same.
    """
    from scipy.special import ndtr, ndtri

    parts = np.asarray(parts, np.float64)
    if parts.ndim != 2 or not np.isfinite(parts).all():
        raise BenchError("parts of a corpus score: expected a matrix of finite numbers, one row per item")
    n = len(parts)
    if n < MIN_CORPUS:
        return None
    counts = bootstrap_counts(n, draws, np.random.default_rng(seed))
    resampled = np.sort(statistic(counts.astype(np.float64) @ parts))
    if resampled[0] == resampled[-1]:
        return None
    sums = parts.sum(axis=0)
    value = statistic(sums[None])[0]
    left_out = statistic((sums - parts) * n / (n - 1))
    away = left_out.mean() - left_out
    spread = (away**2).sum()
    acceleration = (away**3).sum() / (6 * spread**1.5) if spread else 0.0
    below = (np.mean(resampled < value) + np.mean(resampled <= value)) / 2
    bias = ndtri(np.clip(below, 1 / draws, 1 - 1 / draws))
    z = bias + ndtri([(1 - level) / 2, (1 + level) / 2])
    low, high = np.quantile(resampled, ndtr(bias + z / (1 - acceleration * z)))
    return float(low), float(high)


def median_of(cells: np.ndarray) -> float:
    """Return the mean over cells (subject and seed) of the medians over items, from (n_units, n_rows, n_cells)."""
    return float(np.median(cells, axis=(0, 1)).mean())


def resampled_medians(cells: np.ndarray, draws: int = MEDIAN_DRAWS, seed: int = 0) -> np.ndarray:
    """Return `median_of` for resampled units, shape (draws,); the same draws of units for every call with n units."""
    n_units, n_rows, n_cells = cells.shape
    counts = bootstrap_counts(n_units, draws, np.random.default_rng(seed))
    middle = np.array([(n_units * n_rows - 1) // 2, n_units * n_rows // 2])
    total = np.zeros(draws)
    for cell in cells.reshape(-1, n_cells).T:
        order = np.argsort(cell, kind="stable")
        reached = np.cumsum(counts[:, order // n_rows], axis=1)
        # how many sorted values stand before the middle ones of a resample
        total += sum(cell[order][np.minimum((reached <= k).sum(axis=1), len(cell) - 1)] for k in middle) / 2
    return total / n_cells


def median_cells_interval(
    cells: np.ndarray, level: float = LEVEL, draws: int = MEDIAN_DRAWS, seed: int = 0
) -> Interval | None:
    """Return the interval of `median_of`: order statistics for one cell, else the percentile bootstrap over units.

    None below 20 units where there are several cells or rows.
    """
    if cells[0].size == 1:
        return median_interval(cells.ravel(), level)
    if len(cells) < MIN_MEDIAN_UNITS:
        return None
    return _percentiles(resampled_medians(cells, draws, seed), level)


def median_test(
    a: np.ndarray, b: np.ndarray, level: float = LEVEL, draws: int = MEDIAN_DRAWS, seed: int = 0
) -> Difference:
    """Compare two methods' `median_of` by resampling units: percentile interval and its p-value.

    Parameters
    ----------
    a, b : ndarray of shape (n_units, n_rows, n_cells)
        The same units.
    """
    if len(a) != len(b) or not len(a):
        raise BenchError("paired test of medians: expected the same items, at least one, for both methods")
    value = median_of(a) - median_of(b)
    if len(a) < MIN_MEDIAN_UNITS:
        return Difference(value, None, None, None, len(a))
    resampled = resampled_medians(a, draws, seed) - resampled_medians(b, draws, seed)
    return Difference(value, _percentiles(resampled, level), float(two_sided(resampled)), None, len(a))


def two_sided(resampled: np.ndarray) -> np.ndarray:
    """Return the two-sided bootstrap p-value of differences, draws along the first axis."""
    ends = np.minimum((resampled <= 0).sum(axis=0), (resampled >= 0).sum(axis=0))
    return np.minimum(1, 2 * (ends + 1) / (len(resampled) + 1))


def _percentiles(resampled: np.ndarray, level: float) -> Interval:
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
