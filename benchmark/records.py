"""Flat records of runs: what ``--json`` writes, what is committed, what boards are made of."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmark import consistency
from benchmark.data.files import write_atomic
from benchmark.errors import BenchError
from benchmark.spec import digest
from benchmark.store import Run, Store

_FACTS = (
    "date",
    "commit",
    "dirty",
    "source",
    "suite_version",
    "dataset_version",
    "dataset_fingerprint",
    "split_checksum",
    "split_unit",
    "folds",
    "columns",
    "control",
    "tags",
    "peak_mb",
    "device",
    "threads",
    "versions",
    "hardware",
    "weights",
    "preparation",
    "cpu_seconds",
    "ladder_asked",
)
RECORD = "record.json"  # what a run directory keeps for boards, made of the others
SOURCES = ("spec.json", "provenance.json", "status.json", "scores.json")


def record(run: Run) -> dict[str, Any]:
    """Return everything a board needs to know of a run, as plain JSON."""
    facts = run.provenance
    return {
        **run.spec,
        "run_id": facts.get("run_id", run.id),
        "status": run.status["status"],
        "reason": run.status["reason"],
        "tracks": facts["tracks"],
        "scores": run.scores.get("tracks", {}),
        "score_id": run.scores.get("score_id", ""),
        **{name: run.scores[name] for name in ("items", "ladder", "figures", "notes") if name in run.scores},
        "seconds": {k: round(v, 3) for k, v in facts.get("seconds", {}).items()},
        **{name: facts.get(name) for name in _FACTS},
    }


def flat(item: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield one object per track of a record, in the documented form of ``--json``."""
    names = ("suite", "dataset", "subject", "split", "method", "seed", "preset", "profile", "status", "reason")
    for track in item["tracks"]:
        scores = item["scores"].get(track, {})
        yield {
            **{name: item[name] for name in names},
            "track": track,
            "seconds": item["seconds"].get("total", 0.0),
            "peak_mb": item["peak_mb"],
            "metrics": {
                name: {k: score[k] for k in ("value", "n", "chance", "higher_is_better")}
                for name, score in scores.items()
                if score["value"] is not None and item["status"] == "ok"
            },
        }


def newest(items: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the newest record of every specification, in the order of files."""
    chosen: dict[str, dict[str, Any]] = {}
    for item in sorted(items, key=lambda r: (r["date"], r["run_id"])):
        chosen[key(item)] = dict(item)
    return sorted(chosen.values(), key=order)


def key(item: Mapping[str, Any]) -> str:
    """Return the identity of what was asked for, whatever code answered it."""
    names = ("suite", "dataset", "subject", "split", "method", "preset", "profile", "seed")
    return digest([item[name] for name in names])


def order(item: Mapping[str, Any]) -> tuple:
    """Return the sort key of records in files."""
    names = ("suite", "dataset", "split", "method", "preset", "profile", "subject", "seed", "run_id")
    return tuple(item[name] for name in names)


def keep(folder: Path) -> dict[str, Any]:
    """Write a run's record beside its files, so that boards of many runs need open one file each; returns it."""
    item = record(Run(folder))
    write_atomic(folder / RECORD, json.dumps(item, sort_keys=True, allow_nan=False).encode())
    return item


def is_current(folder: Path, name: str) -> bool:
    """Whether a file made of a run's files is there and none of them changed since."""
    try:
        made = os.stat(f"{folder}/{name}").st_mtime_ns
        changed = [os.stat(f"{folder}/{source}").st_mtime_ns for source in SOURCES[:3]]
    except OSError:
        return False
    with contextlib.suppress(OSError):  # a skipped run has no scores
        changed.append(os.stat(f"{folder}/{SOURCES[3]}").st_mtime_ns)
    return made >= max(changed)


def of_run(folder: Path, on_damage: Callable[[str], None] = lambda text: None) -> dict[str, Any] | None:
    """Return the record of a run directory; None for a damaged run, which counts as not there but is told."""
    if is_current(folder, RECORD):
        try:
            return _parse((folder / RECORD).read_bytes())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # it can be made again of the others
    run = Run(folder)
    if run.whole:
        return record(run)
    on_damage(run.damage)
    return None


def from_store(
    store: Store, suite: str | None = None, on_damage: Callable[[str], None] = lambda text: None
) -> list[dict[str, Any]]:
    """Return the newest record of every specification in a store; ``on_damage`` is told of damaged runs."""
    return newest(item for folder in store.folders(suite) if (item := of_run(folder, on_damage)) is not None)


def read(folder: Path) -> list[dict[str, Any]]:
    """Read committed records, ``<folder>/<suite>/<method>.jsonl``."""
    items = []
    for path in sorted(folder.glob("*/*.jsonl")):
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            items.append(_committed(line, path, number))
    return newest(items)


def find(folder: Path, run_id: str) -> dict[str, Any] | None:
    """Return the committed record of a run id, None where there is none; only lines that hold the id are parsed."""
    for path in sorted(folder.glob("*/*.jsonl")):
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            if run_id in line:
                item = _committed(line, path, number)
                if item["run_id"] == run_id:
                    return item
    return None


def write(folder: Path, items: Iterable[Mapping[str, Any]]) -> list[Path]:
    """Merge records into the committed ones and write a file per suite and method."""
    files: dict[Path, list[str]] = {}
    for item in newest([*read(folder), *items]):
        line = json.dumps(item, sort_keys=True, allow_nan=False)
        files.setdefault(folder / item["suite"] / f"{item['method']}.jsonl", []).append(line)
    for path, lines in files.items():
        write_atomic(path, ("\n".join(lines) + "\n").encode())
    return list(files)


def _committed(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        return _parse(line)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BenchError(f"{path}, line {number}: not a record ({error})") from None


def _parse(text: str | bytes) -> dict[str, Any]:
    item = json.loads(text, parse_constant=_refuse)
    order(item), item["date"], item["tracks"]
    if wrong := consistency.fault(item["scores"], item.get("items", {})):
        raise ValueError(wrong)
    return item


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no number a record may hold")
