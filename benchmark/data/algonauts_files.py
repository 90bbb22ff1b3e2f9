"""Where Algonauts 2023's files lie below a folder, what they must be, and what is missing or damaged."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.data import nsd_prepare
from benchmark.data.files import read_array
from benchmark.data.nsd_design import N_PICTURES
from benchmark.data.pickled_dict import read_pickled_dict
from benchmark.data.scan import scan
from benchmark.errors import BenchError

SUBJECTS = tuple(f"subj{k:02d}" for k in range(1, 9))
HEMISPHERES = ("lh", "rh")  # the order of the vertices
# names that some subjects' mappings lack are kept as empty ROIs
CLASSES = {name: labels for name, labels in nsd_prepare.ROIS.items() if name != "prf-eccrois"}
_PICTURES = "training_split/training_images"
_NAMED, _NUMBERED = r"train-(\d{4,})_nsd-(\d{5})\.png", r"(\d+)\.png"


@dataclass(frozen=True)
class SubjectFiles:
    """The files of one subject, whether they are there or not.

    Attributes
    ----------
    folder : Path
    pictures : tuple of Path
        In the order of the responses' rows.
    nsd : tuple of int
        NSD picture of every row, from 0; empty for copies whose file names do not tell.
    """

    folder: Path
    pictures: tuple[Path, ...]
    nsd: tuple[int, ...]

    def responses(self, hemisphere: str) -> Path:
        """Return the file of responses, (n_images, n_vertices)."""
        return self.folder / "training_split" / "training_fmri" / f"{hemisphere}_training_fmri.npy"

    def labels(self, hemisphere: str, kind: str) -> Path:
        """Return the file of ROI labels of a class, (n_vertices,), under either of its names."""
        official, short = (
            self.folder / "roi_masks" / f"{hemisphere}.{kind}_{s}.npy" for s in ("challenge_space", "space")
        )
        return short if short.is_file() and not official.is_file() else official

    def mapping(self, kind: str) -> Path:
        """Return the file that names the labels of a class."""
        return self.folder / "roi_masks" / f"mapping_{kind}.npy"

    def used(self) -> list[Path]:
        """Return every file that can reach a score."""
        labels = [self.labels(side, kind) for kind in CLASSES for side in HEMISPHERES]
        return [
            *self.pictures,
            *(self.responses(side) for side in HEMISPHERES),
            *labels,
            *(self.mapping(kind) for kind in CLASSES),
        ]


def find(root: Path) -> tuple[dict[str, SubjectFiles], list[str]]:
    """Return the subjects below a folder, and the faults that show in the names of pictures."""
    subjects, faults = {}, []
    for subject in SUBJECTS:
        folder = root / subject
        if not (folder / "training_split").is_dir():
            continue
        subjects[subject], found = _pictures(folder)
        faults += found
    if not subjects:
        faults.append(f"{root}: no subject, expected folders such as subj01/training_split")
    return subjects, faults


def _pictures(subject: Path) -> tuple[SubjectFiles, list[str]]:
    folder = subject / _PICTURES
    names = sorted(path.name for path in folder.glob("*.png") if not path.name.startswith("."))
    if not names:
        return SubjectFiles(subject, (), ()), [f"{folder}: no picture, expected train-0001_nsd-00013.png or 0.png ..."]
    named = [match for name in names if (match := re.fullmatch(_NAMED, name))]
    found = named or [match for name in names if (match := re.fullmatch(_NUMBERED, name))]
    rest = sorted(set(names) - {match[0] for match in found})
    if rest:
        expected = "all pictures named train-NNNN_nsd-NNNNN.png" if named else "train-NNNN_nsd-NNNNN.png or NNNN.png"
        return SubjectFiles(subject, (), ()), [f"{folder / rest[0]}: {len(rest)} such names, expected {expected}"]
    found.sort(key=lambda match: int(match[1]))
    numbers = [int(match[1]) for match in found]
    nsd = tuple(int(match[2]) for match in named)
    faults = [f"{folder}: two pictures of number {n}, expected one" for n in _twins(numbers)]
    missing = sorted(set(range(min(numbers), max(numbers) + 1)) - set(numbers))
    if missing:
        more = f" and {len(missing) - 1} more" if missing[1:] else ""
        faults.append(
            f"{folder}: no picture of number {missing[0]}{more}, expected every number from {min(numbers)} "
            f"to {max(numbers)}"
        )
    for twin in _twins(nsd):
        first, second = (match[0] for match in found if int(match[2]) == twin)
        faults.append(f"{folder}: {first} and {second} are of one NSD picture, expected every id once")
    if nsd and max(nsd) >= N_PICTURES:
        faults.append(f"{folder}: NSD picture {max(nsd)} found, expected ids from 0 to {N_PICTURES - 1}")
    return SubjectFiles(subject, tuple(folder / match[0] for match in found), nsd), faults


def _twins(values: tuple[int, ...] | list[int]) -> list[int]:
    return [value for value, n in Counter(values).items() if n > 1]


def file_faults(files: SubjectFiles, deep: bool) -> Iterator[str]:
    """Yield what is missing or damaged of a subject, one sentence each; ``deep`` also reads all responses."""
    columns = {}
    for side in HEMISPHERES:
        path = files.responses(side)
        try:
            data = read_array(path.parent, path.name, "responses (n_images, n_vertices)")
        except BenchError as error:
            yield str(error)
            continue
        if data.ndim != 2 or data.dtype.kind != "f" or not data.size:
            yield f"{path}: {data.dtype} array of shape {data.shape}, expected floats (n_images, n_vertices)"
            continue
        columns[side] = data.shape[1]
        if files.pictures and len(data) != len(files.pictures):
            yield f"{path}: {len(data)} rows, expected {len(files.pictures)}, one for every training picture"
        if deep and (fault := response_fault(path)):
            yield fault
    for kind in CLASSES:
        yield from _roi_faults(files, kind, columns)


def response_fault(path: Path) -> str | None:
    """Return what is wrong with the values of a response file, read in blocks; None where all are finite."""
    found = scan(read_array(path.parent, path.name))
    n_nan, n_infinite = int(found.n_nan.sum()), len(found.infinite_rows)
    if n_nan or n_infinite:
        return f"{path}: {n_nan} values are NaN and {n_infinite} rows hold infinity, expected numbers"
    return None


def _roi_faults(files: SubjectFiles, kind: str, columns: Mapping[str, int]) -> Iterator[str]:
    mapping = None
    try:
        mapping = read_pickled_dict(files.mapping(kind))
    except BenchError as error:
        yield str(error)
    for side in HEMISPHERES:
        path = files.labels(side, kind)
        try:
            labels = read_array(path.parent, path.name, "a label for every vertex (also as ..._space.npy)")
        except BenchError as error:
            yield str(error)
            continue
        if labels.ndim != 1 or labels.dtype.kind not in "iuf" or (labels % 1).any():
            yield f"{path}: {labels.dtype} array of shape {labels.shape}, expected a whole number for every vertex"
            continue
        if len(labels) != columns.get(side, len(labels)):
            yield f"{path}: {len(labels)} labels, expected {columns[side]} as columns of {files.responses(side).name}"
        unnamed = set(np.unique(labels[labels > 0]).astype(int).tolist()) - set(mapping or {})
        if mapping is not None and unnamed:
            yield f"{path}: label {min(unnamed)} is not in {files.mapping(kind).name}, expected a name for every label"


def rois(files: SubjectFiles) -> dict[str, np.ndarray]:
    """Return the ROI masks over the vertices of both hemispheres.

    A name is looked up in the subject's own mapping. Label 0 is no ROI. Names that a mapping lacks, or
    whose label no vertex has, give empty masks.
    """
    masks = {}
    for kind, known in CLASSES.items():
        mapping = read_pickled_dict(files.mapping(kind))
        paths = [files.labels(side, kind) for side in HEMISPHERES]
        labels = np.concatenate([read_array(path.parent, path.name) for path in paths])
        for name in dict.fromkeys((*known, *(mapping[label] for label in sorted(mapping) if label > 0))):
            masks[name] = np.isin(labels, [label for label, n in mapping.items() if n == name and label > 0])
    return masks
