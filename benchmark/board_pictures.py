"""The pictures that boards show: which, where from, and the section that shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmark import board_figures
from benchmark.board_figures import COST, GRID, RANKS, SCORES, Drawing

_RUN = ("suite", "dataset", "method", "run_id")


def pictures(found: Sequence[Any]) -> dict[str, str | Drawing]:
    """Return the pictures that boards show by path below the boards, as a function of records alone.

    Returns
    -------
    dict of str to (str or Drawing)
        Of one run a method, the path below the store; of all methods in one, how it is drawn.
    """
    files: dict[str, str | Drawing] = {}
    for t in found:
        files |= {
            f"{t.suite}/{_picture(t, row, name)}": "/".join((*(run[k] for k in _RUN), name))
            for row, run in _pictured(t)
            for name in run["figures"]
            if name.endswith(".png")
        }
        files |= {f"{t.suite}/{_drawn(t, name)}": how for name, how in board_figures.drawings(t).items()}
    return files


def _pictured(t: Any) -> list[tuple[Any, Mapping[str, Any]]]:
    """Return the run of every method that stands for it: the first subject's with the first seed."""
    chosen = []
    for row in t.rows:
        runs = [r for r in row.records if r["status"] == "ok" and r.get("figures")]
        if runs and not row.control:
            chosen.append((row, min(runs, key=lambda r: (r["subject"], r["seed"]))))
    return chosen


def _picture(t: Any, row: Any, name: str) -> str:
    profile = "" if row.profile == "mini" else f"-{row.profile}"
    return f"pictures/{t.dataset}/{t.split}/{row.label.replace(':', '-')}{profile}-{name}"


def _drawn(t: Any, name: str) -> str:
    """Return the path of a picture of all methods; no method's own, because its name has no such folder."""
    return f"pictures/{t.dataset}/{t.split}/{t.track}/{name}"


def scores(t: Any) -> list[str]:
    """Return the lines that show the scores of all methods and controls."""
    if SCORES not in board_figures.listed(t):
        return []
    return [f"![{t.ranked} of every method and control]({_drawn(t, SCORES)})", ""]


def section(t: Any) -> list[str]:
    """Return the section of pictures: those of all methods are shown, those of one are linked."""
    drawn, shown = board_figures.listed(t), _pictured(t)
    lines: list[str] = []
    if GRID in drawn:
        names = board_figures.in_grid(t)
        run = names[0][1]
        more = sum(not row.control for row in t.rows) - len(names)
        lines += [
            f"Stimuli and what every method made of them ({run['subject']}, seed {run['seed']}). The test items are "
            f"fixed by id, not chosen by score. `{board_figures.BESIDE}`: the training stimulus of the nearest "
            "response." + (f" Not in it: {more} of the methods." if more else ""),
            "",
            f"![stimuli and reconstructions]({_drawn(t, GRID)})",
            "",
        ]
    if RANKS in drawn:
        text = (
            "At which rank the right candidate came, over all subjects, seeds and test items (median rank in brackets)."
        )
        lines += [text, "", f"![ranks of the right candidate]({_drawn(t, RANKS)})", ""]
    if COST in drawn:
        text = "What a run costs: seconds to train, predict and score, and the peak of its memory; controls are hollow."
        lines += [text, "", f"![time and memory against {t.ranked}]({_drawn(t, COST)})", ""]
    if shown:
        lines += ["Of one run a method, the first subject with the first seed:", ""]
    for row, run in shown:
        names = [name for name in run["figures"] if name.endswith(".png")]
        links = ", ".join(f"[{name.removesuffix('.png')}]({_picture(t, row, name)})" for name in names)
        lines += [f"- {row.label}, {run['subject']} seed {run['seed']}: {links}"]
    if shown:
        lines += [""]
    return ["### Pictures", "", *lines] if lines else []
