"""Provenance cards: everything that is needed to make a run again, as JSON and for people to read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmark import records
from benchmark.data.files import write_atomic
from benchmark.errors import BenchError
from benchmark.store import Run, Store

FORMAT = 1
CARD, PAGE = "card.json", "card.md"
RUN_ID = re.compile(r"[0-9a-f]{16}")

_TEXT, _COUNT, _AMOUNT = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "number", "minimum": 0}
_NAME = {"type": "string", "pattern": r"^[^/\\]*$"}  # names become paths
_TEXTS = {"type": "object", "additionalProperties": _TEXT}
_SCORE = {
    "type": "object",
    "required": ["value", "n", "version", "protocol"],
    "properties": {"value": {"type": ["number", "null"]}, "n": _COUNT, "version": _COUNT, "protocol": _TEXT},
}
_SPEC = {
    **dict.fromkeys(("suite", "dataset", "subject", "split", "method", "preset", "profile"), _NAME),
    **{"params": {"type": "object"}, "seed": _COUNT},
}
_COLUMNS = {
    "type": "object",
    "required": ["metrics", "ranked"],
    "properties": {"metrics": {"type": "array", "items": _TEXT}, "ranked": _TEXT},
}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


SCHEMA = _object(
    format={"const": FORMAT},
    run_id={"type": "string", "pattern": f"^{RUN_ID.pattern}$"},
    status={"enum": ["ok", "skipped", "failed", "timeout", "oom"]},
    reason=_TEXT,
    spec=_object(**_SPEC) | {"additionalProperties": False},
    ladder={"enum": ["off", "on", "full", None]},
    tracks={"type": "object", "additionalProperties": {"anyOf": [_COLUMNS, {"type": "null"}]}, "minProperties": 1},
    suite_version={"type": ["string", "null"]},
    dataset=_object(version=_TEXT, fingerprint=_TEXT),
    split=_object(checksum=_TEXT, unit=_TEXT),
    code=_object(
        commit={"type": ["string", "null"], "pattern": "^[0-9a-f]{40,64}$"},
        dirty={"type": ["boolean", "null"]},
        source=_TEXT,
    ),
    versions=_TEXTS,
    weights=_TEXTS,
    machine=_object(hardware={"type": "object"}, device={"type": ["string", "null"]}, threads=_COUNT),
    cost=_object(seconds={"type": "object", "additionalProperties": {"type": "number"}}, peak_mb=_AMOUNT),
    date={"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"},
    scores={"type": "object", "additionalProperties": {"type": "object", "additionalProperties": _SCORE}},
    control={"type": "boolean"},
    tags={"type": "array", "items": _TEXT},
)


def of(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the card of a record (`benchmark.records.record`): all of it but the values of single items."""
    return {
        "format": FORMAT,
        **{name: item[name] for name in ("run_id", "status", "reason", "date", "scores", "suite_version")},
        "spec": {name: item[name] for name in _SPEC},
        "ladder": item.get("ladder_asked"),
        "tracks": {track: (item.get("columns") or {}).get(track) for track in item["tracks"]},
        "dataset": {"version": item["dataset_version"], "fingerprint": item["dataset_fingerprint"]},
        "split": {"checksum": item["split_checksum"], "unit": item["split_unit"], "folds": item.get("folds")},
        "code": {name: item[name] for name in ("commit", "dirty", "source")},
        "versions": item["versions"],
        "weights": item.get("weights") or {},
        "machine": {name: item[name] for name in ("hardware", "device", "threads")},
        "cost": {name: item.get(name) for name in ("seconds", "cpu_seconds", "peak_mb")},
        "preparation": item.get("preparation") or [],
        "control": item["control"],
        "tags": item["tags"] or [],
        "notes": item.get("notes", {}),
    }


def dumps(card: Mapping[str, Any]) -> str:
    """Return a card as text, in one canonical form."""
    return json.dumps(card, indent=1, sort_keys=True, allow_nan=False) + "\n"


def write(folder: Path) -> None:
    """Write the record and the card of a run directory whose other files are there."""
    card = of(records.keep(folder))
    write_atomic(folder / CARD, dumps(card).encode())
    write_atomic(folder / PAGE, markdown(card).encode())


def read(path: Path) -> dict[str, Any]:
    """Return the card of a run directory, of its ``card.json``, or beside its ``card.md``.

    Raises
    ------
    BenchError
        No such file, or no card.
    """
    if path.is_dir() and not (path / CARD).is_file():
        run = Run(path)
        if not run.whole:
            raise BenchError(f"{path}: no run directory, expected one, or its {CARD}")
        return check(of(records.record(run)), path)
    path = path / CARD if path.is_dir() else path.with_suffix(".json") if path.suffix == ".md" else path
    try:
        return parse(path.read_bytes(), path)
    except OSError as error:
        raise BenchError(f"{path}: cannot be read ({error.strerror}), expected a card") from None


def find(text: str, boards: Path, store: Path) -> dict[str, Any]:
    """Return the card that a text stands for.

    Parameters
    ----------
    text : str
        A run directory or its card, else the id of a run: of the committed records, else of a store.
    boards : Path
        Folder of committed boards, its records below ``records``.
    store : Path

    Raises
    ------
    BenchError
        Nothing there, or no card.
    """
    path = Path(text)
    if path.exists():
        return read(path)
    if not RUN_ID.fullmatch(text):
        raise BenchError(f"{text}: no such file, expected a run directory, its {CARD} or a run id (16 hex digits)")
    item = records.find(boards / "records", text)
    if item is not None:
        where = f"{boards / 'records' / item['suite'] / item['method']}.jsonl: run {text}"
        try:
            return check(of(item), where)
        except (KeyError, TypeError, AttributeError) as error:
            raise BenchError(f"{where}: not a record ({error}), expected one as bench leaderboard writes it") from None
    if folder := next((f for f in Store(store).folders() if f.name == text), None):
        return read(folder)
    raise BenchError(
        f"{text}: no such run in the records of {boards} or in {store}, expected an id of a page below "
        f"{boards}/SUITE/cards or of bench list runs"
    )


def parse(content: bytes, where: Any) -> dict[str, Any]:
    """Return a card's JSON, checked; NaN is refused."""
    return check(load(content, where), where)


def load(content: bytes, where: Any) -> Any:
    """Return JSON of somebody else's: damaged text, a NaN or a number that overflows is a ``BenchError``."""
    try:
        return json.loads(content, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise BenchError(f"{where}: not valid JSON ({error}), expected some") from None


def check(card: Any, where: Any) -> dict[str, Any]:
    """Return the card; what departs from the schema is a ``BenchError`` that names the first fault."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    fault = best_match(Draft202012Validator(SCHEMA).iter_errors(card))
    if fault is not None:
        place = ".".join(map(str, fault.absolute_path)) or "it"
        text = fault.message if len(fault.message) < 200 else f"{fault.message[:200]}..."
        raise BenchError(f"{where}: not a card of format {FORMAT}, {place}: {text}")
    return card


def label(card: Mapping[str, Any]) -> str:
    """Return the short name of a card's run."""
    spec = card["spec"]
    preset = "" if spec["preset"] == "default" else f":{spec['preset']}"
    return f"{spec['method']}{preset} on {spec['dataset']}/{spec['subject']} seed {spec['seed']}"


def markdown(card: Mapping[str, Any]) -> str:
    """Return the card as a page; the same card gives the same bytes."""
    spec, code, machine, cost = card["spec"], card["code"], card["machine"], card["cost"]
    lines = [f"# {label(card)}", ""]
    lines += [f"Run `{card['run_id']}`, {card['date']}: {card['status']}{_after(': ', card['reason'])}.", ""]
    lines += [f"`bench rerun {CARD}` makes it again and compares the scores.", "", "## What was run", ""]
    folds = card["split"].get("folds") or {}
    shape = f", {folds['n']} fold{'s' * (folds['n'] > 1)}" if "n" in folds else ""
    commit = (code["commit"] or "unknown") + (" with uncommitted changes" if code["dirty"] else "")
    lines += _list(
        suite=f"{spec['suite']} {card['suite_version'] or ''}".strip(),
        dataset=f"{spec['dataset']} {card['dataset']['version']}, fingerprint `{card['dataset']['fingerprint']}`",
        subject=spec["subject"],
        split=f"{spec['split']}, holds out {card['split']['unit']}{shape}, checksum `{card['split']['checksum']}`",
        method=f"{spec['method']}, preset {spec['preset']}, profile {spec['profile']}, seed {spec['seed']}",
        ladder=card["ladder"],
        tags=", ".join([*card["tags"], *(["control"] if card["control"] else [])]),
        commit=commit,
        source=f"`{code['source']}`",
    )
    lines += ["", "## Scores", "", "| track | metric | value | n | chance level | version | protocol |"]
    lines += ["|---|---|---:|---:|---:|---:|---|"]
    for track, scores in card["scores"].items():
        ranked = (card["tracks"].get(track) or {}).get("ranked")
        for name, score in scores.items():
            value = number(score["value"]) if score["value"] is not None else _cell(score.get("reason", "–"))
            cells = [track, f"**{name}**" if name == ranked else name, value, score["n"], number(score.get("chance"))]
            lines.append("| " + " | ".join(map(str, [*cells, score["version"], score["protocol"]])) + " |")
    lines += ["", "## Cost and machine", ""]
    hardware = machine["hardware"]
    seconds = cost["seconds"]
    lines += _list(
        seconds=", ".join(f"{name} {value:.1f}" for name, value in sorted(seconds.items())),
        cpu_seconds=f"{cost['cpu_seconds']:.1f}" if cost.get("cpu_seconds") else "",
        peak_memory=f"{cost['peak_mb']:.0f} MB",
        device=f"{machine['device'] or 'none'}, {machine['threads']} thread{'s' * (machine['threads'] != 1)}",
        hardware=", ".join(f"{name} {value}" for name, value in sorted(hardware.items())),
    )
    for title, values in (("Parameters", spec["params"]), ("Versions", card["versions"]), ("Weights", card["weights"])):
        if values:
            lines += ["", f"## {title}", "", *(f"- {k}: `{json.dumps(v)}`" for k, v in sorted(values.items()))]
    if card.get("notes"):
        lines += ["", "## Notes", "", *(f"- {k}: {_cell(v)}" for k, v in sorted(card["notes"].items()))]
    return "\n".join(lines) + "\n"


def _list(**values: Any) -> Iterator[str]:
    return (f"- {name.replace('_', ' ')}: {value}" for name, value in values.items() if value not in ("", None))


def _after(mark: str, text: str) -> str:
    return f"{mark}{_cell(text)}" if text else ""


def _cell(value: Any) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


def number(value: float | None) -> str:
    """Return a score as cards print it."""
    return "–" if value is None else f"{value:.6g}"


def _refuse(name: str) -> None:
    raise ValueError(f"{name} found")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text} found")
    return value
