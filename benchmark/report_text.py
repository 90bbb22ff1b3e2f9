"""The parts of a report that boards and cards have as markdown, for a page that renders none."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from benchmark import board_numbers, card, ladder_board, literature
from benchmark.leaderboard import Table

_SPAN = re.compile(r"(\d) – ([+-]\d)")  # a dash before a minus is hard to read
_NAMES = {
    "loss.png": "losses while training",
    "ranks.png": "ranks of the right candidate",
    "retrieved.png": "what was retrieved",
    "reconstructed.png": "what was reconstructed",
}


def sections(t: Table) -> list[dict[str, str]]:
    """Return what stands below a table, as on its board: ``title`` and ``html`` of each part that it has."""
    methods = [row for row in t.rows if not row.control]
    differences = board_numbers.section(t.track, t.ranked, t.columns, methods)
    found = [[_SPAN.sub(r"\1 to \2", line) for line in differences]]
    if t.track == "reconstruction":
        found.append(ladder_board.section(t.ranked, [(row.label, row.records) for row in methods]))
    found.append(literature.section(t.track, t.dataset, t.split))
    return [
        {"title": lines[0].removeprefix("### "), "html": html("\n".join(lines[1:]))} for lines in found if any(lines)
    ]


def run(record: Mapping[str, Any], store: Path, root: Path, pictures: str) -> dict[str, Any]:
    """Return a run's card, and copy its figures.

    Parameters
    ----------
    record : mapping
    store : Path
    root : Path
        Folder of the report.
    pictures : str
        Where in it the figures go; empty where they are left out.

    Returns
    -------
    dict
        ``title``, ``html`` and ``json`` (the text of ``card.json``) of the card, ``path`` below the store, and
        ``figures``: ``file`` and ``name`` of each, or their number where they are left out.
    """
    content = card.of(record)
    title, _, text = card.markdown(content).partition("\n")
    path = "/".join(record[name] for name in ("suite", "dataset", "method", "run_id"))
    there = [name for name in record.get("figures", ()) if (store / path / name).is_file()]
    figures = []
    for name in there if pictures else ():
        target = root / pictures / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(store / path / name, target)
        figures.append({"file": quote(f"{pictures}/{name}"), "name": _NAMES.get(name, name.removesuffix(".png"))})
    return {
        "title": title.removeprefix("# "),
        "html": html(text.replace("\n## ", "\n### ")),
        "json": card.dumps(content),
        "path": path,
        "figures": figures,
        "left_out": len(there) - len(figures),
    }


def html(markdown: str) -> str:
    """Return markdown as HTML; markup in it is text."""
    return _parser().render(markdown)


@lru_cache(maxsize=1)
def _parser():
    from markdown_it import MarkdownIt

    # no pictures: none of the parts has one, and a name in the data must not make the page ask for a file
    return MarkdownIt("commonmark", {"html": False}).enable("table").disable(["image", "link", "autolink"])
