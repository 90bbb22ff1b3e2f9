"""Whether scores are what the values of their test items give: a hand edit of one of them shows."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from statistics import fmean, median
from typing import Any

_ROUNDING = 2e-6  # values of items are kept to six digits


def fault(scores: Mapping[str, Mapping[str, Any]], items: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what is wrong with a run's scores, empty where nothing is.

    Parameters
    ----------
    scores : mapping
        ``{track: {metric: {"value": float or None, "n": int, ...}}}``.
    items : mapping
        ``{track: {metric: {stimulus: value, or the values of its rows}}}`` of the metrics that boards rank by.
    """
    for track, metrics in scores.items():
        for name, score in metrics.items():
            if not _is_number(score["value"]) and score["value"] is not None:
                return f"{track} {name} is {score['value']!r}, expected a finite number"
    for track, metrics in items.items():
        for name, by_item in metrics.items():
            score = scores.get(track, {}).get(name, {"value": None, "n": 0})
            values = [v for part in by_item.values() for v in (part if isinstance(part, list) else (part,))]
            if bad := [v for v in values if not _is_number(v)]:
                return f"{track} {name} has an item of value {bad[0]!r}, expected a finite number"
            if score["n"] != len(values):
                return f"{track} {name} is of {score['n']} items, and has {len(values)}"
            value = score["value"]
            limit = _ROUNDING + 1e-9 * abs(value or 0.0)
            if value is None or (abs(value - fmean(values)) > limit and abs(value - median(values)) > limit):
                return f"{track} {name} is {value}, its items give {fmean(values):.6g}"
    return ""


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)
