"""NSD's pictures and captions: the rows that are needed, taken out of the files of all 73,000."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.data.files import read_array
from benchmark.data.growing import GrowingArray
from benchmark.data.nsd_design import N_PICTURES, stimulus_ids
from benchmark.data.source import Source
from benchmark.errors import BenchError

BRICK = "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"
CURATED = "COCO_73k_annots_curated.npy"
STIM_INFO = "nsddata/experiments/nsd/nsd_stim_info_merged.csv"
ANNOTATIONS = tuple(f"nsddata_stimuli/stimuli/nsd/annotations/captions_{part}2017.json" for part in ("train", "val"))
_BATCH = 64  # pictures that are added, and counted, at a time


@contextmanager
def pictures(source: Source, path: str) -> Iterator[Any]:
    """Open ``imgBrick``, (73000, side, side, 3) uint8; only the rows asked for are read, also of a remote file."""
    import h5py

    name = source.name(path)
    with ExitStack() as stack:
        with _reading(name):
            archive = stack.enter_context(h5py.File(stack.enter_context(source.open(path)), "r"))
            brick = archive.get("imgBrick")
            shape, dtype = getattr(brick, "shape", ()), getattr(brick, "dtype", None)
        if len(shape) != 4 or shape[0] != N_PICTURES or shape[3] != 3 or dtype != np.uint8:
            found = f"imgBrick is {dtype} {shape}" if shape else "no array imgBrick"
            raise BenchError(f"{name}: {found}, expected uint8 ({N_PICTURES}, side, side, 3)")
        yield brick


@contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        raise BenchError(f"{name}: cannot be read ({error}), expected a whole HDF5 file of NSD's pictures") from None


def extend_images(
    brick: Any, name: str, rows: np.ndarray, path: Path, size: int | None, report: Callable[[str, int, int], None]
) -> None:
    """Bring ``images.npy`` to hold the pictures of all rows, in their order; what is there stays.

    Parameters
    ----------
    brick : HDF5 dataset
    name : str
        Its file, for messages.
    rows : ndarray of shape (n,), int
    path : Path
    size : int or None
        Side of the stored pictures; a smaller one is resampled with antialiasing.
    report : callable
        Called with a label, what is done and what there is to do.
    """
    side = size or brick.shape[1]
    store = GrowingArray(path, (side, side, 3), np.uint8)
    for start in range(store.rows, len(rows), _BATCH):
        report("pictures", start, len(rows))
        with _reading(name):
            batch = [brick[int(row)] for row in rows[start : start + _BATCH]]
        store.append(np.stack([_resized(picture, side) for picture in batch]))
    report("pictures", len(rows), len(rows))


def _resized(picture: np.ndarray, side: int) -> np.ndarray:
    from PIL import Image

    if picture.shape[:2] == (side, side):
        return picture
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS))


def read_captions(source: Source, path: str | None, rows: np.ndarray, scratch: Path) -> list[list[str]] | None:
    """Return the captions of pictures, empty ones left out; None where the source has none.

    Parameters
    ----------
    source : Source
    path : str or None
        The curated array (73000, 5), or None: looked for in ``source``, else COCO's own annotations
        and NSD's table of picture numbers.
    rows : ndarray of shape (n,), int
    scratch : Path

    Raises
    ------
    BenchError
        For a damaged file, or a picture without any caption.
    """
    if path is None and source.has(CURATED):
        path = CURATED
    if path is not None:
        captions = _curated(source, path, rows, scratch)
    elif all(source.has(part) for part in (STIM_INFO, *ANNOTATIONS)):
        path = ANNOTATIONS[0]
        captions = _annotated(source, rows, scratch)
    else:
        return None
    captions = [[text for text in texts if text.strip()] for texts in captions]
    bare = [row for row, texts in zip(rows, captions, strict=True) if not texts]
    if bare:
        more = f" and {len(bare) - 1} more pictures" if bare[1:] else ""
        raise BenchError(
            f"{source.name(path)}: {stimulus_ids(np.array(bare[:1]))[0]}{more} without a caption that is not empty, "
            "expected at least one each"
        )
    return captions


def _curated(source: Source, path: str, rows: np.ndarray, scratch: Path) -> list[list[str]]:
    expected = f"texts ({N_PICTURES}, n), of type unicode and not pickled"
    with source.file(path, scratch) as file:
        try:
            table = read_array(file.parent, file.name, expected)
        except BenchError as error:
            raise BenchError(str(error).replace(str(file), source.name(path))) from None
        if table.dtype.kind != "U" or table.ndim != 2 or len(table) != N_PICTURES:
            raise BenchError(f"{source.name(path)}: {table.dtype} array of shape {table.shape}, expected {expected}")
        return table[rows].tolist()


def _annotated(source: Source, rows: np.ndarray, scratch: Path) -> list[list[str]]:
    import pandas

    with source.file(STIM_INFO, scratch) as file:
        try:
            table = pandas.read_csv(file, usecols=["nsdId", "cocoId"], dtype=np.int64).set_index("nsdId")["cocoId"]
            coco = table.loc[rows].to_numpy()
        except (ValueError, KeyError) as error:
            raise BenchError(
                f"{source.name(STIM_INFO)}: {error}, expected a CSV table with nsdId and cocoId of every picture"
            ) from None
    found: dict[int, list[str]] = {number: [] for number in coco.tolist()}
    for path in ANNOTATIONS:
        with source.file(path, scratch) as file:
            try:
                for item in json.loads(file.read_text("utf-8"))["annotations"]:
                    if item["image_id"] in found:
                        found[item["image_id"]].append(item["caption"])
            except (ValueError, KeyError, TypeError) as error:
                raise BenchError(f"{source.name(path)}: damaged ({error!r}), expected COCO's captions") from None
    return [found[number] for number in coco.tolist()]
