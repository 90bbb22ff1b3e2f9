"""Data files: read with errors that name the file, written whole or not at all, hashed once."""

from __future__ import annotations

import csv
import difflib
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import IO, Any

import numpy as np

from benchmark.errors import BenchError

# A file changed this recently may change again without a new time stamp (FAT counts in 2 s).
MTIME_GRANULARITY_S = 2.0


def write_atomic(path: Path, write: Callable[[IO[bytes]], None] | bytes) -> None:
    """Write a file so that it is there whole or not at all.

    Parameters
    ----------
    path : Path
        Parent folders are made.
    write : callable or bytes
        The content, or a function that writes it to the binary file it is given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile: its files are for their owner only, and stores and caches are shared.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    try:
        with temporary.open("xb") as file:
            file.write(write) if isinstance(write, bytes) else write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_folder_once(folder: Path, write: Callable[[Path], None]) -> None:
    """Fill a folder beside its place and move it there whole; do nothing where it is already there.

    Two processes may do so at once: the first one's folder stays.
    """
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    temporary.mkdir()
    try:
        write(temporary)
        os.rename(temporary, folder)
    except OSError:
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; a missing or damaged file, a key given twice and NaN are a ``BenchError``."""

    def constant(name: str) -> None:
        raise BenchError(f"{path}: {name} found, expected a finite number")

    try:
        text = path.read_text("utf-8")
        return json.loads(text, object_pairs_hook=lambda pairs: _no_twins(path, pairs), parse_constant=constant)
    except FileNotFoundError:
        raise BenchError(f"{path}: no such file, expected a JSON file") from None
    except OSError as error:
        raise BenchError(f"{path}: cannot be read ({error.strerror}), expected a JSON file") from None
    except UnicodeDecodeError:
        raise BenchError(f"{path}: not UTF-8 text, expected JSON") from None
    except json.JSONDecodeError as error:
        raise BenchError(f"{path}: not valid JSON at line {error.lineno} ({error.msg}), expected JSON") from None


def read_cache(path: Path) -> dict[str, Any]:
    """Return a cached JSON object; empty where it is missing or damaged, because a cache can be made again."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def hash_files(root: Path, names: Iterable[str], cache: Path | None) -> dict[str, str]:
    """Return the SHA-256 of files, reading again only what changed since the last call.

    A hash is remembered by size, modification time and change time. A file touched within the
    granularity of those times is hashed but not remembered: it could still change unseen.

    Parameters
    ----------
    root : Path
    names : iterable of str
        Paths below ``root``.
    cache : Path or None
        Folder of the caches; None remembers nothing.

    Returns
    -------
    dict
        Hex digest by name.
    """
    root = root.resolve()
    store = cache and cache / "hashes" / f"{hashlib.sha256(str(root).encode()).hexdigest()[:32]}.json"
    known = read_cache(store) if store else {}
    digests, fresh = {}, {}
    for name in dict.fromkeys(names):
        path = root / name
        try:
            before = _stamp(path)
            entry = known.get(name)
            if not (isinstance(entry, dict) and entry.get("stamp") == before):
                started = time.time()
                with path.open("rb") as file:
                    entry = {"stamp": before, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
                settled = started - max(before[1:]) / 1e9 > MTIME_GRANULARITY_S
                if settled and _stamp(path) == before:
                    fresh[name] = entry
        except OSError as error:
            raise BenchError(f"{path}: cannot be read ({error.strerror}), expected a file of the dataset") from None
        digests[name] = entry["sha256"]
    if store and fresh:
        write_atomic(store, json.dumps(known | fresh).encode())
    return digests


@dataclass(frozen=True)
class Table:
    """A CSV table, every cell as text; ``lines`` are line numbers for messages."""

    columns: Mapping[str, np.ndarray]
    lines: np.ndarray

    def __len__(self) -> int:
        return len(self.lines)


def read_array(root: Path, name: str, expected: str = "an array") -> np.ndarray:
    """Return a memory-mapped ``.npy`` file."""
    path = root / name
    try:
        data = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise BenchError(f"{path}: no such file, expected {expected}") from None
    except OSError as error:
        raise BenchError(f"{path}: cannot be read ({error.strerror}), expected {expected}") from None
    except Exception:  # a damaged header raises whatever the parser of Python literals does
        raise BenchError(f"{path}: truncated or not a .npy file of plain numbers, expected {expected}") from None
    if not isinstance(data, np.memmap):
        data.close()
        raise BenchError(f"{path}: an .npz archive, expected {expected} in a .npy file")
    size = path.stat().st_size
    if size != data.offset + data.nbytes:
        raise BenchError(f"{path}: {size} bytes, expected {data.offset + data.nbytes} as the array's own header says")
    return data


def read_masks(root: Path, name: str) -> dict[str, np.ndarray]:
    """Return the arrays of an ``.npz`` file."""
    return _from_archive(root, name, lambda archive: {roi: archive[roi] for roi in archive.files})


def mask_names(root: Path, name: str) -> list[str]:
    """Return the names in an ``.npz`` file; the arrays are not read."""
    return _from_archive(root, name, lambda archive: list(archive.files))


def _from_archive(root: Path, name: str, take: Callable[[Any], Any]) -> Any:
    path, expected = root / name, "an .npz file of ROI masks"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return take(archive)
    except FileNotFoundError:
        raise BenchError(f"{path}: no such file, expected {expected}") from None
    except Exception as error:  # zipfile, zlib and numpy each have their own errors for a damaged archive
        raise BenchError(f"{path}: cannot be read ({type(error).__name__}), expected {expected}") from None


def read_table(root: Path, name: str) -> Table:
    """Return a CSV file with a header line, every cell as text."""
    path = root / name
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [(reader.line_num, row) for reader in [csv.reader(file, strict=True)] for row in reader if row]
    except FileNotFoundError:
        raise BenchError(f"{path}: no such file, expected a CSV table") from None
    except OSError as error:
        raise BenchError(f"{path}: cannot be read ({error.strerror}), expected a CSV table") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise BenchError(f"{path}: damaged ({error}), expected a CSV table in UTF-8") from None
    if len(rows) < 2:
        raise BenchError(f"{path}: no rows, expected a CSV table with a header line and at least one row")
    names = rows[0][1]
    if len(set(names)) < len(names):
        raise BenchError(f"{path}: columns are {', '.join(names)}, expected each once")
    for line, row in rows[1:]:
        if len(row) != len(names):
            raise BenchError(f"{path}: {len(row)} cells in line {line}, expected {len(names)} as in the header line")
    columns = (np.array(cells, dtype=str) for cells in zip(*(row for _, row in rows[1:]), strict=True))
    return Table(dict(zip(names, columns, strict=True)), np.array([line for line, _ in rows[1:]]))


class Pictures:
    """The pictures of an image folder, decoded one by one; all have the size of the first read."""

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self.root, self.names = root, names
        self.size: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, row: int) -> np.ndarray:
        picture = self._read(row)
        self.size = self.size or picture.shape
        if picture.shape != self.size:
            raise BenchError(
                f"{self.root / self.names[row]}: a picture of shape {picture.shape} (height, width, channels), "
                f"expected {self.size} as of the first"
            )
        return picture

    def _read(self, row: int) -> np.ndarray:
        from PIL import Image

        path = self.root / self.names[row]
        try:
            with Image.open(path) as file:
                mode = file.mode
                picture = np.asarray(file.convert("L" if mode in ("1", "L") else "RGB"))
        except FileNotFoundError:
            raise BenchError(f"{path}: no such file, expected a PNG or JPEG picture") from None
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise BenchError(f"{path}: cannot be read ({error}), expected a PNG or JPEG picture") from None
        if mode not in ("1", "L", "P", "RGB", "RGBA"):
            raise BenchError(f"{path}: pixels of mode {mode}, expected 8-bit grey or RGB")
        return picture.reshape(*picture.shape[:2], -1)


def schema_faults(value: Any, definition: str = "") -> list[tuple[str, tuple, tuple]]:
    """Return every place where a JSON value departs from ``folder.schema.json``.

    Parameters
    ----------
    value : object
    definition : str
        Name under ``$defs``; empty for the header itself.

    Returns
    -------
    list of (sentence, path, keys)
        ``path`` leads to the part at fault and ``keys`` are the entries of it that must go.
    """
    from jsonschema import Draft202012Validator

    schema = _schema()
    if definition:
        schema = {"$ref": f"#/$defs/{definition}", "$defs": schema["$defs"]}
    faults = []
    for error in Draft202012Validator(schema).iter_errors(value):
        path = tuple(error.absolute_path)
        inside = "".join(f"{part}." for part in path)
        if error.validator == "additionalProperties":
            extra = tuple(sorted(set(error.instance) - set(error.schema["properties"])))
            for key in extra:
                hint = nearest(key, error.schema["properties"])
                faults.append((f"unknown key {inside + key!r}, {hint}", path, (key,)))
        elif error.validator == "required":
            key = error.message.split("'")[1]
            meaning = error.schema["properties"][key].get("description", "a value")
            faults.append((f"key {inside + key!r} is missing, expected {meaning}", path, ()))
        elif "propertyNames" in error.schema_path:
            text = f"key {inside + error.instance!r} found, expected {error.schema['description']}"
            faults.append((text, path, (error.instance,)))
        else:
            found = json.dumps(error.instance)
            found = found if len(found) <= 60 else f"{found[:57]}..."
            where = ".".join(map(str, path)) or "the whole file"
            faults.append((f"{where} is {found}, expected {error.schema['description']}", path[:-1], path[-1:]))
    return faults


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint for an unknown name: the nearest known one, or all of them."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known) or '(none)'}"


@lru_cache(maxsize=1)
def _schema() -> Mapping[str, Any]:
    return json.loads(resources.files("benchmark.data").joinpath("folder.schema.json").read_text("utf-8"))


def _stamp(path: Path) -> list[int]:
    # The change time also moves when a copy or a tool sets the modification time back.
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _no_twins(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        twin = next(key for key in keys if keys.count(key) > 1)
        raise BenchError(f"{path}: key {twin!r} is given twice, expected once")
    return value
