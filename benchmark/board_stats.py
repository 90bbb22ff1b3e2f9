"""Statistics of a board's column, from the values of every method, subject, seed and item.

The sampling unit of items is the stimulus: its rows (conditions, subjects, seeds) are averaged first, because they
share what makes the stimulus easy or hard.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from benchmark import bootstrap, stats
from benchmark.errors import BenchError
from benchmark.stats import LEVEL, Difference, Interval

# {(subject, seed): {stimulus: value, or the values of its rows}} of one method
Scores = Mapping[tuple[str, int], Mapping[str, float | Sequence[float]]]


@dataclass(frozen=True)
class MethodStatistics:
    """What a board says of one method in one column.

    Attributes
    ----------
    value : float
        Mean over subjects of the mean over seeds of the mean (or median) over items.
    items : (low, high) or None
        For other test items, within these subjects only.
    subjects : (low, high) or None
        For other subjects; None below three.
    tier : int or None
        Tests over items: 1 is the leader with everything that cannot be told apart from it. None for a method that is
        not ranked.
    tier_subjects : int or None
        The same with tests over subjects; None below three subjects.
    seed_sd : float or None
        See `benchmark.stats.seed_spread`.
    n_units, n_subjects : int
        Stimuli and subjects behind the intervals.
    """

    value: float
    items: Interval | None
    subjects: Interval | None
    tier: int | None
    tier_subjects: int | None
    seed_sd: float | None
    n_units: int
    n_subjects: int


def board_statistics(
    per_item: Mapping[tuple[str, str, int], Mapping[str, float | Sequence[float]]],
    *,
    kind: str | None = "mean",
    bounds: Interval | None = None,
    higher_is_better: bool = True,
    ranked: Collection[str] | None = None,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, MethodStatistics]:
    """Return intervals and tiers of the methods of one column.

    Parameters
    ----------
    per_item : mapping of (method, subject, seed) to mapping of str to float
        Every stimulus's value, or the values of its rows (`stimulus_of`, `by_stimulus`). A method given here must have
        every subject, and the same stimuli as the others.
    kind, bounds
        See `benchmark.stats.kind_of` and `item_interval`; with kind None the rows are no items, and only subjects and
        seeds are looked at.
    ranked : collection of str, optional
        Methods that are compared; the others (controls) get intervals but no tier. Default: all.

    Returns
    -------
    dict of str to MethodStatistics
        In the order of the first mention.

    Raises
    ------
    BenchError
        A subject or items are missing, or a value is not finite.
    """
    methods = list(dict.fromkeys(method for method, _, _ in per_item))
    runs: dict[str, Scores] = {m: {key[1:]: v for key, v in per_item.items() if key[0] == m} for m in methods}
    subjects = sorted({subject for _, subject, _ in per_item})
    for m in methods:
        if missing := set(subjects) - {s for s, _ in runs[m]}:
            raise BenchError(f"scores for statistics: {m} lacks subject {min(missing)}, expected it in every method")
    means = {m: subject_values(runs[m], kind) for m in methods}
    value = {m: float(np.mean(list(means[m].values()))) for m in methods}
    chosen = [m for m in methods if ranked is None or m in ranked]
    if kind:
        _same_items(runs)
    units = {m: _arrays(runs[m], kind) for m in methods} if kind else {}
    by_items: dict[str, int] = {}
    by_subjects: dict[str, int] = {}
    if kind and chosen:
        p = _item_pvalues([units[m][1] for m in chosen], kind, seed)
        by_items = _tiers(chosen, value, p, higher_is_better)
    if len(subjects) >= stats.MIN_SUBJECTS and chosen:
        p = _subject_pvalues([np.array([means[m][s] for s in subjects]) for m in chosen])
        by_subjects = _tiers(chosen, value, p, higher_is_better)
    return {
        m: MethodStatistics(
            value=value[m],
            items=_interval(units[m][1], level, kind, bounds, seed) if kind else None,
            subjects=stats.subject_interval(list(means[m].values()), level),
            tier=by_items.get(m),
            tier_subjects=by_subjects.get(m),
            seed_sd=stats.seed_spread({key: _aggregate(v, kind) for key, v in runs[m].items()}),
            n_units=len(units[m][0]) if kind else 0,
            n_subjects=len(subjects),
        )
        for m in methods
    }


def compare_items(a: Scores, b: Scores, kind: str, level: float = LEVEL, seed: int = 0) -> Difference:
    """Return A minus B over the items pooled within subjects: for these subjects, and other items.

    Raises
    ------
    BenchError
        The two differ in their items.
    """
    _same_items({"A": a, "B": b})
    (_, left), (_, right) = _arrays(a, kind), _arrays(b, kind)
    if kind == "median":
        return bootstrap.median_test(left, right, level, seed=seed)
    return stats.paired_test(left, right, kind, level, seed=seed)


def subject_values(scores: Scores, kind: str | None = "mean") -> dict[str, float]:
    """Return every subject's mean over seeds of the mean (or median) over items, in the order of names."""
    found: dict[str, list[float]] = {}
    for (subject, _), items in sorted(scores.items()):
        found.setdefault(subject, []).append(_aggregate(items, kind))
    return {subject: float(np.mean(values)) for subject, values in found.items()}


def unit_values(scores: Scores) -> tuple[list[str], np.ndarray]:
    """Return one value per stimulus whose mean is the mean over subjects of the means over seeds and items.

    With the same stimuli in every subject it is the mean over subjects and seeds. Else every value counts by its share
    of its subject's mean, so that the spread over stimuli is right there too.

    Returns
    -------
    units : list of str
        Sorted.
    values : ndarray of shape (n_units,)
    """
    units = sorted({name for items in scores.values() for name in items})
    place = {name: i for i, name in enumerate(units)}
    n_seeds: dict[str, int] = {}
    for subject, _ in scores:
        n_seeds[subject] = n_seeds.get(subject, 0) + 1
    deviations, total = np.zeros(len(units)), 0.0
    for (subject, _), items in scores.items():
        values = _numbers(items)
        share = 1 / (len(n_seeds) * n_seeds[subject])
        total += share * values.mean()
        if _single(items):
            rows = [place[name] for name in items]
        else:
            rows = [place[name] for name, value in items.items() for _ in range(_size(value))]
        deviations += np.bincount(rows, share / len(values) * (values - values.mean()), len(units))
    return units, total + len(units) * deviations


def by_stimulus(items: Sequence[str], values: Sequence[float]) -> dict[str, np.ndarray]:
    """Return the values of every stimulus's rows.

    Parameters
    ----------
    items : sequence of str
        Stimulus of every row, see `stimulus_of`.
    values : sequence of float
    """
    names, place, counts = np.unique(np.asarray(items, str), return_inverse=True, return_counts=True)
    ordered = np.asarray(values, np.float64)[np.argsort(place, kind="stable")]
    return dict(zip(names.tolist(), np.split(ordered, np.cumsum(counts)[:-1]), strict=True))


def stimulus_of(items: Sequence[str], folds: Sequence[str], blocks: Collection[str]) -> list[str]:
    """Return the stimulus of every item id (``fold/stimulus[/condition][#repeat]``).

    Parameters
    ----------
    items, folds : sequence of str
        Columns of ``scores.parquet``.
    blocks : collection of str
        Every block of the run, over all metrics: ``fold`` or ``fold/condition``.
    """
    names: list[str] = []
    endings = {fold: tuple(b[len(fold) :] for b in blocks if b.startswith(f"{fold}/")) for fold in set(folds)}
    for item, fold in zip(items, folds, strict=True):
        name = item.removeprefix(f"{fold}/")
        stem, mark, number = name.rpartition("#")
        name = stem if mark and number.isdigit() else name
        names.append(next((name.removesuffix(e) for e in endings[fold] if name.endswith(e)), name))
    return names


def _arrays(scores: Scores, kind: str) -> tuple[list[str], np.ndarray]:
    """Return the units and their values: (n_units,), for a median (n_units, n_rows, n_cells)."""
    if kind != "median":
        return unit_values(scores)
    units = sorted(next(iter(scores.values())))
    sizes = {_size(value) for items in scores.values() for value in items.values()}
    if len(sizes) != 1 or any(sorted(items) != units for items in scores.values()):
        raise BenchError("medians over items: expected the same items in every subject and seed")
    cells = [_numbers({u: scores[key][u] for u in units}).reshape(len(units), -1) for key in sorted(scores)]
    return units, np.moveaxis(np.array(cells), 0, 2)


def _same_items(runs: Mapping[str, Scores]) -> None:
    """Refuse methods or seeds of which one has other items, or another number of rows of one, in a subject."""
    first: dict[str, tuple[str, dict[str, int]]] = {}
    for method, scores in runs.items():
        for (subject, seed), items in sorted(scores.items()):
            sizes = dict.fromkeys(items, 1) if _single(items) else {name: _size(value) for name, value in items.items()}
            reference, expected = first.setdefault(subject, (f"{method} seed {seed}", sizes))
            if sizes != expected:
                odd = sorted(n for n in {*sizes, *expected} if sizes.get(n) != expected.get(n))
                raise BenchError(
                    f"{subject}: {reference} and {method} seed {seed} differ in {len(odd)} items, the first is "
                    f"{odd[0]!r}; expected the same"
                )


def _interval(values: np.ndarray, level: float, kind: str, bounds: Interval | None, seed: int) -> Interval | None:
    if kind == "median":
        return bootstrap.median_cells_interval(values, level, seed=seed)
    return stats.item_interval(values, level, kind, bounds)


def _item_pvalues(values: Sequence[np.ndarray], kind: str, seed: int) -> np.ndarray:
    pairs = list(combinations(range(len(values)), 2))
    if kind == "median":
        if len(values[0]) < bootstrap.MIN_MEDIAN_UNITS:
            return np.ones(len(pairs))
        draws = max(bootstrap.MEDIAN_DRAWS, 100 * len(pairs))
        resampled = np.array([bootstrap.resampled_medians(v, draws, seed) for v in values])
        return np.array([bootstrap.two_sided(resampled[i] - resampled[j]) for i, j in pairs])
    differences = np.array([values[i] - values[j] for i, j in pairs]).reshape(len(pairs), len(values[0]))
    if kind == "pairs" and differences.shape[1] > 2:
        differences = stats.stretched(differences)
    # enough draws that the smallest p-value survives the correction for all pairs
    return stats.sign_flip(differences, max(stats.DRAWS, 100 * len(pairs)), seed)


def _subject_pvalues(values: Sequence[np.ndarray]) -> np.ndarray:
    pairs = combinations(values, 2)
    return stats.paired_t(np.array([a - b for a, b in pairs]).reshape(-1, len(values[0])))


def _tiers(methods: Sequence[str], value: Mapping[str, float], p: np.ndarray, higher: bool) -> dict[str, int]:
    adjusted = np.ones((len(methods), len(methods)))
    rows, columns = np.triu_indices(len(methods), 1)
    adjusted[rows, columns] = adjusted[columns, rows] = stats.holm(p)
    found = stats.tiers([value[m] for m in methods], adjusted, higher)
    return dict(zip(methods, found, strict=True))


def _aggregate(items: Mapping[str, float | Sequence[float]], kind: str | None) -> float:
    return float(np.median(_numbers(items)) if kind == "median" else _numbers(items).mean())


def _numbers(items: Mapping[str, float | Sequence[float]]) -> np.ndarray:
    if _single(items):  # nearly always: a call for every value would take most of the time of boards of many runs
        values = np.fromiter(items.values(), np.float64, len(items))
    else:
        values = np.concatenate([np.atleast_1d(v) for v in items.values()]).astype(np.float64)
    if not len(values) or not np.isfinite(values).all():
        raise BenchError("scores for statistics: expected at least one item per subject and finite values")
    return values


def _single(items: Mapping[str, float | Sequence[float]]) -> bool:
    """Whether every stimulus has one value."""
    return set(map(type, items.values())) <= {float}


def _size(value: float | Sequence[float]) -> int:
    return 1 if type(value) is float else np.size(value)
