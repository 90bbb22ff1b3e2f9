"""Pictures of many files as one memory-mapped array, decoded once into the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np

from benchmark.data.files import read_array, write_atomic
from benchmark.errors import BenchError

_CACHE_VERSION = 1


def picture_table(paths: Sequence[Path], digests: Sequence[str], size: int, cache: Path) -> np.ndarray:
    """Return pictures as one array (n, size, size, 3), uint8, memory-mapped.

    Parameters
    ----------
    paths : sequence of Path
    digests : sequence of str
        SHA-256 of every file; they name the cached array.
    size : int
        Pixels of a side.
    cache : Path
    """
    key = json.dumps([_CACHE_VERSION, size, list(digests)])
    store, file = cache / "images", f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npy"
    with suppress(BenchError):
        return read_array(store, file)

    def write(out: IO[bytes]) -> None:
        shape = (len(paths), size, size, 3)
        np.lib.format.write_array_header_1_0(out, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for path in paths:  # one picture in memory at a time
            out.write(read_square(path, size).tobytes())

    write_atomic(store / file, write)
    return read_array(store, file)


def read_square(path: Path, size: int) -> np.ndarray:
    """Return a picture (size, size, 3) uint8: cut to a square and resized bicubically, as CLIP does it."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            square = ImageOps.fit(file.convert("RGB"), (size, size), Image.Resampling.BICUBIC)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BenchError(f"{path}: cannot be read ({error}), expected a PNG or JPEG picture") from None
    return np.asarray(square)
