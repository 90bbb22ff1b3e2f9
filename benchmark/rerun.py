"""``bench rerun RUN``: a run made again from its card, and whether the scores agree."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark import card as cards
from benchmark.card import label
from benchmark.data.locate import cache_dir, data_dir
from benchmark.errors import BenchError
from benchmark.external import TAG
from benchmark.plan import Planned, Request, plan
from benchmark.registry import Registry
from benchmark.regress import FLOOR

# Scores are the same to the last digit where all of this is the same.
_ENVIRONMENT = {
    "source hash": ("code", "source"),
    "commit": ("code", "commit"),
    "suite version": ("suite_version",),
    "device": ("machine", "device"),
    "threads": ("machine", "threads"),
    "hardware": ("machine", "hardware"),
    "versions": ("versions",),
    "weights": ("weights",),
}
_NO_MATTER = ("commit",)  # the source hash covers what of it matters


@dataclass(frozen=True)
class Cell:
    """One score of both sides; ``why`` says what is wrong with it, empty where the two agree."""

    track: str
    metric: str
    card: float | None
    now: float | None
    why: str


def find(registry: Registry, card: Mapping[str, Any], request: Request) -> Planned:
    """Return the planned run that the card asks for, with the card's parameters.

    Parameters
    ----------
    registry : Registry
    card : dict
    request : Request
        Folders, device and threads; what is to be run comes of the card.

    Raises
    ------
    BenchError
        An unknown method, dataset, split or suite; another fingerprint or split checksum; parameters of other names.
    """
    spec = card["spec"]
    suite = registry.get("suite", spec["suite"]).load() if spec["suite"] in registry.names("suite") else None
    if TAG in card["tags"] and spec["method"] not in registry.names("method"):
        raise BenchError(f"{label(card)}: its predictions were made elsewhere, expected the card of a method's run")
    asked = dataclasses.replace(
        request,
        suite=suite.name if suite else None,
        dataset=spec["dataset"],
        split=None if suite else spec["split"],
        methods=(f"{spec['method']}:{spec['preset']}",),
        subjects=(spec["subject"],),
        seeds=(spec["seed"],),
        profile=spec["profile"],
        ladder=card["ladder"] or "on",
    )
    planned = _of_split(plan(registry, asked), card)
    now = planned.spec.to_json()["params"]
    if changed := {k: v for k, v in spec["params"].items() if k not in now or now[k] != v}:
        known = planned.spec.params  # JSON has lists only
        changed = {k: _tuples(v) if isinstance(known.get(k), tuple) else v for k, v in changed.items()}
        planned = _of_split(plan(registry, dataclasses.replace(asked, overrides=changed)), card)
    same = {
        "dataset_fingerprint": (card["dataset"]["fingerprint"], "dataset", "the same files"),
        "split_checksum": (card["split"]["checksum"], "split", "the same split"),
    }
    for name, (there, what, expected) in same.items():
        if (here := planned.facts[name]) != there:
            raise BenchError(
                f"{label(card)}: the {what} here has checksum {here[:16]}, the card {there[:16]}; expected {expected}"
            )
    return planned


def differences(card: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Yield what differs between two cards' environments: name, sentence, whether scores may move with it."""
    for name, keys in _ENVIRONMENT.items():
        old, new = card, now
        for key in keys:
            old, new = old[key], new[key]
        if old == new:
            continue
        matters = name not in _NO_MATTER
        if not isinstance(old, Mapping):
            yield name, f"{name}: {_short(old)} then, {_short(new)} now", matters
            continue
        for key in sorted({*old, *new}):
            if old.get(key) != new.get(key):
                yield name, f"{name}: {key} {_short(old.get(key))} then, {_short(new.get(key))} now", matters


def compare(card: Mapping[str, Any], now: Mapping[str, Any], tolerance: float) -> list[Cell]:
    """Return every score of both cards.

    Parameters
    ----------
    card, now : dict
    tolerance : float
        A share of the card's value, of 1 where that is smaller; 0: the same to the last digit.
    """
    cells = []
    for track in sorted({*card["scores"], *now["scores"]}):
        left, right = card["scores"].get(track, {}), now["scores"].get(track, {})
        for metric in sorted({*left, *right}):
            old, new = left.get(metric, {}), right.get(metric, {})
            a, b = old.get("value"), new.get("value")
            kind = [(s.get("version"), s.get("protocol")) for s in (old, new)]
            why = ""
            if not old or not new:
                why = "not on the card" if not old else "not scored now"
            elif kind[0] != kind[1]:
                why = f"version {kind[0][0]} ({kind[0][1]}) then, {kind[1][0]} ({kind[1][1]}) now"
            elif (a is None) != (b is None):
                why = "no value " + ("then" if a is None else "now")
            elif a is not None and not abs(a - b) <= tolerance * max(1.0, abs(a)):
                why = f"differs by {b - a:+.3g}"
            cells.append(Cell(track, metric, a, b, why))
    return cells


def rerun(
    *, run: str, boards: Path, source: Path, plugins: Sequence[Path], data: str | None, store: Path | None, **more: Any
) -> int:
    """Carry out ``bench rerun``; returns the exit code."""
    import tempfile

    from rich.console import Console

    there = cards.find(run, boards, source)
    device = more["device"] or there["machine"]["device"] or "auto"
    threads = more["threads"] or max(1, there["machine"]["threads"])
    if device.partition(":")[0] not in ("cpu", "auto"):
        from benchmark.worker import use_device

        use_device(device, threads)  # says where this machine has none
    folders = {"data": data_dir(data), "cache": cache_dir(), "weights": more["weights"]}
    registry = Registry(plugins)
    with Console(stderr=True).status("preparing"):
        planned = find(registry, there, Request(device=device, threads=threads, **folders))
    if store is None:
        with tempfile.TemporaryDirectory() as folder:
            return _say(there, _made(planned, Path(folder)))
    kept = store / planned.spec.suite / planned.spec.dataset / planned.spec.method / planned.id
    if kept.exists():
        raise BenchError(f"--store {store}: has run {planned.id} already, expected a folder without it")
    return _say(there, _made(planned, store), kept)


def _made(planned: Planned, store: Path) -> dict[str, Any]:
    """Make the run and return its card."""
    from rich.console import Console

    from benchmark.runner import Limits, Session, run_all
    from benchmark.store import Store
    from benchmark.terminal import Watch

    with Watch(Console(stderr=True), 1) as watch:
        return cards.read(run_all([planned], Session(Store(store), Limits(), watch))[0].path)


def _say(card: Mapping[str, Any], now: Mapping[str, Any], kept: Path | None = None) -> int:
    """Print what differs, the environment first; returns the exit code."""
    print(f"card: {label(card)}, run {card['run_id']} of {card['date'][:10]}")
    found = list(differences(card, now))
    for _, text, _ in found:
        print(f"differs: {text}")
    tolerance = FLOOR if any(matters for *_, matters in found) else 0.0
    if kept:
        print(f"run: {kept}")
    if card["status"] != now["status"]:
        print(f"status: {card['status']} then, {now['status']} now{': ' + now['reason'] if now['reason'] else ''}")
        return 1
    cells = compare(card, now, tolerance)
    for cell in cells:
        if cell.why:
            print(f"{cell.track} {cell.metric}: {_value(cell.card)} then, {_value(cell.now)} now, {cell.why}")
    wrong = sum(bool(cell.why) for cell in cells)
    moved = max((abs(c.card - c.now) for c in cells if c.card is not None and c.now is not None), default=0.0)
    how = "tolerance 0: same code, versions and machine" if tolerance == 0 else (
        f"tolerance {tolerance:g} of the value, or {tolerance:g} where that is below 1: something above differs"
    )  # fmt: skip
    print(f"{len(cells)} scores compared, {wrong} differ, largest difference {moved:.3g} ({how})")
    return 1 if wrong else 0


def _of_split(planned: Sequence[Planned], card: Mapping[str, Any]) -> Planned:
    found = [item for item in planned if item.spec.split == card["spec"]["split"]]
    if not found:
        known = ", ".join(dict.fromkeys(item.spec.split for item in planned))
        raise BenchError(f"{label(card)}: the suite has split {known}, expected {card['spec']['split']} as on the card")
    return found[0]


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text[:16] if len(text) in (40, 64) else text


def _value(value: float | None) -> str:
    return "–" if value is None else f"{value:.6g}"
