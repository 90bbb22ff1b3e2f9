"""Card pages: what the runs behind a method's rows share, and a line per run, as a pure function of records."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmark.card import number
from benchmark.external import TAG
from benchmark.leaderboard import ARROW, Record, Row, Table

FOLDER = "cards"
# What a run needs to be made again; mappings are compared and shown entry by entry.
_FACTS = {
    "suite version": "suite_version",
    "dataset version": "dataset_version",
    "dataset fingerprint": "dataset_fingerprint",
    "split checksum": "split_checksum",
    "holds out": "split_unit",
    "folds": "folds",
    "parameters": "params",
    "ladder": "ladder_asked",
    "tags": "tags",
    "commit": "commit",
    "uncommitted changes": "dirty",
    "source hash": "source",
    "versions": "versions",
    "weights": "weights",
    "device": "device",
    "threads": "threads",
    "hardware": "hardware",
    "notes": "notes",
}
_HEX = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")

Member = tuple[Table, Row]


def render(found: Sequence[Table]) -> dict[str, str]:
    """Return a page per suite and method, text by relative path; the same tables give the same bytes."""
    pages: dict[tuple[str, str], dict[tuple, list[Member]]] = {}
    for table in found:
        for row in table.rows:
            sections = pages.setdefault((table.suite, row.method), {})
            sections.setdefault((table.dataset, table.split, row.preset, row.profile), []).append((table, row))
    return {f"{suite}/{FOLDER}/{method}.md": _page(suite, method, s) for (suite, method), s in pages.items()}


def link(row: Row, dataset: str, folder: str = FOLDER) -> str:
    """Return a row's label as a link to its runs; ``folder`` is that of the suite's card pages."""
    return f"[{row.label}]({folder}/{row.method}.md#{_anchor(dataset)})"


def newest_of(records: Sequence[Record]) -> Record | None:
    """Return the newest record that can be made again here: finished, and its predictions not from elsewhere."""
    able = [r for r in records if r["status"] == "ok" and TAG not in (r["tags"] or ())]
    return max(able, key=lambda r: (r["date"], r["run_id"]), default=None)


def _page(suite: str, method: str, sections: Mapping[tuple, Sequence[Member]]) -> str:
    records = [r for members in sections.values() for r in members[0][1].records]
    lines = [f"# Runs of {method} in {suite}", ""]
    count = f"{len(records)} run{'s' * (len(records) > 1)}"
    lines += [f"{count}. Scores of single test items are in `records/{suite}/{method}.jsonl`.", ""]
    if example := newest_of(records):
        lines += [
            "To make one again and compare its scores, with its id from the tables below:",
            "",
            f"    bench rerun {example['run_id']}",
            "",
            "It says what differs in code, versions and machine. Where nothing does, scores agree to the last digit; "
            "with the commit checked out, the code is the same.",
            "",
        ]
    else:
        lines += ["The predictions were made elsewhere and are scored here; how they were made is not known.", ""]
    dataset = None
    for key, members in sorted(sections.items()):
        if key[0] != dataset:
            dataset = key[0]
            lines += [f"## {dataset}", ""]
        lines += _section(key, members)
    return "\n".join(lines)


def _section(key: tuple, members: Sequence[Member]) -> list[str]:
    _, split, preset, profile = key
    records = sorted(members[0][1].records, key=lambda r: (r["subject"], r["seed"], r["run_id"]))
    lines = [f"### split {split}, preset {preset}, profile {profile}", ""]
    lines += [_standing(table, row) for table, row in members]
    shared, odd = _shared(records, _ranked_versions(members))
    lines += [*(f"- {text}" for text in _stated(shared)), ""]
    if odd:
        lines += ["Where a run differs from this, its line says so.", ""]
    ranked = [(t.track, t.ranked) for t, _ in members]
    arrows = [ARROW[t.directions.get(t.ranked)] for t, _ in members]
    head = [f"{track} {name} {arrow}".strip() for (track, name), arrow in zip(ranked, arrows, strict=True)]
    tail = ["s", "peak MB", "date", *(["differs"] if odd else [])]
    lines += ["| run | subject | seed | status | " + " | ".join([*head, *tail]) + " |"]
    lines += ["|---|---|---:|---|" + "---:|" * (len(head) + 2) + "---|" * (len(tail) - 2)]
    for r in records:
        status = f"{r['status']}: {r['reason']}" if r["reason"] else r["status"]
        values = [r["scores"].get(track, {}).get(name, {}).get("value") for track, name in ranked]
        cells = [f"`{r['run_id']}`", r["subject"], r["seed"], _cell(status), *map(number, values)]
        total = r["seconds"].get("total")
        cells += ["–" if total is None else f"{total:.1f}", f"{r['peak_mb'] or 0:.0f}", r["date"]]
        if odd:
            cells.append("; ".join(_cell(_code(text)) for text in odd.get(r["run_id"], ())))
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return [*lines, ""]


def _standing(t: Table, row: Row) -> str:
    """Return where a row stands on its board."""
    value = row.metrics.get(t.ranked, {}).get("value")
    rank = f"rank {row.rank}" if row.rank else "a control, never ranked" if row.control else "not ranked"
    lacks = f"; incomplete, lacks {', '.join(row.missing)}" if row.missing else ""
    place = f"../{t.track}.md#{_anchor(f'{t.dataset}, split {t.split}')}"
    return f"- [{t.track} board]({place}): {rank}, {t.ranked} {number(value)}{lacks}"


def _ranked_versions(members: Sequence[Member]) -> dict[str, dict[str, str]]:
    """Return version and protocol of the ranked metrics by run."""
    found: dict[str, dict[str, str]] = {}
    for table, row in members:
        for r in row.records:
            score = r["scores"].get(table.track, {}).get(table.ranked)
            if score:
                said = f"version {score.get('version')}, {score.get('protocol')}"
                found.setdefault(r["run_id"], {})[f"{table.track} {table.ranked}"] = said
    return found


def _shared(
    records: Sequence[Record], metrics: Mapping[str, Mapping[str, str]]
) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Return the facts of most runs, and by run what differs from them.

    Runs that failed before scoring have no version of a metric; that is no difference.
    """
    shared: dict[str, Any] = {}
    odd: dict[str, list[str]] = {}
    scored = [r for r in records if r["run_id"] in metrics]
    for fact, members in ((f, scored if f == "metrics" else records) for f in (*_FACTS, "metrics")):
        values = [metrics[r["run_id"]] if fact == "metrics" else r.get(_FACTS[fact]) for r in members]
        if not values or all(value == values[0] for value in values):
            shared[fact] = values[0] if values else None
            continue
        if not all(isinstance(v, Mapping) for v in values if v is not None):
            shared[fact] = _most(values)
            entries = [("", shared[fact], values)]
        else:
            parts = [v or {} for v in values]
            names = sorted({name for part in parts for name in part})
            common = {name: _most([part.get(name) for part in parts]) for name in names}
            shared[fact] = {name: value for name, value in common.items() if value is not None}
            entries = [(name, common[name], [part.get(name) for part in parts]) for name in names]
        for name, usual, column in entries:
            for r, value in zip(members, column, strict=True):
                if value != usual:
                    odd.setdefault(r["run_id"], []).append(f"{fact} {name}".strip() + f" {_short(value)}")
    return shared, odd


def _most(values: Sequence[Any]) -> Any:
    """Return the most frequent value; the first of several."""
    texts = [json.dumps(value, sort_keys=True) for value in values]
    counts = Counter(texts)
    return values[texts.index(max(counts, key=counts.__getitem__))]


def _stated(shared: Mapping[str, Any]) -> Iterator[str]:
    for fact, value in shared.items():
        if _is_empty(value) or value is False:
            continue
        if isinstance(value, Mapping):
            yield f"{fact}: " + ", ".join(_code(f"{name} {_text(part)}") for name, part in sorted(value.items()))
        else:
            yield f"{fact}: {_code(_text(value))}"


def _is_empty(value: Any) -> bool:
    return value is None or value in ("", [], {})


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _short(value: Any) -> str:
    if _is_empty(value):
        return "nothing"
    text = _text(value)
    return text[:16] if _HEX.fullmatch(text) else text


def _code(text: str) -> str:
    """Return a text as code, that whatever a sender wrote stays text."""
    return f"`{' '.join(text.replace('`', chr(39)).split())}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _anchor(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
