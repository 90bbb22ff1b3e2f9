"""Feature cache on disk: what a frozen model says about a stimulus is computed once and shared by all methods.

A shelf is a folder for one model, output, weights checksum, preprocessing version and number format. Rows are found by
the content of the stimulus. A shelf only grows: rows are appended and flushed first, their keys after them, both under
the shelf's lock, so a killed process leaves at most bytes that nobody's key points to.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from benchmark.errors import BenchError

FOLDER = "features"
_RECORD = np.dtype([("key", "V32"), ("sum", "V8")])
_FORMATS = ("float32", "float16")


@dataclass(frozen=True)
class Label:
    """What the rows of a shelf are.

    Attributes
    ----------
    model : str
        For example ``"clip-mini"``.
    output : str
        For example ``"image_tokens"``.
    weights : str
        Checksum of the weights, see :func:`benchmark.pretrained.hub.checksum`.
    preprocessing : str
        Version of everything between stimulus and model; a change of that code changes it.
    stored : {"float32", "float16"}
        Number format on disk.
    """

    model: str
    output: str
    weights: str
    preprocessing: str = "1"
    stored: str = "float32"

    @property
    def folder(self) -> str:
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
        return f"{self.model}-{self.output}-{digest[:16]}".replace("/", "_")


@dataclass(frozen=True)
class Shelf:
    """A shelf as ``bench cache list`` shows it."""

    path: Path
    label: Label
    shape: tuple[int, ...]
    rows: int
    size: int


def extract(
    cache: Path,
    label: Label,
    items: Sequence[Any],
    function: Callable[[Any], np.ndarray],
    batch: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Return a model's output for every item, computing only what the cache does not have yet.

    Parameters
    ----------
    cache : Path
        Folder of all caches; features lie in its folder ``features``.
    label : Label
    items : ndarray or sequence
        Pictures (uint8 arrays), captions (str) or tuples of captions, one a row of the result.
    function : callable
        Maps a few items (an array where they are arrays, else a list) to an array with one row an item. What it
        returns for an item must not depend on the other items.
    batch : int
        Items at a time; after a kill at most one batch is computed again.
    progress : callable, optional
        Called with the number of items that are there and their total.

    Returns
    -------
    ndarray of shape (n, ...), float32
        A read-only memory map where the rows lie one after the other as asked for (as they do for whoever asks
        first), else a copy.

    Raises
    ------
    BenchError
        Where the model's output is not finite or has another shape than the shelf's, or the shelf is damaged.
    """
    if label.stored not in _FORMATS:
        raise BenchError(f"features are stored as {' or '.join(_FORMATS)}, not {label.stored!r}")
    if not len(items):
        raise BenchError(f"{label.model} {label.output}: expected at least one item")
    keys = [content_key(item) for item in items]
    first = {key: row for row, key in reversed(list(enumerate(keys)))}
    order = sorted(first, key=first.__getitem__)
    path = cache / FOLDER / label.folder
    path.mkdir(parents=True, exist_ok=True)
    rows = _index(path)
    missing = [key for key in order if key not in rows]
    for start in range(0, len(missing), batch):
        if progress:
            progress(len(order) - len(missing) + start, len(order))
        # Under the lock a second process waits for this batch and then finds it done.
        with filelock.FileLock(path / "lock"):
            known = _repair(path)
            new = [key for key in missing[start : start + batch] if key not in known]
            if new:
                output = np.asarray(function(_take(items, [first[key] for key in new])))
                _append(path, label, new, output)
    if progress:
        progress(len(order), len(order))
    rows = _index(path)
    return _gather(path, label, np.array([rows[key] for key in keys]))


def content_key(item: Any) -> bytes:
    """Return the SHA-256 of a stimulus: pixels with their shape, or a text, or several texts."""
    if isinstance(item, np.ndarray):
        head = f"{item.dtype.str}{item.shape}".encode()
        return hashlib.sha256(head + np.ascontiguousarray(item).tobytes()).digest()
    if isinstance(item, str) or (isinstance(item, (tuple, list)) and all(isinstance(text, str) for text in item)):
        return hashlib.sha256(json.dumps(item).encode()).digest()
    raise BenchError(f"features can be cached for pictures and captions, not for {type(item).__name__}")


def shelves(cache: Path) -> list[Shelf]:
    """Return all shelves in order of name."""
    return [shelf for shelf, _ in _shelves(cache) if shelf]


def verify(cache: Path) -> list[str]:
    """Read every row of every shelf; return one sentence for each damaged shelf."""
    problems = []
    for shelf, problem in _shelves(cache):
        if problem or not shelf:
            problems.append(problem)
            continue
        records = _records(shelf.path)
        table = _open(shelf.path, shelf.label, shelf.shape)
        if len(table) < len(records):
            problems.append(f"{shelf.path}: {len(table)} rows, expected {len(records)}; use `bench cache clear`")
            continue
        bad = [row for row, record in enumerate(records) if _sum(table[row]) != record["sum"].tobytes()]
        if bad:
            what = f"{len(bad)} of {len(records)} rows, the first is {bad[0]}"
            problems.append(f"{shelf.path}: damaged ({what}); use `bench cache clear`")
    return problems


def clear(cache: Path, model: str | None = None) -> int:
    """Remove all shelves, or those of one model; return the bytes that were freed."""
    freed = 0
    for path in _folders(cache):
        try:
            shelf = _read(path)
        except BenchError:
            shelf = None
        if model is not None and (shelf is None or shelf.label.model != model):
            continue
        freed += sum(file.stat().st_size for file in path.iterdir())
        shutil.rmtree(path, ignore_errors=True)
    return freed


# ---------------------------------------------------------------- files of a shelf


def _folders(cache: Path) -> Iterator[Path]:
    root = cache / FOLDER
    if root.is_dir():
        # A folder with a lock only is a shelf whose first batch has not come yet.
        yield from (path for path in sorted(root.iterdir()) if any(path.glob("*.json")) or any(path.glob("*.bin")))


def _shelves(cache: Path) -> Iterator[tuple[Shelf | None, str]]:
    for path in _folders(cache):
        try:
            yield _read(path), ""
        except BenchError as error:
            yield None, str(error)


def _read(path: Path) -> Shelf:
    label, shape = _meta(path)
    size = sum(file.stat().st_size for file in path.iterdir())
    return Shelf(path, label, shape, len(_records(path)), size)


def _meta(path: Path) -> tuple[Label, tuple[int, ...]]:
    try:
        content = json.loads((path / "shelf.json").read_text("utf-8"))
        return Label(**content["label"]), tuple(int(size) for size in content["shape"])
    except (OSError, ValueError, KeyError, TypeError):
        raise BenchError(f"{path}: no valid shelf.json in it; use `bench cache clear`") from None


def _records(path: Path) -> np.ndarray:
    """Return key and checksum of every row that is there whole."""
    try:
        content = (path / "index.bin").read_bytes()
    except FileNotFoundError:
        content = b""
    return np.frombuffer(content[: len(content) // _RECORD.itemsize * _RECORD.itemsize], _RECORD)


def _index(path: Path) -> dict[bytes, int]:
    return {record["key"].tobytes(): row for row, record in enumerate(_records(path))}


def _repair(path: Path) -> dict[bytes, int]:
    """Cut off what a kill left half written; return the index. Only under the lock."""
    records = _records(path)
    if not (path / "shelf.json").exists():
        (path / "index.bin").unlink(missing_ok=True)
        (path / "rows.bin").unlink(missing_ok=True)
        return {}
    label, shape = _meta(path)
    width = _width(label, shape)
    have = (path / "rows.bin").stat().st_size if (path / "rows.bin").exists() else 0
    count = min(len(records), have // width)
    for name, size in (("index.bin", count * _RECORD.itemsize), ("rows.bin", count * width)):
        with (path / name).open("ab") as file:
            if file.tell() != size:
                file.truncate(size)
    return _index(path)


def _append(path: Path, label: Label, keys: list[bytes], output: np.ndarray) -> None:
    what = f"{label.model} {label.output}"
    if len(output) != len(keys):
        raise BenchError(f"{what}: {len(output)} rows for {len(keys)} items, expected one an item")
    if not np.isfinite(output).all():
        raise BenchError(f"{what}: NaN or infinity in the features")
    with np.errstate(over="ignore"):
        rows = np.ascontiguousarray(output, label.stored)
    if not np.isfinite(rows).all():
        raise BenchError(f"{what}: features are too large for float16, store them as float32")
    if not (path / "shelf.json").exists():
        content = {"label": asdict(label), "shape": rows.shape[1:]}
        part = path / "shelf.json.part"
        part.write_text(json.dumps(content, indent=1))
        os.replace(part, path / "shelf.json")
    shape = _meta(path)[1]
    if rows.shape[1:] != shape:
        raise BenchError(f"{what}: features of shape {rows.shape[1:]}, expected {shape} as in the cache")
    records = np.array([(key, _sum(row)) for key, row in zip(keys, rows, strict=True)], _RECORD)
    for name, data in (("rows.bin", rows), ("index.bin", records)):
        with (path / name).open("ab") as file:
            file.write(data.tobytes())
            file.flush()
            os.fsync(file.fileno())


def _gather(path: Path, label: Label, rows: np.ndarray) -> np.ndarray:
    table = _open(path, label, _meta(path)[1])
    if rows.max() >= len(table):
        raise BenchError(f"{path}: rows are missing; use `bench cache clear`")
    if np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
        table = table[rows[0] : rows[0] + len(rows)]
        return table if label.stored == "float32" else table.astype(np.float32)
    return table[rows].astype(np.float32, copy=False)


def _open(path: Path, label: Label, shape: tuple[int, ...]) -> np.ndarray:
    count = (path / "rows.bin").stat().st_size // _width(label, shape) if (path / "rows.bin").exists() else 0
    if not count:
        return np.empty((0, *shape), label.stored)
    return np.memmap(path / "rows.bin", label.stored, "r", shape=(count, *shape))


def _width(label: Label, shape: tuple[int, ...]) -> int:
    return max(1, int(np.prod(shape, dtype=int))) * np.dtype(label.stored).itemsize


def _sum(row: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(row).tobytes(), digest_size=8).digest()


def _take(items: Sequence[Any], rows: list[int]) -> Any:
    if isinstance(items, np.ndarray):
        return items[rows]
    chosen = [items[row] for row in rows]
    return np.stack(chosen) if isinstance(chosen[0], np.ndarray) else chosen
