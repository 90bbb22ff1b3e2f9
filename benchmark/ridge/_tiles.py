"""Targets read and predictions written in column tiles, from and to arrays or memory-mapped files."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmark.errors import BenchError
from benchmark.ridge._kernel import slices

if TYPE_CHECKING:
    import torch

SAMPLE = 64


def flat(y: np.ndarray) -> np.ndarray:
    """Return (n, tokens, d) as (n, tokens * d), a view."""
    return y.reshape(len(y), int(np.prod(y.shape[1:])))


def read(
    y: np.ndarray, width: int, device: str, seconds: dict[str, float]
) -> Iterator[tuple[slice, torch.Tensor, np.ndarray]]:
    """Yield ``(columns, tile, shift)``: column tiles of the targets less a shift near their mean.

    The shift is the mean of about 64 rows, so one pass over the file is enough; what is left of the mean is small. The
    next tile is read while the caller computes. A tile is valid until the next one is asked for.
    """
    import torch

    y = flat(y)
    n, t = y.shape
    buffers = [np.empty((n, min(width, t)), y.dtype) for _ in range(1 if t <= width else 2)]

    def load(i: int, s: slice) -> tuple[np.ndarray, np.ndarray]:
        tile = buffers[i % len(buffers)][:, : s.stop - s.start]
        with np.errstate(all="ignore"):  # infinite values are refused later
            shift = y[:: -(-n // SAMPLE), s].mean(0, dtype=np.float64).astype(y.dtype)
            np.subtract(y[:, s], shift, out=tile)
        return tile, shift

    todo = list(slices(t, width))
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(load, 0, todo[0]) if todo else None
        for i, s in enumerate(todo):
            start = time.perf_counter()
            tile, shift = ahead.result()
            seconds["waited"] = seconds.get("waited", 0.0) + time.perf_counter() - start
            if i + 1 < len(todo):
                ahead = pool.submit(load, i + 1, todo[i + 1])
            yield s, torch.from_numpy(tile).to(device), shift


def centred(y: np.ndarray, name: str, width: int, like: torch.Tensor, seconds: dict[str, float]):
    """Yield ``(columns, tile, mean)``: column tiles of the targets less their mean, in the dtype of ``like``."""
    for s, tile, shift in read(y, width, str(like.device), seconds):
        tile = tile.to(like.dtype, copy=True)
        mean = tile.mean(0)
        tile -= mean
        yield s, tile, finite(mean.double().cpu().numpy() + shift, name)


def finite(values: np.ndarray, name: str) -> np.ndarray:
    if not np.isfinite(values).all():
        raise BenchError(f"ridge: the target {name!r} contains NaN or infinity; expected finite values.")
    return values


@contextmanager
def outputs(out, shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, np.dtype]):
    """Give arrays to write to by name; files get their names once they are whole.

    Parameters
    ----------
    out : None, path of a folder, or mapping of str to array
        New arrays in memory, new files ``<name>.npy``, or the caller's own arrays, such as memory maps.

    Yields
    ------
    dict of str to ndarray
        Where ``out`` is a folder, the arrays are read-only memory maps of the finished files after the block.
    """
    if out is None:
        yield {name: np.empty(shape, dtypes[name]) for name, shape in shapes.items()}
        return
    if isinstance(out, Mapping):
        for name, shape in shapes.items():
            found = out.get(name)
            if found is None or found.shape != shape or found.dtype != dtypes[name] or not found.flags.c_contiguous:
                got = "none" if found is None else f"{found.dtype} of shape {found.shape}"
                raise BenchError(
                    f"ridge: expected a contiguous {dtypes[name]} array of shape {shape} in out[{name!r}], got {got}."
                )
        yield {name: out[name] for name in shapes}
        return
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    mark = f"{os.getpid()}.{uuid.uuid4().hex[:8]}"
    temporary = {name: folder / f".{name}.npy.{mark}" for name in shapes}
    arrays: dict[str, np.ndarray] = {}
    try:
        for name, path in temporary.items():
            arrays[name] = _create(path, shapes[name], dtypes[name])
        yield arrays
        for name, path in temporary.items():
            os.replace(path, folder / f"{name}.npy")
            arrays[name] = np.load(folder / f"{name}.npy", mmap_mode="r" if arrays[name].size else None)
    finally:
        for path in temporary.values():
            path.unlink(missing_ok=True)


def flush(arrays: Mapping[str, np.ndarray]) -> None:
    """Wait until what was written to memory maps is on disk."""
    for array in arrays.values():
        if isinstance(array, np.memmap):
            array.flush()


def _create(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    if 0 in shape:  # an empty file cannot be mapped
        with path.open("wb") as file:
            np.save(file, np.empty(shape, dtype))
        return np.empty(shape, dtype)
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
