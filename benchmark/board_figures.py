"""Pictures of a board: all of its methods in one, drawn from records; the grid of reconstructions from the store.

A picture holds a digest of what it shows, so that it is drawn again only where that changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.data.files import write_atomic
from benchmark.figures import COLOURS, LARGEST, RECONSTRUCTED, STIMULI, fitting, shown
from benchmark.stats import LEVEL, MIN_SUBJECTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SCORES, COST, RANKS, GRID = "scores.png", "cost.png", "ranks.png", "grid.png"
RANK = "rank_median"
BESIDE = "nearest-train"  # the control that has pictures worth a look: what the training set alone gives
MOST = 10  # methods in a grid, beside the stimuli and the control; more could not be made out
WIDE = 8.8  # inches, at 100 dots each: about as wide as a page of GitHub shows
DOTS = 100
BINS = 20
MARKERS = "os^DvPX"
GREY, BAND = "#6b6b6b", "#f0f0f0"
_DRAWN_BY = 2  # counted up where the drawing changes, so that all pictures are drawn again
_HEAD = 600  # bytes at a picture's start in which its digest is


@dataclass(frozen=True)
class Drawing:
    """A picture and what it shows.

    Attributes
    ----------
    draw : callable
        ``draw(content) -> Figure``.
    content : mapping
        What is drawn, as plain JSON but for arrays.
    store : callable, optional
        ``store(folder, anew) -> content or None``: where the content is not in records, how it is read from a store;
        None where that lacks it, or lacks a part of it and the picture need not be made anew.
    """

    draw: Callable[[Mapping[str, Any]], Figure]
    content: Mapping[str, Any] | None = None
    store: Callable[[Path, bool], Mapping[str, Any] | None] | None = None

    def is_current(self, path: Path) -> bool:
        """Whether the picture is there and, where records tell, shows what they say."""
        return path.is_file() and (self.content is None or _digest(self.content) in _head(path))

    def write(self, path: Path, store: Path | None = None) -> None:
        """Draw the picture where it is not there or shows something else; one that cannot be made stays as it is."""
        content = self.content
        if content is None and self.store and store is not None:
            content = self.store(store, not path.is_file())
        if content is None:
            return
        digest = _digest(content)
        if path.is_file() and digest in _head(path):
            return
        file = BytesIO()
        self.draw(content).savefig(file, dpi=DOTS, format="png", metadata={"Software": None, "Comment": digest})
        write_atomic(path, file.getvalue())


def listed(t: Any) -> list[str]:
    """Return the names of a table's pictures, a function of its records alone."""
    there = {
        SCORES: any(t.ranked in row.metrics for row in t.rows),
        COST: any(_seconds(t, row) for row in t.rows),
        RANKS: any(_holds_ranks(t, row) for row in t.rows),
        GRID: bool(in_grid(t)),
    }
    return [name for name, found in there.items() if found]


def drawings(t: Any) -> dict[str, Drawing]:
    """Return the pictures of a table, by the names of `listed`."""
    every = {
        SCORES: lambda: Drawing(draw_scores, _scores(t)),
        COST: lambda: Drawing(draw_cost, _cost(t)),
        RANKS: lambda: Drawing(draw_ranks, _ranks(t)),
        GRID: lambda: Drawing(draw_grid, store=lambda store, anew: _grid(t, store, anew)),
    }
    return {name: every[name]() for name in listed(t)}


def in_grid(t: Any) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the methods whose records say that they made pictures, and the run of the first subject and seed."""
    if t.track != "reconstruction":
        return []
    found = [(_name(row), _first_run(t, row)) for row in t.rows if not row.control]
    return [(name, run) for name, run in found if run and RECONSTRUCTED in (run.get("figures") or ())][:MOST]


def draw_scores(content: Mapping[str, Any]) -> Figure:
    """Draw the ranked metric of every method and control, with its interval, in the order of the board."""
    rows = content["rows"]
    figure, axes, left = _panel(rows)
    low, high = _range(content)
    inside = [(y, row) for y, row in enumerate(rows) if low <= row["value"] <= high]
    for y, row in enumerate(rows):
        if row["rank"] is not None and row["rank"] % 2:
            axes.axhspan(y - 0.5, y + 0.5, color=BAND, lw=0, zorder=0)
        if not low <= row["value"] <= high:
            right = row["value"] > high
            text, place = (f"{row['value']:.3g} →", high) if right else (f"← {row['value']:.3g}", low)
            axes.text(place, y, text, ha="right" if right else "left", va="center", fontsize=8, color=GREY)
    if given := [(y, *row["interval"], _colour(row)) for y, row in inside if row["interval"]]:
        ys, starts, ends, colours = zip(*given, strict=True)
        axes.hlines(ys, starts, ends, colours, lw=2, zorder=3, label="intervals")
    several = [(x, y + 0.27, _colour(row)) for y, row in inside if len(row["parts"]) > 1 for x in row["parts"]]
    if several:
        xs, ys, colours = zip(*several, strict=True)
        axes.scatter(xs, ys, s=5, c=colours, alpha=0.75, zorder=2, label="parts")
    values, colours = [row["value"] for _, row in inside], [_colour(row) for _, row in inside]
    faces = ["white" if row["control"] else _colour(row) for _, row in inside]
    axes.scatter(values, [y for y, _ in inside], s=49, c=faces, edgecolors=colours, zorder=4, label="values")
    if content["chance"] is not None:
        axes.axvline(content["chance"], color="black", lw=1, ls="--", zorder=1)
    axes.set(yticks=range(len(rows)), ylim=(len(rows) - 0.5, -0.5), xlim=(low, high), xlabel=_axis(content))
    axes.set_yticklabels([row["name"] for row in rows])
    _grey_controls(axes, rows)
    what = f"mean with its {LEVEL:.0%} interval over {content['over']}"
    entries = [_entry(what, "o", COLOURS[0], ls="-"), _entry("control", "o", GREY, mfc="white")]
    if several:
        entries.append(_entry(f"one {content['part']}", ".", COLOURS[0]))
    if content["chance"] is not None:
        entries.append(_entry("chance level", "", "black", ls="--", lw=1))
    place = {"loc": "lower center", "ncol": len(entries), "bbox_to_anchor": (0.5, 0.0)}
    figure.legend(handles=entries, frameon=False, fontsize=8, handletextpad=0.5, columnspacing=1.4, **place)
    if any(row["rank"] for row in rows):
        column = axes.get_yaxis_transform()
        axes.text(left, -0.75, "rank", fontsize=8, color=GREY, ha="center", transform=column)
        for y, row in enumerate(rows):
            axes.text(left, y, row["rank"] or "", fontsize=8.5, ha="center", va="center", transform=column)
    return figure


def draw_cost(content: Mapping[str, Any]) -> Figure:
    """Draw the ranked metric of every method and control against the seconds and the memory of a run."""
    rows = content["rows"]
    high = max(3.4, 0.19 * len(rows) + 0.9)
    figure = _figure(WIDE, high)
    left = 0.62 / WIDE
    right = 1 - (0.35 + 0.075 * max(len(row["name"]) for row in rows)) / WIDE
    space = {"left": left, "right": right, "bottom": 0.55 / high, "top": 1 - 0.15 / high, "wspace": 0.08}
    panels = figure.subplots(1, 2, sharey=True, gridspec_kw=space)
    methods = [row for row in rows if not row["control"]]
    for number, row in enumerate([*methods, *(row for row in rows if row["control"])]):
        mark = MARKERS[number % len(MARKERS)]
        colour = GREY if row["control"] else COLOURS[number % len(COLOURS)]
        filled = {"mec": "white", "mew": 0.6} if not row["control"] else {"mfc": "white"}
        style = {"ls": "", "marker": mark, "color": colour, "ms": 8, **filled}
        panels[0].plot(row["seconds"], row["value"], label=row["name"], zorder=3, **style)
        panels[1].plot(row["mb"], row["value"], zorder=3, **style)
    panels[0].set(xscale="log", ylabel=_axis(content), xlabel="seconds of a run (mean)")
    panels[1].set(xlabel="peak memory in MB (largest of any run)")
    panels[1].set_xlim(0, 1.06 * max(row["mb"] for row in rows))
    _plain_log(panels[0], [row["seconds"] for row in rows])
    for axes in panels:
        if content["chance"] is not None:
            axes.axhline(content["chance"], color="black", lw=1, ls="--", zorder=1)
        _bare(axes)
    lines, names = panels[0].get_legend_handles_labels()
    place = {"loc": "center left", "bbox_to_anchor": (right + 0.008, 0.55)}
    figure.legend(lines, names, frameon=False, fontsize=8, handletextpad=0.2, **place)
    return figure


def draw_ranks(content: Mapping[str, Any]) -> Figure:
    """Draw, for every method, how often the right candidate came at which rank."""
    rows, wide = content["rows"], 4
    lines = -(-len(rows) // wide)
    high = 1.5 * lines + 0.6
    figure = _figure(WIDE, high)
    space = {"left": 0.6 / WIDE, "right": 1 - 0.2 / WIDE, "bottom": 0.55 / high, "top": 1 - 0.3 / high}
    panels = figure.subplots(
        lines, wide, squeeze=False, sharey=True, gridspec_kw=space | {"hspace": 0.42, "wspace": 0.2}
    )
    for axes, row in zip(panels.ravel(), rows, strict=False):
        counts, n = np.array(row["counts"]), row["n_candidates"]
        edges = np.linspace(0.5, n + 0.5, len(counts) + 1)
        axes.stairs(counts / counts.sum(), edges, fill=True, color=COLOURS[0])
        axes.axhline(1 / len(counts), color="black", lw=1, ls="--")
        axes.set_xlim(0.5, n + 0.5)
        name = row["name"] if len(row["name"]) <= 24 else f"{row['name'][:23]}…"
        axes.set_title(f"{name} ({row['median']:.3g})", fontsize=8.5)
        axes.set_xticks([1, round(n / 2), n])
        _bare(axes)
    for axes in panels.ravel()[len(rows) :]:
        axes.set_axis_off()
    figure.supxlabel("rank of the right candidate; dashed: chance", fontsize=9, y=0.06 / high)
    figure.supylabel("share of test items", fontsize=9, x=0.008)
    return figure


def draw_grid(content: Mapping[str, Any]) -> Figure:
    """Draw a row for every stimulus: the stimulus, and the picture that every method made for it."""
    columns = [np.asarray(column) for column in content["columns"]]
    largest = max(columns[0].shape[1:3])
    side, gap = LARGEST // largest * largest, 4  # pixels; whole multiples of the stimuli's
    cells = [_cells(column, side) for column in columns]
    n = len(cells[0])
    image = np.full((n * (side + gap) - gap, len(cells) * (side + gap) - gap, 3), 255, np.uint8)
    for x, column in enumerate(cells):
        for y, cell in enumerate(column):
            image[y * (side + gap) : y * (side + gap) + side, x * (side + gap) : x * (side + gap) + side] = cell
    names = [name.replace(":", ":\n").replace("-", "-\n") for name in content["names"]]
    shrunk = max(1.0, image.shape[1] / (WIDE * DOTS))  # by who shows it on a page; names must still be legible
    wide, high = image.shape[1] / DOTS, image.shape[0] / DOTS
    head = (0.08 + 0.14 * max(name.count("\n") + 1 for name in names)) * shrunk
    figure = _figure(wide, high + head)
    axes = figure.add_axes((0, 0, 1, high / (high + head)))
    axes.imshow(image, interpolation="none", aspect="auto")
    axes.set_axis_off()
    for x, name in enumerate(names):
        style = {"ha": "center", "va": "bottom", "fontsize": 7.5 * shrunk, "linespacing": 1}
        axes.text(x * (side + gap) + side / 2, -6 * shrunk, name, **style)
    return figure


def _scores(t: Any) -> dict[str, Any]:
    enough = len(t.subjects) >= MIN_SUBJECTS
    seeds_only = len(t.subjects) == 1
    rows = []
    for row in t.rows:
        if t.ranked not in row.metrics:
            continue
        m = row.metrics[t.ranked]
        parts = _of_seeds(t, row) if seeds_only else list(m["subjects"].values())
        interval = m["interval"] if enough else row.interval
        rows.append(
            {"name": _name(row), "rank": row.rank, "control": row.control, "oracle": "oracle" in row.tags}
            | {"value": _round(m["value"]), "interval": interval and [_round(x) for x in interval]}
            | {"parts": [_round(x) for x in parts]}
        )
    over = "subjects" if enough else "test items"
    return _common(t) | {"rows": rows, "over": over, "part": "seed" if seeds_only else "subject"}


def _cost(t: Any) -> dict[str, Any]:
    rows = []
    for row in t.rows:
        if seconds := _seconds(t, row):
            mb = max(r["peak_mb"] or 0 for r in row.records)
            rows.append(
                {"name": _name(row), "control": row.control, "value": _round(row.metrics[t.ranked]["value"])}
                | {"seconds": _round(fmean(seconds)), "mb": _round(mb)}
            )
    return _common(t) | {"rows": rows}


def _seconds(t: Any, row: Any) -> list[float]:
    """Return the seconds of a row's runs; none for an oracle, whose cost tells nothing, and without a score."""
    if t.ranked not in row.metrics or "oracle" in row.tags:
        return []
    return [r["seconds"]["total"] for r in row.records if r["status"] == "ok" and r["seconds"].get("total")]


def _ranks(t: Any) -> dict[str, Any]:
    """Return the ranks of all subjects' and seeds' items, counted; without the methods whose records hold none."""
    rows = []
    for row in t.rows:
        if _holds_ranks(t, row):
            ranks = np.concatenate([np.hstack(list(items.values())) for items in _rank_items(t, row)])
            n = round(2 * row.metrics[RANK]["chance"] - 1)  # the chance level of a median rank is (n + 1) / 2
            counts = np.histogram(ranks, min(BINS, n), (0.5, n + 0.5))[0]
            median = _round(row.metrics[RANK]["value"])
            rows.append({"name": _name(row), "counts": counts.tolist(), "n_candidates": n, "median": median})
    return {"rows": rows}


def _holds_ranks(t: Any, row: Any) -> bool:
    given = _rank_items(t, row)
    return bool(not row.control and row.metrics.get(RANK, {}).get("chance") and given and all(given))


def _rank_items(t: Any, row: Any) -> list[Mapping[str, Any] | None]:
    return [r.get("items", {}).get(t.track, {}).get(RANK) for r in row.records if r["status"] == "ok"]


def _grid(t: Any, store: Path, anew: bool) -> dict[str, Any] | None:
    """Return names and columns of the grid; None without stimuli, or without a method where a grid is there already."""
    runs = in_grid(t)
    kept = [path for _, run in runs if (path := _folder(store, run) / STIMULI).is_file()]
    if kept:
        with np.load(kept[0], allow_pickle=False) as file:
            ids, stimuli = file["ids"].tolist(), file["images"]
    else:  # made by an older version: the oracle's pictures are the stimuli
        oracle = next((row for row in t.rows if row.method == "oracle"), None)
        found = _pictures(store, oracle and _first_run(t, oracle))
        if found is None:
            return None
        ids, stimuli = found
    names, columns = ["stimulus"], [stimuli]
    beside = [(_name(row), _first_run(t, row)) for row in t.rows if row.control and row.method == BESIDE]
    for name, run in (*runs, *beside):
        found = _pictures(store, run, ids)
        if found is not None:
            names.append(name)
            columns.append(found[1])
        elif not anew and (name, run) in runs:
            return None
    return {"names": names, "columns": columns} if len(names) > 1 else None


def _pictures(
    store: Path, run: Mapping[str, Any] | None, ids: Sequence[str] = ()
) -> tuple[list[str], np.ndarray] | None:
    """Return ids and pictures of the items shown; None where the store lacks them."""
    folder = _folder(store, run) / "predictions" if run else None
    for items in sorted(folder.glob("*/items.json")) if folder else ():
        try:
            own = json.loads(items.read_text("utf-8"))
            pictures = np.load(items.parent / "images.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError):
            continue
        chosen = list(ids) or [own[i] for i in shown(own)]
        if set(chosen) <= set(own):
            return chosen, fitting(np.asarray(pictures[[own.index(i) for i in chosen]]), LARGEST)
    return None


def _first_run(t: Any, row: Any) -> Mapping[str, Any] | None:
    """Return the run of the table's first subject and seed."""
    first = (t.subjects[0], t.seeds[0])
    return next((r for r in row.records if r["status"] == "ok" and (r["subject"], r["seed"]) == first), None)


def _of_seeds(t: Any, row: Any) -> list[float]:
    found = [r["scores"].get(t.track, {}).get(t.ranked) for r in row.records if r["status"] == "ok"]
    return [score["value"] for score in found if score and score["value"] is not None]


def _common(t: Any) -> dict[str, Any]:
    chance = next((row.metrics[t.ranked]["chance"] for row in t.rows if t.ranked in row.metrics), None)
    higher = t.directions.get(t.ranked)
    return {"metric": t.ranked, "higher": higher, "chance": None if chance is None else _round(chance)}


def _name(row: Any) -> str:
    return row.label if row.profile == "mini" else f"{row.label} ({row.profile})"


def _folder(store: Path, run: Mapping[str, Any]) -> Path:
    return store.joinpath(*(run[name] for name in ("suite", "dataset", "method", "run_id")))


def _round(value: float) -> float:
    """Return a value to six digits: more than is seen, and the same on every machine."""
    return float(f"{value:.6g}")


def _digest(content: Mapping[str, Any]) -> bytes:
    text = json.dumps([_DRAWN_BY, content], sort_keys=True, allow_nan=False, default=_digest_of)
    return hashlib.sha256(text.encode()).hexdigest().encode()


def _digest_of(array: np.ndarray) -> list:
    return [array.shape, hashlib.sha256(np.ascontiguousarray(array)).hexdigest()]


def _head(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(_HEAD)


def _range(content: Mapping[str, Any]) -> tuple[float, float]:
    """Return the ends of the axis: all that is shown, but for an oracle far from everything else."""
    near = [x for row in content["rows"] if not row["oracle"] for x in _extent(row)]
    near += [] if content["chance"] is None else [content["chance"]]
    every = near + [x for row in content["rows"] for x in _extent(row)]
    near = near or every
    if max(every) - min(every) <= 1.4 * (max(near) - min(near)):
        near = every
    room = 0.04 * (max(near) - min(near)) or 0.5
    return min(near) - room, max(near) + room


def _extent(row: Mapping[str, Any]) -> list[float]:
    return [row["value"], *(row["interval"] or ()), *row["parts"]]


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), facecolor="white")


def _panel(rows: Sequence[Mapping[str, Any]]) -> tuple[Figure, Axes, float]:
    """Return a figure with room for the names of the rows, and where left of the panel, in its widths, ranks stand."""
    high = max(2.2, 0.29 * len(rows) + 1.2)
    figure = _figure(WIDE, high)
    left, right = 0.55 + 0.072 * max(len(row["name"]) for row in rows), WIDE - 0.15
    space = {"left": left / WIDE, "right": right / WIDE, "bottom": 0.85 / high, "top": 1 - 0.32 / high}
    axes = figure.subplots(gridspec_kw=space)
    _bare(axes)
    return figure, axes, (0.25 - left) / (right - left)


def _bare(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8.5)


def _grey_controls(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        if row["control"]:
            label.set(color=GREY, style="italic")
    first = next((y for y, row in enumerate(rows) if row["control"]), 0)
    if first:
        axes.axhline(first - 0.5, color=GREY, lw=0.8)


def _colour(row: Mapping[str, Any]) -> str:
    return GREY if row["control"] or row["rank"] is None else COLOURS[(row["rank"] - 1) % len(COLOURS)]


def _entry(label: str, mark: str, colour: str, **more: Any):
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, marker=mark, color=colour, ms=4 if mark == "." else 6, **{"ls": "", **more})


def _axis(content: Mapping[str, Any]) -> str:
    better = {True: " (higher is better)", False: " (lower is better)", None: ""}
    return content["metric"] + better[content["higher"]]


def _plain_log(axes: Axes, values: Sequence[float]) -> None:
    """Label a logarithmic axis with plain numbers, at least two."""
    low, high = min(values) / 1.3, max(values) * 1.3
    ticks = [m * 10.0**e for e in range(-4, 8) for m in (1, 2, 5) if low <= m * 10.0**e <= high]
    if len(ticks) > 6:
        ticks = [tick for tick in ticks if f"{tick:e}"[0] == "1"]
    axes.set_xlim(low, high)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)


def _cells(pictures: np.ndarray, side: int) -> list[np.ndarray]:
    """Return pictures as squares of colour; of those that fit a whole number of times, every pixel stays one."""
    from PIL import Image

    found = []
    for picture in pictures:
        image = Image.fromarray(picture if picture.shape[-1] == 3 else picture[..., 0]).convert("RGB")
        scale = side / max(image.size)
        size = tuple(max(1, round(scale * x)) for x in image.size)
        image = image.resize(size, Image.Resampling.NEAREST if scale.is_integer() else Image.Resampling.LANCZOS)
        square = Image.new("RGB", (side, side), "white")
        square.paste(image, ((side - size[0]) // 2, (side - size[1]) // 2))
        found.append(np.asarray(square))
    return found
