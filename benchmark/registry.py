"""Names to objects, lazily: built-in tables, entry points and plugin files."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark.data.files import nearest
from benchmark.errors import BenchError

KINDS = ("method", "metric", "dataset", "suite")
TRACKS = ("words", "embedding", "reconstruction")

# kind -> module:object of a light mapping name -> Entry fields or object
_BUILTIN = {
    "method": "methods.table:METHODS",
    "metric": "metrics.table:METRICS",
    "dataset": "benchmark.data.table:DATASETS",
    "suite": "benchmark.suites:SUITES",
}


@dataclass(frozen=True)
class Entry:
    """A registered name: where its object is and what may be said without importing it."""

    kind: str
    name: str
    target: str  # what `resolve` takes; it can be sent to another process
    origin: str
    summary: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> Any:
        """Import and return the object; one that cannot be had is an error that names the place."""
        try:
            return resolve(self.target)
        except (ImportError, AttributeError, KeyError) as error:
            where = f"{self.kind} {self.name!r} ({self.origin})"
            raise BenchError(f"{where}: {self.target} cannot be loaded ({type(error).__name__}: {error})") from error

    @property
    def tracks(self) -> tuple[str, ...]:
        """Tracks of a method; one from an entry point is imported to know them."""
        return tuple(self.meta["tracks"]) if "tracks" in self.meta else check_tracks(self.load(), self.origin)


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
METRIC_NAME = re.compile(NAME.pattern + r"(\[[A-Za-z0-9._-]+\])?")  # a protocol in brackets


def resolve(target: str) -> Any:
    """Return the object of ``"module:object"``, ``"module:mapping[key]"`` or ``"/file.py:object"``."""
    module, _, name = target.rpartition(":")
    source = load_plugin(Path(module)) if module.endswith(".py") else importlib.import_module(module)
    name, _, key = name.partition("[")
    return getattr(source, name)[key.removesuffix("]")] if key else getattr(source, name)


def load_plugin(path: Path):
    """Import a plugin file once and return its module."""
    path = path.resolve()
    name = f"bench_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    if not path.is_file() or path.suffix != ".py":
        raise BenchError(f"--plugin {path}: no such file; expected a Python file that defines a method or metric")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise BenchError(f"--plugin {path}: cannot be imported ({type(error).__name__}: {error})") from error
    return module


class Registry:
    """All names known in this process."""

    def __init__(self, plugins: Iterable[str | Path] = ()) -> None:
        self._entries: dict[tuple[str, str], Entry] = {}
        for kind, target in _BUILTIN.items():
            for name, value in resolve(target).items():
                self.add(_entry(kind, name, value, target))
        for kind in KINDS:
            for point in importlib.metadata.entry_points(group=f"bench.{kind}s"):
                self.add(Entry(kind, point.name, point.value, f"entry point {point.value}"))
        for path in dict.fromkeys(Path(path).resolve() for path in plugins):
            self._add_plugin(path)

    def add(self, entry: Entry) -> None:
        """Register an entry; a name taken twice is an error that names both places."""
        if not (METRIC_NAME if entry.kind == "metric" else NAME).fullmatch(entry.name):
            raise BenchError(
                f"{entry.kind} {entry.name!r} in {entry.origin}: expected a name of letters, digits, '.', '_' and '-'"
            )
        old = self._entries.setdefault((entry.kind, entry.name), entry)
        if old is not entry:
            raise BenchError(f"{entry.kind} {entry.name!r} is registered twice: in {old.origin} and in {entry.origin}")

    def get(self, kind: str, name: str) -> Entry:
        """Return an entry; an unknown name is an error that suggests the nearest."""
        try:
            return self._entries[kind, name]
        except KeyError:
            raise unknown(kind, name, self.names(kind)) from None

    def names(self, kind: str) -> list[str]:
        """Return the names of a kind in order of registration."""
        return [name for k, name in self._entries if k == kind]

    def entries(self, kind: str) -> list[Entry]:
        """Return the entries of a kind in order of registration."""
        return [e for e in self._entries.values() if e.kind == kind]

    def _add_plugin(self, path: Path) -> None:
        module, origin, found, seen = load_plugin(path), str(path), 0, set()
        for attribute, value in vars(module).items():
            if id(value) in seen:  # a second name of the same object
                continue
            seen.add(id(value))
            if inspect.isclass(value) and value.__module__ == module.__name__ and _is_method(value):
                meta = {"tracks": check_tracks(value, origin), "control": bool(getattr(value, "control", False))}
                kind = "method"
            elif type(value).__name__ == "Metric" and hasattr(value, "function"):
                kind, meta = "metric", {}
            else:
                continue
            found += 1
            summary = (inspect.getdoc(value) or "").partition("\n")[0] if kind == "method" else value.definition
            self.add(Entry(kind, value.name, f"{path.resolve()}:{attribute}", origin, summary, meta))
        if not found:
            raise BenchError(f"--plugin {path}: defines no method (a class with name, train and predict) and no metric")


def unknown(kind: str, name: str, known: Iterable[str]) -> BenchError:
    """Return the error for an unknown name, with the nearest known one."""
    return BenchError(f"unknown {kind} {name!r}, {nearest(name, known)}")


def check_tracks(cls: Any, origin: str) -> tuple[str, ...]:
    """Return the tracks a class declares; anything else than a set of known names is an error."""
    tracks = getattr(cls, "tracks", None)
    if isinstance(tracks, str) or not tracks or not set(tracks) <= set(TRACKS):
        raise BenchError(
            f"method {cls.name!r} in {origin}: tracks is {tracks!r}, expected a set of any of {', '.join(TRACKS)}"
        )
    return tuple(sorted(tracks))


def _is_method(value: type) -> bool:
    return bool(getattr(value, "name", "")) and all(callable(getattr(value, f, None)) for f in ("train", "predict"))


def _entry(kind: str, name: str, value: Any, table: str) -> Entry:
    origin = table.partition(":")[0]
    if isinstance(value, Mapping):
        meta = {k: v for k, v in value.items() if k not in ("target", "summary")}
        return Entry(kind, name, value["target"], origin, value.get("summary", ""), meta)
    summary = getattr(value, "definition", "") or getattr(value, "summary", "")
    return Entry(kind, name, f"{table}[{name}]", origin, summary)
