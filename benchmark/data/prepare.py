"""From a dataset and a split to a training set, test responses, test items and, apart from them, the truth."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmark.api import Responses, Stimuli, TrainSet
from benchmark.data import grouping
from benchmark.data.base import Dataset, SubjectData
from benchmark.data.files import nearest, read_cache, write_atomic
from benchmark.data.scan import Scan, blocks, embedding_faults, scan
from benchmark.data.splits import Split, guard
from benchmark.data.train_images import copied
from benchmark.errors import BenchError

# Raise whenever a prepared number or a check can change.
PREPARE_VERSION = 1


@dataclass(frozen=True)
class PreparationReport:
    """What the shared voxel preparation did.

    Attributes
    ----------
    n_voxels : int
        Voxels in the recording.
    n_dropped_nan, n_dropped_constant : int
        Voxels that are NaN in every training trial, or never change in them.
    n_filled : int
        Single NaN values of train and test trials that the training mean replaced.
    """

    n_voxels: int
    n_dropped_nan: int
    n_dropped_constant: int
    n_filled: int

    @property
    def n_kept(self) -> int:
        """Voxels that methods see."""
        return self.n_voxels - self.n_dropped_nan - self.n_dropped_constant


@dataclass(frozen=True, eq=False)
class Preparation:
    """The voxel preparation fitted on the training trials: voxels to keep and values that replace NaN."""

    keep: np.ndarray
    fill: np.ndarray
    report: PreparationReport


@dataclass(frozen=True, eq=False)
class Fold:
    """One fold of a split for one test subject: trial rows of both sides, nothing read yet.

    Attributes
    ----------
    name : str
    dataset : Dataset
    split : Split
    subject : str
        The test subject.
    data : mapping of str to SubjectData
    train_rows, test_rows : mapping of str to ndarray of int
        Trial rows by subject.
    """

    name: str
    dataset: Dataset
    split: Split
    subject: str
    data: Mapping[str, SubjectData]
    train_rows: Mapping[str, np.ndarray]
    test_rows: Mapping[str, np.ndarray]

    @cached_property
    def preparation(self) -> Preparation:
        """The voxel preparation, fitted on this fold's training trials."""
        return _fit_preparation(self)

    @property
    def report(self) -> PreparationReport:
        """What the preparation dropped and filled."""
        return self.preparation.report


@dataclass(frozen=True, eq=False)
class TestItems:
    """What each row of the test responses is; ids only, no target.

    Attributes
    ----------
    ids : ndarray of shape (n,), str
        Unique within the subject and split: fold, stimulus, condition, number of the repeat.
    stimulus : ndarray of shape (n,), int
        Row of the dataset's stimulus table.
    subject, condition : ndarray of shape (n,), str
    block : ndarray of shape (n,), str
        Items are compared with each other within a block: the fold, and the condition where there is one.
    """

    __test__ = False  # not a test class, whatever its name

    ids: np.ndarray
    stimulus: np.ndarray
    subject: np.ndarray
    condition: np.ndarray
    block: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Preflight:
    """The outcome of the checks before any run: tags of the rows, and the preparation by fold."""

    tags: tuple[str, ...]
    reports: Mapping[str, PreparationReport]


def folds(dataset: Dataset, split: Split, subject: str) -> list[Fold]:
    """Return the folds of a split in which a subject is tested.

    Parameters
    ----------
    dataset : Dataset
    split : Split
    subject : str
        Train and test trials are this subject's; where the split holds out subjects, the training
        trials are those of the fold's training subjects.

    Raises
    ------
    BenchError
        For an unknown subject, or a side without trials.
    """
    if subject not in dataset.subjects:
        hint = nearest(subject, dataset.subjects)
        raise BenchError(f"unknown subject {subject!r} of dataset {dataset.name}, {hint}")
    data = {subject: dataset.load_subject(subject)}
    result = []
    for ids in split.for_subject(subject):
        if split.unit == "subject":
            data |= {s: dataset.load_subject(s) for s in ids.train if s not in data}
            train = {s: np.flatnonzero(_used(data[s], split)) for s in ids.train}
            test = {subject: np.flatnonzero(_used(data[subject], split))}
        else:
            train, test = (
                {subject: np.flatnonzero(_shown(dataset, data[subject], split, side))} for side in (ids.train, ids.test)
            )
        fold = Fold(ids.name, dataset, split, subject, {s: data[s] for s in (*train, *test)}, train, test)
        for side, rows in (("train", train), ("test", test)):
            if not any(len(r) for r in rows.values()):
                raise BenchError(f"{_where(fold)}: no {side} trial of subject {subject!r}, expected at least one")
        result.append(fold)
    return result


def train_set(
    fold: Fold, tracks: frozenset[str] | set[str], space: str | None = None, cache: Path | None = None
) -> TrainSet:
    """Return the training side of a fold, prepared and averaged; nothing of the test side is in it.

    Parameters
    ----------
    fold : Fold
    tracks : set of str
    space : str or None
        Target embedding space.
    cache : Path or None
        Where a large table of training pictures is kept, to be memory-mapped; None copies it into memory.
    """
    trials = _labels(fold, fold.train_rows)
    single = Responses(_prepared(fold, fold.train_rows), trials["subject"], _rois(fold))
    first, row = grouping.groups(trials, fold.split.average)
    averaged = len(first) < len(row)
    fmri = Responses(grouping.average(single.data, row, len(first)), trials["subject"][first], single.rois)
    rows, stimulus = np.unique(trials["stimulus"][first], return_inverse=True)
    return TrainSet(
        fmri=fmri,
        stimulus=stimulus,
        stimuli=copied(fold.dataset, rows, cache),
        condition=grouping.condition(trials, first, row),
        tracks=frozenset(tracks),
        space=space,
        unit=fold.split.unit,
        repeats=single if averaged else None,
        repeat_row=row if averaged else None,
        unlabelled=_unlabelled(fold),
    )


def test_responses(fold: Fold) -> Responses:
    """Return the test responses of a fold, prepared with the training side's statistics and averaged."""
    trials = _labels(fold, fold.test_rows)
    first, row = grouping.groups(trials, fold.split.average)
    data = grouping.average(_prepared(fold, fold.test_rows), row, len(first))
    return Responses(data, trials["subject"][first], _rois(fold))


def test_items(fold: Fold) -> TestItems:
    """Return what the rows of ``test_responses`` are."""
    trials = _labels(fold, fold.test_rows)
    first, row = grouping.groups(trials, fold.split.average)
    stimulus, condition = trials["stimulus"][first], grouping.condition(trials, first, row)
    block = grouping.joined(np.full(len(first), fold.name), condition)
    ids = grouping.joined(
        grouping.joined(np.full(len(first), fold.name), fold.dataset.stimuli.ids[stimulus]), condition
    )
    return TestItems(grouping.numbered(ids), stimulus, trials["subject"][first], condition, block)


def truth(fold: Fold) -> Stimuli:
    """Return the targets of the test items, row for row; for scoring and for oracles only."""
    return fold.dataset.stimuli.take(test_items(fold).stimulus)


def train_stimuli(fold: Fold) -> np.ndarray:
    """Return the ids of the stimuli on the training side, shape (n,), str."""
    rows = [fold.data[subject].stimulus[rows] for subject, rows in fold.train_rows.items()]
    return fold.dataset.stimuli.ids[np.unique(np.concatenate(rows))]


def fold_seed(seed: int, fold: Fold) -> int:
    """Return the seed a method gets: other draws for another subject or fold, the same for every method."""
    place = zlib.crc32(f"{fold.subject}/{fold.name}".encode())
    return int(np.random.SeedSequence([seed, place]).generate_state(1)[0]) >> 1


# pytest would collect these two by name in every test module that imports them.
test_responses.__test__ = test_items.__test__ = False


def preflight(dataset: Dataset, split: Split, subject: str, cache: Path | None = None) -> Preflight:
    """Check, before any run, everything about the data that would make every method fail.

    Leaks between the sides, undeclared NaN, an all-NaN trial, no voxel left, non-finite targets. What
    has passed once is remembered under ``cache`` for the same data, split and subject.

    Parameters
    ----------
    dataset : Dataset
    split : Split
    subject : str
    cache : Path or None

    Raises
    ------
    BenchError
        At the first fault.
    """
    key = json.dumps([dataset.name, dataset.fingerprint, split.checksum, subject, PREPARE_VERSION])
    path = cache and cache / "preflight" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
    known = read_cache(path) if path else {}
    try:
        return Preflight(tuple(known["tags"]), {k: PreparationReport(**r) for k, r in known["reports"].items()})
    except (KeyError, TypeError):
        pass
    if subject not in dataset.subjects:
        hint = nearest(subject, dataset.subjects)
        raise BenchError(f"unknown subject {subject!r} of dataset {dataset.name}, {hint}")
    for fault in embedding_faults(dataset.stimuli):
        raise BenchError(f"dataset {dataset.name}: {fault}")
    result = Preflight(
        guard(split, dataset, subject), {fold.name: fold.report for fold in folds(dataset, split, subject)}
    )
    if path:
        write_atomic(path, json.dumps(dataclasses.asdict(result)).encode())
    return result


def _shown(dataset: Dataset, data: SubjectData, split: Split, ids: Sequence[str]) -> np.ndarray:
    shown = np.isin(data.run, ids) if split.unit == "run" else np.isin(dataset.stimuli.ids, ids)[data.stimulus]
    return shown & _used(data, split)


def _used(data: SubjectData, split: Split) -> np.ndarray:
    """Return which trials lie in the split's sessions."""
    return np.isin(data.session, split.sessions) if split.sessions else np.ones(len(data.stimulus), bool)


def _where(fold: Fold) -> str:
    return f"dataset {fold.dataset.name}, split {fold.split.name}, fold {fold.name}"


def _source(fold: Fold, subject: str) -> str:
    """What to call a subject's responses in an error: the file where there is one."""
    file = getattr(fold.data[subject].responses, "filename", None)
    return str(file) if file else f"responses of subject {subject} in dataset {fold.dataset.name}"


def _fit_preparation(fold: Fold) -> Preparation:
    sizes = {subject: data.responses.shape[1] for subject, data in fold.data.items()}
    if len(set(sizes.values())) > 1:
        text = ", ".join(f"{subject} {n}" for subject, n in sorted(sizes.items()))
        raise BenchError(f"{_where(fold)}: subjects differ in voxels ({text}), expected a common set of voxels")
    train = {subject: scan(fold.data[subject].responses, rows) for subject, rows in fold.train_rows.items()}
    test = {subject: scan(fold.data[subject].responses, rows) for subject, rows in fold.test_rows.items()}
    for side, rows in ((train, fold.train_rows), (test, fold.test_rows)):
        for subject, found in side.items():
            _check_scan(fold, subject, rows[subject], found)
    n_train = sum(len(rows) for rows in fold.train_rows.values())
    n_nan = sum(found.n_nan for found in train.values())
    low = np.minimum.reduce([found.low for found in train.values()])
    high = np.maximum.reduce([found.high for found in train.values()])
    missing = n_nan == n_train
    keep = ~missing & (low < high)
    if not keep.any():
        raise BenchError(
            f"{_where(fold)}: no voxel left, all {len(keep)} are NaN or constant in every training trial of "
            f"{_source(fold, next(iter(fold.train_rows)))}, expected at least one that varies"
        )
    in_test = sum(found.n_nan for found in test.values())
    fill = np.zeros(len(keep), np.float32)
    holes = np.flatnonzero(keep & (n_nan + in_test > 0))
    if len(holes):
        fill[holes] = _train_mean(fold, holes)
    report = PreparationReport(
        n_voxels=len(keep),
        n_dropped_nan=int(missing.sum()),
        n_dropped_constant=int((~keep & ~missing).sum()),
        n_filled=int((n_nan + in_test)[keep].sum()),
    )
    result = Preparation(keep, fill, report)
    if len(holes):  # a trial may have numbers only in voxels that were dropped
        _check_kept(fold, keep)
    return result


def _check_scan(fold: Fold, subject: str, rows: np.ndarray, found: Scan) -> None:
    source = _source(fold, subject)
    if len(found.infinite_rows):
        raise BenchError(f"{source}: trial {rows[found.infinite_rows[0]]} holds an infinity, expected numbers")
    if len(found.empty_rows):
        raise BenchError(f"{source}: trial {rows[found.empty_rows[0]]} is all NaN, expected responses")
    if fold.dataset.nan_voxels != "drop" and found.n_nan.any():
        n = np.count_nonzero(found.n_nan)
        raise BenchError(
            f'{source}: {n} of {len(found.n_nan)} voxels hold NaN, expected none unless "nan_voxels" is "drop"'
        )


def _check_kept(fold: Fold, keep: np.ndarray) -> None:
    for rows_by_subject in (fold.train_rows, fold.test_rows):
        for subject, rows in rows_by_subject.items():
            for start, block in blocks(fold.data[subject].responses, rows):
                empty = np.isnan(block[:, keep]).all(axis=1)
                if empty.any():
                    trial = rows[start + int(empty.argmax())]
                    source = _source(fold, subject)
                    raise BenchError(f"{source}: trial {trial} is NaN in every voxel left, expected responses")


def _train_mean(fold: Fold, voxels: np.ndarray) -> np.ndarray:
    total, count = np.zeros(len(voxels)), np.zeros(len(voxels))
    for subject, rows in fold.train_rows.items():
        for _, block in blocks(fold.data[subject].responses, rows):
            part = block[:, voxels]
            total += np.nansum(part, axis=0, dtype=np.float64)
            count += np.isfinite(part).sum(axis=0)
    return total / count


def _prepared(fold: Fold, rows_by_subject: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return kept voxels of the given trials with NaN filled: a copy, from which no other trial can be reached."""
    preparation = fold.preparation
    columns = np.flatnonzero(preparation.keep)
    fill = preparation.fill[columns]
    out = np.empty((sum(map(len, rows_by_subject.values())), len(columns)), np.float32)
    end = 0
    for subject, rows in rows_by_subject.items():
        for start, block in blocks(fold.data[subject].responses, rows):
            part = out[end + start : end + start + len(block)]
            np.take(block, columns, axis=1, out=part)
            if preparation.report.n_filled:
                np.copyto(part, fill, where=np.isnan(part))
        end += len(rows)
    return out


def _unlabelled(fold: Fold) -> Responses | None:
    """Return the training subjects' responses to other stimuli: of no subject that is tested."""
    found = {s: fold.data[s].unlabelled for s in fold.train_rows if s != fold.subject}
    found = {s: table for s, table in found.items() if table is not None and len(table)}
    if not found:
        return None
    columns = np.flatnonzero(fold.preparation.keep)
    data = np.empty((sum(map(len, found.values())), len(columns)), np.float32)
    holes = np.zeros(len(columns), bool)
    end = 0
    for subject, table in found.items():
        where = f"{_where(fold)}: unlabelled responses of subject {subject}"
        if table.shape[1] != len(fold.preparation.keep):
            raise BenchError(f"{where} have {table.shape[1]} voxels, expected {len(fold.preparation.keep)}")
        for start, block in blocks(table):
            part = data[end + start : end + start + len(block)]
            np.take(block, columns, axis=1, out=part)
            if np.isinf(part).any():
                raise BenchError(f"{where} hold an infinity, expected numbers")
            holes |= np.isnan(part).any(axis=0)
        end += len(table)
        if holes.any() and fold.dataset.nan_voxels != "drop":
            raise BenchError(f'{where} hold NaN, expected none unless "nan_voxels" is "drop"')
    if holes.any():  # also voxels without a hole in the training trials
        part = data[:, holes]
        data[:, holes] = np.where(np.isnan(part), _train_mean(fold, columns[holes]), part)
    return Responses(data, np.repeat(list(found), [len(t) for t in found.values()]), _rois(fold))


def _labels(fold: Fold, rows_by_subject: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the trial table of the given rows, subjects one after the other."""
    columns = {
        name: np.concatenate([getattr(fold.data[s], name)[rows] for s, rows in rows_by_subject.items()])
        for name in ("stimulus", "run", "session", "condition")
    }
    columns["subject"] = np.repeat(list(rows_by_subject), [len(rows) for rows in rows_by_subject.values()])
    return columns


def _rois(fold: Fold) -> dict[str, np.ndarray]:
    """Return the ROI masks over kept voxels: those that all subjects of the fold share."""
    first, *others = fold.data.values()
    return {
        name: np.asarray(mask)[fold.preparation.keep]
        for name, mask in first.rois.items()
        if all(name in other.rois and np.array_equal(mask, other.rois[name]) for other in others)
    }
