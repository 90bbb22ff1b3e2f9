"""Published numbers beside a board: shown apart, never ranked with what was measured here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import resources
from typing import Any

LEGEND = {
    "V": "seen in the source",
    "P": "partly seen in a source",
    "M": "from memory, not verified",
}


def reported(track: str, dataset: str, split: str) -> Mapping[str, Any] | None:
    """Return what others report on a data set, split and track, or None.

    Returns
    -------
    mapping
        ``columns`` (metric names), ``lower_is_better``, ``note``, and ``rows``: ``method``, ``source``,
        ``protocol``, ``check`` (V, P or M), ``values`` by metric, ``unverified`` (metrics of a row of
        check P that are from memory). Shares, not percentages.
    """
    keys = {"track": track, "dataset": dataset, "split": split}
    return next((t for t in _tables() if all(t[k] == v for k, v in keys.items())), None)


def section(track: str, dataset: str, split: str) -> list[str]:
    """Return the lines of the part of a board that shows published numbers; empty where there are none."""
    table = reported(track, dataset, split)
    if table is None:
        return []
    lower = table.get("lower_is_better", ())
    head = [f"{name} {'↓' if name in lower else '↑'}" for name in table["columns"]]
    lines = ["### Reported elsewhere (not measured here, not ranked)", "", table["note"], ""]
    lines += [f"| method | {' | '.join(head)} | protocol | source | check |"]
    lines += ["|---|" + "---:|" * len(head) + "---|---|---|"]
    for row in table["rows"]:
        cells = [_cell(row, name) for name in table["columns"]]
        lines.append(
            f"| {row['method']} | {' | '.join(cells)} | {row['protocol']} | {row['source']} | {row['check']} |"
        )
    used = dict.fromkeys(row["check"] for row in table["rows"])
    legend = "; ".join(f"{mark}: {text}" for mark, text in LEGEND.items() if mark in used)
    brackets = " Values in brackets are from memory." if any(_from_memory(row) for row in table["rows"]) else ""
    return [*lines, "", f"Check {legend}.{brackets}", ""]


def _cell(row: Mapping[str, Any], name: str) -> str:
    if name not in row["values"]:
        return "–"
    text = f"{row['values'][name]:.4g}"
    return f"({text})" if name in _from_memory(row) else text


def _from_memory(row: Mapping[str, Any]) -> Sequence[str]:
    return tuple(row["values"]) if row["check"] == "M" else row.get("unverified", ())


@lru_cache(maxsize=1)
def _tables() -> list[dict[str, Any]]:
    return json.loads(resources.files("benchmark").joinpath("literature.json").read_text("utf-8"))["tables"]
