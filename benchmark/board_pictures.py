"""The pictures that boards show: which, where from, and the section that shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmark.figures import RECONSTRUCTED

_RUN = ("suite", "dataset", "method", "run_id")


def pictures(found: Sequence[Any]) -> dict[str, str]:
    """Return the pictures that boards show, path below the boards by path below the store: of one run a method."""
    return {
        f"{t.suite}/{_picture(t, row, name)}": "/".join((*(run[k] for k in _RUN), name))
        for t in found
        for row, run in _pictured(t)
        for name in run["figures"]
    }


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


def section(t: Any) -> list[str]:
    """Return the section of pictures; reconstructions are shown, the others are linked."""
    shown = _pictured(t)
    if not shown:
        return []
    lines = [
        "### Pictures",
        "",
        "Of one run a method: the first subject with the first seed; test items fixed by id.",
        "",
    ]
    for row, run in shown:
        links = ", ".join(f"[{name.removesuffix('.png')}]({_picture(t, row, name)})" for name in run["figures"])
        lines += [f"- {row.label}, {run['subject']} seed {run['seed']}: {links}"]
    if t.track == "reconstruction":
        for row, run in shown:
            if RECONSTRUCTED in run["figures"]:
                lines += ["", f"**{row.label}**", "", f"![{row.label}]({_picture(t, row, RECONSTRUCTED)})"]
    return [*lines, ""]
