"""Tables of the boards as a pure function of records: rows, their means, intervals and ranks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from benchmark import board_numbers
from benchmark.stats import LEVEL, seed_spread, subject_interval
from benchmark.suites import Suite

Record = Mapping[str, Any]
UNRANKED_TAGS = ("oracle", "leaky selection", "degenerate", "contaminated")
# Rows that differ in one of these are not ranked together; the newest record's counts.
_SAME = {
    "dataset_fingerprint": "the current data",
    "split_checksum": "the current split",
    "suite_version": "this suite version",
}
SCORES_ONLY = "class scores only"
NO_VECTORS = "not predicted (vectors)"  # the reason that scoring gives for it
INTERVAL = f"{LEVEL:.0%} interval"
ARROW = {True: "↑", False: "↓", None: ""}


@dataclass(frozen=True)
class Row:
    """One method (with preset and profile) on one dataset, split and track.

    Attributes
    ----------
    metrics : mapping of str to dict
        ``value`` is the mean over subjects of the mean over seeds, ``subjects`` the latter by subject and
        ``interval`` the t interval of their mean, None below three subjects.
    missing : tuple of str
        What a rank would need and is not there.
    undefined : tuple of str
        Metrics that its kind of prediction has no value for; that takes no rank, but for the ranked one.
    rank : int or None
        Of the tier: methods that cannot be told apart from its leader share it.
    interval : (low, high) or None
        Of the ranked metric, over test items within these subjects.
    scaled : float or None
        Where the ranked metric lies between a control (0) and the oracle (1), see `benchmark.board_numbers.Scale`.
    seed_sd : float or None
        Of the ranked metric, over seeds within subjects, see `benchmark.stats.seed_spread`.
    """

    method: str
    preset: str
    profile: str
    control: bool
    tags: tuple[str, ...]
    records: tuple[Record, ...]
    metrics: Mapping[str, Mapping[str, Any]]
    missing: tuple[str, ...]
    undefined: tuple[str, ...] = ()
    rank: int | None = None
    interval: tuple[float, float] | None = None
    scaled: float | None = None
    seed_sd: float | None = None

    @property
    def label(self) -> str:
        return self.method if self.preset == "default" else f"{self.method}:{self.preset}"


@dataclass(frozen=True)
class Table:
    """The rows of one dataset and split in one track."""

    suite: str
    version: str
    track: str
    dataset: str
    split: str
    ranked: str
    columns: tuple[str, ...]
    subjects: tuple[str, ...]
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]
    directions: Mapping[str, bool | None] = field(default_factory=dict)
    scale: board_numbers.Scale | None = None


def tables(items: Sequence[Record], suites: Mapping[str, Suite]) -> list[Table]:
    """Return the tables of all records.

    Parameters
    ----------
    items : sequence of dict
        Records; one per specification.
    suites : mapping of str to Suite
        Column order and ranked column; records of an unknown suite are shown by their own metrics.
    """
    groups: dict[tuple, list[Record]] = {}
    for item in items:
        for track in item["tracks"]:
            groups.setdefault((item["suite"], track, item["dataset"], item["split"]), []).append(item)
    return [_table(key, members, suites.get(key[0])) for key, members in sorted(groups.items())]


def _table(key: tuple, members: Sequence[Record], suite: Suite | None) -> Table:
    name, track, dataset, split = key
    columns, ranked = _columns(members, track, dataset, split, suite)
    subjects = tuple(sorted({m["subject"] for m in members}))
    seeds = tuple(sorted({m["seed"] for m in members}))
    grouped: dict[tuple, list[Record]] = {}
    for member in members:
        grouped.setdefault((member["method"], member["preset"], member["profile"]), []).append(member)
    versions = {c: max((_version(m, track, c) or 0 for m in members), default=0) for c in columns}
    current = {name: max(members, key=_age).get(name) for name in _SAME}
    needed = (columns, ranked, subjects, seeds)
    rows = [_row(key, runs, track, *needed, versions, current) for key, runs in grouped.items()]
    directions = {c: row.metrics[c]["higher_is_better"] for c in columns for row in rows if c in row.metrics}
    version = max(m["suite_version"] or "" for m in members)
    rows = _ranked(rows, track, ranked, directions.get(ranked, True))
    scale = board_numbers.scale(rows, ranked)
    if scale:
        rows = [
            replace(row, scaled=scale.of(row.metrics[ranked]["value"] if ranked in row.metrics else None))
            for row in rows
        ]
    return Table(name, version, track, dataset, split, ranked, columns, subjects, seeds, tuple(rows), directions, scale)


def _columns(members, track: str, dataset: str, split: str, suite: Suite | None) -> tuple[tuple[str, ...], str]:
    """Return the columns and the ranked one as the newest record was asked for, else as the suite says."""
    stated = [m["columns"][track] for m in sorted(members, key=_age) if track in (m.get("columns") or {})]
    if stated:
        return tuple(stated[-1]["metrics"]), stated[-1]["ranked"]
    for task in suite.tasks if suite else ():
        if (task.dataset, task.split) == (dataset, split) and track in task.tracks:
            return task.tracks[track].metrics, task.tracks[track].ranked
    names = tuple(dict.fromkeys(m for r in members for m in r["scores"].get(track, {}))) or ("two_way",)
    return names, next((n for n in ("two_way", "top5") if n in names), names[0])


def _age(item: Record) -> tuple:
    return item["date"], item["run_id"]


def _row(key, runs: Sequence[Record], track: str, columns, ranked, subjects, seeds, versions, current) -> Row:
    ok = [r for r in runs if r["status"] == "ok"]
    have = {(r["subject"], r["seed"]) for r in ok}
    missing = [f"{s} seed {n}" for s in subjects for n in seeds if (s, n) not in have]
    metrics, undefined = {}, []
    tags = dict.fromkeys(t for r in runs for t in r["tags"] or ())
    for column in columns:
        scores = [(r["subject"], r["scores"].get(track, {}).get(column)) for r in ok]
        found = [(subject, score) for subject, score in scores if score and score["value"] is not None]
        if ok and column != ranked and all(score and score.get("undefined") for _, score in scores):
            undefined.append(column)
            if any(score["reason"] == NO_VECTORS for _, score in scores):
                tags[SCORES_ONLY] = None
        elif ok and len(found) < len(ok):
            missing.append(column)
        if found:
            metrics[column] = _mean(found)
    old = {c for r in ok for c, newest in versions.items() if _version(r, track, c) not in (None, newest)}
    missing += [f"{c} in version {versions[c]}" for c in columns if c in old]
    missing += [what for name, what in _SAME.items() if any(r.get(name) != current[name] for r in ok)]
    control = any(r["control"] for r in runs)
    return Row(*key, control, tuple(tags), tuple(runs), metrics, tuple(missing), tuple(undefined))


def _version(item: Record, track: str, column: str) -> int | None:
    return item["scores"].get(track, {}).get(column, {}).get("version")


def _mean(found: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Mean over subjects of the mean over seeds; items are counted once per subject."""
    by_subject: dict[str, list[Mapping[str, Any]]] = {}
    for subject, score in found:
        by_subject.setdefault(subject, []).append(score)
    first = found[0][1]
    values = {subject: fmean(s["value"] for s in scores) for subject, scores in sorted(by_subject.items())}
    return {
        "value": fmean(values.values()),
        "subjects": values,
        "interval": subject_interval(list(values.values())),
        "n": sum(scores[0]["n"] for scores in by_subject.values()),
        "chance": None if first["chance"] is None else fmean(s["chance"] for _, s in found),
        "higher_is_better": first["higher_is_better"],
        "note": first.get("note", ""),
    }


def _ranked(rows: Iterable[Row], track: str, ranked: str, higher: bool | None) -> list[Row]:
    """Return rows in order, with their intervals and the rank of their tier.

    Where a row's record has no item values (records of an older version), ranks are those of the plain order.
    """
    sign = -1 if higher is not False else 1

    def value(row: Row) -> float:
        return sign * row.metrics[ranked]["value"] if ranked in row.metrics else float("inf")

    ordered = sorted(rows, key=lambda r: (r.control, value(r), r.label, r.profile))
    eligible = [r for r in ordered if not (r.control or r.missing or set(r.tags) & set(UNRANKED_TAGS))]
    values = [round(value(r), 12) for r in eligible]
    ranks = {id(row): values.index(v) + 1 for row, v in zip(eligible, values, strict=True)}
    found = board_numbers.statistics(ordered, track, ranked, higher is not False, eligible)
    tiers = {id(r): found[id(r)].tier for r in eligible if id(r) in found}
    if len(tiers) == len(eligible):
        ranks = tiers
    intervals = {key: s.items for key, s in found.items()}
    return [
        replace(row, rank=ranks.get(id(row)), interval=intervals.get(id(row)), seed_sd=_seed_sd(row, track, ranked))
        for row in ordered
    ]


def _seed_sd(row: Row, track: str, ranked: str) -> float | None:
    runs = [(r, r["scores"].get(track, {}).get(ranked)) for r in row.records if r["status"] == "ok"]
    return seed_spread({(r["subject"], r["seed"]): s["value"] for r, s in runs if s and s["value"] is not None})
