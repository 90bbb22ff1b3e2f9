"""``bench leaderboard --submit`` and ``--accept``: runs go out as a bundle, and bundles join the records."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence, Set
from pathlib import Path

from rich.console import Console

from benchmark import board_page, bundle, leaderboard, records
from benchmark.board_pictures import pictures
from benchmark.data.locate import cache_dir, data_dir
from benchmark.plan import Request
from benchmark.registry import Registry


def submit(store: Path, text: str, out: Path) -> int:
    """Write the bundle and say what is in it; returns the exit code."""
    folders = bundle.choose(store, text)
    size = bundle.write(out, folders)
    print(f"{out}: {len(folders)} run{'s' * (len(folders) > 1)}, {size / 1e6:.1f} MB")
    return 0


def accept(path: Path, boards: Path, registry: Registry, data: str | None = None, weights: Path | None = None) -> int:
    """Verify a bundle, merge its runs into the committed records and render these; nothing where one is refused."""
    places = {"data": data_dir(data), "cache": cache_dir(), "weights": weights}
    request = Request(device="cpu", threads=os.cpu_count() or 1, **places)
    there = records.read(boards / "records")
    items = []
    with (
        bundle.opened(path) as archive,
        tempfile.TemporaryDirectory() as folder,
        Console(stderr=True).status("") as say,
    ):
        for run in bundle.read(path, archive):
            say.update(f"scoring {run.label}")
            item = bundle.verify(path, archive, run, registry, request, Path(folder))
            bundle.check_place(path, item, there)
            items.append(item)
    records.write(boards / "records", items)
    suites = {entry.name: entry.load() for entry in registry.entries("suite")}
    found = leaderboard.tables(records.read(boards / "records"), suites)
    board_page.write(boards, board_page.render(found), pictures(found))
    for item in items:
        print(f"accepted: {item['method']} on {item['dataset']}/{item['subject']} seed {item['seed']}")
    for line in _standing(found, {records.key(item) for item in items}):
        print(line)
    print(f"leaderboards: {boards / 'README.md'}")
    return 0


def _standing(found: Sequence[leaderboard.Table], accepted: Set[str]) -> Iterator[str]:
    """Yield how the rows with accepted runs stand, and what those that are not ranked lack."""
    for table in found:
        for row in table.rows:
            if accepted.isdisjoint(map(records.key, row.records)):
                continue
            why = ", ".join(row.missing) or ", ".join(sorted({*row.tags} & {*leaderboard.UNRANKED_TAGS})) or "a control"
            lacks = "lacks " if row.missing else ""
            stands = f"rank {row.rank}" if row.rank else f"not ranked: {lacks}{why}"
            yield f"{table.suite} {table.track}, {table.dataset}: {row.label} {stands}"
