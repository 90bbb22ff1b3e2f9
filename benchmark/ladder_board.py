"""The part of a board that shows the ladders of reconstruction methods."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

SHOWN = ("attribute_accuracy", "clip_two_way", "pixcorr", "ssim")
_FIRST = ("true features", "predicted", "derangement", "permuted training")


def section(ranked: str, methods: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]) -> list[str]:
    """Return the lines of the section; none where no method has a ladder.

    Parameters
    ----------
    ranked : str
        Metric that rows are ranked by.
    methods : sequence of (label, records)
    """
    found = [(label, [r for r in records if r["status"] == "ok" and r.get("ladder")]) for label, records in methods]
    found = [(label, records) for label, records in found if records]
    if not found:
        return []
    scored = {m for _, records in found for r in records for m, s in _own(r).items() if s["value"] is not None}
    names = [ranked, *(name for name in SHOWN if name in scored and name != ranked)]
    lines = ["### Ladder", ""]
    lines += [
        "The same scores for pictures made from the true features (all that the generator can do), from the predicted "
        "ones (the method), for these against other pictures (*derangement*: what no relation gives) and for "
        "the stages on the way. Means over runs; never ranked.",
        "",
        f"| method | pictures | {' | '.join(names)} |",
        "|---|---|" + "---:|" * len(names),
    ]
    for label, records in found:
        for rung in _rungs(records):
            cells = [_cell([_scores(r, rung).get(name) for r in records]) for name in names]
            lines.append(f"| {label} | {rung} | {' | '.join(cells)} |")
    lines += ["", "Where most is lost:", ""]
    for label, records in found:
        lines += _grouped(f"**{label}**", [(r, _verdict(r, records)) for r in records])
    lines += _features(found) + _differences(found) + _notes(found)
    return [*lines, ""]


def _verdict(record: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> str:
    """Return the verdict; of several runs without the scores of one, whose means stand in the table."""
    text = record["ladder"]["verdict"]
    return text if len(records) == 1 else re.sub(r" \([^()]*\)", "", text)


def _grouped(label: str, told: Sequence[tuple[Mapping[str, Any], str]]) -> list[str]:
    """Return a line for every text, with the runs it was told of."""
    lines = []
    for text in dict.fromkeys(text for _, text in told):
        whose = [f"{r['subject']} seed {r['seed']}" for r, other in told if other == text]
        runs = f"all {len(told)} runs" if len(whose) == len(told) > 1 else ", ".join(whose)
        lines.append(f"- {label} ({runs}): {text}")
    return lines


def _own(record: Mapping[str, Any]) -> Mapping[str, Any]:
    return record["scores"].get("reconstruction", {})


def _scores(record: Mapping[str, Any], rung: str) -> Mapping[str, Any]:
    return _own(record) if rung == "predicted" else record["ladder"]["rungs"].get(rung, {})


def _rungs(records: Sequence[Mapping[str, Any]]) -> list[str]:
    names = {"predicted", *(rung for r in records for rung in r["ladder"]["rungs"])}
    return [name for name in _FIRST if name in names] + sorted(names - set(_FIRST))


def _cell(scores: Sequence[Mapping[str, Any] | None]) -> str:
    values = [s["value"] for s in scores if s and s["value"] is not None]
    return f"{fmean(values):.3f}" if values else "–"


def _features(found) -> list[str]:
    lines = ["", "Two-way identification of predicted among true features (chance .5), and mean absolute error:", ""]
    lines += ["| method | feature | two-way | error | of the training mean |", "|---|---|---:|---:|---:|"]
    for label, records in found:
        for name in records[0]["ladder"]["features"]:
            two_way = fmean(r["ladder"]["features"][name] for r in records)
            errors = [r["ladder"].get("l1", {}) for r in records]
            own = [e[name] for e in errors if name in e]
            mean = [e[f"{name}@mean"] for e in errors if f"{name}@mean" in e]
            cells = (f"{fmean(values):.4g}" if values else "–" for values in (own, mean))
            lines.append(f"| {label} | {name} | {two_way:.3f} | {' | '.join(cells)} |")
    return lines


def _differences(found) -> list[str]:
    lines = []
    for label, records in found:
        pairs: dict[tuple, list] = {}
        for r in records:
            for c in r["ladder"].get("comparisons", ()):
                pairs.setdefault((c["a"], c["b"], c["metric"]), []).append(c)
        for (a, b, metric), several in pairs.items():
            value = fmean(c["difference"] for c in several)
            # Runs share their test items: intervals are averaged as they are, not made narrower.
            half = fmean((c["high"] - c["low"]) / 2 for c in several)
            told = "" if abs(value) > half else ", which cannot be told from none"
            interval = f"[{value - half:+.3f}, {value + half:+.3f}]"
            lines.append(f"- {label}: {metric} of *{a}* minus *{b}*: {value:+.3f} {interval}{told}")
    return (
        ["", "Paired differences over test items, with 95 % intervals (mean over runs):", "", *lines] if lines else []
    )


def _notes(found) -> list[str]:
    lines = []
    for label, records in found:
        told = [", ".join(f"{name} {value}" for name, value in sorted(r.get("notes", {}).items())) for r in records]
        lines += _grouped(label, [(r, text) for r, text in zip(records, told, strict=True) if text])
    return ["", "Notes of the methods:", "", *lines] if lines else []
