"""Splits: versioned id lists with a checksum, and the guards against leaks between their sides."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.data.base import Dataset, SubjectData
from benchmark.data.files import nearest, read_json, schema_faults
from benchmark.errors import BenchError

EVERY_SUBJECT = "*"


@dataclass(frozen=True)
class FoldIds:
    """One fold: the ids (stimuli, runs or subjects) of its two sides."""

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """Which ids are trained on and which are tested on.

    Attributes
    ----------
    name : str
    unit : str
        What the ids are: ``"stimulus"``, ``"subject"`` or ``"run"``.
    average : tuple of str
        Columns whose combinations single trials are averaged over, within a side; empty for none.
    folds : mapping of str to tuple of FoldIds
        Folds by subject, or under ``"*"`` where they hold for every subject.
    checksum : str
        SHA-256 of the canonical JSON.
    sessions : tuple of str
        The only sessions whose trials are used; empty for all.
    """

    name: str
    unit: str
    average: tuple[str, ...]
    folds: Mapping[str, tuple[FoldIds, ...]]
    checksum: str
    sessions: tuple[str, ...] = ()

    def for_subject(self, subject: str) -> tuple[FoldIds, ...]:
        """Return the folds in which a subject is tested."""
        folds = self.folds.get(EVERY_SUBJECT) or self.folds.get(subject, ())
        if self.unit == "subject":
            folds = tuple(fold for fold in folds if subject in fold.test)
        if not folds:
            known = [s for s in self.folds if s != EVERY_SUBJECT] or [f.name for f in self.folds[EVERY_SUBJECT]]
            raise BenchError(f"split {self.name}: no fold tests subject {subject!r}, {nearest(subject, known)}")
        return folds


def split_checksum(split: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a split's canonical JSON, its own ``sha256`` key left out."""
    content = {key: value for key, value in split.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_split(path: Path) -> Split:
    """Read a split file; a wrong checksum or an id on both sides is a ``BenchError`` naming the file."""
    content = read_json(Path(path))
    for fault in content_faults(content):
        raise BenchError(f"{path}: {fault}")
    return parse(content)


def builtin(name: str) -> Split:
    """Return a split that comes with the package; an unknown name is a ``BenchError``."""
    folder = resources.files("benchmark.data").joinpath("splits")
    known = sorted(file.name[:-5] for file in folder.iterdir() if file.name.endswith(".json"))
    if name not in known:
        raise BenchError(f"unknown split {name!r}, {nearest(name, known)}")
    with resources.as_file(folder.joinpath(f"{name}.json")) as path:
        return read_split(path)


def derived(content: Mapping[str, Any]) -> Split:
    """Return a split that a dataset derives from its own tables.

    Parameters
    ----------
    content : mapping
        As in a split file, without ``sha256``: what ``split(name, root, cache)`` returns, the function that
        the dataset's table names under ``"splits"``.
    """
    content = {**content, "sha256": split_checksum(content)}
    for fault in content_faults(content):
        raise BenchError(f"split {content['name']}: {fault}")
    return parse(content)


def parse(content: Mapping[str, Any]) -> Split:
    """Return the split of a file's content that has no faults."""
    folds = content["folds"]
    by_subject = folds if isinstance(folds, Mapping) else {EVERY_SUBJECT: folds}
    return Split(
        name=content["name"],
        unit=content["unit"],
        average=tuple(content["average"]),
        folds={
            subject: tuple(FoldIds(f["name"], tuple(f["train"]), tuple(f["test"])) for f in listed)
            for subject, listed in by_subject.items()
        },
        checksum=split_checksum(content),
        sessions=tuple(content.get("sessions", ())),
    )


def content_faults(content: Any) -> list[str]:
    """Return every fault that a split file shows by itself, without its dataset."""
    faults = [sentence for sentence, _, _ in schema_faults(content, "split")]
    if faults:
        return faults
    checksum = split_checksum(content)
    if content["sha256"] != checksum:
        faults.append(f"sha256 is {content['sha256'][:12]!r}..., expected {checksum!r}, the checksum of its content")
    split = parse(content)
    if split.average and not {"subject", "stimulus"} <= set(split.average):
        faults.append(f"average is {list(split.average)}, expected none or at least 'subject' and 'stimulus'")
    if split.unit == "subject" and EVERY_SUBJECT not in split.folds:
        faults.append("folds differ by subject, expected one list where the unit is 'subject'")
    for subject, folds in split.folds.items():
        where = "" if subject == EVERY_SUBJECT else f"subject {subject!r}, "
        faults += [where + fault for fault in _fold_faults(split.unit, folds)]
    return faults


def id_faults(split: Split, known: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """Yield ids of the split that the dataset lacks.

    Parameters
    ----------
    split : Split
    known : mapping of str to iterable of str
        Ids of the dataset by key of ``split.folds`` (``"*"`` for every subject).
    """
    for subject, folds in split.folds.items():
        ids = set(known[subject])
        for fold in folds:
            missing = [value for value in (*fold.train, *fold.test) if value not in ids]
            if missing:
                more = f" and {len(missing) - 1} more" if missing[1:] else ""
                found = f"fold {fold.name!r} lists the {split.unit} {missing[0]!r}{more}"
                yield f"{found}, expected only ids of the dataset"


def guard(split: Split, dataset: Dataset, subject: str) -> tuple[str, ...]:
    """Check that nothing leaks between the sides of a split for one subject.

    Whole units lie on one side, so the repeats of a stimulus never straddle a stimulus split; what is
    left to check are ids the dataset lacks, stimulus ids given twice, and one picture under two ids.

    Parameters
    ----------
    split : Split
    dataset : Dataset
    subject : str
        The test subject.

    Returns
    -------
    tuple of str
        Tags for every row of the leaderboard: ``"seen stimuli"`` where a run split tests on
        stimuli that were also trained on.

    Raises
    ------
    BenchError
        At the first fault, naming the split.
    """
    where = f"split {split.name} on dataset {dataset.name}"
    ids = dataset.stimuli.ids
    if len(np.unique(ids)) < len(ids):
        twin = Counter(ids.tolist()).most_common(1)[0][0]
        raise BenchError(f"{where}: stimulus id {twin!r} is there twice, expected unique ids")
    folds = split.for_subject(subject)
    data = dataset.load_subject(subject)
    known = {"stimulus": ids, "subject": dataset.subjects, "run": data.run}[split.unit]
    checked = dataclasses.replace(split, folds={subject: folds})
    for fault in id_faults(checked, {subject: np.unique(known).tolist()}):
        raise BenchError(f"{where}: {fault}")
    if split.unit == "stimulus" and dataset.stimuli.images is not None:
        shown = np.unique(data.stimulus)
        digests = dict(zip(ids[shown].tolist(), image_digests(dataset.stimuli.images, shown), strict=True))
        for fold in folds:
            for fault in twin_image_faults(fold, digests):
                raise BenchError(f"{where}: {fault}")
    if split.unit == "run":
        return ("seen stimuli",) if any(_seen(fold, data) for fold in folds) else ()
    return ()


def image_digests(images: np.ndarray, rows: np.ndarray) -> list[bytes]:
    """Return a digest of the bytes of each picture; one picture is in memory at a time."""
    return [hashlib.blake2b(np.ascontiguousarray(images[row]), digest_size=16).digest() for row in rows]


def twin_image_faults(fold: FoldIds, digests: Mapping[str, bytes]) -> Iterator[str]:
    """Yield test stimuli whose picture is, byte for byte, that of a training stimulus."""
    train = {digests[value]: value for value in fold.train if value in digests}
    twins = [(train[digests[v]], v) for v in fold.test if digests.get(v) in train]
    if twins:
        more = f" ({len(twins)} such test stimuli)" if twins[1:] else ""
        yield (
            f"fold {fold.name!r} trains on {twins[0][0]!r} and tests on {twins[0][1]!r}, whose images are "
            f"identical{more}, expected no picture on both sides"
        )


def _fold_faults(unit: str, folds: tuple[FoldIds, ...]) -> Iterator[str]:
    """Yield ids given twice, ids on both sides, and ids tested by two folds."""
    names = Counter(fold.name for fold in folds)
    yield from (f"fold {name!r} is there twice, expected unique names" for name, n in names.items() if n > 1)
    tested: dict[str, str] = {}
    for fold in folds:
        if not re.fullmatch(r"\w[\w .+-]*", fold.name):
            yield f"fold name {fold.name!r} found, expected letters, digits, spaces and '.', '_', '+', '-'"
        for side, ids in (("train", fold.train), ("test", fold.test)):
            twins = [value for value, n in Counter(ids).items() if n > 1]
            if twins:
                yield f"fold {fold.name!r} lists the {unit} {twins[0]!r} twice in {side}, expected once"
        both = sorted(set(fold.train) & set(fold.test))
        if both:
            more = f" and {len(both) - 1} more" if both[1:] else ""
            yield f"fold {fold.name!r} has the {unit} {both[0]!r}{more} in train and in test, expected one side only"
        again = next((value for value in fold.test if value in tested), None)
        if again is not None:
            yield f"folds {tested[again]!r} and {fold.name!r} both test the {unit} {again!r}, expected one"
        tested |= dict.fromkeys(fold.test, fold.name)
        if unit == "subject" and fold.test != (fold.name,):
            yield f"fold {fold.name!r} tests {list(fold.test)}, expected only the subject the fold is named after"


def _seen(fold: FoldIds, data: SubjectData) -> bool:
    train, test = (data.stimulus[np.isin(data.run, ids)] for ids in (fold.train, fold.test))
    return bool(np.intersect1d(train, test).size)
