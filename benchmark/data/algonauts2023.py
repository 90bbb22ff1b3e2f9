"""`algonauts2023`: NSD's pictures, cortical surface of eight subjects (Gifford et al. 2023); docs/algonauts2023.md."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from benchmark.api import Stimuli
from benchmark.data.algonauts_files import CLASSES, HEMISPHERES, SubjectFiles, file_faults, find, response_fault, rois
from benchmark.data.base import Dataset, SubjectData
from benchmark.data.files import hash_files, nearest, read_array, write_atomic
from benchmark.data.matlab import read_mat5
from benchmark.data.nsd_design import DESIGN, N_PICTURES, N_SHARED, stimulus_ids
from benchmark.data.overlap import WITHOUT_NSD_ID, shared_pictures
from benchmark.data.pickled_dict import read_pickled_dict
from benchmark.data.pictures import picture_table, read_square
from benchmark.data.scan import BLOCK_BYTES
from benchmark.errors import BenchError

NAME = "algonauts2023"
SPLIT = "algonauts-heldout-v1"
HELD_OUT_SHARE = 0.1  # of the pictures, where their NSD ids are not known
IMAGE_SIZE = 224  # pixels of a side: what CLIP reads
_VERSION = 1  # of what is made from the files


def load(root: Path, cache: Path) -> Dataset:
    """Load the training split of the subjects that are there.

    Parameters
    ----------
    root : Path
        Folder with ``subj01`` ... ``subj08``.
    cache : Path
        Where pictures are kept decoded, both hemispheres joined, and the files' hashes remembered.

    Returns
    -------
    Dataset
        Responses of LH then RH, one row for every picture, repeats averaged; pictures (n, 224, 224, 3).

    Raises
    ------
    BenchError
        With the first fault of the files, and how many more there are.
    """
    root, cache = Path(root), Path(cache)
    subjects, faults = find(root)
    for files in subjects.values():
        faults += file_faults(files, deep=False)
    if faults:
        more = f"; {len(faults) - 1} more: bench data check {root}" if faults[1:] else ""
        raise BenchError(faults[0] + more)
    digests = _digests(root, subjects, cache, [path for files in subjects.values() for path in files.used()])
    shown = {subject: _ids(files, digests) for subject, files in subjects.items()}
    pictures = _pictures(subjects, shown)
    paths = [pictures[name][0] for name in sorted(pictures)]
    ids = np.array(sorted(pictures))
    names = [label for files in subjects.values() for kind in CLASSES for label in _labels(files, kind)]
    return Dataset(
        name=NAME,
        version="1.0",
        fingerprint=hashlib.sha256(
            json.dumps([IMAGE_SIZE, _VERSION, sorted((_inside(root, p), d) for p, d in digests.items())]).encode()
        ).hexdigest(),
        subjects=tuple(subjects),
        stimuli=Stimuli(ids=ids, images=picture_table(paths, [digests[path] for path in paths], IMAGE_SIZE, cache)),
        load_subject=partial(_load_subject, subjects, shown, ids, digests, cache),
        roi_names=tuple(dict.fromkeys([label for known in CLASSES.values() for label in known] + names)),
        tags=("transductive scaling",),  # z-scored over all trials of a session, the tested ones among them
        provenance={
            "source": "The Algonauts Project 2023 challenge, training split; made from the Natural Scenes Dataset",
            "licence": "NSD's terms and conditions; not redistributed here",
            "citation": "Gifford et al. 2023, arXiv:2301.03198; Allen et al. 2022, Nature Neuroscience 25",
        },
    )


def check(root: Path) -> list[str]:
    """Return everything missing or damaged, one sentence each: every response and picture is read."""
    root = Path(root)
    subjects, faults = find(root)
    for files in subjects.values():
        faults += file_faults(files, deep=True)
    for attempt in (lambda: _shared(root), lambda: _check_pictures(root, subjects, faults)):
        try:
            attempt()
        except BenchError as error:
            faults.append(str(error))
    return faults


def split(name: str, root: Path, cache: Path | None = None) -> dict[str, Any]:
    """Return the content of ``algonauts-heldout-v1``.

    Tested are the pictures that NSD showed to everyone: the 1000 of ``nsd_expdesign.mat`` where it lies in
    the folder, else of the package's own list. Where file names do not tell the pictures' NSD ids,
    tested are those whose file has a SHA-256 in the lowest tenth.

    Parameters
    ----------
    name : str
    root : Path
    cache : Path or None
        Where the files' hashes are remembered.
    """
    if name != SPLIT:
        raise BenchError(f"unknown split {name!r} of dataset {NAME}, {nearest(name, [SPLIT])}")
    root = Path(root)
    subjects, faults = find(root)
    for fault in faults:
        raise BenchError(fault)
    unnamed = [path for files in subjects.values() if not files.nsd for path in files.pictures]
    digests, shared = _digests(root, subjects, cache, unnamed), _shared(root)
    folds = {}
    for subject, files in subjects.items():
        ids = _ids(files, digests)
        if files.nsd:
            tested = np.isin(files.nsd, shared)
        else:
            tested = np.array([int(digests[path][:8], 16) for path in files.pictures]) < HELD_OUT_SHARE * 2**32
        if tested.all() or not tested.any():
            raise BenchError(
                f"{files.folder}: {tested.sum()} of {len(tested)} training pictures are tested by split {SPLIT}, "
                "expected pictures on both sides"
            )
        folds[subject] = [{"name": "heldout", "train": ids[~tested].tolist(), "test": ids[tested].tolist()}]
    return {"name": name, "unit": "stimulus", "average": [], "folds": folds}


def _shared(root: Path) -> np.ndarray:
    """Return the shared pictures, from 0."""
    path = root / DESIGN
    if not path.exists():
        return shared_pictures()
    arrays, faults = read_mat5(path, {"sharedix": (1, N_SHARED)})
    if faults:
        raise BenchError(faults[0])
    shared = arrays["sharedix"].ravel().astype(int) - 1
    if shared.min() < 0 or shared.max() >= N_PICTURES or len(np.unique(shared)) < N_SHARED:
        raise BenchError(f"{path}: sharedix is not {N_SHARED} different numbers, expected them from 1 to {N_PICTURES}")
    return shared


def _digests(
    root: Path, subjects: Mapping[str, SubjectFiles], cache: Path | None, paths: list[Path]
) -> dict[Path, str]:
    """Return the SHA-256 of files, remembered in the cache."""
    digests = hash_files(root, [_inside(root, path) for path in paths], cache)
    return dict(zip(paths, digests.values(), strict=True))


def _inside(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def _ids(files: SubjectFiles, digests: Mapping[Path, str]) -> np.ndarray:
    """Return the stimulus id of every row: of NSD, else of the file's content; two of one content are an error."""
    if files.nsd:
        return stimulus_ids(np.array(files.nsd))
    ids = np.array([WITHOUT_NSD_ID + digests[path][:16] for path in files.pictures])
    order = np.argsort(ids, kind="stable")
    for twin in np.flatnonzero(ids[order][1:] == ids[order][:-1]):
        first, second = (files.pictures[row] for row in order[twin : twin + 2])
        raise BenchError(f"{second}: the same bytes as {first.name}, expected every picture once")
    return ids


def _pictures(subjects: Mapping[str, SubjectFiles], shown: Mapping[str, np.ndarray]) -> dict[str, list[Path]]:
    """Return the files of every stimulus; several where several subjects saw it."""
    pictures: dict[str, list[Path]] = {}
    for subject, files in subjects.items():
        for name, path in zip(shown[subject].tolist(), files.pictures, strict=True):
            pictures.setdefault(name, []).append(path)
    return pictures


def _check_pictures(root: Path, subjects: Mapping[str, SubjectFiles], faults: list[str]) -> None:
    """Read every picture, and compare those of one NSD id."""
    digests = _digests(root, subjects, None, [path for files in subjects.values() for path in files.pictures])
    shown = {subject: _ids(files, digests) for subject, files in subjects.items()}
    for name, paths in _pictures(subjects, shown).items():
        # files of one content are read once
        distinct = list({digests[path]: path for path in reversed(paths)}.values())[::-1]
        faults += _picture_faults(name, distinct)


def _picture_faults(name: str, paths: list[Path]) -> Iterator[str]:
    first = None
    for path in paths:
        try:
            picture = read_square(path, IMAGE_SIZE)
        except BenchError as error:
            yield str(error)
            continue
        if first is not None and not np.array_equal(picture, first[1]):
            yield f"{path}: not the picture of {first[0]}, expected one picture of {name} for every subject"
        first = first or (path, picture)


def _labels(files: SubjectFiles, kind: str) -> list[str]:
    return [label for value, label in sorted(read_pickled_dict(files.mapping(kind)).items()) if value > 0]


def _load_subject(
    subjects: Mapping[str, SubjectFiles],
    shown: Mapping[str, np.ndarray],
    ids: np.ndarray,
    digests: Mapping[Path, str],
    cache: Path,
    subject: str,
) -> SubjectData:
    if subject not in subjects:
        raise BenchError(f"{NAME}: no subject {subject!r}, {nearest(subject, subjects)}")
    files = subjects[subject]
    empty = np.full(len(files.pictures), "")  # averages over runs and sessions
    return SubjectData(
        responses=_joined([files.responses(side) for side in HEMISPHERES], digests, cache),
        stimulus=np.searchsorted(ids, shown[subject]),
        run=empty,
        session=empty,
        condition=empty,
        rois=rois(files),
    )


def _joined(paths: list[Path], digests: Mapping[Path, str], cache: Path) -> np.ndarray:
    """Return the responses of both hemispheres as one memory-mapped matrix, float32, made once."""
    key = json.dumps([NAME, _VERSION, [digests[path] for path in paths]])
    store, file = cache / "responses", f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npy"
    with suppress(BenchError):
        return read_array(store, file)
    tables = [read_array(path.parent, path.name) for path in paths]
    n_rows, n_columns = len(tables[0]), sum(table.shape[1] for table in tables)
    step = max(1, BLOCK_BYTES // (4 * n_columns))

    def write(out: IO[bytes]) -> None:
        np.lib.format.write_array_header_1_0(
            out, {"descr": "<f4", "fortran_order": False, "shape": (n_rows, n_columns)}
        )
        for start in range(0, n_rows, step):
            block = np.concatenate([np.asarray(table[start : start + step], "<f4") for table in tables], axis=1)
            if not np.isfinite(block).all():
                raise BenchError(next(filter(None, map(response_fault, paths))))
            out.write(block.data)

    write_atomic(store / file, write)
    return read_array(store, file)
