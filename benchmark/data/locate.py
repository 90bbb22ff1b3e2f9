"""From a dataset's name to a loaded dataset: built in, found under ``--data``, or a plugin's."""

from __future__ import annotations

import json
import os
from pathlib import Path

import platformdirs

from benchmark.data.base import Dataset
from benchmark.errors import BenchError
from benchmark.registry import Entry, Registry, resolve, unknown

FOLDER_HEADER = "dataset.json"
FOLDER_TARGET = "benchmark.data.folder:load"


def cache_dir() -> Path:
    """Return where caches go: ``BENCH_CACHE``, else the platform's cache folder."""
    return Path(os.environ.get("BENCH_CACHE") or platformdirs.user_cache_dir("fmri-bench"))


def data_dir(option: str | None) -> Path | None:
    """Return the folder given by ``--data`` or ``BENCH_DATA``; one that does not exist is an error."""
    value, name = (option, "--data") if option else (os.environ.get("BENCH_DATA"), "BENCH_DATA")
    if not value:
        return None
    path = Path(value).expanduser()
    if not path.is_dir():
        raise BenchError(f"{name} {value}: no such folder; expected a dataset's folder or a parent of several")
    return path.resolve()


def candidates(data: Path | None) -> list[Path]:
    """Return the folder itself and its subfolders, in order of name."""
    if data is None:
        return []
    return [data, *sorted(p for p in data.iterdir() if p.is_dir())]


def folder_name(path: Path) -> str | None:
    """Return the name in a folder dataset's header, or None where there is no readable header."""
    try:
        return str(json.loads((path / FOLDER_HEADER).read_text("utf-8"))["name"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def find(registry: Registry, name: str, data: Path | None) -> tuple[str, Path | None]:
    """Return the loader's target and the folder of a dataset.

    Raises
    ------
    BenchError
        Where the name is unknown, or its files are not under ``data``.
    """
    found = [path for path in candidates(data) if folder_name(path) == name]
    if name in registry.names("dataset"):
        if found:
            raise _taken(found[0], f"the registered dataset {name!r} has that name")
        entry = registry.get("dataset", name)
        return entry.target, None if entry.meta.get("generated") else _marked(entry, data)
    if len(found) > 1:
        raise _taken(found[1], f"{found[0]} has that name too")
    if found and name in (*registry.names("suite"), "leaderboards"):
        raise _taken(found[0], f"{name!r} is a name of bench's own")
    if found:
        return FOLDER_TARGET, found[0]
    folders = {folder_name(path) for path in candidates(data)} - {None}
    raise unknown("dataset", name, [*registry.names("dataset"), *sorted(folders)])


def _taken(path: Path, why: str) -> BenchError:
    return BenchError(f'{path / FOLDER_HEADER}: {why}, expected another "name"')


def _marked(entry: Entry, data: Path | None) -> Path | None:
    marker = entry.meta.get("marker")
    if marker is None:  # a plugin's or entry point's loader finds its own files
        return data
    for path in candidates(data):
        if next(path.glob(marker), None):  # a marker may be a pattern, such as one file of any subject
            return path
    where = f"under {data}" if data else "because neither --data nor BENCH_DATA is set"
    raise BenchError(f"dataset {entry.name}: {marker} not found {where}; it comes from {entry.meta['source']}")


def load(target: str, root: Path | None, cache: Path) -> Dataset:
    """Call a loader.

    Parameters
    ----------
    target : str
        ``"module:function"`` of a function ``load(root, cache) -> Dataset``.
    root : Path or None
        Folder of the files; None for generated data.
    cache : Path
    """
    return resolve(target)(root, cache)
