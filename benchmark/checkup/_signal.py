"""Checks of responses against labels: alignment, repeats."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmark.api import Stimuli
from benchmark.checkup._recording import (
    CLEAR,
    ENOUGH,
    FAULT,
    OK,
    SHUFFLES,
    UNCHECKED,
    WARNING,
    Finding,
    Recording,
    codes,
    group_means,
    standard,
)

MAX_ROWS, MAX_COLUMNS, MAX_SPACES = 1200, 4096, 4
SHIFTS = (-2, -1, 0, 1, 2)
FOLDS, COMPONENTS = 4, 20
PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)
CLEAR_SHIFT = 4.0  # as CLEAR, for the best of four shifts
PIXELS = "pixels"


def alignment(recording: Recording, drawn: dict[str, Any]) -> Iterator[Finding]:
    """Decode targets of the same trial, of its neighbours and of shuffled trials, within the training rows."""
    tables = _tables(recording.stimuli)
    rows = recording.train
    if not tables or len(np.unique(recording.data.stimulus[rows])) < 3:
        why = "no target table and no picture" if not tables else "fewer than three training stimuli of this subject"
        yield Finding("alignment", UNCHECKED, f"Not checked: {why}.")
        return
    if len(rows) > MAX_ROWS:
        rows = np.sort(recording.rng.choice(rows, MAX_ROWS, replace=False))
    labels, valid = _shifted(recording, rows)
    scores, shuffled = _decoded(recording, tables, rows, labels, valid)
    mean, sd = shuffled.mean(axis=1), shuffled.std(axis=1, ddof=1) + 1e-6
    z = (scores - mean[:, None]) / sd[:, None]
    here = list(labels).index(0)
    names = list(tables)
    best = int(np.nanargmax(np.nanmax(z, axis=1)))  # the space that says most, whatever the shift
    drawn["alignment"] = (names[best], list(labels), scores[best], shuffled[best])
    r, found = scores[best, here], z[best, here] > CLEAR and scores[best, here] > shuffled[best].max()
    n = len(np.unique(labels[0])) if _by_stimulus(recording, rows) else len(rows)
    value = f"r = {r:.3f}, shuffled pairs {mean[best]:.3f} with SD {sd[best]:.3f}"
    away = int(np.nanargmax(scores[best]))
    k = list(labels)[away]
    off = z[best, away] > CLEAR_SHIFT and scores[best, away] - r > max(CLEAR * sd[best], 0.3 * scores[best, away])
    if k and off:
        text = (
            f"Labels are off by {abs(k)} trial{'s' * (abs(k) > 1)}: responses fit the labels of the trials "
            f"{abs(k)} {'later' if k > 0 else 'earlier'} (r = {scores[best, away]:.3f}) and not their own ({value})."
        )
        yield Finding("alignment", FAULT, text, float(r))
    elif found:
        text = f"Ridge decodes {names[best]} of left-out training trials better than shuffled pairs ({value})"
        tried = [f"{s:.3f}" for j, s in enumerate(scores[best]) if j != here and np.isfinite(s)]
        text += f"; labels of neighbouring trials do no better (at most {max(tried, key=float)})." if tried else "."
        yield Finding("alignment", OK, text, float(r))
    elif n < ENOUGH:
        text = f"Too little to tell: {n} training {'stimuli' if _by_stimulus(recording, rows) else 'trials'} ({value})."
        yield Finding("alignment", UNCHECKED, text, float(r))
    else:
        text = f"Ridge decodes no target better than shuffled pairs, best {names[best]} ({value})"
        yield Finding("alignment", FAULT, f"{text}: responses and labels do not belong together.", float(r))
    if found:
        for i, name in enumerate(names):
            if i != best and name != PIXELS and n >= ENOUGH and z[i, here] < CLEAR:
                text = (
                    f"Targets {name!r} are decoded no better than shuffled pairs (r = {scores[i, here]:.3f}), although "
                )
                text += f"{names[best]} are: do their rows follow the stimulus table?"
                yield Finding("targets", WARNING, text, float(scores[i, here]))


def _tables(stimuli: Stimuli) -> dict[str, np.ndarray]:
    """Return what responses may be decoded to, by name, (n, d) each; None for pictures."""
    tables = {name: t for name, t in list(stimuli.embeddings.items())[:MAX_SPACES] if 0 < np.ptp(t) < np.inf}
    if stimuli.images is not None:
        tables[PIXELS] = None
    return tables


def _shifted(recording: Recording, rows: np.ndarray) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
    """Return, by shift, the stimulus of the trial so many places later in the same run, and where it may be used."""
    stimulus = recording.data.stimulus
    sequence = codes(recording.data.session, recording.data.run)
    usable = np.isin(stimulus, stimulus[recording.train])
    labels, valid = {}, {}
    for k in SHIFTS:
        other = np.clip(rows + k, 0, len(stimulus) - 1)
        inside = (rows + k == other) & (sequence[other] == sequence[rows]) & usable[other]
        if k == 0 or inside.sum() >= max(ENOUGH, 0.2 * len(rows)):
            labels[k], valid[k] = stimulus[other], inside
    return labels, valid


def _by_stimulus(recording: Recording, rows: np.ndarray) -> bool:
    """Return whether stimuli, and not runs, are left out together."""
    return recording.unit != "run" or len(np.unique(recording.data.run[rows])) < 2


def _decoded(recording, tables, rows, labels, valid) -> tuple[np.ndarray, np.ndarray]:
    """Return correlations of left-out targets with predictions, (spaces, shifts), and of shuffled ones."""
    from sklearn.model_selection import GroupKFold

    from benchmark import ridge

    rng, x = recording.rng, recording.centred(rows)
    whole = _by_stimulus(recording, rows)
    groups = np.unique(recording.data.stimulus[rows] if whole else recording.data.run[rows], return_inverse=True)[1]
    stimulus = labels[0]
    shown, own = np.unique(stimulus, return_inverse=True)
    # a stimulus keeps one target on all its trials, unless the same stimuli are on both sides anyway
    orders = [rng.permutation(len(shown))[own] if whole else _within(rng, groups) for _ in range(SHUFFLES)]
    orders = [shown[o] if whole else stimulus[o] for o in orders]
    targets = {}
    for name, table in tables.items():
        code = _components(recording, name, table, np.unique(np.concatenate([*labels.values()])))
        for k, chosen in labels.items():
            targets[name, k] = np.where(valid[k][:, None], code(chosen), np.float32(0))
        targets[name, "shuffled"] = np.stack([code(o) for o in orders], axis=1)
    n_folds = min(FOLDS, groups.max() + 1)
    total = {key: [] for key in targets}
    for fit, left in GroupKFold(n_folds, shuffle=True, random_state=0).split(x, groups=groups):
        named = {str(key): y[fit] for key, y in targets.items()}
        model = ridge.fit(x[fit], named, PENALTIES, groups=groups[fit])
        predicted = model.predict(x[left])
        for key, y in targets.items():
            use = valid[key[1]][left] if key[1] in valid else np.ones(len(left), bool)
            if use.sum() > 1:
                total[key].append(_correlation(y[left][use], predicted[str(key)][use]))
    mean = {key: np.mean(values, axis=0) if values else np.nan for key, values in total.items()}
    scores = np.array([[mean[name, k] for k in labels] for name in tables], float)
    return scores, np.array([mean[name, "shuffled"] for name in tables], float)


def _within(rng: np.random.Generator, groups: np.ndarray) -> np.ndarray:
    """Return a permutation of rows that keeps each in its group."""
    order = np.lexsort([rng.random(len(groups)), groups])
    out = np.empty(len(groups), int)
    out[np.argsort(groups, kind="stable")] = order
    return out


def _components(recording: Recording, name: str, table, stimuli: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from stimulus rows to their first principal components, float32."""
    from sklearn.decomposition import PCA

    if name == PIXELS:
        values = recording.small[np.searchsorted(recording.shown, stimuli)]
    else:
        columns = np.unique(np.linspace(0, table.shape[1] - 1, MAX_COLUMNS).astype(int))
        values = np.asarray(table[stimuli], np.float32)[:, columns]
    n = min(COMPONENTS, *values.shape)
    code = PCA(n, svd_solver="randomized" if n < 0.2 * min(values.shape) else "auto", random_state=0)
    code = code.fit_transform(values).astype(np.float32)
    return lambda rows: code[np.searchsorted(stimuli, rows)]


def _correlation(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Return the correlation over rows and the last axis, each column less its mean."""
    y, p = (v - v.mean(axis=0) for v in (y.astype(np.float64), p.astype(np.float64)))
    size = np.sqrt((y**2).sum(axis=(0, -1)) * (p**2).sum(axis=(0, -1)))
    return np.divide((y * p).sum(axis=(0, -1)), size, out=np.zeros_like(size), where=size > 1e-12)


def repeats(recording: Recording, drawn: dict[str, Any]) -> Iterator[Finding]:
    """Correlate two halves of every stimulus's repeats, voxel by voxel, on either side."""
    sides = {"": np.union1d(recording.train, recording.test)}
    if recording.unit == "stimulus":
        sides = {" of the training side": recording.train, " of the test side": recording.test}
    for where, rows in sides.items():
        halves = _halves(recording, rows)
        if halves is None:
            yield Finding("repeats", UNCHECKED, f"Not checked: fewer than three repeated stimuli{where}.")
            continue
        a, b = (standard(half) for half in halves)
        n = len(a)
        r = np.mean(a * b, axis=0)
        null = np.stack([np.mean(a * b[recording.rng.permutation(n)], axis=0) for _ in range(SHUFFLES)])
        shuffled = null.mean(axis=1)
        z = (r.mean() - shuffled.mean()) / (shuffled.std(ddof=1) + 1e-6)
        above = float(np.mean(r > np.quantile(null, 0.95)))
        if where in ("", " of the training side"):
            drawn["repeats"] = (r, null)
        value = f"mean r of {r.mean():.3f} over voxels from {n} stimuli, shuffled {shuffled.mean():.3f} with SD "
        value += f"{shuffled.std(ddof=1):.3f}; {above:.0%} of voxels above the shuffled ones' 95th percentile"
        if z > CLEAR and r.mean() > shuffled.max():
            yield Finding("repeats", OK, f"Repeats{where} agree: {value}.", float(r.mean()))
        elif n < ENOUGH:
            yield Finding("repeats", UNCHECKED, f"Too few repeats{where} to tell: {value}.", float(r.mean()))
        else:
            text = (
                f"Repeats{where} agree no better than other stimuli: labels are wrong or there is no signal ({value})."
            )
            yield Finding("repeats", FAULT, text, float(r.mean()))


def _halves(recording: Recording, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the means of odd and of even presentations of every stimulus (in a condition) that has both."""
    data, x = recording.data, recording.centred(rows)
    item = codes(data.stimulus[rows], data.condition[rows])
    order = np.argsort(item, kind="stable")
    count = np.bincount(item)
    number = np.empty(len(rows), int)
    number[order] = np.arange(len(rows)) - np.repeat(np.cumsum(count) - count, count)
    kept = count[item] > 1
    if (count > 1).sum() < 3:
        return None
    halves = [kept & (number % 2 == half) for half in (0, 1)]
    return tuple(group_means(x[half], np.unique(item[half], return_inverse=True)[1]) for half in halves)
