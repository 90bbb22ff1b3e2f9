"""Intervals, tiers and differences of a board's rows, from the item values that records hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmark import board_stats, stats
from benchmark.errors import BenchError

REFERENCE = "ridge"
ALSO_COMPARED = ("image_retrieval",)  # beside the ranked metric
CONTROLS = ("shuffled", "mean")  # which of them is 0 of the scaled scores: the first that is complete
CEILING, CHANCE = "oracle", "chance level"


@dataclass(frozen=True)
class Scale:
    """Between what scores are scaled: where ``zero`` lies and what it is of, and the oracle's score."""

    control: str
    zero: float
    one: float

    def of(self, value: float | None) -> float | None:
        """Return the scaled value; None where there is none, or control and oracle have the same."""
        return None if value is None else stats.control_scaled(value, self.zero, self.one)


def scale(rows: Sequence[Any], metric: str) -> Scale | None:
    """Return between what a board's scores are scaled; None where no complete row says where 1, or 0, is.

    0 is the ``shuffled`` control, else the ``mean`` one, else the chance level.
    """
    whole = {
        row.label: row.metrics[metric] for row in rows if row.control and not row.missing and metric in row.metrics
    }
    if CEILING not in whole:
        return None
    one, chance = (whole[CEILING][name] for name in ("value", "chance"))
    control = next((name for name in CONTROLS if name in whole), None)
    if control is None and chance is None:
        return None
    return Scale(control or CHANCE, whole[control]["value"] if control else chance, one)


def statistics(
    rows: Sequence[Any], track: str, metric: str, higher_is_better: bool, ranked: Sequence[Any]
) -> dict[int, board_stats.MethodStatistics]:
    """Return the statistics of the rows whose records have item values, by ``id`` of the row.

    Rows that lack a subject or differ in their items from the others are left out.

    Parameters
    ----------
    rows, ranked : sequence of Row
        All rows, and those that get tiers.
    """
    scores = {id(row): found for row in rows if (found := _scores(row, track, metric))}
    subjects = {subject for found in scores.values() for subject, _ in found}
    scores = {key: found for key, found in scores.items() if {s for s, _ in found} == subjects}
    per_item = {(str(key), *cell): values for key, found in scores.items() for cell, values in found.items()}
    if not per_item:
        return {}
    lower, upper = next((r for row in rows for r in _ranges(row, track, metric)), (None, None))
    bounds = None if None in (lower, upper) else (lower, upper)
    options = {"kind": stats.kind_of(metric), "bounds": bounds, "higher_is_better": higher_is_better}
    chosen = [str(id(row)) for row in ranked if id(row) in scores]
    try:
        found = board_stats.board_statistics(per_item, **options, ranked=chosen)
    except BenchError:  # other items: rows of another split or version stand beside these, and are named there
        return {}
    return {int(key): value for key, value in found.items()}


def section(track: str, ranked: str, columns: Sequence[str], rows: Sequence[Any]) -> list[str]:
    """Return the lines of the paired differences from ridge; none where there is no such row."""
    reference = next((row for row in rows if row.label == REFERENCE), None)
    others = [row for row in rows if row is not reference]
    if reference is None or not others:
        return []
    lines = []
    for metric in (ranked, *(m for m in ALSO_COMPARED if m in columns and m != ranked)):
        base = _scores(reference, track, metric)
        for row in others:
            mine = _scores(row, track, metric)
            if not base or not mine or set(base) != set(mine):
                continue
            try:
                found = board_stats.compare_items(mine, base, stats.kind_of(metric) or "mean")
            except BenchError:
                continue
            interval = "–" if found.interval is None else f"{found.interval[0]:+.3f} to {found.interval[1]:+.3f}"
            p = "–" if found.p is None else ("< .001" if found.p < 0.001 else f"{found.p:.3f}")
            lines.append(f"| {row.label} | {metric} | {found.value:+.3f} | {interval} | {p} | {found.n} |")
    if not lines:
        return []
    head = ["### Differences from ridge", "", "Paired by test item, within these subjects; p is not corrected.", ""]
    head += ["| method | metric | method − ridge | 95 % | p | n |", "|---|---|---:|---:|---:|---:|"]
    return [*head, *lines, ""]


def _scores(row: Any, track: str, metric: str) -> dict[tuple[str, int], Mapping[str, Any]]:
    runs = [r for r in row.records if r["status"] == "ok"]
    found = {(r["subject"], r["seed"]): r.get("items", {}).get(track, {}).get(metric) for r in runs}
    return found if found and all(found.values()) else {}


def _ranges(row: Any, track: str, metric: str) -> list[tuple[float | None, float | None]]:
    scores = [r["scores"].get(track, {}).get(metric, {}) for r in row.records]
    return [tuple(s["range"]) for s in scores if "range" in s]


def number(value: float | None) -> str:
    """Return a score as boards print it; what rounds to 0 has no sign."""
    if value is None:
        return "–"
    return (f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}").replace("-0.000", "0.000")
