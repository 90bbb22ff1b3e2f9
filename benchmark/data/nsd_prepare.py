"""From NSD's released files to a folder that the ``nsd`` loader reads; see docs/nsd.md."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import filelock
import numpy as np

from benchmark.data import hdf5_sessions, sessions
from benchmark.data.files import read_cache, read_json, read_table, write_atomic
from benchmark.data.growing import GrowingArray
from benchmark.data.nsd_design import (
    DESIGN,
    FORMAT,
    HEADER,
    SESSIONS,
    TRIALS_PER_SESSION,
    Design,
    distinct,
    read_design,
    stimulus_ids,
    trial_table,
)
from benchmark.data.nsd_stimuli import BRICK, extend_images, pictures, read_captions
from benchmark.data.scan import scan
from benchmark.data.source import Source
from benchmark.errors import BenchError

DESIGN_SOURCE = f"nsddata/experiments/nsd/{DESIGN}"
BETAS = "betas_fithrf_GLMdenoise_RR"
UNIT = 1 / 300  # whole numbers are percent signal change x 300
FORMS = (".nii.gz", ".hdf5", ".nii")

# labels of the ROI volumes, from 1
ROIS = {
    "prf-visualrois": ("V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4"),
    "floc-faces": ("OFA", "FFA-1", "FFA-2", "mTL-faces", "aTL-faces"),
    "floc-bodies": ("EBA", "FBA-1", "FBA-2", "mTL-bodies"),
    "floc-places": ("OPA", "PPA", "RSC"),
    "floc-words": ("OWFA", "VWFA-1", "VWFA-2", "mfs-words", "mTL-words"),
    "streams": ("early", "midventral", "midlateral", "midparietal", "ventral", "lateral", "parietal"),
    "prf-eccrois": ("ecc-0-0.5", "ecc-0.5-1", "ecc-1-2", "ecc-2-4", "ecc-4+"),
}

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Request:
    """What to prepare.

    Attributes
    ----------
    subject : str
        ``"subj01"`` to ``"subj08"``.
    source : Source
        NSD's tree: ``nsddata``, ``nsddata_betas``, ``nsddata_stimuli``.
    out : Path
        Folder of the prepared dataset; further subjects are added to it.
    n_sessions : int
        The first sessions to take; a subject who completed fewer has those.
    size : int or None
        Side of the stored pictures; None for that of the file.
    betas : str
        Version of the betas, the folder's name.
    captions, stimuli : str or None
        Files outside the tree.
    """

    subject: str
    source: Source
    out: Path
    n_sessions: int = 37
    size: int | None = None
    betas: str = BETAS
    captions: str | None = None
    stimuli: str | None = None


def prepare(request: Request, report: Report = lambda label, done, total: None) -> Path:
    """Stream a subject's sessions through ``nsdgeneral``, and take out the pictures and captions that were shown.

    One session is in memory at a time, and of a remote source one is on the disk. Whatever was finished
    before a kill is kept: sessions and pictures are counted one by one.

    Raises
    ------
    BenchError
        At the first fault of the files; everything that shows without reading betas is said first.
    """
    if request.subject not in SESSIONS:
        raise BenchError(f"subject {request.subject}: expected one of {', '.join(SESSIONS)}")
    request.out.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(request.out / ".lock", timeout=0):
            return _prepare(request, report)
    except filelock.Timeout:
        raise BenchError(
            f"--out {request.out}: another bench data prepare is writing it, expected one at a time"
        ) from None


def prepare_nsd(
    *, subject: int, source: str, out: Path, sessions: int, size, betas, captions, stimuli, report: Report
) -> Path:
    """Carry out ``bench data prepare nsd``."""
    if subject > len(SESSIONS):
        raise BenchError(f"--subject {subject}: expected 1 to {len(SESSIONS)}")
    request = Request(f"subj{subject:02d}", Source(source), out, sessions, size, betas or BETAS, captions, stimuli)
    return prepare(request, report)


def _prepare(request: Request, report: Report) -> Path:
    out, subject, source, scratch = request.out, request.subject, request.source, request.out / ".download"
    shutil.rmtree(scratch, ignore_errors=True)  # a download that a kill left behind
    header = read_json(out / HEADER) if (out / HEADER).exists() else {**FORMAT, "stimuli": {}, "subjects": {}}
    before = header["subjects"].get(subject, {}).get("sessions", 0)
    n_sessions = max(min(request.n_sessions, SESSIONS[subject]), before)
    with source.file(DESIGN_SOURCE, scratch) as file:
        design, content = read_design(file), file.read_bytes()
    if (out / DESIGN).exists() and (out / DESIGN).read_bytes() != content:
        raise BenchError(f"{source.name(DESIGN_SOURCE)}: not the design that {out} was begun with")
    files = _session_files(request, n_sessions)
    general, volumes = _volumes(request, scratch)
    mask = general > 0  # it also holds -1, outside the cortex
    if not mask.any():
        raise BenchError(f"{source.name(_roi(subject, 'nsdgeneral'))}: no voxel above 0, expected the voxels to take")
    _same_as_before(request, mask)
    rows = _table(out, design, subject, n_sessions)
    captions = _captions(request, rows, header, scratch)
    place = out / subject
    place.mkdir(exist_ok=True)
    write_atomic(out / DESIGN, content)
    _write_columns(out / "stimuli.csv", {"stimulus_id": stimulus_ids(rows)})
    origin, name = _outside(request.stimuli, source, BRICK)
    with pictures(origin, name) as brick:
        if request.size and request.size > brick.shape[1]:
            raise BenchError(
                f"--size {request.size}: the pictures have {brick.shape[1]} pixels a side, expected no more"
            )
        extend_images(brick, origin.name(name), rows, out / "images.npy", request.size, report)
    _stream(request, files, mask, place / "betas.npy", scratch, report)
    entry = {"responses": f"{subject}/betas.npy", "trials": f"{subject}/trials.csv", "rois": f"{subject}/rois.npz"}
    values = {name: volume[mask] for name, volume in volumes.items()}
    write_atomic(place / "rois.npz", lambda file: np.savez(file, **_masks(values)))
    write_atomic(place / "coords.npy", lambda file: np.save(file, np.argwhere(mask).astype(np.int32)))
    entry |= {"coords": f"{subject}/coords.npy", "shape": list(mask.shape), "sessions": n_sessions}
    if "ncsnr" in values:
        write_atomic(place / "ncsnr.npy", lambda file: np.save(file, values["ncsnr"].astype(np.float32)))
        entry["ncsnr"] = f"{subject}/ncsnr.npy"
    _write_columns(place / "trials.csv", trial_table(design, subject, n_sessions))
    header["stimuli"] = {"table": "stimuli.csv", "images": "images.npy"}
    if captions is not None:
        write_atomic(out / "captions.json", json.dumps(captions).encode())
        header["stimuli"]["captions"] = "captions.json"
    header["subjects"] = dict(sorted({**header["subjects"], subject: entry}.items()))
    write_atomic(out / HEADER, (json.dumps(header, indent=1) + "\n").encode())
    shutil.rmtree(scratch, ignore_errors=True)
    return out


def _session_files(request: Request, n_sessions: int) -> list[str]:
    """Return the files of all sessions, each in whichever form is there."""
    folder = f"nsddata_betas/ppdata/{request.subject}/func1pt8mm/{request.betas}"
    found = []
    for number in range(1, n_sessions + 1):
        stem = f"{folder}/betas_session{number:02d}"
        file = next((stem + form for form in FORMS if request.source.has(stem + form)), None)
        if file is None:
            raise BenchError(
                f"{request.source.name(stem + FORMS[0])}: no such file, nor one that ends in {' or '.join(FORMS[1:])}; "
                f"expected sessions 1 to {n_sessions}"
            )
        found.append(file)
    return found


def _roi(subject: str, name: str) -> str:
    return f"nsddata/ppdata/{subject}/func1pt8mm/roi/{name}.nii.gz"


def _volumes(request: Request, scratch: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return ``nsdgeneral``, and the ROI volumes and ``ncsnr`` that are there."""
    subject, source = request.subject, request.source
    paths = {name: _roi(subject, name) for name in ROIS}
    paths["ncsnr"] = f"nsddata_betas/ppdata/{subject}/func1pt8mm/{request.betas}/ncsnr.nii.gz"
    with source.file(_roi(subject, "nsdgeneral"), scratch) as file:
        general = sessions.read_volume(file)
    volumes = {}
    for name, path in paths.items():
        if source.has(path):
            with source.file(path, scratch) as file:
                volumes[name] = sessions.read_volume(file)
            if volumes[name].shape != general.shape:
                raise BenchError(
                    f"{source.name(path)}: shape {volumes[name].shape}, expected {general.shape} as nsdgeneral's"
                )
    return general, volumes


def _masks(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return a boolean mask over voxels for every label; a label that no voxel has gives an empty mask."""
    return {
        roi: values[name] == label
        for name, labels in ROIS.items()
        if name in values
        for label, roi in enumerate(labels, 1)
    }


def _same_as_before(request: Request, mask: np.ndarray) -> None:
    """Refuse to go on with other voxels or other betas than a subject was begun with."""
    path = request.out / request.subject / "begun.json"
    voxels = hashlib.sha256(np.packbits(mask).tobytes() + str(mask.shape).encode()).hexdigest()
    now = {"betas": request.betas, "nsdgeneral": voxels}
    begun = read_cache(path)
    for key, value in now.items():
        if begun.get(key, value) != value:
            raise BenchError(f"{path}: begun with another {key}, expected the same; remove {path.parent} to begin anew")
    write_atomic(path, json.dumps(now).encode())


def _table(out: Path, design: Design, subject: str, n_sessions: int) -> np.ndarray:
    """Return the pictures of the stimulus table: those it has, then new ones in order of first presentation.

    A subject's rows are never moved, so that pictures taken out before a kill keep their place.
    """
    table = read_table(out, "stimuli.csv").columns["stimulus_id"] if (out / "stimuli.csv").exists() else []
    before = np.array([int(name.removeprefix("nsd")) for name in table], int)
    return distinct(np.concatenate([before, design.trials(subject, n_sessions)[0]]))


def _captions(request: Request, rows: np.ndarray, header: Mapping, scratch: Path) -> list[list[str]] | None:
    origin, name = _outside(request.captions, request.source, None)
    captions = read_captions(origin, name, rows, scratch)
    if captions is None and "captions" in header["stimuli"]:
        raise BenchError(f"{request.out / HEADER}: it has captions and {request.source.place} has not, expected them")
    return captions


def _outside(file: str | None, source: Source, path: str | None) -> tuple[Source, str | None]:
    """Return where a file is: given by itself, else within the tree."""
    if file is None:
        return source, path
    folder, _, name = file.rpartition("/")
    return Source(folder or ("/" if file.startswith("/") else ".")), name


def _stream(request: Request, files: list[str], mask: np.ndarray, path: Path, scratch: Path, report: Report) -> None:
    """Append the sessions that are not there yet."""
    store = GrowingArray(path, (int(mask.sum()),), np.float32)
    block = np.empty((TRIALS_PER_SESSION, *store.row_shape), np.float32)
    for number in range(store.rows // TRIALS_PER_SESSION, len(files)):
        report("sessions", number, len(files))
        with request.source.file(files[number], scratch) as file:
            try:
                read_betas(file, mask, block)
            except BenchError as error:  # a download is named by where it comes from
                raise BenchError(str(error).replace(str(file), request.source.name(files[number]))) from None
        store.append(block)
    report("sessions", len(files), len(files))


def read_betas(path: Path, mask: np.ndarray, out: np.ndarray) -> None:
    """Read one session as percent signal change, whole numbers divided by 300.

    Parameters
    ----------
    path : Path
        ``.nii``, ``.nii.gz`` or ``.hdf5``.
    mask : ndarray of shape (x, y, z), bool
    out : ndarray of shape (750, n_voxels), float32

    Raises
    ------
    BenchError
        For a damaged file, another shape, an infinity, a trial that is all NaN or a session that is constant.
    """
    module = hdf5_sessions if path.suffix == ".hdf5" else sessions
    module.read_session(path, mask, out, UNIT if _stored(path).kind in "iu" else 1.0)
    found = scan(out)
    if len(found.empty_rows):
        n = len(found.empty_rows)
        raise BenchError(f"{path}: {n} of {len(out)} trials are NaN in every voxel of nsdgeneral, expected responses")
    if len(found.infinite_rows):
        raise BenchError(f"{path}: trial {found.infinite_rows[0]} (from 0) holds an infinity, expected numbers")
    if not (found.low < found.high).any():
        raise BenchError(f"{path}: no voxel of nsdgeneral changes over its trials, expected responses")


def _stored(path: Path) -> np.dtype:
    """Return the type that betas are stored in; a damaged file is left to the reader that comes next."""
    try:
        if path.suffix == ".hdf5":
            import h5py

            with h5py.File(path) as file:
                return file["betas"].dtype
        import nibabel

        return nibabel.load(path).header.get_data_dtype()
    except Exception:
        return np.dtype(np.int16)


def _write_columns(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(values.tolist() for values in columns.values()), strict=True))
    write_atomic(path, text.getvalue().encode())
