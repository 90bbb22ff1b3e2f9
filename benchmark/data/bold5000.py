"""`bold5000`, release 2.0: 4916 pictures, four subjects (Chang et al. 2019); see docs/bold5000.md."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.api import Stimuli
from benchmark.data.base import Dataset, SubjectData
from benchmark.data.bold5000_files import (
    IMAGES_PER_RUN,
    ROIS,
    Files,
    ShownImages,
    category,
    file_faults,
    find,
    read_names,
    release_columns,
)
from benchmark.data.files import hash_files, nearest, read_cache, read_json, write_atomic
from benchmark.data.pictures import picture_table, read_square
from benchmark.data.sessions import SessionFile, extract, read_volume, session_shape
from benchmark.errors import BenchError

NAME = "bold5000"
SPLITS = {"bold5000-repeated-v1": False, "bold5000-coco-v1": True}  # name: COCO images only
IMAGE_SIZE = 224  # pixels of a side: what CLIP reads
_IMAGE_CACHE_VERSION = 1


def load(root: Path, cache: Path) -> Dataset:
    """Load the subjects whose betas are there.

    Parameters
    ----------
    root : Path
        Folder with the betas, ROI masks, lists and stimuli.
    cache : Path
        Where pictures are kept decoded, betas extracted, and the files' hashes remembered.

    Returns
    -------
    Dataset
        Betas in percent signal change of the voxels in any of ten ROIs; pictures (n, 224, 224, 3), captions
        of the COCO images where ``captions_train2014.json`` is there (none of the others), attribute
        ``category``.

    Raises
    ------
    BenchError
        With the first fault of the files, and how many more there are.
    """
    root, cache = Path(root), Path(cache)
    files, faults = find(root)
    faults += file_faults(files, deep=False)
    if faults:
        more = f"; {len(faults) - 1} more: bench data check {root}" if faults[1:] else ""
        raise BenchError(faults[0] + more)
    ids = np.array(sorted({name for subject in files.subjects for name in files.shown[subject].names}))
    digests = hash_files(root, _used(files, ids), cache)
    pictures = [files.pictures[name] for name in ids.tolist()]
    captions = None
    if files.captions is not None:
        captions = _captions(files.captions, ids.tolist(), digests[_inside(files, files.captions)], cache)
    return Dataset(
        name=NAME,
        version="2.0",
        fingerprint=hashlib.sha256(
            json.dumps([IMAGE_SIZE, _IMAGE_CACHE_VERSION, sorted(digests.items())]).encode()
        ).hexdigest(),
        subjects=tuple(files.subjects),
        stimuli=Stimuli(
            ids=ids,
            images=picture_table(pictures, [digests[_inside(files, path)] for path in pictures], IMAGE_SIZE, cache),
            captions=captions,
            attributes={"category": np.array([category(name) for name in ids.tolist()])},
        ),
        load_subject=partial(_load_subject, files, ids, digests, cache),
        roi_names=ROIS,
        nan_voxels="drop",  # voxels outside the brain are NaN in the release
        provenance={
            "source": "BOLD5000 release 2.0 (GLMsingle betas, type D), ROI masks of OpenNeuro ds001499",
            "licence": "as its publishers state; not redistributed here",
            "citation": "Chang et al. 2019, Scientific Data 6:49; Prince et al. 2022, eLife 11:e77599",
        },
    )


def check(root: Path) -> list[str]:
    """Return everything missing or damaged, one sentence each: every session and picture is read whole."""
    files, faults = find(Path(root))
    faults += file_faults(files, deep=True)
    shown = {name for subject in files.subjects if subject in files.shown for name in files.shown[subject].names}
    for name in sorted(shown & files.pictures.keys()):
        try:
            read_square(files.pictures[name], IMAGE_SIZE)
        except BenchError as error:
            faults.append(str(error))
    if files.captions is not None:
        try:
            _read_captions(files.captions, sorted(shown))
        except BenchError as error:
            faults.append(str(error))
    return faults


def split(name: str, root: Path, cache: Path | None = None) -> dict[str, Any]:
    """Return the content of a split, from the presentation lists.

    Tested are the images shown several times to CSI1, CSI2 or CSI3 (113, the same for all three), as far as
    a subject saw them; trained on are all other images of the subject. Repeats are averaged.

    Parameters
    ----------
    name : str
        ``bold5000-repeated-v1``, or ``bold5000-coco-v1`` with only the COCO images.
    root : Path
    cache : Path or None
        Not used.
    """
    if name not in SPLITS:
        raise BenchError(f"unknown split {name!r} of dataset {NAME}, {nearest(name, SPLITS)}")
    files, faults = find(Path(root))
    for fault in faults:
        raise BenchError(fault)
    repeated = _repeated(files)
    folds = {}
    for subject, shown in files.shown.items():
        names = sorted(n for n in set(shown.names) if category(n) == "COCO" or not SPLITS[name])
        sides = {"train": [n for n in names if n not in repeated], "test": [n for n in names if n in repeated]}
        folds[subject] = [{"name": "repeated", **sides}]
    return {"name": name, "unit": "stimulus", "average": ["subject", "stimulus"], "folds": folds}


def _repeated(files: Files) -> set[str]:
    """Return the images meant to be repeated; CSI4 broke off, so its own list does not tell them all."""
    complete = [shown.names for subject, shown in files.shown.items() if subject != "CSI4"]
    if complete:
        return {name for names in complete for name, n in Counter(names).items() if n > 1}
    if files.repeated is None:
        raise BenchError(
            f"{files.root}: which images are repeated is not known, expected the list of what CSI1, CSI2 or CSI3 saw "
            "or repeated_stimuli_113_list.txt"
        )
    stems = {Path(name).stem for name in read_names(files.repeated)}
    return {name for shown in files.shown.values() for name in shown.names if Path(name).stem in stems}


def _inside(files: Files, path: Path) -> str:
    return path.relative_to(files.root).as_posix()


def _used(files: Files, ids: np.ndarray) -> list[str]:
    """Return every file that can reach a score, relative to the root."""
    paths = [files.pictures[name] for name in ids.tolist()] + ([files.captions] if files.captions else [])
    for subject, found in files.subjects.items():
        source = files.shown[subject].source
        paths += [source] if source.is_file() else sorted(source.glob("*/*.txt"))
        paths += [*found.sessions.values(), *found.masks.values()] if found.sessions else found.rois.values()
    return [_inside(files, path) for path in paths]


def _load_subject(files: Files, ids: np.ndarray, digests: Mapping[str, str], cache: Path, subject: str) -> SubjectData:
    if subject not in files.subjects:
        raise BenchError(f"{NAME}: no subject {subject!r}, {nearest(subject, files.subjects)}")
    found, shown = files.subjects[subject], files.shown[subject]
    n = len(shown.names)
    if found.sessions:
        sessions = {
            name: SessionFile(path, session_shape(path)[1], digests[_inside(files, path)])
            for name, path in found.sessions.items()
        }
        masks = {roi: read_volume(found.masks[roi]) > 0 for roi in ROIS}  # some masks hold shares of a voxel
        union = np.logical_or.reduce(list(masks.values()))
        responses = extract(list(sessions.values()), union, cache)
        rois = {roi: mask[union] for roi, mask in masks.items()}
        space = {"coords": np.argwhere(union), "shape": np.array(union.shape)}
        session = np.repeat(list(sessions), [s.n_trials for s in sessions.values()])
    else:
        responses, rois = release_columns(found)
        space = {}
        session = _listed_sessions(shown)
    run = np.arange(n) // IMAGES_PER_RUN + 1
    return SubjectData(
        responses=responses,
        stimulus=np.searchsorted(ids, shown.names),
        run=np.char.add("run-", np.char.zfill(run.astype(str), 3)),
        session=session,
        condition=np.full(n, ""),
        rois=rois,
        space=space,
    )


def _listed_sessions(shown: ShownImages) -> np.ndarray:
    """Return the session of every trial; empty where only the order of all trials is known."""
    if not shown.n_trials:
        return np.full(len(shown.names), "")
    return np.repeat([f"ses-{k + 1:02d}" for k in range(len(shown.n_trials))], shown.n_trials)


def _captions(path: Path, ids: list[str], digest: str, cache: Path) -> list[tuple[str, ...]]:
    """Return the captions of every stimulus, none for images that are not COCO's; the large file is read once."""
    key = hashlib.sha256(json.dumps([digest, ids]).encode()).hexdigest()[:32]
    store = cache / "captions" / f"{key}.json"
    table = read_cache(store)
    if not table:
        table = _read_captions(path, ids)
        write_atomic(store, json.dumps(table).encode())
    return [tuple(table.get(name, ())) for name in ids]


def _read_captions(path: Path, ids: list[str]) -> dict[str, list[str]]:
    content, wanted = read_json(path), [name for name in ids if category(name) == "COCO"]
    try:
        names = {image["id"]: image["file_name"] for image in content["images"]}
        table: dict[str, list[str]] = {name: [] for name in wanted}
        for entry in content["annotations"]:
            name = names[entry["image_id"]]
            if name in table:
                table[name].append(str(entry["caption"]).strip())
    except (KeyError, TypeError):
        raise BenchError(
            f"{path}: expected COCO's lists images (id, file_name) and annotations (image_id, caption)"
        ) from None
    missing = [name for name, texts in table.items() if not texts]
    if missing:
        raise BenchError(
            f"{path}: no caption of {missing[0]} ({len(missing)} such images), expected one of every image shown"
        )
    return table
