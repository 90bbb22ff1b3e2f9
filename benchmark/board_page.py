"""The pages of the boards: markdown and JSON per suite and track, and their index."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmark import board_index, board_numbers, board_pictures, card_pages, ladder_board, literature, protocol
from benchmark.board_figures import Drawing
from benchmark.board_numbers import CEILING, CHANCE, number
from benchmark.data.files import write_atomic
from benchmark.leaderboard import ARROW, INTERVAL, SCORES_ONLY, Row, Table
from benchmark.records import flat
from benchmark.stats import LEVEL, MIN_SUBJECTS

BESIDE_RANKED = 3  # other metrics in the main table; a page of GitHub is about 900 pixels wide
ABREAST = 88  # characters of names of metrics in each of the tables of the others
# What the tags of rows mean, where one of a table has them.
TAGS = {
    SCORES_ONLY: "the method names words and gives no vector; the metrics of vectors (–) are not defined for it, which "
    "takes no rank from it",
    "external predictions": "made elsewhere and scored by `bench score`; how is not known here",
    "training data not stated": "nothing says that the pipeline has not seen the test stimuli",
    "leaky selection": "the published choice of epochs by the test subject; never ranked",
    "oracle": "is given the truth; never ranked",
    "seen stimuli": "stimuli of the test side were also trained on",
    "submitted": "made and sent in by others; these scores are of their predictions, scored here",
    "transductive scaling": "the recordings came scaled over all rows, those of the test side included",
}


def render(found: Sequence[Table]) -> dict[str, str]:
    """Return the files of all boards, text by relative path; the same tables give the same bytes."""
    boards: dict[tuple[str, str], list[Table]] = {}
    for table in found:
        boards.setdefault((table.suite, table.track), []).append(table)
    files = {"README.md": board_index.page(boards), **card_pages.render(found)}
    for (suite, track), members in boards.items():
        files[f"{suite}/{track}.md"] = _board(suite, track, members)
        files[f"{suite}/{track}.json"] = _text(_json(members))
    return files


def write(
    folder: Path,
    files: Mapping[str, str],
    pictures: Mapping[str, str | Drawing] | None = None,
    store: Path | None = None,
) -> None:
    """Write rendered files below a folder, and the pictures they show.

    Pictures of a run are copied from the store, where it has them; those of all methods are drawn where what they show
    changed. What cannot be made stays as it is.
    """
    for name, text in files.items():
        write_atomic(folder / name, text.encode())
    # Figures are many small objects: collecting garbage would go through all records again and again.
    gc.freeze()
    for name, source in (pictures or {}).items():
        if isinstance(source, Drawing):
            source.write(folder / name, store)
        elif store is not None and (store / source).is_file():
            write_atomic(folder / name, (store / source).read_bytes())
    gc.unfreeze()


def stale(folder: Path, files: Mapping[str, str], pictures: Mapping[str, str | Drawing] | None = None) -> list[str]:
    """Return the files below a folder that differ from the rendered ones, are missing, or should not be there.

    Of pictures, those that are not there, and those drawn from records that show something else.
    """
    missing = [
        name
        for name, source in (pictures or {}).items()
        if not (source.is_current(folder / name) if isinstance(source, Drawing) else (folder / name).is_file())
    ]
    wrong = [n for n, text in files.items() if not (folder / n).is_file() or (folder / n).read_bytes() != text.encode()]
    patterns = ("*/*.md", "*/*.json", f"*/{card_pages.FOLDER}/*.md")
    there = {str(p.relative_to(folder)) for pattern in patterns for p in folder.glob(pattern)}
    return sorted({*wrong, *missing, *(n for n in there if n not in files and not n.startswith("records/"))})


def _board(suite: str, track: str, members: Sequence[Table]) -> str:
    lines = [f"# {suite} {members[0].version}: {track}", ""]
    if len(members) > 1:
        lines += [
            f"{len(members)} tables: each has a data set and a protocol of its own (what is held out, and how many "
            "candidates a target is ranked among). Their numbers are not comparable and never ranked together.",
            "",
        ]
    for table in members:
        lines += _section(table)
    return "\n".join(lines)


def _section(t: Table) -> list[str]:
    items = max((row.metrics[t.ranked]["n"] for row in t.rows if t.ranked in row.metrics), default=0)
    record = t.rows[0].records[0]
    lines = [f"## {t.dataset}, split {t.split}", ""]
    lines += [
        f"Ranked by **{t.ranked}** {ARROW[t.directions.get(t.ranked)]}. {items} test items of {len(t.subjects)} "
        f"subject{'s' * (len(t.subjects) > 1)} ({', '.join(t.subjects)}), seed{'s' * (len(t.seeds) > 1)} "
        f"{', '.join(map(str, t.seeds))}. Values are means over subjects of means over seeds. "
        f"A row is ranked when every subject, seed and metric is there. {_interval_text(t)}",
        "",
        protocol.sentences(t.track, record["split_unit"], [r for row in t.rows for r in row.records]),
        "",
    ]
    methods = [r for r in t.rows if not r.control]
    controls = [r for r in t.rows if r.control]
    names = [t.ranked, *(c for c in t.columns if c != t.ranked)]
    first, others = names[: 1 + BESIDE_RANKED], names[1 + BESIDE_RANKED :]
    lines += ["### Methods", "", *_markdown(t, methods, first, stated=True), ""]
    lines += [*_column_texts(t), *_footnotes(t, first), *board_pictures.scores(t)]
    lines += ["### Controls", "", "Never ranked. `oracle` is given the truth.", "", *_markdown(t, controls, first), ""]
    lines += [f"- *{tag}*: {TAGS[tag]}" for tag in sorted({t for row in t.rows for t in row.tags} & set(TAGS))] + [""]
    lines += _others(t, [*methods, *controls], others)
    lines += board_numbers.section(t.track, t.ranked, t.columns, methods)
    lines += _by_subject(t, [*methods, *controls])
    if t.track == "reconstruction":
        lines += ladder_board.section(t.ranked, [(row.label, row.records) for row in methods])
    lines += board_pictures.section(t)
    lines += literature.section(t.track, t.dataset, t.split)
    lines += _faults(t)
    lines += [
        "### Runs",
        "",
        "| method | runs | items | train | predict | score | total | peak MB | date | commit |",
    ]
    lines += ["|---|" + "---:|" * 7 + "---|---|"]
    lines += [_provenance(row, t.ranked) for row in t.rows]
    lines += ["", f"- dataset fingerprint: {_unique(t, 'dataset_fingerprint')}"]
    lines += [f"- split checksum: {_unique(t, 'split_checksum')} (holds out {record['split_unit']})"]
    lines += ["- train, predict, score and total are seconds, means over runs; total has the overhead too"]
    lines += ["- peak MB is the largest RssAnon + RssShmem of any run", ""]
    return lines


def _markdown(t: Table, rows: Sequence[Row], names: Sequence[str], stated: bool = False) -> list[str]:
    """Return a table of the ranked metric with all that belongs to it, and of a few other metrics."""
    beside = _beside(t)
    head = [_head(t, names[0]), *beside, *(_head(t, name) for name in names[1:])]
    tagged = any(row.tags or row.missing for row in rows)
    lines = [f"| rank | method | {' | '.join(head)} |{' tags |' * tagged}"]
    lines += ["|---:|---|" + "---:|" * len(head) + "---|" * tagged]
    for row in rows:
        cells = [_value(row, names[0]), *(cell(row) for cell in beside.values()), *(_value(row, n) for n in names[1:])]
        tags = ", ".join([*row.tags, *(["incomplete"] if row.missing else [])])
        line = " | ".join([f"| {row.rank or '–'}", card_pages.link(row, t.dataset), *cells])
        lines.append(f"{line} | {tags} |" if tagged else f"{line} |")
    if stated:
        chance = _chance(t, names)
        cells = [number(chance.get(names[0])), *[""] * len(beside), *(number(chance.get(n)) for n in names[1:])]
        lines.append(f"| | *chance level* | {' | '.join(cells)} |{' |' * tagged}")
    return lines


def _beside(t: Table) -> dict[str, Callable[[Row], str]]:
    """Return the columns that belong to the ranked metric, and their cells."""
    found: dict[str, Callable[[Row], str]] = {}
    if len(t.subjects) >= MIN_SUBJECTS or any(row.interval for row in t.rows):
        found[INTERVAL] = lambda row: _interval(row, t)
    if t.scale:
        found["scaled"] = lambda row: number(row.scaled)
    if len(t.seeds) > 1:
        found["seed SD"] = lambda row: number(row.seed_sd)
    return found


def _column_texts(t: Table) -> list[str]:
    """Return what the columns beside the ranked metric are."""
    lines = []
    if t.scale:
        zero = "the chance level" if t.scale.control == CHANCE else f"the `{t.scale.control}` control"
        lines += [
            f"- *scaled*: (score − {number(t.scale.zero)}) / ({number(t.scale.one)} − {number(t.scale.zero)}), so "
            f"that 0 is {zero} and 1 the `{CEILING}`."
        ]
    if len(t.seeds) > 1:
        lines += [
            "- *seed SD*: standard deviation over seeds within a subject, pooled over subjects: how much the score "
            "changes when all is trained anew. The interval does not speak of that."
        ]
    return [*lines, ""] if lines else []


def _others(t: Table, rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    """Return the tables of the other metrics, of methods and controls."""
    if not names:
        return []
    lines, chance = ["### Other metrics", "", "Controls are in italics.", ""], _chance(t, names)
    for part in _abreast([(name, len(_head(t, name))) for name in names]):
        lines += [f"| method | {' | '.join(_head(t, name) for name in part)} |", "|---|" + "---:|" * len(part)]
        for row in rows:
            label = f"*{row.label}*" if row.control else row.label
            lines.append(f"| {label} | {' | '.join(_value(row, name) for name in part)} |")
        lines += [f"| *chance level* | {' | '.join(number(chance.get(name)) for name in part)} |", ""]
    return [*lines, *_footnotes(t, names)]


def _abreast(names: Sequence[tuple[str, int]]) -> list[list[str]]:
    """Return names in groups that a page can show beside each other, by their lengths."""
    groups: list[list[str]] = [[]]
    left = ABREAST
    for name, length in names:
        left -= max(length, 5) + 3
        if left < 0 and groups[-1]:
            groups.append([])
            left = ABREAST - max(length, 5) - 3
        groups[-1].append(name)
    return groups


def _head(t: Table, name: str) -> str:
    return f"{name}{'†' * (name in _notes(t))} {ARROW[t.directions.get(name)]}".strip()


def _value(row: Row, name: str) -> str:
    return number(row.metrics[name]["value"]) if name in row.metrics else "–"


def _chance(t: Table, names: Sequence[str]) -> dict[str, float | None]:
    return {name: row.metrics[name]["chance"] for row in t.rows for name in names if name in row.metrics}


def _by_subject(t: Table, rows: Sequence[Row]) -> list[str]:
    """Return the ranked metric of every subject; empty where they are too few for an interval of their mean."""
    if len(t.subjects) < MIN_SUBJECTS:
        return []
    text = f"{t.ranked} {ARROW[t.directions.get(t.ranked)]} of every subject, mean over seeds; the interval is the "
    text += f"{LEVEL:.0%} t interval of the mean over subjects. Controls are in italics."
    lines = ["### By subject", "", text, "", f"| method | mean | {INTERVAL} | {' | '.join(t.subjects)} |"]
    lines += ["|---|" + "---:|" * (len(t.subjects) + 2)]
    for row in rows:
        if t.ranked in row.metrics:
            found = row.metrics[t.ranked]
            cells = [number(found["value"]), _interval(row, t)]
            cells += [number(found["subjects"].get(s)) for s in t.subjects]
            lines.append(f"| {f'*{row.label}*' if row.control else row.label} | {' | '.join(cells)} |")
    return [*lines, ""]


def _notes(t: Table) -> dict[str, str]:
    """Return the caveats of the columns."""
    return {name: m["note"] for row in t.rows for name, m in row.metrics.items() if m["note"]}


def _footnotes(t: Table, names: Sequence[str]) -> list[str]:
    notes = dict.fromkeys(note for name, note in _notes(t).items() if name in names)
    return [line for note in notes for line in (f"† {note}", "")]


def _faults(t: Table) -> list[str]:
    bad = [(row, r) for row in t.rows for r in row.records if r["status"] != "ok"]
    gaps = [row for row in t.rows if row.missing]
    if not bad and not gaps:
        return []
    lines = [
        "### Failed, skipped and incomplete",
        "",
        "| method | subject | seed | status | reason |",
        "|---|---|---|---|---|",
    ]
    for row, r in bad:
        reason = " ".join(r["reason"].split()).replace("|", "\\|")
        lines.append(f"| {row.label} | {r['subject']} | {r['seed']} | {r['status']} | {reason} |")
    for row in gaps:
        missing = ", ".join(row.missing[:6]) + (f" and {len(row.missing) - 6} more" if len(row.missing) > 6 else "")
        lines.append(f"| {row.label} | | | incomplete | lacks {missing} |")
    return [*lines, ""]


def _provenance(row: Row, ranked: str) -> str:
    times = " | ".join(_seconds(row, name) for name in ("train", "predict", "score", "total"))
    size = f"{len(row.records)} | {row.metrics[ranked]['n'] if ranked in row.metrics else 0}"
    label = row.label if row.profile == "mini" else f"{row.label} ({row.profile})"
    commits = dict.fromkeys((r["commit"] or "unknown")[:10] + ("+changes" if r["dirty"] else "") for r in row.records)
    date = max(r["date"] for r in row.records)[:10]
    return f"| {label} | {size} | {times} | {_peak(row)} | {date} | {', '.join(commits)} |"


def _unique(t: Table, name: str) -> str:
    return ", ".join(sorted({f"`{str(r[name])[:16]}`" for row in t.rows for r in row.records}))


def _seconds(row: Row, name: str) -> str:
    values = [r["seconds"][name] for r in row.records if name in r["seconds"]]
    return f"{fmean(values):.2f}" if values else "–"


def _peak(row: Row) -> str:
    return f"{max(r['peak_mb'] or 0 for r in row.records):.0f}"


def _interval_text(t: Table) -> str:
    if not any(row.interval for row in t.rows):
        return ""
    over = "subjects" if len(t.subjects) >= MIN_SUBJECTS else "other test items within these subjects"
    return (
        f"The interval is over {over}. Methods that cannot be told apart from the leader of their tier share its rank "
        "(paired sign-flip tests over test items, Holm-corrected; docs/statistics.md)."
    )


def _interval(row: Row, t: Table) -> str:
    """Return the interval over subjects where there are enough, else over test items."""
    enough = len(t.subjects) >= MIN_SUBJECTS
    found = row.metrics.get(t.ranked, {}).get("interval") if enough else row.interval
    return f"{number(found[0])} to {number(found[1])}" if found else "–"


def _text(content: Mapping[str, Any]) -> str:
    """Return JSON with a line for every row and run, which is written several times as fast as an indented one."""
    parts = []
    for name, values in sorted(content.items()):
        lines = [json.dumps(value, sort_keys=True, allow_nan=False) for value in values]
        parts.append(f" {json.dumps(name)}: [\n  " + ",\n  ".join(lines) + "\n ]")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _json(members: Sequence[Table]) -> dict[str, Any]:
    rows, runs = [], []
    more = [literature.reported(t.track, t.dataset, t.split) for t in members]
    published = {"reported_elsewhere": found} if (found := [m for m in more if m]) else {}
    for t in members:
        for row in t.rows:
            more = {"rank": row.rank, "tags": list(row.tags)}
            first = row.records[0]
            rows.append(
                {name: first[name] for name in ("suite", "dataset", "split", "method", "preset", "profile")}
                | {"track": t.track, "subjects": list(t.subjects), "seeds": list(t.seeds), "control": row.control}
                | {"missing": list(row.missing), "undefined": list(row.undefined), "metrics": dict(row.metrics), **more}
                | {"scaled": row.scaled, "seed_sd": row.seed_sd}
                | {"scale": t.scale and {t.scale.control: t.scale.zero, CEILING: t.scale.one}}
            )
            runs += [f | more for r in row.records for f in flat(r) if f["track"] == t.track]
    return {"rows": rows, "runs": runs, **published}
