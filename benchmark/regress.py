"""Whether a store's scores are still those that were committed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from statistics import stdev
from typing import Any

from benchmark import records
from benchmark.data.files import read_json
from benchmark.errors import BenchError

FLOOR = 0.005  # a score moves by less between machines and library versions
SDS = 3
_WHAT = ("suite", "dataset", "split", "track", "method", "preset", "profile", "subject", "seed")
# Facts of full records that make values comparable at all.
_SAME = {"dataset_fingerprint": "other data", "split_checksum": "another split"}
_HEAD = ("suite", "dataset", "split", "track", "method", "subject", "seed", "metric", "committed", "now", "band", "why")

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Row:
    """One run in one track.

    Attributes
    ----------
    key : tuple
        Suite, dataset, split, track, method, preset, profile, subject, seed.
    status : str
    values : mapping of str to float
        By metric; those that were not computed are left out.
    versions : mapping of str to int
        Of metrics, where they are known.
    facts : mapping of str to str
        Fingerprint of the dataset and checksum of the split, where they are known.
    """

    key: Key
    status: str
    values: Mapping[str, float]
    versions: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """What differs.

    Attributes
    ----------
    moved : tuple of tuple
        Cells of the table, in order: what the run is, metric, both values, band, why.
    notes : tuple of str
        Differences that are no fault: a new version of a metric, a metric or a status that is better than before.
    absent, new : tuple of tuple
        Keys of rows that the store, or the baseline, lacks.
    compared : int
        Number of values.
    """

    moved: tuple[tuple, ...]
    notes: tuple[str, ...]
    absent: tuple[Key, ...]
    new: tuple[Key, ...]
    compared: int


def read(baseline: Path) -> dict[Key, Row]:
    """Return the rows of committed records: a folder of them, one ``.jsonl`` file, or a table of ``--json``."""
    if baseline.is_dir():
        found = rows(records.read(baseline if any(baseline.glob("*/*.jsonl")) else baseline.parent))
        folder = None if any(baseline.glob("*/*.jsonl")) else baseline.name
        found = {key: row for key, row in found.items() if folder in (None, key[0])}
    elif baseline.suffix == ".jsonl":
        suite, method = baseline.resolve().parent.name, baseline.stem
        found = rows(records.read(baseline.resolve().parents[1]))
        found = {key: row for key, row in found.items() if (key[0], key[4]) == (suite, method)}
    else:
        found = _flat_rows(baseline, read_json(baseline))
    if not found:
        raise BenchError(f"--baseline {baseline}: holds no record, expected committed records or a table of --json")
    return found


def rows(items: Iterable[Mapping[str, Any]]) -> dict[Key, Row]:
    """Return the rows of full records, by key."""
    found = {}
    for item in items:
        facts = {name: item[name] for name in _SAME if item.get(name)}
        for track in item["tracks"]:
            scores = item["scores"].get(track, {}) if item["status"] == "ok" else {}
            key = _key(item, track)
            values = {name: score["value"] for name, score in scores.items() if score["value"] is not None}
            versions = {name: score["version"] for name, score in scores.items() if "version" in score}
            found[key] = Row(key, item["status"], _finite(key, values), versions, facts)
    return found


def compare(committed: Mapping[Key, Row], now: Mapping[Key, Row]) -> Report:
    """Compare every row that both sides have, value by value.

    A value has moved when it differs by more than the larger of .005 and three standard deviations over the
    committed seeds of the same method, subject and metric. A value that is gone, a run that fails, other data and
    another split count as moved; a metric of another version is not compared.
    """
    bands = _bands(committed.values())
    moved, notes, compared = [], [], 0
    for key in sorted(committed.keys() & now.keys()):
        old, new = committed[key], now[key]
        label = _cells(key)
        why = next((w for name, w in _SAME.items() if _differ(old.facts.get(name), new.facts.get(name))), "")
        if not why and old.status == "ok" and new.status != "ok":
            why = f"now {new.status}"
        if why:
            moved.append((*label, "all", "", "", "", why))
            continue
        if fresh := sorted(new.values.keys() - old.values.keys() - old.versions.keys()) if old.status == "ok" else []:
            notes.append(f"{' '.join(label)}: not among the committed metrics: {', '.join(fresh)}")
        if old.status != new.status:
            notes.append(f"{' '.join(label)}: was {old.status}, now {new.status}")
        for metric in sorted({*old.values, *new.values}):
            versions = old.versions.get(metric), new.versions.get(metric)
            if _differ(*versions):
                notes.append(f"{' '.join(label)} {metric}: version {versions[0]} is now {versions[1]}, not compared")
                continue
            if metric not in old.values:
                continue
            before, band = old.values[metric], bands[_without_seed(key), metric]
            if metric not in new.values:
                moved.append((*label, metric, f"{before:.4f}", "", f"{band:.4f}", "gone"))
                continue
            compared += 1
            change = new.values[metric] - before
            if abs(change) > band:
                cells = (f"{before:.4f}", f"{new.values[metric]:.4f}", f"{band:.4f}", f"{change:+.4f}")
                moved.append((*label, metric, *cells))
    absent, new = (tuple(sorted(a.keys() - b.keys())) for a, b in ((committed, now), (now, committed)))
    return Report(tuple(moved), tuple(notes), absent, new, compared)


def lines(report: Report, strict: bool = False) -> list[str]:
    """Return what is printed; the same report gives the same lines."""
    found = [*_table([_HEAD, *report.moved]), ""] if report.moved else []
    found += [f"note: {note}" for note in report.notes]
    found += [f"{'missing' if strict else 'note: not'} in the store: {text}" for text in _grouped(report.absent)]
    found += [f"note: not in the baseline: {text}" for text in _grouped(report.new)]
    return [*found, f"{report.compared} values compared, {len(report.moved)} moved"]


def _key(item: Mapping[str, Any], track: str) -> Key:
    return tuple(track if name == "track" else item[name] for name in _WHAT)


def _flat_rows(path: Path, objects: Any) -> dict[Key, Row]:
    """Return the rows of a table of ``bench run --json``."""
    found = {}
    try:
        for item in objects:
            key = _key(item, item["track"])
            values = {name: score["value"] for name, score in item["metrics"].items()}
            found[key] = Row(key, item["status"], _finite(key, values))
    except (KeyError, TypeError, AttributeError) as error:
        raise BenchError(f"{path}: not a table of bench run --json ({error!r}), expected one object a row") from None
    return found


def _finite(key: Key, values: Mapping[str, Any]) -> dict[str, float]:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value):
            raise BenchError(f"{' '.join(_cells(key))} {name}: {json.dumps(value)} found, expected a finite number")
    return dict(values)


def _bands(committed: Iterable[Row]) -> dict[tuple[Key, str], float]:
    values: dict[tuple[Key, str], list[float]] = {}
    for row in committed:
        for metric, value in row.values.items():
            values.setdefault((_without_seed(row.key), metric), []).append(value)
    return {what: max(FLOOR, SDS * stdev(v) if len(v) > 1 else 0.0) for what, v in values.items()}


def _without_seed(key: Key) -> Key:
    return key[:-1]


def _differ(a: Any, b: Any) -> bool:
    return a is not None and b is not None and a != b


def _cells(key: Key) -> tuple[str, ...]:
    """Return suite, dataset, split, track, method with preset and profile, subject, seed as text."""
    suite, dataset, split, track, method, preset, profile, subject, seed = key
    method += ("" if preset == "default" else f":{preset}") + ("" if profile == "mini" else f" ({profile})")
    return suite, dataset, split, track, method, subject, str(seed)


def _grouped(keys: Sequence[Key]) -> list[str]:
    """Return a line for every method in a table, with its subjects and seeds."""
    groups: dict[tuple, list[str]] = {}
    for key in keys:
        *what, subject, seed = _cells(key)
        groups.setdefault(tuple(what), []).append(f"{subject} seed {seed}")
    return [f"{' '.join(what)}: {', '.join(members)}" for what, members in groups.items()]


def _table(cells: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in cells]
