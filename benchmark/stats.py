"""Intervals and tests of scores: over subjects, over test items, between methods."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmark.errors import BenchError

LEVEL = 0.95
MIN_SUBJECTS = 3


def subject_interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float] | None:
    """Return the t interval of the mean over subjects.

    Parameters
    ----------
    values : sequence of float
        One value per subject: the mean over items and seeds.
    level : float

    Returns
    -------
    (low, high) or None
        None below three subjects: such a board speaks of these subjects only.
    """
    values = _finite(values)
    if len(values) < MIN_SUBJECTS:
        return None
    from scipy.stats import t

    half = t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def _finite(values: Sequence[float]) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise BenchError("scores for statistics: expected one finite number per item or subject")
    return values
