"""``bench list runs``: what a store holds, a line a run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmark.card import CARD, of
from benchmark.errors import BenchError
from benchmark.records import is_current, record
from benchmark.store import Run, Store

HEAD = ("suite", "dataset", "subject", "method", "seed", "status", "ranked by", "date", "id")


def lines(store: Path) -> list[str]:
    """Return a table of all runs of a store, in order of path.

    Raises
    ------
    BenchError
        No such folder.
    """
    if not store.is_dir():
        raise BenchError(f"--store {store}: no such folder, expected the run directories of bench run")
    cells = [HEAD, *(_cells(card) for folder in Store(store).folders() if (card := _card(folder)))]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def _card(folder: Path) -> dict[str, Any] | None:
    if is_current(folder, CARD):
        try:
            card = json.loads((folder / CARD).read_bytes())
            card["spec"], card["run_id"]
            return card
        except (OSError, ValueError, KeyError, TypeError):
            pass  # it is made of the others below
    run = Run(folder)
    return of(record(run)) if run.whole else None


def _cells(card: Mapping[str, Any]) -> tuple[str, ...]:
    spec = card["spec"]
    method = spec["method"] + ("" if spec["preset"] == "default" else f":{spec['preset']}")
    names = (spec["suite"], spec["dataset"], spec["subject"], method, str(spec["seed"]), card["status"])
    return (*names, ", ".join(_ranked(card)) or "–", card["date"][:10], card["run_id"])


def _ranked(card: Mapping[str, Any]) -> Iterator[str]:
    for track, columns in card["tracks"].items():
        name = (columns or {}).get("ranked")
        value = card["scores"].get(track, {}).get(name, {}).get("value")
        if value is not None:
            yield f"{name} {value:.3f}"
