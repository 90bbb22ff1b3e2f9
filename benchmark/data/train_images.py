"""The training stimuli of a fold as copies from which nothing of the test side can be reached."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import IO

import numpy as np

from benchmark.api import Stimuli
from benchmark.data.base import Dataset
from benchmark.data.files import read_array, write_atomic
from benchmark.data.scan import BLOCK_BYTES
from benchmark.errors import BenchError

# A larger table of training pictures is not copied into memory but into a file of its own.
IMAGES_IN_MEMORY = 256 << 20


def copied(dataset: Dataset, rows: np.ndarray, cache: Path | None) -> Stimuli:
    """Return rows as plain copies, so that no base array leads back to the test side; no attributes."""
    stimuli = dataclasses.replace(dataset.stimuli, attributes={})
    images = stimuli.images
    if cache is None or images is None or len(rows) * images[:1].nbytes <= IMAGES_IN_MEMORY:
        return stimuli.take(rows)
    return dataclasses.replace(dataclasses.replace(stimuli, images=None).take(rows), images=kept(dataset, rows, cache))


def kept(dataset: Dataset, rows: np.ndarray, cache: Path) -> np.ndarray:
    """Return the pictures of rows from a file that holds these alone, made once, memory-mapped."""
    images = dataset.stimuli.images
    key = f"{dataset.name} {dataset.fingerprint} {hashlib.sha256(rows.astype(np.int64).tobytes()).hexdigest()}"
    store, name = cache / "train-images", f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npy"

    def write(file: IO[bytes]) -> None:
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(rows), *images.shape[1:])}
        np.lib.format.write_array_header_1_0(file, header)
        step = max(1, BLOCK_BYTES // images[:1].nbytes)
        for start in range(0, len(rows), step):
            file.write(np.ascontiguousarray(images[rows[start : start + step]]).data)

    try:
        read_array(store, name)
    except BenchError:
        write_atomic(store / name, write)
    # copy on write: a method may change its pictures, as it may a copy in memory
    return np.load(store / name, mmap_mode="c", allow_pickle=False)
