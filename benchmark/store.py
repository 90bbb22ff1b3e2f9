"""Run directories: written whole or not at all, found again by id."""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import socket
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import filelock

from benchmark import consistency
from benchmark.data.files import read_json, write_atomic
from benchmark.errors import BenchError
from benchmark.spec import RunSpec

FINISHED = ("ok", "skipped")
FAILED = ("failed", "timeout", "oom")


@dataclass(frozen=True)
class Run:
    """A run directory."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @cached_property
    def spec(self) -> dict[str, Any]:
        return read_json(self.path / "spec.json")

    @cached_property
    def status(self) -> dict[str, Any]:
        return read_json(self.path / "status.json")

    @cached_property
    def provenance(self) -> dict[str, Any]:
        return read_json(self.path / "provenance.json")

    @cached_property
    def scores(self) -> dict[str, Any]:
        """Aggregated scores, ``{"score_id", "tracks": {track: {metric: {value, n, ...}}}}``; empty before scoring."""
        path = self.path / "scores.json"
        return read_json(path) if path.exists() else {}

    @property
    def has_predictions(self) -> bool:
        return (self.path / "predictions").is_dir()

    @property
    def whole(self) -> bool:
        """Whether its files can be read; a damaged run counts as not there and is made anew."""
        return not self.damage

    @cached_property
    def damage(self) -> str:
        """What is wrong with its files; empty where nothing is."""
        try:
            stated = self.spec["method"] and self.status["status"] and self.provenance["tracks"]
            scored = "tracks" in self.scores or not self.scores
            if not (stated and "reason" in self.status and scored):
                return f"{self.path}: a file lacks its main entry"
            wrong = consistency.fault(self.scores.get("tracks", {}), self.scores.get("items", {}))
            return f"{self.path / 'scores.json'}: {wrong}" if wrong else ""
        except BenchError as error:
            return str(error)
        except (KeyError, TypeError, AttributeError) as error:
            return f"{self.path}: a file lacks its main entry ({error})"


class Store:
    """A folder of run directories, ``<suite>/<dataset>/<method>/<run id>``.

    Parameters
    ----------
    root : Path
        Made when the first run is written.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def path(self, spec: RunSpec, run: str) -> Path:
        """Return where a run's directory is or would be."""
        return self.root / spec.suite / spec.dataset / spec.method / run

    def get(self, spec: RunSpec, run: str) -> Run | None:
        """Return a whole run, or None."""
        found = Run(self.path(spec, run))
        return found if found.path.is_dir() and found.whole else None

    def runs(self, suite: str | None = None) -> Iterator[Run]:
        """Yield every whole run, in order of path."""
        for folder in self.folders(suite):
            run = Run(folder)
            if run.whole:
                yield run

    def folders(self, suite: str | None = None) -> list[Path]:
        """Return every run directory, damaged ones too, in order of path."""
        # glob leaves out what starts with a dot: scratch directories, locks
        found = glob.glob(f"{glob.escape(suite) if suite else '*'}/*/*/*/status.json", root_dir=self.root)
        return sorted(self.root / os.path.dirname(path) for path in found)

    def scratch(self, spec: RunSpec, run: str) -> Path:
        """Make and return a temporary sibling of a run's directory."""
        final = self.path(spec, run)
        path = final.parent / f".{run}.{os.getpid()}@{socket.gethostname()}.{uuid.uuid4().hex[:8]}"
        try:
            path.mkdir(parents=True)
        except OSError as error:
            raise BenchError(f"--store {self.root}: cannot be written ({error.strerror})") from error
        return path

    def commit(self, scratch: Path, spec: RunSpec, run: str) -> Run:
        """Rename a complete scratch directory to its place; what stood there goes."""
        final = self.path(spec, run)
        for path in scratch.rglob("*"):
            if path.is_file():
                _fsync(path)
        _fsync(scratch)
        if final.exists():
            old = scratch.with_name(scratch.name + ".old")
            final.rename(old)
            scratch.rename(final)
            shutil.rmtree(old)
        else:
            scratch.rename(final)
        _fsync(final.parent)
        return Run(final)

    def sweep(self) -> None:
        """Remove scratch directories left by processes of this host that are gone."""
        for path in self.root.glob("*/*/*/.*"):
            owner = re.match(r"\.[0-9a-f]+\.(\d+)@(.+)\.[0-9a-f]{8}(\.old)?$", path.name)
            if owner and owner[2] == socket.gethostname() and not _alive(int(owner[1])):
                shutil.rmtree(path, ignore_errors=True)

    def lock(self, run: str) -> filelock.FileLock:
        """Return the lock that whoever makes or scores a run must hold."""
        folder = self.root / ".locks"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BenchError(f"--store {self.root}: cannot be written ({error.strerror})") from error
        return filelock.FileLock(folder / f"{run}.lock", thread_local=False, mode=0o666)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically and in one canonical form; NaN is refused."""
    text = json.dumps(value, indent=1, sort_keys=True, default=_plain, allow_nan=False) + "\n"
    write_atomic(path, text.encode())


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
