"""Single-trial betas in one 4-D NIfTI file per session, streamed through a mask into one matrix."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from benchmark.data.files import read_array, write_atomic
from benchmark.errors import BenchError

SLAB_BYTES = 1 << 25  # volumes in memory at a time: as many as fit, at least one
_CACHE_VERSION = 1


@dataclass(frozen=True)
class SessionFile:
    """One session's betas: 4-D, last axis = trials; ``sha256`` of the file's bytes names its cache."""

    path: Path
    n_trials: int
    sha256: str


def read_session(path: Path, mask: np.ndarray, out: np.ndarray, scale: float = 1.0) -> None:
    """Read the trials of one session through a mask.

    NIfTI stores trial after trial, so the file is decompressed once, front to back. In memory are at
    most ``SLAB_BYTES`` of volumes as stored (at least one volume), three times that where the file's
    header scales its numbers.

    Parameters
    ----------
    path : Path
        ``.nii`` or ``.nii.gz``, shape (x, y, z, n_trials).
    mask : ndarray of shape (x, y, z), bool
    out : ndarray of shape (n_trials, n_voxels), float32
        Filled with the betas; voxels in the order of ``volume[mask]``. May be a memory map.
    scale : float
        What the numbers are multiplied by, after the header's own scaling.

    Raises
    ------
    BenchError
        Naming the file: damaged or cut short, another shape than the mask's, another number of trials
        than ``out`` has rows.
    """
    mask = np.asarray(mask, bool)
    shape, n_trials = session_shape(path)
    if shape != mask.shape:
        raise BenchError(f"{path}: volumes of shape {shape}, expected {mask.shape} as the mask's")
    if n_trials != len(out):
        raise BenchError(f"{path}: {n_trials} trials on its last axis, expected {len(out)}")
    place = np.ravel_multi_index(np.nonzero(mask), shape, order="F")
    for start, slab in _slabs(path):
        np.multiply(slab[:, place], np.float32(scale), out=out[start : start + len(slab)], casting="same_kind")


def session_shape(path: Path) -> tuple[tuple[int, ...], int]:
    """Return the shape of a volume and the number of trials, as the header of a 4-D file has them."""
    with _reading(path):
        shape = _image(path).shape
    if len(shape) != 4 or not all(shape):
        raise BenchError(f"{path}: shape {shape}, expected (x, y, z, trials)")
    return tuple(int(n) for n in shape[:3]), int(shape[3])


def read_volume(path: Path) -> np.ndarray:
    """Return a 3-D NIfTI file, such as a mask; one that is damaged or of another rank is a ``BenchError``."""
    with _reading(path):
        volume = np.asanyarray(_image(path).dataobj)
    if volume.ndim != 3:
        raise BenchError(f"{path}: shape {volume.shape}, expected a volume (x, y, z)")
    return volume


def session_fault(path: Path) -> str | None:
    """Return what is wrong with a session file, every byte of it read; None where it is sound."""
    try:
        session_shape(path)
        for _ in _slabs(path):
            pass
    except BenchError as error:
        return str(error)
    return None


def extract(sessions: Sequence[SessionFile], mask: np.ndarray, cache: Path, scale: float = 1.0) -> np.ndarray:
    """Return the trials of all sessions, one after the other, as one memory-mapped matrix.

    Made once, in the cache. Each session is kept as soon as it is read, so a call that was interrupted
    goes on where it stopped; the sessions' own files are removed once the matrix is there.

    Parameters
    ----------
    sessions : sequence of SessionFile
    mask : ndarray of shape (x, y, z), bool
    cache : Path
    scale : float
        As in ``read_session``.

    Returns
    -------
    memmap of shape (n_trials of all sessions, n_voxels), float32
    """
    mask = np.asarray(mask, bool)
    n_voxels = int(np.count_nonzero(mask))
    masked = hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()
    key = json.dumps([_CACHE_VERSION, mask.shape, masked, scale, [[s.sha256, s.n_trials] for s in sessions]])
    name = hashlib.sha256(key.encode()).hexdigest()[:32]
    store, parts = cache / "responses", cache / "responses" / name
    with suppress(BenchError):
        return read_array(store, f"{name}.npy")

    def part(number: int, session: SessionFile) -> np.ndarray:
        with suppress(BenchError):
            return read_array(parts, f"{number}.npy")
        out = np.empty((session.n_trials, n_voxels), np.float32)
        read_session(session.path, mask, out, scale)
        write_atomic(parts / f"{number}.npy", lambda file: np.save(file, out))
        return out

    def write(file: IO[bytes]) -> None:
        shape = (sum(s.n_trials for s in sessions), n_voxels)
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for number, session in enumerate(sessions):
            file.write(np.ascontiguousarray(part(number, session), "<f4").data)

    for number, session in enumerate(sessions):
        part(number, session)
    write_atomic(store / f"{name}.npy", write)
    shutil.rmtree(parts, ignore_errors=True)
    return read_array(store, f"{name}.npy")


def _image(path: Path) -> Any:
    import nibabel

    return nibabel.load(path)


def _slabs(path: Path) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first trial, slab (n, x * y * z)), voxels in the file's own order: x changes fastest."""
    from nibabel.arrayproxy import ArrayProxy

    with _reading(path):
        image = _image(path)
        proxy = image.dataobj
        spec = (proxy.shape, proxy.dtype, proxy.offset, proxy.slope, proxy.inter)
        n_trials = proxy.shape[3]
        step = max(1, SLAB_BYTES // (proxy.dtype.itemsize * int(np.prod(proxy.shape[:3]))))
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            volumes = ArrayProxy(file, spec, mmap=False)
            for start in range(0, n_trials, step):
                slab = np.asanyarray(volumes[..., start : min(start + step, n_trials)])
                yield start, slab.reshape(-1, slab.shape[3], order="F").T
            if file.read(1):  # reaches the end, where gzip compares its checksum
                raise BenchError(f"{path}: goes on after the last of {n_trials} trials, expected the file to end there")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what the readers raise into one sentence."""
    from nibabel.filebasedimages import ImageFileError

    expected = "a whole NIfTI file (.nii or .nii.gz)"
    try:
        yield
    except FileNotFoundError:
        raise BenchError(f"{path}: no such file, expected {expected}") from None
    except EOFError:
        raise BenchError(f"{path}: cut short, expected {expected}") from None
    except (OSError, ValueError, zlib.error, ImageFileError) as error:
        raise BenchError(f"{path}: cannot be read ({error}), expected {expected}") from None
