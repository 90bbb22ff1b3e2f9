"""Checks of the responses by themselves: NaN, constant voxels, trials far out, scaling, train against test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmark.checkup._recording import (
    FAULT,
    OK,
    TRANSDUCTIVE,
    UNCHECKED,
    WARNING,
    Finding,
    Recording,
    codes,
    filled,
    of,
    sd_of,
)
from benchmark.data import prepare
from benchmark.data.scan import scan

MAX_VOXELS = 2000
PERMUTATIONS = 200
MIN_UNITS = 8  # stimuli on a side (trials of a split over runs), below which distributions are not compared
EXACT = 1e-3  # of a standard deviation: what counts as a mean of 0 and a standard deviation of 1


def voxels(fold: prepare.Fold, subject: str, rows: Sequence[np.ndarray]) -> tuple[list[Finding], np.ndarray]:
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
        text = f"{of(holes.sum(), n_voxels)} voxels hold NaN ({np.mean(found.n_nan) / len(both):.2%} of all values)"
        text += ", as the dataset declares." if declared else ', expected none unless "nan_voxels" is "drop".'
        findings.append(Finding("NaN", OK if declared else FAULT, text, float(holes.mean())))
    elif not findings:
        findings.append(Finding("NaN", OK, "No voxel holds NaN, no trial an infinity.", 0.0))
    empty = train.low > train.high
    constant = (train.low == train.high) & ~empty
    if constant.any():
        text = f"{of(constant.sum(), n_voxels)} voxels never change in the training trials; runs drop them."
        findings.append(Finding("constant voxels", WARNING, text, float(constant.mean())))
    else:
        findings.append(Finding("constant voxels", OK, "Every voxel changes.", 0.0))
    columns = np.flatnonzero(~constant & ~empty)
    if not len(columns):
        findings.append(Finding("constant voxels", FAULT, "No voxel is left to decode from.", 1.0))
    return findings, _sample(responses, columns)


def _sample(responses: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return voxels at equal steps through their order by variance, so that quiet and loud ones are looked at."""
    if len(columns) <= MAX_VOXELS:
        return columns
    rows = np.unique(np.linspace(0, len(responses) - 1, 300).astype(int))
    order = np.argsort(np.nanvar(np.asarray(responses[rows], np.float32)[:, columns], axis=0), kind="stable")
    return np.sort(columns[order[np.linspace(0, len(columns) - 1, MAX_VOXELS).astype(int)]])


def trials(recording: Recording, drawn: dict[str, Any]) -> Iterator[Finding]:
    """Look for trials far out, trials of one value, and trials that are there twice."""
    used = np.unique(np.concatenate([recording.train, recording.test]))
    x = recording.x[used]
    rms = np.sqrt(np.mean(((x - x.mean(axis=0)) / sd_of(x)) ** 2, axis=1, dtype=np.float64))
    middle = np.median(rms)
    spread = 1.4826 * np.median(np.abs(np.log(rms / middle)))
    limit = middle * max(4, np.exp(6 * spread))
    far = rms > limit
    drawn["trials"] = (used, rms / middle, limit / middle)
    worst = f"the farthest is trial {used[rms.argmax()]} at {rms.max() / middle:.1f} times the median distance"
    if far.any():
        text = f"{of(far.sum(), len(used))} trials lie far from all others; {worst} from the mean."
        yield Finding("outlying trials", WARNING, text, float(far.mean()))
    else:
        yield Finding("outlying trials", OK, f"No trial lies far out; {worst} from the mean.", 0.0)
    flat = np.ptp(x, axis=1) == 0 if x.shape[1] > 1 else np.zeros(len(x), bool)
    if flat.any():
        text = f"{of(flat.sum(), len(used))} trials hold one value in every voxel, the first is trial {used[flat][0]}."
        yield Finding("empty trials", WARNING, text, float(flat.mean()))
    rows_as_bytes = np.ascontiguousarray(x[~flat]).view(np.dtype((np.void, 4 * x.shape[1]))).ravel()
    _, group, count = np.unique(rows_as_bytes, return_inverse=True, return_counts=True)
    twice = count[group] > 1
    if twice.any() and x.shape[1] > 2:
        rows = used[~flat]
        on_test = np.isin(rows, recording.test) if recording.unit != "subject" else np.zeros(len(rows), bool)
        mixed = np.bincount(group, on_test) % np.bincount(group) != 0
        text = f"{of(twice.sum(), len(used))} trials have the very same response as another one"
        text += f", {mixed.sum()} of them with one copy in train and one in test." if mixed.any() else "."
        yield Finding("copied trials", FAULT if mixed.any() else WARNING, text, float(twice.mean()))


def scaling(recording: Recording, drawn: dict[str, Any]) -> Iterator[Finding]:
    """Look for responses that were scaled with statistics of the test side in them."""
    x, data = recording.x, recording.data
    used = np.unique(np.concatenate([recording.train, recording.test]))
    places = {"runs": codes(data.session, data.run), "sessions": codes(data.session)}
    for name, labels in places.items():
        sizes = np.bincount(labels)
        if (
            len(sizes) > 1
            and sizes.min() > 2
            and np.mean([scaled_shares(x[labels == g])[0] for g in range(len(sizes))]) > 0.5
        ):
            text = f"Voxels are z-scored within {name}, test trials included; no label goes into that, and it is fine."
            yield Finding("scaling", OK, text, 1.0)
            return
    all_rows = [x] if len(used) == len(x) else [x, x[used]]
    scaled, centred, ranged = np.max([scaled_shares(rows) for rows in all_rows], axis=0)
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
        text = f"{centred:.0%} of voxels have a mean of 0 over all rows, so the test rows went into the centring."
        yield Finding("scaling", OK if TRANSDUCTIVE in recording.dataset.tags else WARNING, text, float(centred))
    elif recording.unit != "subject" and len(recording.train) > 2 and scaled_shares(x[recording.train])[0] > 0.5:
        yield Finding("scaling", OK, "Voxels are z-scored with the training rows, as it should be.", value)
    else:
        yield Finding("scaling", OK, "No voxel is scaled with the test rows.", value)


def scaled_shares(x: np.ndarray) -> tuple[float, float, float]:
    """Return the share of columns of mean 0 and SD 1 (either definition), of mean 0, and of one range."""
    n = len(x)
    if n < 3:
        return 0.0, 0.0, 0.0
    mean, sd = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
    centred = np.abs(mean) < EXACT * np.where(sd > 0, sd, 1)
    unit = np.minimum(np.abs(sd - 1), np.abs(sd * np.sqrt(n / (n - 1)) - 1)) < EXACT
    low, high = x.min(axis=0), x.max(axis=0)
    close = EXACT * (high - low)
    ranged = (np.abs(low - np.median(low)) < close) & (np.abs(high - np.median(high)) < close)
    # by chance a voxel's mean is that close to 0 at times, but not that of most voxels
    return float((centred & unit).mean()), float(centred.mean()), float(ranged.mean()) if x.shape[1] > 4 else 0.0


def differences_between_sides(recording: Recording, drawn: dict[str, Any]) -> Iterator[Finding]:
    """Compare means and standard deviations of voxels between the sides, with permuted sides as reference."""
    if recording.unit == "subject":
        yield from _subject_shift(recording, drawn)
        return
    used = np.concatenate([recording.train, recording.test])
    x = recording.x[used]
    x = (x - x.mean(axis=0)) / sd_of(x)
    on_test = np.arange(len(used)) >= len(recording.train)
    # repeats of a stimulus stay together, except where both sides show the same stimuli
    units = codes(recording.data.stimulus[used]) if recording.unit == "stimulus" else np.arange(len(used))
    first = np.unique(units, return_index=True)[1]
    if (fewest := np.bincount(on_test[first], minlength=2).min()) < MIN_UNITS:
        what = "stimuli" if recording.unit == "stimulus" else "trials"
        yield Finding("train and test", UNCHECKED, f"Not checked: {fewest} {what} on a side, too few to compare.")
        return
    sides = [on_test] + [on_test[first][recording.rng.permutation(len(first))][units] for _ in range(PERMUTATIONS)]
    away, ratio = _differences(x, np.array(sides, np.float32))
    distance, scale = np.mean(away**2, axis=1), np.median(np.log(ratio), axis=1)
    excess = float(np.sqrt(max(0.0, distance[0] - distance[1:].mean())))
    p = [np.mean(v[1:] >= v[0]) for v in (distance, np.abs(scale))]
    drawn["shift"] = (away[0], ratio[0], away[1], ratio[1])
    yield _shift_finding(excess, float(np.exp(scale[0])), p, (0.3, 1.0), (1.25, 1.6), "Test and training trials")


def _shift_finding(distance, ratio, p, far, wide, who: str) -> Finding:
    told = f"test voxels' standard deviation is {ratio:.2f} times the training side's (median), means differ by "
    told += f"{distance:.2f} SD more than permuted sides" if p else f"{distance:.2f} SD"
    size = np.exp(abs(np.log(ratio)))
    moved, scaled = (p is None or value == 0 for value in p or (0, 0))
    reached = [(moved and distance > far[level]) or (scaled and size > wide[level]) for level in (0, 1)]
    verdict = FAULT if reached[1] else WARNING if reached[0] else OK
    text = "are alike" if verdict == OK else "differ in distribution"
    return Finding("train and test", verdict, f"{who} {text}: {told}.", ratio)


def _differences(x: np.ndarray, on_test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return differences of means in SD of the training side, and ratios of SD, (sides, voxels) each."""
    moments, square = [], x**2
    for side in (1 - on_test, on_test):
        n = side.sum(axis=1, keepdims=True)
        mean = side @ x / n
        moments.append((mean, np.sqrt(np.maximum((side @ square / n - mean**2) * n / (n - 1), 1e-12))))
    (m0, s0), (m1, s1) = moments
    return (m1 - m0) / s0, s1 / s0


def _subject_shift(recording: Recording, drawn: dict[str, Any]) -> Iterator[Finding]:
    """Compare the subject with those that its fold trains on: one scale, or several times another's?"""
    found = []
    for subject in recording.fold.train_rows:
        responses = recording.fold.data[subject].responses
        if responses.shape[1] != recording.data.responses.shape[1]:
            text = (
                f"{subject} has {responses.shape[1]} voxels and the test subject {recording.data.responses.shape[1]}, "
            )
            yield Finding("train and test", FAULT, text + "expected a common set where subjects are held out.")
            return
        x = filled(responses, recording.columns)
        found.append((x.mean(axis=0, dtype=np.float64), np.log(sd_of(x))))
    mean, sd = (np.mean(parts, axis=0) for parts in zip(*found, strict=True))
    sd = np.exp(sd)
    own = recording.x.mean(axis=0, dtype=np.float64), recording.x.std(axis=0, dtype=np.float64)
    away, ratio = (own[0] - mean) / sd, np.maximum(own[1], 1e-12) / sd
    drawn["shift"] = (away, ratio, None, None)
    rms, scale = float(np.sqrt(np.mean(away**2))), float(np.exp(np.median(np.log(ratio))))
    yield _shift_finding(rms, scale, None, (2.0, 5.0), (2.0, 2.6), "This subject and those trained on")
