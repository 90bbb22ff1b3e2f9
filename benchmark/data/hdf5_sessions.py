"""Single-trial betas in one HDF5 file per session, streamed through a mask into one matrix."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmark.errors import BenchError

SLAB_BYTES = 1 << 26


def read_session(path: Path, mask: np.ndarray, out: np.ndarray, scale: float = 1.0, name: str = "betas") -> None:
    """Read the trials of one session through a mask, as ``benchmark.data.sessions.read_session`` does.

    Slabs follow the file's chunks, so that each is read once: whole trials where a chunk spans few of
    them, planes of all trials where a chunk spans many.

    Parameters
    ----------
    path : Path
        HDF5 file with a dataset of shape (n_trials, z, y, x), as h5py shows it.
    mask : ndarray of shape (x, y, z), bool
    out : ndarray of shape (n_trials, n_voxels), float32
        Filled with the betas; voxels in the order of ``volume[mask]``.
    scale : float
    name : str
        Name of the dataset.
    """
    import h5py

    try:
        with h5py.File(path) as file:
            if name not in file:
                raise BenchError(f"{path}: no dataset {name!r}, expected single-trial betas in it")
            _read(path, file[name], np.asarray(mask, bool), out, np.float32(scale))
    except FileNotFoundError:
        raise BenchError(f"{path}: no such file, expected an HDF5 file of betas") from None
    except (OSError, RuntimeError) as error:
        raise BenchError(f"{path}: cannot be read ({error}), expected a whole HDF5 file of betas") from None


def _read(path: Path, data, mask: np.ndarray, out: np.ndarray, scale: np.float32) -> None:
    shape = mask.shape[::-1]
    if data.ndim != 4 or data.shape[1:] != shape:
        raise BenchError(f"{path}: betas of shape {data.shape}, expected (trials, {', '.join(map(str, shape))})")
    n = len(data)
    if n != len(out):
        raise BenchError(f"{path}: {n} trials on its first axis, expected {len(out)}")
    where = np.nonzero(mask)
    chunk = data.chunks or (1, *shape)
    plane = data.dtype.itemsize * shape[1] * shape[2]
    step = _multiple(chunk[0], shape[0] * plane)
    if step:
        place = np.ravel_multi_index(where, mask.shape, order="F")
        for start in range(0, n, step):
            slab = data[start : start + step].reshape(-1, mask.size)
            np.multiply(slab[:, place], scale, out=out[start : start + len(slab)], casting="same_kind")
        return
    step = _multiple(chunk[1], n * plane) or chunk[1]
    for start in range(0, shape[0], step):
        columns = np.flatnonzero((where[2] >= start) & (where[2] < start + step))
        if len(columns):
            x, y, z = (axis[columns] for axis in where)
            slab = data[:, start : start + step]
            # (trials, z, y, x): one place per voxel and slab
            out[:, columns] = slab.reshape(n, -1)[:, ((z - start) * shape[1] + y) * shape[2] + x] * scale


def _multiple(chunk: int, size: int) -> int:
    """Return how many rows of ``size`` bytes fit into a slab, in whole chunks; 0 where not even one chunk does."""
    return SLAB_BYTES // (chunk * size) * chunk
