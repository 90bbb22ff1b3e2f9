"""``bench info``: everything about one registered name, as text."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

from benchmark.registry import Entry, Registry


def describe(registry: Registry, kind: str, name: str) -> str:
    """Return the text of ``bench info KIND NAME``."""
    entry = registry.get(kind, name)
    return "\n".join([f"{kind} {name}", *_DESCRIBE[kind](entry)])


def _method(entry: Entry) -> list[str]:
    cls = entry.load()
    lines = ["", inspect.cleandoc(cls.__doc__ or ""), ""]
    lines += _pairs(
        tracks=", ".join(sorted(cls.tracks)),
        control=getattr(cls, "control", False),
        paper=getattr(cls, "paper", ""),
        licence=getattr(cls, "licence", ""),
        pretrained=", ".join(getattr(cls, "pretrained", ())),
        resources=_inline(getattr(cls, "resources", {})),
        reported=_inline(getattr(cls, "reported", {})),
        defined_in=entry.target,
    )
    if hasattr(cls, "Params") and dataclasses.fields(cls.Params):
        lines += ["", "parameters (defaults are the paper's)"]
        lines += [f"  {f.name} = {getattr(cls.Params(), f.name)!r}" for f in dataclasses.fields(cls.Params)]
    for title in ("profiles", "presets"):
        changes = getattr(cls, title, {})
        lines += ["", title, *(f"  {name}: {_inline(change)}" for name, change in changes.items())] if changes else []
    return lines


_OVER = {"dimensions": "dimensions", "categories": "categories", "hubs": "folds", "set": "one value"}


def _metric(entry: Entry) -> list[str]:
    m = entry.load()
    better = {True: "higher is better", False: "lower is better", None: "a diagnostic, no better end"}
    chance = "no closed form; the control rows stand for it" if m.chance is None else _chance(m)
    return _pairs(
        definition=m.definition,
        protocol=m.protocol,
        version=m.version,
        range=f"{m.lower:g} to {m.upper:g}, {better[m.higher_is_better]}",
        aggregate=f"{m.aggregate} over {_OVER.get(m.kind, 'items')}",
        chance=chance,
        ties=m.ties,
        note=m.note,
        source=m.source,
    )


def _chance(metric: Any) -> str:
    return ", ".join(f"{metric.chance(n):.4g} among {n}" for n in (10, 120, 180, 1000))


def _dataset(entry: Entry) -> list[str]:
    meta = dict(entry.meta)
    return _pairs(summary=entry.summary, source=meta.get("source", ""), looked_for=meta.get("marker", "")) + _pairs(
        generated=meta.get("generated", ""), loader=entry.target
    )


def _suite(entry: Entry) -> list[str]:
    suite = entry.load()
    lines = _pairs(version=suite.version, summary=suite.summary)
    for task in suite.tasks:
        lines += ["", f"{task.dataset}, split {task.split}"]
        lines += _pairs(subjects=", ".join(task.subjects), published_subjects=", ".join(task.published_subjects))
        for name, track in task.tracks.items():
            space = f" in space {track.space}" if track.space else ""
            lines.append(f"  {name}{space}: ranked by {track.ranked}; {', '.join(track.metrics)}")
    return lines


def _pairs(**values: Any) -> list[str]:
    return [f"  {name.replace('_', ' ')}: {value}" for name, value in values.items() if value not in ("", None)]


def _inline(values: Any) -> str:
    return ", ".join(f"{k} = {v}" for k, v in dict(values).items())


_DESCRIBE = {"method": _method, "metric": _metric, "dataset": _dataset, "suite": _suite}
