"""Intervals and tests of scores: over test items, over subjects, between methods.

What was chosen and what it covers in simulation is in ``docs/statistics.md``. `benchmark.board_stats` makes the
arrays from runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.errors import BenchError

LEVEL = 0.95
MIN_SUBJECTS = 3
DRAWS = 10_000
ENOUGH_HITS = 100  # a permutation p-value is then known to a tenth of itself
# The fewest units for which a kind's interval covered in simulation, and how far the mean must be from the end of the
# range, in units: a mean closer than that rests on a few units that are not at the end.
MIN_ITEMS = {"mean": 20, "proportion": 10, "heavy": 36, "pairs": 20, "median": 6}
MIN_ROOM = {"mean": 1.0, "heavy": 3.0, "pairs": 1.0}
MIN_CHANGED = 10  # items whose score differs, for the interval of a difference
_KIND = {"pairwise_2v2": "pairs", "rank_median": "median", "mrr": "heavy"}
_SHARES = ("top1", "top5", "top10", "image_retrieval", "brain_retrieval")
_NOT_ITEMS = ("dimensions", "set")

Interval = tuple[float, float]


@dataclass(frozen=True)
class Difference:
    """Method A minus method B, matched by item or by subject.

    Attributes
    ----------
    value : float
    interval : (low, high) or None
    p : float or None
        Two-sided.
    effect_size : float or None
        Cohen's d_z: the mean difference in units of the differences' standard deviation.
    n : int
    """

    value: float
    interval: Interval | None
    p: float | None
    effect_size: float | None
    n: int


def kind_of(name: str, metric_kind: str = "", aggregate: str = "mean") -> str | None:
    """Return how a metric's items become an interval, or None where its rows are no test items.

    Parameters
    ----------
    name : str
        Of the metric; a protocol in square brackets does not count.
    metric_kind, aggregate : str
        ``kind`` and ``aggregate`` of the metric.

    Returns
    -------
    str or None
        ``mean``; ``proportion`` (top-k: shares of ones); ``heavy`` (reciprocal ranks: a few large values decide);
        ``pairs`` (2v2: an item's value is a mean over pairs of items); ``median``.
    """
    if metric_kind in _NOT_ITEMS:
        return None
    base = name.partition("[")[0]
    if aggregate == "median":
        return "median"
    return "proportion" if base in _SHARES else _KIND.get(base, "mean")


def subject_interval(values: Sequence[float], level: float = LEVEL) -> Interval | None:
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
    half = _t(level, len(values)) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def item_interval(
    values: Sequence[float], level: float = LEVEL, kind: str = "mean", bounds: Interval | None = None
) -> Interval | None:
    """Return the interval of a score over the test items of a subject.

    Items of two-way, rank and retrieval metrics are each compared with all others; the gallery of those others
    counts as part of the benchmark, and the interval is for new items among the same gallery.

    Parameters
    ----------
    values : sequence of float
        One value per stimulus, see `benchmark.board_stats.unit_values`.
    kind : str
        See `kind_of`.
    bounds : (lower, upper), optional
        Range of the metric. Given, a mean too close to an end gets no interval (see ``MIN_ROOM``).

    Returns
    -------
    (low, high) or None
        None where no method covers: few units, equal values, a mean at the end of its range.
    """
    (interval,) = item_intervals(_finite(values)[None], level, kind, bounds)
    return None if np.isnan(interval).any() else (float(interval[0]), float(interval[1]))


def item_intervals(
    values: np.ndarray, level: float = LEVEL, kind: str = "mean", bounds: Interval | None = None
) -> np.ndarray:
    """Return `item_interval` of every row, shape (m, 2); NaN where there is none."""
    values = np.asarray(values, np.float64)
    n = values.shape[1]
    if n < MIN_ITEMS[kind]:
        return np.full((len(values), 2), np.nan)
    if kind == "median":
        return _median_intervals(values, level)
    if kind == "proportion":
        return _wilson(values, level)
    intervals = _skew_corrected(stretched(values) if kind == "pairs" else values, level)
    if bounds and np.isfinite(bounds).any():
        mean = values.mean(axis=1)
        room = n * np.minimum(mean - bounds[0], bounds[1] - mean)
        # a range that is open on one side has no length: its closed end tells nothing of the other
        room = room / (bounds[1] - bounds[0]) if np.isfinite(bounds).all() else np.full(len(mean), np.inf)
        intervals[room < MIN_ROOM[kind]] = np.nan
        intervals = np.clip(intervals, *bounds)
    return intervals


def median_interval(values: Sequence[float], level: float = LEVEL) -> Interval | None:
    """Return the order-statistic interval of a median, interpolated after Hettmansperger & Sheather (1986).

    Parameters
    ----------
    values : sequence of float
        One value per item.

    Returns
    -------
    (low, high) or None
        None below six items, where not even the extremes cover at level .95.
    """
    return item_interval(values, level, "median")


def stretched(values: np.ndarray) -> np.ndarray:
    """Return jackknife pseudo-values of a mean over pairs from every item's mean over its pairs.

    Every pair enters the values of both of its items, so that the mean of n such values has about four times the
    variance of a mean of n independent ones. Leaving one item out gives
    ``mean + 2 (n - 1) / (n - 2) (value - mean)``; the mean stays what it is.

    Parameters
    ----------
    values : ndarray of shape (..., n)
        More than two items.
    """
    n = values.shape[-1]
    mean = values.mean(axis=-1, keepdims=True)
    return mean + 2 * (n - 1) / (n - 2) * (values - mean)


def paired_test(
    a: Sequence[float], b: Sequence[float], kind: str = "mean", level: float = LEVEL, draws: int = DRAWS, seed: int = 0
) -> Difference:
    """Compare two methods on the same items: sign-flip permutation of the differences.

    Exact where there are at most ``draws`` sign patterns, else Monte Carlo. For medians see
    `benchmark.bootstrap.median_test`.

    Parameters
    ----------
    a, b : sequence of float
        One value per unit, in the same order.
    kind : str
        See `kind_of`.
    """
    a, b = _finite(a), _finite(b)
    if a.shape != b.shape or not len(a):
        raise BenchError("paired test: expected the same items, at least one, for both methods")
    d, n = a - b, len(a)
    if kind == "pairs" and n > 2:
        d = stretched(d)
    effect = float(d.mean() / d.std(ddof=1)) if n > 1 and d.std(ddof=1) > 1e-12 * np.abs(d).max() else None
    p = sign_flip(d[None], draws, seed)[0]
    return Difference(float((a - b).mean()), _difference_interval(d, level), float(p), effect, n)


def paired_subjects(a: Sequence[float], b: Sequence[float], level: float = LEVEL) -> Difference | None:
    """Compare two methods over subjects with a paired t test; None below three subjects.

    (Sign flips of n subjects give p-values of 2^(1 - n) and more: .25 with three.)
    """
    a, b = _finite(a), _finite(b)
    if a.shape != b.shape:
        raise BenchError("paired test: expected the same subjects for both methods")
    interval = subject_interval(a - b, level)
    if interval is None:
        return None
    p = paired_t((a - b)[None])[0]
    sd = (a - b).std(ddof=1)
    return Difference(float((a - b).mean()), interval, float(p), float((a - b).mean() / sd) if sd else None, len(a))


def sign_flip(differences: np.ndarray, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Return the two-sided sign-flip p-value of the mean of every row.

    Parameters
    ----------
    differences : ndarray of shape (m, n)

    Returns
    -------
    ndarray of shape (m,)
        1 where all differences are 0. Exact where 2^(n - 1) <= draws, else (hits + 1) / (draws + 1). Beyond the first
        10,000 draws a row gets no more once it has 100 hits (Besag & Clifford 1991), or where Hoeffding's inequality
        says that hardly any row like it would have one: many methods make many pairs, most of them of either kind.
    """
    differences = np.asarray(differences, np.float64)
    n = differences.shape[1]
    exact = n - 1 <= np.log2(draws)
    rng = np.random.default_rng(seed)
    total = 2 ** (n - 1) if exact else draws
    observed = np.abs(differences.sum(axis=1))
    observed -= 1e-9 * np.abs(differences).sum(axis=1)  # sums in another order are the same sum
    hits, done, left = np.zeros(len(differences)), np.full(len(differences), total), np.arange(len(differences))
    for start in range(0, total, 2048):
        size = min(2048, total - start)
        if not exact and start >= DRAWS and len(left):
            settled = hits[left] >= ENOUGH_HITS
            done[left[settled]] = start
            never = (hits[left] == 0) & (_hoeffding(differences[left], observed[left]) < 1 / (ENOUGH_HITS * total))
            left = left[~settled & ~never]
        if not len(left):
            break
        if exact:  # the first item keeps its sign: a pattern and its opposite give the same
            bits = (np.arange(start, start + size)[:, None] >> np.arange(n)) & 1
        else:
            bits = rng.integers(2, size=(size, n), dtype=np.int8)
        hits[left] += (np.abs((2.0 * bits - 1) @ differences[left].T) >= observed[left]).sum(axis=0)
    return hits / total if exact else (hits + 1) / (done + 1)


def _hoeffding(differences: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Return an upper bound of the two-sided sign-flip p-value of every row; 1 where all differences are 0."""
    square = (differences**2).sum(axis=1)
    return np.minimum(1, 2 * np.exp(-np.divide(observed**2, 2 * square, out=np.zeros(len(square)), where=square > 0)))


def holm(pvalues: Sequence[float]) -> np.ndarray:
    """Return Holm's (1979) adjusted p-values, in the order given."""
    p = np.asarray(pvalues, np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise BenchError("Holm correction: expected p-values between 0 and 1")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def tiers(values: Sequence[float], adjusted: np.ndarray, higher_is_better: bool = True, alpha: float = 0.05):
    """Return the tier of every method: the best one leads tier 1 with all that cannot be told apart from it.

    The best of the rest leads the next tier, and so on. A method whose differences vary a lot may thus share the
    leader's tier although one with a better score does not.

    Parameters
    ----------
    values : sequence of float
    adjusted : ndarray of shape (m, m)
        p-values of every pair, corrected for all pairs: which one leads is read from the same data, so that
        correcting only for the leader's comparisons would call identical methods different too often.

    Returns
    -------
    list of int
    """
    left = sorted(range(len(values)), key=lambda i: -values[i] if higher_is_better else values[i])
    found, tier = [0] * len(left), 0
    while left:
        tier += 1
        together = [i for i in left if i == left[0] or adjusted[left[0], i] >= alpha]
        for i in together:
            found[i] = tier
        left = [i for i in left if i not in together]
    return found


def seed_spread(values: Mapping[tuple[str, int], float]) -> float | None:
    """Return the standard deviation over seeds within subjects, pooled over subjects.

    Parameters
    ----------
    values : mapping of (subject, seed) to float
        Means over items.

    Returns
    -------
    float or None
        None where no subject has two seeds. The spread of training and generation on the same items; no part of it
        is in the intervals over items, which are of means over these seeds.
    """
    by_subject: dict[str, list[float]] = {}
    for (subject, _), value in values.items():
        by_subject.setdefault(subject, []).append(value)
    groups = [_finite(v) for v in by_subject.values() if len(v) > 1]
    if not groups:
        return None
    squares = sum(((g - g.mean()) ** 2).sum() for g in groups)
    return float(np.sqrt(squares / sum(len(g) - 1 for g in groups)))


def control_scaled(value: float, control: float, ceiling: float) -> float | None:
    """Return where a score lies between a control (0) and a ceiling (1), such as the oracle or the noise ceiling.

    None where control and ceiling are the same.
    """
    control, ceiling, value = _finite([control, ceiling, value])
    return float((value - control) / (ceiling - control)) if ceiling != control else None


def ceiling_scaled(value: float, ceiling: float | None) -> float | None:
    """Return a correlation as a share of its noise ceiling; None where there is no ceiling above 0."""
    return None if ceiling is None or ceiling <= 0 else control_scaled(value, 0.0, ceiling)


def _skew_corrected(values: np.ndarray, level: float) -> np.ndarray:
    """Return t intervals corrected for skewness by Hall's (1992) monotone cubic transformation, shape (m, 2).

    With skewness g the transformed t, t + a g t^2 + (a g)^2 t^3 / 3 + b g with a = 1 / (3 sqrt n) and
    b = 1 / (6 sqrt n), is nearly symmetric; its quantiles are those of t, transformed back.
    """
    n = values.shape[1]
    mean = values.mean(axis=1)
    away = values - mean[:, None]
    square = (away**2).mean(axis=1)
    varies = square > (1e-12 * np.abs(values).max(axis=1)) ** 2
    skewness = np.where(varies, (away**3).mean(axis=1) / np.where(varies, square, 1) ** 1.5, np.nan)
    a, b = skewness / (3 * np.sqrt(n)), skewness / (6 * np.sqrt(n))
    flat = np.abs(a) < 1e-8
    scale = np.where(flat, 1, a)
    t, error = _t(level, n), np.sqrt(square / (n - 1))
    ends = [np.where(flat, x, (np.cbrt(1 + 3 * a * (x - b)) - 1) / scale) for x in (t, -t)]
    return np.stack([mean - error * end for end in ends], axis=1)


def _wilson(values: np.ndarray, level: float) -> np.ndarray:
    """Return Wilson intervals of means of shares, shape (m, 2).

    Ones and zeros: with the limits next to 0 and 1 replaced by Poisson ones (Brown, Cai & DasGupta 2001, section
    4.1.1), where Wilson's own cover too little. Fractions (ties, means over seeds, subjects or conditions): Wilson's
    with the number of items that a proportion of this variance would have, and the quantile of t.
    """
    from scipy.stats import chi2, norm

    n = values.shape[1]
    if values.min() < -1e-9 or values.max() > 1 + 1e-9:
        raise BenchError("interval of a proportion: expected values between 0 and 1")
    share = np.clip(values.mean(axis=1), 0, 1)
    variance = values.var(axis=1, ddof=1)
    whole = ((values == 0) | (values == 1)).all(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        effective = np.where(variance > 1e-15, np.maximum(share * (1 - share) / variance * n, n), np.nan)
    effective = np.where(whole, n, effective)
    z = np.where(whole, norm.ppf((1 + level) / 2), _t(level, n))
    shrink = 1 + z**2 / effective
    centre = (share + z**2 / (2 * effective)) / shrink
    half = z / shrink * np.sqrt(share * (1 - share) / effective + z**2 / (4 * effective**2))
    low, high = np.maximum(centre - half, 0), np.minimum(centre + half, 1)
    count = np.rint(share * n)
    few = 2 if n <= 50 else 3
    for left, end, sign in ((count, low, 1), (n - count, high, -1)):
        chosen = whole & (left >= 1) & (left <= few)
        limit = chi2.ppf(1 - level, 2 * left[chosen]) / (2 * n)
        end[chosen] = limit if sign > 0 else 1 - limit
        end[whole & (left == 0)] = 0 if sign > 0 else 1
    return np.stack([low, high], axis=1)


def _median_intervals(values: np.ndarray, level: float) -> np.ndarray:
    """Return `median_interval` of every row, shape (m, 2)."""
    from scipy.stats import binom

    n = values.shape[1]
    ordered = np.sort(values, axis=1)
    # k-th smallest to k-th largest cover with 1 - 2 P(B < k), B binomial (n, 1/2)
    cover = 1 - 2 * binom.cdf(np.arange(n // 2), n, 0.5)
    if cover[0] < level:
        return np.full((len(values), 2), np.nan)
    k = np.flatnonzero(cover >= level)[-1] + 1
    if k >= len(cover):
        inner = 0.0
    else:
        share = (cover[k - 1] - level) / (cover[k - 1] - cover[k])
        inner = (n - k) * share / (k + (n - 2 * k) * share)
    low = (1 - inner) * ordered[:, k - 1] + inner * ordered[:, min(k, n - 1)]
    high = (1 - inner) * ordered[:, n - k] + inner * ordered[:, max(n - k - 1, 0)]
    return np.stack([low, high], axis=1)


def _difference_interval(d: np.ndarray, level: float) -> Interval | None:
    """Return the interval of a mean difference; None where few items differ."""
    n = len(d)
    if n >= MIN_ITEMS["mean"] and np.isin(d, (-1, 0, 1)).all():
        from scipy.stats import norm

        # two proportions of the same items: Bonett & Price (2012), one item added to each way of differing
        more, less = ((d == 1).sum() + 1) / (n + 2), ((d == -1).sum() + 1) / (n + 2)
        half = norm.ppf((1 + level) / 2) * np.sqrt((more + less - (more - less) ** 2) / (n + 2))
        return float(max(more - less - half, -1)), float(min(more - less + half, 1))
    if n < MIN_ITEMS["mean"] or np.count_nonzero(d) < MIN_CHANGED or np.ptp(d) <= 1e-12 * np.abs(d).max():
        return None
    low, high = _skew_corrected(d[None], level)[0]
    return float(low), float(high)


def paired_t(differences: np.ndarray) -> np.ndarray:
    """Return the two-sided paired t test's p-value of every row; 1 for a row of zeros, 0 for another constant."""
    from scipy.stats import t

    n = differences.shape[1]
    mean, error = differences.mean(axis=1), differences.std(axis=1, ddof=1) / np.sqrt(n)
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = np.where(error > 0, np.abs(mean) / error, np.where(mean == 0, 0, np.inf))
    return 2 * t.sf(statistic, n - 1)


def _t(level: float, n: int) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + level) / 2, n - 1))


def _finite(values: Sequence[float]) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise BenchError("scores for statistics: expected one finite number per item or subject")
    return values
