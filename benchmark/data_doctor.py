"""`bench doctor DATASET`: is this data sane? Checks of one subject's recording, each a number and a sentence.

Ridge is fitted on training rows only, cross-validated among them. The test side is looked at where it is compared with
the training side (pictures, scaling, distribution) and for the reliability of its repeats, never to fit anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmark.api import Stimuli
from benchmark.data import prepare, splits
from benchmark.data.base import Dataset, SubjectData
from benchmark.data.scan import blocks, embedding_faults, scan
from benchmark.errors import BenchError

OK, WARNING, FAULT, UNCHECKED = "ok", "warning", "fault", "not checked"
MAX_VOXELS, MAX_ROWS, MAX_PICTURES, MAX_COLUMNS, MAX_SPACES = 2000, 1200, 10_000, 4096, 4
SHIFTS = (-2, -1, 0, 1, 2)
SHUFFLES, PERMUTATIONS, FOLDS, COMPONENTS = 20, 60, 3, 20
PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)
CLEAR = 3.0  # standard deviations of the shuffled values that a real one lies above them
CLEAR_SHIFT = 5.0  # the best of four shifts
ENOUGH = 30  # training stimuli or rows, and repeated stimuli, below which nothing found is no fault
PIXELS = "pixels"
SIDE, ALIKE = 16, 0.98  # near-duplicates: correlation of pictures of 16 x 16
MANY_ALIKE = 0.05  # share of the test pictures from which near-duplicates are a fault
EXACT = 1e-3  # of a standard deviation: what counts as a mean of 0 and a standard deviation of 1
TRANSDUCTIVE = "transductive scaling"  # the tag of a dataset that says so


@dataclass(frozen=True)
class Finding:
    """One check's verdict.

    Attributes
    ----------
    check : str
    verdict : str
        ``"ok"``, ``"warning"``, ``"fault"`` or ``"not checked"``.
    sentence : str
    value : float or None
        The number that the verdict rests on.
    """

    check: str
    verdict: str
    sentence: str
    value: float | None = None


@dataclass(frozen=True, eq=False)
class Checkup:
    """All findings about one subject of a dataset, and what their picture is drawn from."""

    dataset: str
    subject: str
    split: str
    findings: tuple[Finding, ...]
    drawn: Mapping[str, Any] = field(default_factory=dict)

    def count(self, verdict: str) -> int:
        """Return how many findings have a verdict."""
        return sum(found.verdict == verdict for found in self.findings)


@dataclass(frozen=True, eq=False)
class _Recording:
    """One subject's trials, some of its voxels, and the sides of the first fold.

    ``x`` (n_trials, n_voxels) holds the responses to check with NaN filled, ``centred`` the same less the mean of the
    session and condition; ``train`` and ``test`` are rows of them.
    """

    dataset: Dataset
    fold: prepare.Fold
    data: SubjectData
    columns: np.ndarray
    x: np.ndarray
    train: np.ndarray
    test: np.ndarray
    rng: np.random.Generator

    @property
    def unit(self) -> str:
        return self.fold.split.unit

    @property
    def stimuli(self) -> Stimuli:
        return self.dataset.stimuli

    def centred(self) -> np.ndarray:
        labels = _codes(self.data.session, self.data.condition)
        return self.x - _means(self.x, labels)[labels]

    def sides(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the stimuli of training and test rows."""
        return np.unique(self.data.stimulus[self.train]), np.unique(self.data.stimulus[self.test])


def check_dataset(dataset: Dataset, split: splits.Split, subject: str, clip: Any = None, seed: int = 0) -> Checkup:
    """Check a subject's recording for the faults that make every method's score wrong.

    Parameters
    ----------
    dataset : Dataset
    split : Split
        Its first fold that tests the subject says which rows are trained on. Where it holds out subjects, the
        subject's own rows are checked: other folds train on them.
    subject : str
    clip : model with ``encode_image`` and ``encode_text``, optional
        Reads pictures and captions; without one that check is left out.
    seed : int
        Of every sample and permutation.

    Returns
    -------
    Checkup

    Raises
    ------
    BenchError
        For an unknown subject or a side without trials.
    """
    fold = prepare.folds(dataset, split, subject)[0]
    drawn: dict[str, Any] = {}
    rows = [fold.train_rows.get(subject, np.empty(0, int)), fold.test_rows[subject]]
    if split.unit == "subject":
        known = any(subject in f.train for f in split.folds[splits.EVERY_SUBJECT])
        rows = [rows[1] if known else rows[0], rows[1]]
    findings, columns = _voxels(fold, subject, rows)
    if len(columns):
        data = fold.data[subject]
        x = _filled(data.responses, columns)
        recording = _Recording(dataset, fold, data, columns, x, *rows, np.random.default_rng(seed))
        for check in (_trials, _alignment, _repeats, _scaling, _shift):
            findings += check(recording, drawn)
        findings += _pictures(recording, drawn)
        findings += _targets(recording)
        findings += _captions(recording, clip)
    return Checkup(dataset.name, subject, f"{split.name}/{fold.name}", tuple(findings), drawn)


# --- voxels and trials -----------------------------------------------------------------------------------------------


def _voxels(fold: prepare.Fold, subject: str, rows: Sequence[np.ndarray]) -> tuple[list[Finding], np.ndarray]:
    """Look for NaN, infinity and constant voxels in all of the recording; return the voxels to go on with as well."""
    responses = fold.data[subject].responses
    n_voxels = responses.shape[1]
    both = np.unique(np.concatenate(rows))
    found, train = scan(responses, both), scan(responses, rows[0] if len(rows[0]) else both)
    findings = []
    if len(found.infinite_rows) or len(found.empty_rows):
        bad, what = (found.infinite_rows, "an infinity") if len(found.infinite_rows) else (found.empty_rows, "only NaN")
        findings.append(
            Finding("NaN", FAULT, f"{len(bad)} trials hold {what}, the first of them trial {both[bad[0]]}.", len(bad))
        )
    holes = found.n_nan > 0
    declared = fold.dataset.nan_voxels == "drop"
    if holes.any():
        text = f"{_of(holes.sum(), n_voxels)} voxels hold NaN ({np.mean(found.n_nan) / len(both):.2%} of all values)"
        text += ", as the dataset declares." if declared else ', expected none unless "nan_voxels" is "drop".'
        findings.append(Finding("NaN", OK if declared else FAULT, text, float(holes.mean())))
    elif not findings:
        findings.append(Finding("NaN", OK, "No voxel holds NaN, no trial an infinity.", 0.0))
    empty = train.low > train.high
    constant = (train.low == train.high) & ~empty
    if constant.any():
        text = f"{_of(constant.sum(), n_voxels)} voxels never change in the training trials; runs drop them."
        findings.append(Finding("constant voxels", WARNING, text, float(constant.mean())))
    else:
        findings.append(Finding("constant voxels", OK, "Every voxel changes.", 0.0))
    columns = np.flatnonzero(~constant & ~empty)
    if not len(columns):
        findings.append(Finding("constant voxels", FAULT, "No voxel is left to decode from.", 1.0))
    if len(found.infinite_rows):
        return findings, np.empty(0, int)
    return findings, _sample(responses, columns)


def _sample(responses: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return voxels at equal steps through their order by variance, so that quiet and loud ones are looked at."""
    if len(columns) <= MAX_VOXELS:
        return columns
    rows = np.unique(np.linspace(0, len(responses) - 1, 300).astype(int))
    order = np.argsort(np.nanvar(np.asarray(responses[rows], np.float32)[:, columns], axis=0), kind="stable")
    return np.sort(columns[order[np.linspace(0, len(columns) - 1, MAX_VOXELS).astype(int)]])


def _filled(responses: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the columns of all rows, NaN replaced by the column's mean."""
    x = np.empty((len(responses), len(columns)), np.float32)
    for start, block in blocks(responses):
        np.take(block, columns, axis=1, out=x[start : start + len(block)])
    holes = np.isnan(x)
    if holes.any():
        mean = np.nan_to_num(np.nansum(x, axis=0) / (~holes).sum(axis=0))
        np.copyto(x, mean.astype(np.float32), where=holes)
    return x


def _trials(recording: _Recording, drawn: dict[str, Any]) -> Iterator[Finding]:
    """Look for trials far out, trials of one value, and trials that are there twice."""
    used = np.unique(np.concatenate([recording.train, recording.test]))
    x = recording.x[used]
    rms = np.sqrt(np.mean(((x - x.mean(axis=0)) / _sd(x)) ** 2, axis=1, dtype=np.float64))
    middle = np.median(rms)
    spread = 1.4826 * np.median(np.abs(np.log(rms / middle)))
    limit = middle * max(2.5, np.exp(6 * spread))
    far = rms > limit
    drawn["trials"] = (used, rms / middle, limit / middle)
    worst = f"the farthest is trial {used[rms.argmax()]} at {rms.max() / middle:.1f} times the median distance"
    if far.any():
        text = f"{_of(far.sum(), len(used))} trials lie far from all others; {worst} from the mean."
        yield Finding("outlying trials", WARNING, text, float(far.mean()))
    else:
        yield Finding("outlying trials", OK, f"No trial lies far out; {worst} from the mean.", 0.0)
    flat = np.ptp(x, axis=1) == 0 if x.shape[1] > 1 else np.zeros(len(x), bool)
    if flat.any():
        text = f"{_of(flat.sum(), len(used))} trials hold one value in every voxel, the first is trial {used[flat][0]}."
        yield Finding("empty trials", WARNING, text, float(flat.mean()))
    mark = x[~flat].astype(np.float64) @ recording.rng.standard_normal(x.shape[1])
    _, first, group, count = np.unique(mark, return_index=True, return_inverse=True, return_counts=True)
    twice = count[group] > 1
    if twice.any() and x.shape[1] > 2:
        rows = used[~flat]
        on_test = np.isin(rows, recording.test) if recording.unit != "subject" else np.zeros(len(rows), bool)
        mixed = np.bincount(group, on_test) % np.bincount(group) != 0
        text = f"{_of(twice.sum(), len(used))} trials have the very same response as another one"
        text += f", {mixed.sum()} of them with one copy in train and one in test." if mixed.any() else "."
        yield Finding("copied trials", FAULT if mixed.any() else WARNING, text, float(twice.mean()))


# --- alignment -------------------------------------------------------------------------------------------------------


def _alignment(recording: _Recording, drawn: dict[str, Any]) -> Iterator[Finding]:
    """Decode targets of the same trial, of its neighbours and of shuffled trials, within the training rows."""
    tables = _tables(recording.stimuli)
    rows = recording.train
    if not tables or len(rows) < 4:
        why = "no target table and no picture" if not tables else "no training trial of this subject"
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
    off = z[best, away] > CLEAR_SHIFT and scores[best, away] - r > max(CLEAR_SHIFT * sd[best], 0.3 * scores[best, away])
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
    """Return what responses may be decoded to, by name, (n, d) each; not read yet."""
    tables = {name: t for name, t in list(stimuli.embeddings.items())[:MAX_SPACES] if np.ptp(t[: len(t)]) > 0}
    if stimuli.images is not None:
        tables[PIXELS] = None
    return tables


def _shifted(recording: _Recording, rows: np.ndarray) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
    """Return, by shift, the stimulus of the trial so many places later in the same run, and where it may be used."""
    stimulus = recording.data.stimulus
    sequence = _codes(recording.data.session, recording.data.run)
    usable = np.isin(stimulus, stimulus[recording.train])
    labels, valid = {}, {}
    for k in SHIFTS:
        other = np.clip(rows + k, 0, len(stimulus) - 1)
        inside = (rows + k == other) & (sequence[other] == sequence[rows]) & usable[other]
        if k == 0 or inside.sum() >= max(ENOUGH, 0.2 * len(rows)):
            labels[k], valid[k] = stimulus[other], inside
    return labels, valid


def _by_stimulus(recording: _Recording, rows: np.ndarray) -> bool:
    """Return whether stimuli, and not runs, are left out together."""
    return recording.unit != "run" or len(np.unique(recording.data.run[rows])) < 2


def _decoded(recording, tables, rows, labels, valid) -> tuple[np.ndarray, np.ndarray]:
    """Return correlations of left-out targets with predictions, (spaces, shifts), and of shuffled ones."""
    from sklearn.model_selection import GroupKFold

    from benchmark import ridge

    rng, x = recording.rng, np.ascontiguousarray(recording.centred()[rows])
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
    if n_folds < 2:
        return np.full((len(tables), len(labels)), np.nan), np.full((len(tables), SHUFFLES), np.nan)
    total = {key: [] for key in targets}
    for fit, left in GroupKFold(n_folds, shuffle=True, random_state=0).split(x, groups=groups):
        named = {str(key): y[fit] for key, y in targets.items()}
        model = ridge.fit(x[fit], named, PENALTIES, groups=groups[fit])
        predicted = model.predict(x[left])
        for key, y in targets.items():
            use = valid[key[1]][left] if key[1] in valid else np.ones(len(left), bool)
            total[key].append(_correlation(y[left][use], predicted[str(key)][use]))
    mean = {key: np.mean(values, axis=0) for key, values in total.items()}
    scores = np.array([[mean[name, k] for k in labels] for name in tables], float)
    return scores, np.array([mean[name, "shuffled"] for name in tables], float)


def _within(rng: np.random.Generator, groups: np.ndarray) -> np.ndarray:
    """Return a permutation of rows that keeps each in its group."""
    order = np.lexsort([rng.random(len(groups)), groups])
    out = np.empty(len(groups), int)
    out[np.argsort(groups, kind="stable")] = order
    return out


def _components(recording: _Recording, name: str, table, stimuli: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from stimulus rows to their first principal components, float32."""
    from sklearn.decomposition import PCA

    if name == PIXELS:
        values = _small(recording.stimuli.images, stimuli)
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


# --- repeats ---------------------------------------------------------------------------------------------------------


def _repeats(recording: _Recording, drawn: dict[str, Any]) -> Iterator[Finding]:
    """Correlate two halves of every stimulus's repeats, voxel by voxel, on either side."""
    x = recording.centred()
    sides = {"": np.union1d(recording.train, recording.test)}
    if recording.unit == "stimulus":
        sides = {" of the training side": recording.train, " of the test side": recording.test}
    for where, rows in sides.items():
        halves = _halves(recording.data, x, rows)
        if halves is None:
            yield Finding("repeats", UNCHECKED, f"Not checked: fewer than three repeated stimuli{where}.")
            continue
        a, b = (_standard(half) for half in halves)
        n = len(a)
        r = np.mean(a * b, axis=0)
        null = np.stack([np.mean(a * b[recording.rng.permutation(n)], axis=0) for _ in range(SHUFFLES)])
        means = null.mean(axis=1)
        z = (r.mean() - means.mean()) / (means.std(ddof=1) + 1e-6)
        above = float(np.mean(r > np.quantile(null, 0.95)))
        if where in ("", " of the training side"):
            drawn["repeats"] = (r, null)
        value = f"mean r of {r.mean():.3f} over voxels from {n} stimuli, shuffled {means.mean():.3f} with SD "
        value += f"{means.std(ddof=1):.3f}; {above:.0%} of voxels above the shuffled ones' 95th percentile"
        if z > CLEAR and r.mean() > means.max():
            yield Finding("repeats", OK, f"Repeats{where} agree: {value}.", float(r.mean()))
        elif n < ENOUGH:
            yield Finding("repeats", UNCHECKED, f"Too few repeats{where} to tell: {value}.", float(r.mean()))
        else:
            text = (
                f"Repeats{where} agree no better than other stimuli: {value}. Labels are wrong, or there is no signal."
            )
            yield Finding("repeats", FAULT, text, float(r.mean()))


def _halves(data: SubjectData, x: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the means of odd and of even presentations of every stimulus (in a condition) that has both."""
    item = _codes(data.stimulus[rows], data.condition[rows])
    order = np.argsort(item, kind="stable")
    count = np.bincount(item)
    number = np.empty(len(rows), int)
    number[order] = np.arange(len(rows)) - np.repeat(np.cumsum(count) - count, count)
    kept = count[item] > 1
    if (count > 1).sum() < 3:
        return None
    halves = [kept & (number % 2 == half) for half in (0, 1)]
    return tuple(_means(x[rows[half]], np.unique(item[half], return_inverse=True)[1]) for half in halves)


# --- scaling and shift -----------------------------------------------------------------------------------------------


def _scaling(recording: _Recording, drawn: dict[str, Any]) -> Iterator[Finding]:
    """Look for responses that were scaled with statistics of the test side in them."""
    x, data = recording.x, recording.data
    used = np.unique(np.concatenate([recording.train, recording.test]))
    places = {"runs": _codes(data.session, data.run), "sessions": _codes(data.session)}
    for name, labels in places.items():
        sizes = np.bincount(labels)
        if (
            len(sizes) > 1
            and sizes.min() > 2
            and np.mean([_scaled(x[labels == g])[0] for g in range(len(sizes))]) > 0.5
        ):
            text = (
                f"Every voxel is z-scored within {name}, test trials included; no label goes into that, and it is fine."
            )
            yield Finding("scaling", OK, text, 1.0)
            return
    all_rows = [x] if len(used) == len(x) else [x, x[used]]
    scaled, centred, ranged = np.max([_scaled(rows) for rows in all_rows], axis=0)
    value = float(scaled)
    if max(scaled, ranged) > 0.5:
        how = "a mean of 0 and a standard deviation of 1" if scaled > 0.5 else "one range"
        text = f"{max(scaled, ranged):.0%} of voxels have {how} over all rows, so the test rows went into the scaling"
        if TRANSDUCTIVE in recording.dataset.tags:
            yield Finding("scaling", OK, f"{text}, as the dataset's tag {TRANSDUCTIVE!r} says.", value)
        else:
            mild = recording.unit == "subject"
            text += f"; expected scaling by the training rows, by sessions, or the tag {TRANSDUCTIVE!r}."
            yield Finding("scaling", WARNING if mild else FAULT, text, value)
    elif centred > 0.5:
        text = (
            f"{centred:.0%} of voxels have a mean of exactly 0 over all rows, so the test rows went into the centring."
        )
        yield Finding("scaling", OK if TRANSDUCTIVE in recording.dataset.tags else WARNING, text, float(centred))
    elif recording.unit != "subject" and len(recording.train) > 2 and _scaled(x[recording.train])[0] > 0.5:
        yield Finding("scaling", OK, "Every voxel is z-scored with the training rows, as it should be.", value)
    else:
        yield Finding("scaling", OK, "No voxel is scaled with the test rows.", value)


def _scaled(x: np.ndarray) -> tuple[float, float, float]:
    """Return the share of columns of mean 0 and SD 1 (either definition), of mean 0, and of one range."""
    n = len(x)
    if n < 3:
        return 0.0, 0.0, 0.0
    mean, sd = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
    centred = np.abs(mean) < EXACT * np.where(sd > 0, sd, 1)
    unit = np.minimum(np.abs(sd - 1), np.abs(sd * np.sqrt(n / (n - 1)) - 1)) < EXACT
    low, high = x.min(axis=0), x.max(axis=0)
    ranged = (np.abs(low - low[0]) < EXACT * (high - low)) & (np.abs(high - high[0]) < EXACT * (high - low))
    # by chance a voxel's mean is that close to 0 at times, but not that of most voxels
    return float((centred & unit).mean()), float(centred.mean()), float(ranged.mean()) if x.shape[1] > 4 else 0.0


def _shift(recording: _Recording, drawn: dict[str, Any]) -> Iterator[Finding]:
    """Compare means and standard deviations of voxels between the sides, with permuted sides as reference."""
    if recording.unit == "subject":
        yield from _subject_shift(recording, drawn)
        return
    used = np.concatenate([recording.train, recording.test])
    if min(len(recording.train), len(recording.test)) < 4:
        yield Finding("train and test", UNCHECKED, "Not checked: fewer than four trials on a side.")
        return
    x = recording.x[used].astype(np.float64)
    x = (x - x.mean(axis=0)) / _sd(x)
    on_test = np.arange(len(used)) >= len(recording.train)
    # repeats of a stimulus stay together, except where both sides show the same stimuli
    units = _codes(recording.data.stimulus[used]) if recording.unit == "stimulus" else np.arange(len(used))
    first = np.unique(units, return_index=True)[1]
    sides = [on_test] + [on_test[first][recording.rng.permutation(len(first))][units] for _ in range(PERMUTATIONS)]
    sides = [s for s in sides if 1 < s.sum() < len(s) - 1]
    away, ratio = _differences(x, np.array(sides, float))
    distance, scale = np.mean(away**2, axis=1), np.median(np.log(ratio), axis=1)
    excess = float(np.sqrt(max(0.0, distance[0] - distance[1:].mean())))
    p = [np.mean(v[1:] >= v[0]) for v in (distance, np.abs(scale))]
    drawn["shift"] = (away[0], ratio[0], away[1], ratio[1])
    yield _shift_finding(excess, float(np.exp(scale[0])), p, (0.3, 1.0), (1.25, 1.6), "Test and training trials")


def _shift_finding(distance, ratio, p, far, wide, who: str) -> Finding:
    told = f"test voxels' standard deviation is {ratio:.2f} times the training side's (median), means differ by "
    told += f"{distance:.2f} SD more than permuted sides" if p else f"{distance:.2f} SD"
    size = np.exp(abs(np.log(ratio)))
    reached = [
        (not p or p[0] < 0.03) and distance > far[level] or (not p or p[1] < 0.03) and size > wide[level]
        for level in (0, 1)
    ]
    verdict = FAULT if reached[1] else WARNING if reached[0] else OK
    text = "are alike" if verdict == OK else "differ in distribution"
    return Finding("train and test", verdict, f"{who} {text}: {told}.", ratio)


def _differences(x: np.ndarray, on_test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return differences of means in SD of the training side, and ratios of SD, (sides, voxels) each."""
    moments = []
    for side in (1 - on_test, on_test):
        n = side.sum(axis=1, keepdims=True)
        mean = side @ x / n
        moments.append((mean, np.sqrt(np.maximum((side @ x**2 / n - mean**2) * n / (n - 1), 1e-12))))
    (m0, s0), (m1, s1) = moments
    return (m1 - m0) / s0, s1 / s0


def _subject_shift(recording: _Recording, drawn: dict[str, Any]) -> Iterator[Finding]:
    """Compare the subject with those that its fold trains on: one scale, or several times another's?"""
    found = []
    for subject in recording.fold.train_rows:
        responses = recording.fold.data[subject].responses
        if responses.shape[1] != recording.data.responses.shape[1]:
            text = (
                f"{responses.shape[1]} voxels in {subject}, {recording.data.responses.shape[1]} in the test subject: "
            )
            yield Finding("train and test", FAULT, text + "a split over subjects needs a common set of voxels.")
            return
        x = _filled(responses, recording.columns)
        found.append((x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)))
    mean, sd = (np.mean(parts, axis=0) for parts in zip(*found, strict=True))
    sd = np.where(sd > 0, sd, 1)
    own = recording.x.mean(axis=0, dtype=np.float64), recording.x.std(axis=0, dtype=np.float64)
    away, ratio = (own[0] - mean) / sd, np.maximum(own[1], 1e-12) / sd
    drawn["shift"] = (away, ratio, None, None)
    rms, scale = float(np.sqrt(np.mean(away**2))), float(np.exp(np.median(np.log(ratio))))
    yield _shift_finding(rms, scale, None, (2.0, 5.0), (2.0, 2.6), "This subject and those trained on")


# --- pictures and targets --------------------------------------------------------------------------------------------


def _small(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return pictures of 16 x 16 by area averaging, (n, values), float32; a block of pictures in memory at a time."""
    import torch
    from torch.nn.functional import interpolate

    out = []
    step = max(1, (1 << 26) // max(1, 4 * images[:1].nbytes))
    for start in range(0, len(rows), step):
        block = torch.from_numpy(np.asarray(images[rows[start : start + step]], np.float32)).permute(0, 3, 1, 2)
        out.append(interpolate(block, (SIDE, SIDE), mode="area").flatten(1).numpy())
    return np.concatenate(out)


def _pictures(recording: _Recording, drawn: dict[str, Any]) -> Iterator[Finding]:
    """Look for one picture, or nearly one, on both sides of a split over stimuli."""
    images, ids = recording.stimuli.images, recording.stimuli.ids
    if images is None:
        yield Finding("pictures", UNCHECKED, "Not checked: no pictures.")
        return
    train, test = recording.sides()
    shown = np.union1d(train, test)
    digests = dict(zip(shown.tolist(), splits.image_digests(images, shown), strict=True))
    if recording.unit != "stimulus":
        yield Finding(
            "pictures", UNCHECKED, f"Not checked: a split over {recording.unit}s tests on pictures it trained on."
        )
    else:
        in_train = {digests[s]: s for s in train.tolist()}
        same = [(in_train[digests[s]], s) for s in test.tolist() if digests[s] in in_train]
        if same:
            a, b = same[0]
            text = (
                f"{_of(len(same), len(test))} test pictures are also trained on, byte for byte ({ids[b]} is {ids[a]})."
            )
            yield Finding("pictures", FAULT, text, len(same) / len(test))
        near, best = _near(recording, drawn, train, test, {b for _, b in same})
        if near:
            a, b, r = near[0]
            share = len(near) / len(test)
            text = f"{_of(len(near), len(test))} test pictures nearly are training pictures: {ids[b]} and {ids[a]} correlate "
            text += f"at {r:.3f} as {SIDE} x {SIDE} pixels."
            yield Finding("pictures", FAULT if share >= MANY_ALIKE else WARNING, text, share)
        if not same and not near:
            text = f"No picture is on both sides; the closest two correlate at {best:.3f} as {SIDE} x {SIDE} pixels."
            yield Finding("pictures", OK, text, best)
    twins = len(shown) - len(set(digests.values()))
    if twins:
        text = f"{_of(twins, len(shown))} pictures are those of other stimuli, byte for byte."
        yield Finding("pictures", WARNING, text, twins / len(shown))


def _near(recording, drawn, train, test, known) -> tuple[list[tuple[int, int, float]], float]:
    """Return the test pictures that a training picture is nearly equal to, the closest first, and the best other r."""
    images = recording.stimuli.images
    if len(train) > MAX_PICTURES:
        train = np.sort(recording.rng.choice(train, MAX_PICTURES, replace=False))
    a, b = (_standard(_small(images, rows), axis=1) for rows in (train, test))
    r = b @ a.T / a.shape[1]
    partner, value = r.argmax(axis=1), r.max(axis=1)
    drawn["pictures"] = value, [images[train[partner[value.argmax()]]], images[test[value.argmax()]]]
    order = np.argsort(-value)
    pairs = [(int(train[partner[i]]), int(test[i]), float(value[i])) for i in order if int(test[i]) not in known]
    return [p for p in pairs if p[2] > ALIKE and _close(images, p)], pairs[0][2] if pairs else 1.0


def _close(images: np.ndarray, pair: tuple[int, int, float]) -> bool:
    """Return whether two pictures are alike at full size too: plain ones are at 16 x 16 where they are not the same."""
    a, b = (np.asarray(images[row], np.float64).ravel() for row in pair[:2])
    return bool(np.ptp(a) and np.ptp(b) and np.corrcoef(a, b)[0, 1] > ALIKE - 0.08)


def _targets(recording: _Recording) -> Iterator[Finding]:
    """Look at the target tables: numbers, constant and copied rows, scaling over all stimuli."""
    stimuli = recording.stimuli
    faults = [Finding("targets", FAULT, f"The {fault}.") for fault in embedding_faults(stimuli)]
    yield from faults
    train, test = recording.sides()
    shown = np.union1d(train, test)
    told = []
    for name, table in stimuli.embeddings.items() if not faults else ():
        values = np.asarray(table[shown], np.float32)
        sd = values.std(axis=0, dtype=np.float64)
        if not (sd > 0).any():
            yield Finding("targets", FAULT, f"Targets {name!r} are the same for every stimulus.", 1.0)
            continue
        of_test = values[np.isin(shown, test)]
        copies = 1 - len(np.unique(of_test, axis=0)) / len(of_test)
        if copies and len(np.unique(values, axis=0)) > 0.5 * len(values):  # else they are classes
            yield Finding(
                "targets", WARNING, f"{copies:.0%} of test stimuli have the target in {name!r} of another.", copies
            )
        scaled = max(_scaled(v)[0] for v in (values, np.asarray(table, np.float32)))
        by_train = _scaled(values[np.isin(shown, train)])[0]
        if (
            scaled > 0.5
            and by_train < 0.5
            and recording.unit == "stimulus"
            and TRANSDUCTIVE not in recording.dataset.tags
        ):
            text = (
                f"{scaled:.0%} of the dimensions of {name!r} are z-scored over all stimuli, the test side's included."
            )
            yield Finding("targets", WARNING, text, scaled)
        told.append(f"{name} ({values.shape[1]} dimensions, {np.mean(sd == 0):.0%} constant)")
    images = stimuli.images
    if images is not None:
        flat = sum(np.ptp(images[row]) == 0 for row in shown)
        if flat:
            yield Finding(
                "targets",
                WARNING,
                f"{_of(flat, len(shown))} pictures show one colour and nothing else.",
                flat / len(shown),
            )
    if told:
        yield Finding("targets", OK, f"Targets are finite and vary: {', '.join(told)}.", float(len(told)))


def _captions(recording: _Recording, clip: Any) -> Iterator[Finding]:
    """Ask CLIP whether a picture's own caption fits it better than the captions of other pictures."""
    stimuli = recording.stimuli
    if stimuli.captions is None or stimuli.images is None:
        return
    shown = np.union1d(*recording.sides())
    rows = np.sort(recording.rng.choice(shown, min(200, len(shown)), replace=False))
    texts = [stimuli.captions[row][0] for row in rows]
    if clip is None or len(rows) < 4:
        yield Finding("captions", UNCHECKED, "Not checked: no CLIP to read them with.")
        return
    try:
        text, image = clip.encode_text(texts), clip.encode_image(np.asarray(stimuli.images[rows]))
    except BenchError as error:
        yield Finding("captions", UNCHECKED, f"Not checked: {error}.")
        return
    similar = image @ text.T
    own = similar.diagonal()[:, None]
    other = np.array(texts)[:, None] != np.array(texts)
    two_way = float(((own > similar) + 0.5 * (own == similar))[other].mean())
    verdict = FAULT if two_way < 0.6 else WARNING if two_way < 0.75 else OK
    does = "prefers" if verdict == OK else "hardly prefers"
    text = (
        f"CLIP {does} a picture's own caption to another's: two-way {two_way:.3f} over {len(rows)} pictures, chance .5."
    )
    yield Finding("captions", verdict, text, two_way)


# --- parts -----------------------------------------------------------------------------------------------------------


def _codes(*columns: np.ndarray) -> np.ndarray:
    """Return one integer from 0 for every combination of the columns' values."""
    codes = np.stack([np.unique(c, return_inverse=True)[1].ravel() for c in columns], axis=1)
    return np.unique(codes, axis=0, return_inverse=True)[1].ravel()


def _means(x: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return the mean row of every group, float32."""
    from scipy.sparse import csr_array

    weight = (1 / np.bincount(group))[group].astype(np.float32)
    return csr_array((weight, (group, np.arange(len(group)))), shape=(group.max() + 1, len(group))) @ x


def _sd(x: np.ndarray) -> np.ndarray:
    sd = x.std(axis=0, dtype=np.float64).astype(x.dtype)
    return np.where(sd > 0, sd, 1)


def _standard(x: np.ndarray, axis: int = 0) -> np.ndarray:
    """Return values less their mean over an axis, divided by their standard deviation; zeros where they are equal."""
    x = x - x.mean(axis=axis, keepdims=True)
    sd = x.std(axis=axis, keepdims=True)
    return np.divide(x, sd, out=np.zeros_like(x), where=sd > 1e-6 * np.abs(x).max(initial=1e-30))


def _of(count: int, total: int) -> str:
    return f"{int(count)} of {total}"
