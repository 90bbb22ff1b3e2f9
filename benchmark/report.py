"""``bench report``: one static folder of HTML, with the boards of a store and every test item's predictions.

The page is opened from ``file://``, where scripts may be loaded but nothing fetched: data are scripts, pictures are
sheets of tiles.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from benchmark import protocol, report_gallery, report_text
from benchmark.board_page import TAGS
from benchmark.errors import BenchError
from benchmark.leaderboard import INTERVAL, Row, Table
from benchmark.stats import MIN_SUBJECTS

INDEX, ASSETS = "index.html", ("report.css", "report.js")
DATA, PICTURES, RUNS = "data", "pictures", "runs"
# An earlier report may be replaced; anything else may not.
MARK = '<meta name="generator" content="fmri-bench report">'
_OWN = {INDEX, *ASSETS, DATA, PICTURES}


def write(
    out: Path,
    tables: Sequence[Table],
    store: Path,
    truth_of: Callable[..., report_gallery.Truth],
    everything: bool = False,
    on_step: Callable[[str], None] = lambda text: None,
) -> Path:
    """Write the report of a store's tables; the same store gives the same bytes.

    Parameters
    ----------
    out : Path
        The folder; it appears whole or not at all, in the place of an earlier report.
    tables : sequence of Table
    store : Path
        Where the runs of the tables' records are.
    truth_of : callable
        ``truth_of(place) -> Truth``: the test items, and their stimuli where the data are there.
    everything : bool
        Show every subject and seed in the gallery; else the first of every method.
    on_step : callable
        Told what is being done.

    Returns
    -------
    Path
        The page to open.

    Raises
    ------
    BenchError
        ``out`` holds something else than a report, or cannot be written.
    """
    refuse_foreign(out)
    # The parent's rights, not those of a private temporary folder: reports are shared.
    temporary = out.with_name(f".{out.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    old = temporary.with_name(f"{temporary.name}.old")
    try:
        temporary.mkdir(parents=True)
        _fill(temporary, tables, store, truth_of, everything, on_step)
        if out.exists():
            out.rename(old)
        temporary.rename(out)
    except OSError as error:
        if old.exists() and not out.exists():
            old.rename(out)
        raise BenchError(f"--out {out}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return out / INDEX


def refuse_foreign(out: Path) -> None:
    """Raise where a folder holds anything that no report has."""
    if not out.exists():
        return
    there = {path.name for path in out.iterdir()} if out.is_dir() else {out.name}
    page = out / INDEX
    report = page.is_file() and MARK in page.read_text("utf-8", errors="replace") and there <= _OWN
    if there and not report:
        raise BenchError(f"--out {out}: holds other files, expected a new or empty folder, or an earlier report")


def _fill(folder: Path, tables, store: Path, truth_of, everything: bool, on_step) -> None:
    by_suite: dict[str, list[Table]] = {}
    for table in tables:
        by_suite.setdefault(table.suite, []).append(table)
    scripts = []
    for suite, members in by_suite.items():
        listed: list[dict[str, str]] = []
        last, truth = None, None
        places = report_gallery.places(members, everything)
        _runs(folder, suite, members, store, {e.record["run_id"] for _, entries in places for e in entries})
        for number, (place, entries) in enumerate(places):
            on_step(f"{suite}: {place.title}")
            key, pictures = f"{suite}/{number}", f"{PICTURES}/{suite}/{number}"
            if last != (here := (place.dataset, place.split, place.subject)):  # all seeds have the same test items
                last, truth = here, truth_of(place)
            content = report_gallery.gallery(place, entries, store, truth, folder, pictures)
            _script(folder / DATA / suite / f"{number}.js", f"report.galleries[{json.dumps(key)}]", content)
            listed.append({"key": key, "file": quote(f"{DATA}/{suite}/{number}.js"), "title": place.title})
        content = {"name": suite, "tables": [_table(t) for t in members], "galleries": listed}
        _script(folder / DATA / f"{suite}.js", f"report.suites[{json.dumps(suite)}]", content)
        scripts.append(f'<script defer src="{quote(f"{DATA}/{suite}.js")}"></script>')
    assets = resources.files("benchmark").joinpath("report_assets")
    for name in ASSETS:
        (folder / name).write_bytes(assets.joinpath(name).read_bytes())
    page = assets.joinpath(INDEX).read_text("utf-8")
    for mark, text in (("<!-- generator -->", MARK), ("<!-- data -->", "\n".join(scripts))):
        page = page.replace(mark, text)
    (folder / INDEX).write_text(page, "utf-8")


def _runs(folder: Path, suite: str, members: Sequence[Table], store: Path, pictured: Collection[str]) -> None:
    """Write the card of every run, and the figures of those that the galleries show."""
    for record in {r["run_id"]: r for t in members for row in t.rows for r in row.records}.values():
        name = record["run_id"]
        content = report_text.run(record, store, folder, f"{PICTURES}/{suite}/runs/{name}" if name in pictured else "")
        _script(folder / DATA / suite / RUNS / f"{name}.js", f"report.runs[{json.dumps(name)}]", content)


def _script(path: Path, target: str, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    path.write_text(f"{target} = {text};\n", "utf-8")


def _table(t: Table) -> dict[str, Any]:
    first = t.rows[0].records[0]
    records = [r for row in t.rows for r in row.records]
    notes = {c: row.metrics[c]["note"] for row in t.rows for c in t.columns if c in row.metrics}
    chance = {c: row.metrics[c]["chance"] for row in t.rows for c in t.columns if c in row.metrics}
    names = [t.ranked, *(c for c in t.columns if c != t.ranked)]
    return {
        **{name: getattr(t, name) for name in ("version", "track", "dataset", "split", "ranked", "subjects", "seeds")},
        "columns": [
            {"name": c, "higher": t.directions.get(c), "note": notes.get(c, ""), "chance": chance.get(c)} for c in names
        ],
        "interval": INTERVAL if any(_interval(t, row) for row in t.rows) else "",
        "over": "subjects" if len(t.subjects) >= MIN_SUBJECTS else "other test items within these subjects",
        "protocol": protocol.sentences(t.track, first["split_unit"], records),
        "tags": {tag: TAGS[tag] for tag in sorted({tag for row in t.rows for tag in row.tags} & set(TAGS))},
        "rows": [_row(t, row) for row in t.rows],
        "sections": report_text.sections(t),
    }


def _row(t: Table, row: Row) -> dict[str, Any]:
    total = [r["seconds"]["total"] for r in row.records if "total" in r["seconds"]]
    names = ("run_id", "subject", "seed", "status", "reason", "date")
    return {
        **{name: getattr(row, name) for name in ("label", "profile", "control", "tags", "missing", "undefined")},
        "rank": row.rank,
        "interval": _interval(t, row),
        "metrics": {c: {k: m[k] for k in ("value", "interval", "subjects")} for c, m in row.metrics.items()},
        "n": row.metrics[t.ranked]["n"] if t.ranked in row.metrics else 0,
        "n_subjects": len({r["subject"] for r in row.records if r["status"] == "ok"}),
        "seconds": round(sum(total) / len(total), 2) if total else None,
        "mb": max(r["peak_mb"] or 0 for r in row.records),
        "runs": [
            {name: r[name] for name in names}
            | {"commit": (r["commit"] or "unknown")[:10] + (" with changes" if r["dirty"] else "")}
            for r in row.records
        ],
    }


def _interval(t: Table, row: Row) -> Sequence[float] | None:
    """Return the interval that boards show: over subjects where there are enough, else over test items."""
    return row.metrics.get(t.ranked, {}).get("interval") if len(t.subjects) >= MIN_SUBJECTS else row.interval
