"""The first page of the boards: what they answer, how to read, check and join them, and what changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from benchmark import card_pages
from benchmark.board_numbers import number
from benchmark.leaderboard import ARROW, Table

QUESTIONS = {
    "words": "which word was heard, read or seen?",
    "embedding": "which vector of a network belongs to the stimulus, and which stimulus does it find?",
    "reconstruction": "what did the picture that was seen look like?",
}
HOW_TO_READ = (
    "A **suite** fixes datasets, splits and metrics, under a version. Numbers of two suites, versions or datasets are "
    "not comparable.",
    "**Rank** is that of a tier: methods that cannot be told apart from its leader share it "
    "([docs/statistics.md](../docs/statistics.md)).",
    "The **interval** is over subjects from three on. Below that it is over test items, and holds within these "
    "subjects only.",
    "**Controls** are run like methods and never ranked. A score counts by its distance from `shuffled` (ridge on "
    "permuted pairs) and from `ridge`; `oracle` is given the truth.",
    "**Tags** say what to be careful of. Failed runs and rows that lack a run are listed: never ranked, never dropped.",
)
DATES = 5  # that "What changed" goes back


def page(boards: Mapping[tuple[str, str], Sequence[Table]]) -> str:
    """Return the index of boards, by suite and track."""
    found = [table for members in boards.values() for table in members]
    runs = {id(r): r for t in found for row in t.rows for r in row.records}
    records = sorted(runs.values(), key=lambda r: (r["date"], r["run_id"]))
    last = records[-1]["date"][:10] if records else "never"
    lines = ["# Leaderboards", ""]
    lines += [
        "Decoding of words and pictures from fMRI. Generated from the records beside them; never edited by hand. "
        f"{len(records)} runs, the last of {last}.",
        "",
    ]
    lines += _boards(boards)
    asked = dict.fromkeys(t.track for t in found if t.track in QUESTIONS)
    lines += ["", *(f"- **{track}**: {QUESTIONS[track]}" for track in asked), ""]
    lines += ["## How to read them", "", *(f"- {text}" for text in HOW_TO_READ), ""]
    lines += _check(records)
    lines += [
        "## How to get on them",
        "",
        "- A method as code: [docs/adding-a-method.md](../docs/adding-a-method.md).",
        "- Predictions you have already: [docs/scoring-your-own.md](../docs/scoring-your-own.md).",
        "- Then `bench leaderboard --submit RUN --out FILE.zip`; `--accept FILE.zip` scores the predictions again: "
        "[docs/sharing-results.md](../docs/sharing-results.md).",
        "",
    ]
    lines += _changes(records)
    return "\n".join(lines) + "\n"


def _boards(boards: Mapping[tuple[str, str], Sequence[Table]]) -> list[str]:
    lines = ["| suite | track | dataset | ranked by | best method | value | chance level | methods | last run |"]
    lines += ["|---|---|---|---|---|---:|---:|---:|---|"]
    for (suite, track), members in boards.items():
        datasets = [t.dataset for t in members]
        for t in members:
            which = f"{t.dataset} ({t.split})" if datasets.count(t.dataset) > 1 else t.dataset
            best = next((r for r in t.rows if r.rank == 1), None)
            value = number(best.metrics[t.ranked]["value"]) if best else "–"
            chance = number(best.metrics[t.ranked]["chance"]) if best else "–"
            last = max(r["date"] for row in t.rows for r in row.records)[:10]
            n = sum(not row.control for row in t.rows)
            tied = sum(r.rank == 1 for r in t.rows) - 1
            name = f"[{suite} {t.version}]({suite}/{track}.md)"
            label = card_pages.link(best, t.dataset, f"{suite}/{card_pages.FOLDER}") if best else "–"
            lines.append(
                f"| {name} | {track} | {which} | {t.ranked} {ARROW[t.directions.get(t.ranked)]} | "
                f"{label}{f' and {tied} more of its tier' if tied > 0 else ''} | {value} | {chance} | {n} | {last} |"
            )
    return lines


def _check(records: Sequence[Mapping]) -> list[str]:
    lines = ["## How to check a claim", ""]
    lines += ["A method's name leads to the cards of its runs: code, versions, weights, machine, data and scores."]
    methods = [r for r in records if not r["control"]]
    if example := card_pages.newest_of(methods) or card_pages.newest_of(records):
        lines += ["A run can be made again and its scores compared, by the id that stands there:", ""]
        lines += [f"    bench rerun {example['run_id']}"]
    return [*lines, "", "`bench leaderboard --check` says whether these pages are what the records give.", ""]


def _changes(records: Sequence[Mapping]) -> list[str]:
    """Return what the newest dates of the records brought; a record that was replaced leaves no trace."""

    def group(r: Mapping) -> tuple[str, ...]:
        return r["suite"], r["dataset"], r["method"], r["preset"]

    whole = Counter(map(group, records))
    dates = sorted({r["date"][:10] for r in records}, reverse=True)
    lines = ["## What changed", ""]
    lines += [f"By date of the runs that stand now{f', the newest {DATES} dates' if len(dates) > DATES else ''}.", ""]
    lines += ["| date | suite | dataset | methods | commit |", "|---|---|---|---|---|"]
    for date in dates[:DATES]:
        made = [r for r in records if r["date"][:10] == date]
        for suite, dataset in sorted({(r["suite"], r["dataset"]) for r in made}):
            mine = [r for r in made if (r["suite"], r["dataset"]) == (suite, dataset)]
            counts = Counter(map(group, mine))
            names = [_name(g, n, whole[g]) for g, n in sorted(counts.items())]
            commits = sorted({(r["commit"] or "unknown")[:10] + ("+changes" if r["dirty"] else "") for r in mine})
            lines.append(f"| {date} | {suite} | {dataset} | {', '.join(names)} | {', '.join(commits)} |")
    return lines


def _name(group: tuple[str, ...], n: int, of: int) -> str:
    label = group[2] if group[3] == "default" else f"{group[2]}:{group[3]}"
    return label if n == of else f"{label} ({n} of {of} runs)"
