"""Where BOLD5000's files lie below a folder, what they must be, and what is missing or damaged."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmark.data.files import read_array
from benchmark.data.sessions import read_volume, session_fault, session_shape
from benchmark.errors import BenchError

SUBJECTS = ("CSI1", "CSI2", "CSI3", "CSI4")
ROIS = tuple(side + area for side in ("LH", "RH") for area in ("EarlyVis", "LOC", "OPA", "PPA", "RSC"))
MISNAMED = {"LHLO": "LHLOC", "RHLO": "RHLOC", "RHRRSC": "RHRSC"}  # as they stand in the upstream folder
BETAS = "GLMbetas-TYPED-FITHRF-GLMDENOISE-RR"
IMAGES_PER_RUN = 37
# published trials and sessions: they tell which session is missing
N_TRIALS = dict(zip(SUBJECTS, (5254, 5254, 5254, 3108), strict=True))
N_SESSIONS = dict(zip(SUBJECTS, (15, 15, 15, 9), strict=True))
CATEGORIES = ("COCO", "ImageNet", "Scene")
CAPTIONS, REPEATED = "captions_train2014.json", "repeated_stimuli_113_list.txt"
PRESENTED, LISTS = "Presented_Stimuli", "Stimuli_Presentation_Lists"
_DEPTH = 6  # folders below the dataset's own that are looked into
_LISTED = 5  # names in a sentence


@dataclass(frozen=True)
class SubjectFiles:
    """The files of one subject.

    Attributes
    ----------
    sessions : mapping of str to Path
        Betas by session (``"ses-01"``), in order; empty where there are none.
    masks, rois : mapping of str to Path
        ROI masks, and arrays of the ROI release, by ROI.
    """

    sessions: Mapping[str, Path] = field(default_factory=dict)
    masks: Mapping[str, Path] = field(default_factory=dict)
    rois: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class ShownImages:
    """What a subject saw: image names by trial, and trials by session where the lists tell."""

    source: Path
    names: tuple[str, ...]
    n_trials: tuple[int, ...] = ()


@dataclass(frozen=True)
class Files:
    """Everything found below a dataset's folder.

    Attributes
    ----------
    root : Path
    subjects : mapping of str to SubjectFiles
        Those with any betas.
    shown : mapping of str to ShownImages
        By subject, also of subjects without betas.
    pictures : mapping of str to Path
        Presented pictures by file name.
    captions, repeated : Path or None
    """

    root: Path
    subjects: Mapping[str, SubjectFiles]
    shown: Mapping[str, ShownImages]
    pictures: Mapping[str, Path]
    captions: Path | None
    repeated: Path | None


def category(name: str) -> str:
    """Return where an image is from, by its name: ``COCO``, ``ImageNet`` or ``Scene``."""
    if name.startswith("COCO_"):
        return "COCO"
    return "ImageNet" if re.match(r"n\d{8}_\d+\.", name) else "Scene"


def find(root: Path) -> tuple[Files, list[str]]:
    """Return the files below a folder, and the faults that show in names and lists."""
    named, faults = _index(root), []
    subjects: dict[str, SubjectFiles] = {}
    shown: dict[str, ShownImages] = {}
    for subject in SUBJECTS:
        files = SubjectFiles(
            sessions=_matching(named, rf"{subject}_{BETAS}_(ses-\d\d)\.nii(?:\.gz)?", faults),
            masks=_matching(named, rf"sub-{subject}_mask-([LR]H\w+)\.nii(?:\.gz)?", faults),
            rois=_matching(named, rf"{subject}_{BETAS}_allses_([LR]H\w+)\.npy", faults),
        )
        if files.sessions or files.rois:
            subjects[subject] = files
        try:
            listed = _shown(named, subject)
            if listed is not None:
                shown[subject] = listed
            elif subject in subjects:
                faults.append(f"{root}: {subject}_imgnames.txt not found, expected it or {LISTS}/{subject}")
        except BenchError as error:
            faults.append(str(error))
    pictures = {
        path.name: path
        for folder in named.get(PRESENTED, [])[:1]
        for kind in CATEGORIES
        for path in sorted(folder.glob(f"{kind}/*"))
    }
    one = {name: next(iter(named.get(name, [])), None) for name in (CAPTIONS, REPEATED)}
    return Files(root, subjects, shown, pictures, one[CAPTIONS], one[REPEATED]), faults


def file_faults(files: Files, deep: bool) -> Iterator[str]:
    """Yield what is missing or damaged, one sentence each; ``deep`` also decompresses every session.

    Parameters
    ----------
    files : Files
    deep : bool
    """
    root = files.root
    if not files.subjects:
        yield f"{root}: no betas, expected CSI1_{BETAS}_ses-01.nii.gz and so on, or ..._allses_LHEarlyVis.npy"
    if not files.pictures:
        yield f"{root}: no picture in {PRESENTED}, expected its folders {', '.join(CATEGORIES)}"
    for subject, found in files.subjects.items():
        shown = files.shown.get(subject)
        if found.sessions:
            yield from _session_faults(root, subject, found, shown, deep)
        else:
            yield from _release_faults(root, subject, found, shown)
    wanted = dict.fromkeys(n for s in files.subjects if s in files.shown for n in files.shown[s].names)
    missing = [name for name in wanted if name not in files.pictures]
    if missing and files.pictures:
        what = f"{len(missing)} of the {len(wanted)} images shown {'are' if missing[1:] else 'is'}"
        yield f"{root}: {what} not in {PRESENTED} ({_some(missing)}), expected all of them"


def _session_faults(
    root: Path, subject: str, found: SubjectFiles, shown: ShownImages | None, deep: bool
) -> Iterator[str]:
    last = int(max(found.sessions)[-2:])
    if shown is not None:
        published = N_SESSIONS[subject] if len(shown.names) == N_TRIALS[subject] else last
        last = max(last, len(shown.n_trials) or published)
    expected = [f"ses-{k:02d}" for k in range(1, last + 1)]
    listed = dict(zip(expected, shown.n_trials, strict=False)) if shown is not None else {}
    missing = [name for name in expected if name not in found.sessions]
    yield from (f"{root}: {subject}_{BETAS}_{name}.nii.gz not found, expected sessions 1 to {last}" for name in missing)
    shapes: dict[Path, tuple[int, ...]] = {}
    total, sound = 0, not missing
    for name, path in found.sessions.items():
        try:
            shapes[path], n_trials = session_shape(path)
        except BenchError as error:
            yield str(error)
            sound = False
            continue
        total += n_trials
        left = n_trials % IMAGES_PER_RUN
        if left or n_trials != listed.get(name, n_trials):
            sound = False
            why = f"runs of {IMAGES_PER_RUN} images, the last one has {left}" if left else f"{listed[name]} as listed"
            yield f"{path}: {n_trials} trials on the last axis, expected {why}"
        if deep and (fault := session_fault(path)):
            yield fault
    if sound and shown is not None and total != len(shown.names):
        yield f"{root}: the sessions of {subject} hold {total} trials, expected {len(shown.names)} as in {shown.source}"
    yield from _missing_rois(root, f"sub-{subject}_mask-{{}}.nii.gz", found.masks)
    usual = Counter(shapes.values()).most_common(1)
    masks = {}
    for path in found.masks.values():
        try:
            masks[path] = read_volume(path)
        except BenchError as error:
            yield str(error)
    shapes |= {path: mask.shape for path, mask in masks.items()}
    for path, shape in shapes.items():
        if usual and shape != usual[0][0]:
            yield f"{path}: volumes of shape {shape}, expected {usual[0][0]} as the sessions of {subject}"
    if masks and not any((mask > 0).any() for mask in masks.values()):
        yield f"{next(iter(masks)).parent}: no voxel in the ROI masks of {subject}, expected at least one"


def _release_faults(root: Path, subject: str, found: SubjectFiles, shown: ShownImages | None) -> Iterator[str]:
    yield from _missing_rois(root, f"{subject}_{BETAS}_allses_{{}}.npy", found.rois)
    for path in found.rois.values():
        try:
            data = read_array(path.parent, path.name, "numbers (n_trials, n_voxels)")
        except BenchError as error:
            yield str(error)
            continue
        if data.ndim != 2 or data.dtype.kind != "f":
            yield f"{path}: {data.dtype} array of shape {data.shape}, expected floats (n_trials, n_voxels)"
        elif shown is not None and len(data) != len(shown.names):
            yield f"{path}: {len(data)} trials, expected {len(shown.names)} as in {shown.source}"


def _missing_rois(root: Path, pattern: str, found: Mapping[str, Path]) -> Iterator[str]:
    yield from (f"{root}: {pattern.format(roi)} not found, expected all ten ROIs" for roi in ROIS if roi not in found)


def _index(root: Path) -> dict[str, list[Path]]:
    """Return the paths of the dataset's files and folders by name; pictures and lists are not entered."""
    named: dict[str, list[Path]] = {}
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        here = Path(folder)
        if real in seen or len(here.relative_to(root).parts) > _DEPTH:
            folders.clear()
            continue
        seen.add(real)
        for name in folders:
            if name in (PRESENTED, LISTS):
                named.setdefault(name, []).append(here / name)
        folders[:] = sorted(f for f in folders if f not in (PRESENTED, LISTS, "Original_Images"))
        for name in files:
            if "CSI" in name or name in (CAPTIONS, REPEATED):
                named.setdefault(name, []).append(here / name)
    return named


def _matching(named: Mapping[str, list[Path]], pattern: str, faults: list[str]) -> dict[str, Path]:
    """Return the files whose names match, by the pattern's group, in order; a file found twice is a fault."""
    found: dict[str, Path] = {}
    for name in sorted(named):
        match = re.fullmatch(pattern, name)
        if not match:
            continue
        key = MISNAMED.get(match[1], match[1])
        for path in named[name]:
            if key in found:
                faults.append(f"{path}: {found[key]} is the same file, expected one of them")
            found.setdefault(key, path)
    return {key: found[key] for key in sorted(found) if key.startswith("ses") or key in ROIS}


def _shown(named: Mapping[str, list[Path]], subject: str) -> ShownImages | None:
    """Return a subject's images by trial: from the release's own list, else from the presentation lists."""
    for name in (f"{subject}_imgnames.txt", f"sub-{subject}_imgnames.txt"):
        for path in named.get(name, []):
            names = read_names(path)
            if not names or len(names) % IMAGES_PER_RUN:
                raise BenchError(f"{path}: {len(names)} images, expected runs of {IMAGES_PER_RUN}")
            return ShownImages(path, names)
    for folder in named.get(LISTS, []):
        sessions = sorted(path for path in (folder / subject).glob("*") if path.is_dir())
        names, n_trials = [], []
        for session in sessions:
            runs = sorted(session.glob("*.txt"))
            shown = [read_names(run) for run in runs]
            for run, images in zip(runs, shown, strict=True):
                if len(images) != IMAGES_PER_RUN:
                    raise BenchError(f"{run}: {len(images)} images in the run, expected {IMAGES_PER_RUN}")
            names += [name for images in shown for name in images]
            n_trials.append(sum(map(len, shown)))
        if names:
            return ShownImages(folder / subject, tuple(names), tuple(n_trials))
    return None


def read_names(path: Path) -> tuple[str, ...]:
    """Return the image names of a list, one a line, without the mark of a repeated presentation."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(f"{path}: cannot be read ({error}), expected one image name a line") from None
    return tuple(line.strip().removeprefix("rep_") for line in lines if line.strip())


def release_columns(files: SubjectFiles) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the ROI release as one matrix with every voxel once, and the ROI masks over it.

    A voxel of two ROIs stands in both files; columns that agree in every bit are taken to be one voxel.
    """
    tables = {roi: read_array(files.rois[roi].parent, files.rois[roi].name) for roi in ROIS}
    data = np.concatenate([np.asarray(table, "<f4") for table in tables.values()], axis=1)
    columns = np.ascontiguousarray(data.T)
    whole = columns.view(np.dtype((np.void, columns.strides[0]))).ravel()
    _, first, voxel = np.unique(whole, return_index=True, return_inverse=True)
    order = np.argsort(first)
    voxel = np.argsort(order)[voxel.ravel()]
    ends = np.cumsum([table.shape[1] for table in tables.values()])
    parts = np.split(voxel, ends[:-1])
    masks = {roi: np.isin(np.arange(len(first)), part) for roi, part in zip(tables, parts, strict=True)}
    return np.ascontiguousarray(data[:, first[order]]), masks


def _some(names: list[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", ..." if names[_LISTED:] else "")
