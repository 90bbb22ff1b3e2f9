"""`nsd`: natural scenes, 8 subjects, nsdgeneral (Allen et al. 2022), as ``bench data prepare nsd`` leaves it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmark.api import Stimuli
from benchmark.data import folder
from benchmark.data.base import Dataset, SubjectData
from benchmark.data.files import hash_files, mask_names, read_json, read_table
from benchmark.data.growing import read_grown
from benchmark.data.nsd_design import DESIGN, FORMAT, HEADER, SESSIONS, SPLITS, TRIALS_PER_SESSION, read_design
from benchmark.data.scan import scan
from benchmark.errors import BenchError

NAME = "nsd"


def load(root: Path, cache: Path) -> Dataset:
    """Load a prepared folder; betas and pictures stay on disk, memory-mapped.

    Parameters
    ----------
    root : Path
        Folder that holds ``nsd.json``.
    cache : Path
        Where the files' hashes are remembered.

    Raises
    ------
    BenchError
        Where a file is missing or damaged, or the preparation is not finished.
    """
    root = Path(root)
    header, stimuli = _read(root)
    digests = hash_files(root, _files(header), cache)
    rois = [name for files in header["subjects"].values() for name in mask_names(root, files["rois"])]
    return Dataset(
        name=NAME,
        version="1.0",
        fingerprint=hashlib.sha256(json.dumps(sorted(digests.items())).encode()).hexdigest(),
        subjects=tuple(header["subjects"]),
        stimuli=stimuli,
        load_subject=partial(folder.load_subject, root, header, stimuli.ids),
        roi_names=tuple(dict.fromkeys(rois)),
        nan_voxels="drop",
        provenance={
            "source": "Natural Scenes Dataset, naturalscenesdataset.org",
            "licence": "NSD's terms and conditions; not redistributed here",
            "citation": "Allen et al. 2022, Nature Neuroscience 25",
        },
    )


def split(name: str, root: Path, cache: Path) -> dict[str, Any]:
    """Return the content of ``nsd-982`` or ``nsd-1000``, or of either with single trials.

    It covers all eight subjects whatever is prepared, so that its checksum is the same everywhere.

    Raises
    ------
    BenchError
        For an unknown split, or a subject prepared with fewer sessions than it uses.
    """
    root = Path(root)
    content = read_design(root / DESIGN).split(name)
    needed = SPLITS[name][0]
    for subject, files in _header(root)["subjects"].items():
        if files["sessions"] < min(needed, SESSIONS[subject]):
            raise BenchError(
                f"{root}: {subject} is prepared with {files['sessions']} sessions, split {name} needs {needed}; "
                f"bench data prepare nsd --subject {int(subject[4:])} --sessions {needed} adds them"
            )
    return content


def check(root: Path) -> list[str]:
    """Return every fault of a prepared folder, one sentence each; every response is read."""
    root, faults = Path(root), []
    try:
        header, stimuli = _read(root)
    except BenchError as error:
        return [str(error)]
    for subject in header["subjects"]:
        try:
            faults += _faults(
                root / header["subjects"][subject]["responses"], folder.load_subject(root, header, stimuli.ids, subject)
            )
        except BenchError as error:
            faults.append(str(error))
    return faults


def _faults(path: Path, data: SubjectData) -> Iterator[str]:
    found = scan(data.responses)
    n_voxels = data.responses.shape[1]
    if len(found.empty_rows) or len(found.infinite_rows):
        yield f"{path}: {len(found.empty_rows)} trials are all NaN, {len(found.infinite_rows)} infinite, expected none"
    for name, mask in data.rois.items():
        if mask.dtype != bool or mask.shape != (n_voxels,):
            yield f"{path.parent / 'rois.npz'}: {name} is {mask.dtype} {mask.shape}, expected a mask of {n_voxels}"


def _header(root: Path) -> dict[str, Any]:
    header = read_json(root / HEADER)
    if not isinstance(header, Mapping) or any(header.get(key) != value for key, value in FORMAT.items()):
        raise BenchError(f"{root / HEADER}: not written by this version of bench data prepare nsd, expected {FORMAT}")
    return header


def _read(root: Path) -> tuple[dict[str, Any], Stimuli]:
    header = _header(root)
    parts = header["stimuli"]
    ids = read_table(root, parts["table"]).columns["stimulus_id"]
    captions = None
    if "captions" in parts:
        captions = [tuple(texts) for texts in read_json(root / parts["captions"])]
        if len(captions) != len(ids):
            raise BenchError(f"{root / parts['captions']}: captions of {len(captions)} pictures, expected {len(ids)}")
    images = read_grown(root, parts["images"], len(ids), "the pictures of all stimuli")
    for files in header["subjects"].values():
        read_grown(root, files["responses"], files["sessions"] * TRIALS_PER_SESSION, "the betas of all sessions")
    return header, Stimuli(ids=ids, images=images, captions=captions)


def _files(header: Mapping[str, Any]) -> Iterator[str]:
    """Yield every file that can reach a score."""
    yield from (HEADER, DESIGN, *header["stimuli"].values())
    for files in header["subjects"].values():
        yield from (files[key] for key in ("responses", "trials", "rois", "coords", "ncsnr") if key in files)
