"""What people see while runs go on and at their end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table as RichTable

from benchmark.leaderboard import ARROW, Table

STYLE = {"ok": "green", "kept": "dim", "skipped": "yellow", "failed": "red", "timeout": "red", "oom": "red"}
COLUMNS_SHOWN = 6
WIDTH_WITHOUT_TERMINAL = 120


class Watch:
    """Progress of a session: which run, which stage, time left; one line per finished run.

    Parameters
    ----------
    console : Console
        Where to; a bar is drawn only on a terminal.
    total : int
        Planned runs.
    """

    def __init__(self, console: Console, total: int) -> None:
        self.console, self.total, self.done, self.kept = console, total, 0, 0
        self._lock = threading.Lock()
        self._lines: dict[str, Any] = {}
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            speed_estimate_period=600,
        )
        self._all = self._progress.add_task("runs", total=total)

    def __enter__(self) -> Watch:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def __call__(self, kind: str, planned: Any, text: str) -> None:
        """Take an event of the runner."""
        with self._lock:
            if kind == "kept":
                self.kept += 1
                self.done += 1
                self._progress.update(self._all, completed=self.done)
            elif kind in ("start", "stage", "waiting"):
                label = f"{planned.spec.label} [dim]{text}[/dim]"
                if planned.id not in self._lines:
                    self._lines[planned.id] = self._progress.add_task(label, total=None)
                self._progress.update(self._lines[planned.id], description=label)
            elif kind == "end":
                self.done += 1
                if planned.id in self._lines:
                    self._progress.remove_task(self._lines.pop(planned.id))
                self._progress.update(self._all, completed=self.done)
                style = STYLE.get(text, "")
                self.console.print(
                    f"[dim]{self.done:>3}/{self.total}[/dim] [{style}]{text:<7}[/{style}] {planned.spec.label}",
                    highlight=False,
                )


@contextmanager
def steps(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Show bars of named steps; yields a function of name, what is done and what there is to do."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console) as progress:
        tasks: dict[str, Any] = {}

        def report(label: str, done: int, total: int) -> None:
            if label not in tasks:
                tasks[label] = progress.add_task(label, total=total)
            progress.update(tasks[label], completed=done, total=total)

        yield report


def show_tables(console: Console, tables: Sequence[Table]) -> None:
    """Print every table with its first columns; the rest is in the markdown."""
    datasets = [(t.track, t.dataset) for t in tables]
    for t in tables:
        which = f"{t.dataset}, {t.split}" if datasets.count((t.track, t.dataset)) > 1 else t.dataset
        names = _fitting([t.ranked, *(c for c in t.columns if c != t.ranked)][:COLUMNS_SHOWN], t, console.width)
        title = f"{t.suite} {t.version} · {t.track} · {which} ({len(t.subjects)} subject{'s' * (len(t.subjects) > 1)})"
        out = RichTable(title=title, title_justify="left", title_style="bold")
        out.add_column("rank", justify="right")
        out.add_column("method", no_wrap=True)
        for name in names:
            out.add_column(f"{name} {ARROW[t.directions.get(name)]}".strip(), justify="right", no_wrap=True)
        out.add_column("s", justify="right", no_wrap=True)
        out.add_column("status")
        last = False
        for row in t.rows:
            if row.control and not last and out.row_count:
                out.add_section()
            last = row.control
            cells = [f"{row.metrics[n]['value']:.3f}" if n in row.metrics else "–" for n in names]
            seconds = sum(r["seconds"].get("total", 0) for r in row.records)
            bad = [r for r in row.records if r["status"] != "ok"]
            status = f"[{STYLE[bad[0]['status']]}]{bad[0]['status']}: {bad[0]['reason']}[/]" if bad else "ok"
            out.add_row(str(row.rank or "–"), row.label, *cells, f"{seconds:.1f}", status)
        console.print(out)


def _fitting(names: Sequence[str], table: Table, width: int) -> list[str]:
    """Return the leading columns that a terminal of this width shows without cutting a number; at least one."""
    left = width - max(len(row.label) for row in table.rows) - 36  # rank, seconds, status and the borders
    shown = []
    for name in names:
        left -= max(len(name) + 2, 5) + 3
        if shown and left < 0:
            break
        shown.append(name)
    return shown
