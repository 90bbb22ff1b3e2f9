"""Pictures of a run, beside its scores: loss curves, rank histograms, what was retrieved, what was reconstructed.

The test items shown are fixed by their ids, never chosen by score.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.errors import BenchError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from benchmark.scoring import Part

LOSS, RANKS, RETRIEVED, RECONSTRUCTED = "loss.png", "ranks.png", "retrieved.png", "reconstructed.png"
TEST_LOG = "test_log.csv"
STIMULI = "shown.npz"  # what a board's grid of all methods shows beside their pictures, without the data set
N_ITEMS, N_RETRIEVED = 8, 5
LARGEST = 128  # pixels a side of the stimuli that are kept
# Told apart in grey and by readers with any colour vision, on white and on dark pages (the ground is opaque).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def shown(ids: Sequence[str], n: int = N_ITEMS) -> np.ndarray:
    """Return the rows of the items that are shown: those whose hashed ids come first, the same in every run."""
    order = sorted(range(len(ids)), key=lambda i: hashlib.sha256(str(ids[i]).encode()).digest())
    return np.array(sorted(order[:n]))


def fitting(pictures: np.ndarray, largest: int) -> np.ndarray:
    """Return uint8 pictures (n, height, width, channels) with at most this many pixels a side."""
    from PIL import Image

    n, height, width, channels = pictures.shape
    scale = largest / max(height, width)
    if scale >= 1:
        return pictures
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = [
        Image.fromarray(p if channels == 3 else p[..., 0]).resize(size, Image.Resampling.LANCZOS) for p in pictures
    ]
    return np.stack([np.asarray(picture) for picture in small]).reshape(n, size[1], size[0], channels)


def loss_curves(folder: Path) -> bool:
    """Draw ``train_log.csv`` (epoch, then one column a loss) of a run and of its folds; False where there is none."""
    logs = [p for p in (folder / "train_log.csv", *sorted(folder.glob("folds/*/train_log.csv"))) if p.is_file()]
    tables = [(log, table) for log in logs if len(table := _read_log(log)) > 1]
    if not tables:
        return False
    columns = tables[0][1][0][1:]
    networks = list(dict.fromkeys(map(_network, columns)))
    tests: dict[str, list] = {}
    if (folder / TEST_LOG).is_file():
        for name, epoch, loss in _read_log(folder / TEST_LOG)[1:]:
            tests.setdefault(name, []).append((float(epoch), float(loss)))
    wide = min(len(networks), 3 if len(networks) > 4 else 2)
    high = -(-len(networks) // wide)
    figure = _figure(6 if wide == 1 else 4 * wide, 3.6 if high == 1 else 2.5 * high)
    panels = figure.subplots(high, wide, squeeze=False, sharey=_comparable(tables, networks)).ravel()
    for panel in panels[len(networks) :]:
        panel.set_axis_off()
    for axes, network, points in zip(panels, networks, [*tests.values(), *[[]] * len(networks)], strict=False):
        own = [column for column, name in enumerate(columns, 1) if _network(name) == network]
        if points:
            axes.plot(*zip(*sorted(points), strict=True), color="black", lw=1, ls=":", marker=".", ms=4, label="test")
        for colour, column in enumerate(own):
            for number, (_, table) in enumerate(tables):
                line = [(float(row[0]), float(row[column])) for row in table[1:] if row[column] not in ("", "nan")]
                if line:
                    label = columns[column - 1].removeprefix(network).strip().replace("_", " ")
                    style = {"color": COLOURS[colour % len(COLOURS)], "lw": 1.3, "label": "" if number else label}
                    axes.plot(*zip(*line, strict=True), **style)
        title = ", ".join(part for part in (network, f"{len(tables)} folds" if tables[1:] else "") if part)
        axes.set(xlabel=tables[0][1][0][0], ylabel="loss", title=title)
        axes.legend(frameon=False, fontsize=7)
    _save(figure, folder / LOSS)
    return True


def _network(column: str) -> str:
    """Return what stands before ``train_loss`` and ``val_loss`` in a column's name: which network it is of."""
    return next((column.removesuffix(end).strip() for end in ("train_loss", "val_loss") if column.endswith(end)), "")


def _comparable(tables: Sequence[tuple[Path, list]], networks: Sequence[str]) -> bool:
    """Whether the losses of several networks are of one size, so that their panels can share an axis."""
    header, *rows = tables[0][1]
    most = []
    for network in networks:
        own = [column for column, name in enumerate(header) if column and _network(name) == network]
        found = [float(row[column]) for row in rows for column in own if row[column] not in ("", "nan")]
        most += [max(found)] if found else []
    return bool(most) and max(most) < 5 * min(most)


def write_test_log(folder: Path, errors: Mapping[str, float]) -> None:
    """Write test losses of features by epoch, as ``feature@epoch N``, into ``test_log.csv``."""
    found = [(*name.split("@epoch "), value) for name, value in errors.items() if "@epoch " in name]
    if found:
        with open(folder / TEST_LOG, "w", newline="") as file:
            csv.writer(file).writerows([("network", "epoch", "test_loss"), *found])


def rank_histogram(folder: Path, ranks: Sequence[float], n_candidates: float) -> None:
    """Draw how often the right candidate came at which rank; the line is chance."""
    figure = _figure(6, 3.2)
    axes = figure.subplots()
    n_bins = int(min(30, n_candidates))
    axes.hist(ranks, bins=n_bins, range=(0.5, n_candidates + 0.5), color=COLOURS[0])
    axes.axhline(len(ranks) / n_bins, color="black", lw=1, ls="--", label="chance")
    axes.set(xlabel=f"rank of the right candidate among {n_candidates:g}", ylabel="test items")
    axes.legend(frameon=False)
    _save(figure, folder / RANKS)


def retrieval_sheet(folder: Path, part: Part, scores: np.ndarray, candidates: np.ndarray, target: np.ndarray) -> None:
    """Draw, for a few test items, the stimulus and the candidates that scored highest.

    Parameters
    ----------
    scores : ndarray of shape (n_items, n_candidates)
    candidates : ndarray of int
        Row of ``part.truth`` that shows each candidate.
    target : ndarray of shape (n_items,), int
        Each item's own candidate.
    """
    rows = shown(part.items.ids)
    best = np.argsort(-scores[rows], axis=1, kind="stable")[:, :N_RETRIEVED]
    images = np.asarray(part.truth.images)
    figure = _figure(1.15 * (best.shape[1] + 1), 1.25 * len(rows))
    grid = figure.subplots(len(rows), best.shape[1] + 1, squeeze=False)
    for line, row in enumerate(rows):
        _show(grid[line, 0], images[row], "stimulus" if not line else "")
        for column, candidate in enumerate(best[line], 1):
            right = candidate == target[row]
            _show(grid[line, column], images[candidates[candidate]], f"rank {column}" if not line else "", right)
    _save(figure, folder / RETRIEVED)


def reconstruction_sheet(folder: Path, part: Part, rows: Mapping[str, np.ndarray]) -> None:
    """Draw, for a few test items, the stimulus and below it the pictures of each name; keep the stimuli, small."""
    chosen = shown(part.items.ids)
    stimuli = fitting(np.asarray(part.truth.images[chosen]), LARGEST)
    np.savez_compressed(folder / STIMULI, ids=np.asarray(part.items.ids, str)[chosen], images=stimuli)
    lines = {"stimulus": np.asarray(part.truth.images), **rows}
    figure = _figure(1.1 * len(chosen) + 1.2, 1.15 * len(lines))
    grid = figure.subplots(len(lines), len(chosen), squeeze=False)
    for line, (name, pictures) in enumerate(lines.items()):
        for column, item in enumerate(chosen):
            _show(grid[line, column], np.asarray(pictures[item]))
        label = {"rotation": 0, "ha": "right", "va": "center", "fontsize": 8}
        grid[line, 0].set_ylabel(name.replace(", ", ",\n"), **label)
    _save(figure, folder / RECONSTRUCTED)


def of_run(folder: Path, parts: Sequence[Part], views: Mapping[str, Any], rungs: Mapping[str, Sequence[Part]]) -> list:
    """Draw everything a run has something for; return the names of the files.

    Parameters
    ----------
    folder : Path
    parts : sequence of Part
    views : mapping of str to (ranks, n_candidates, scores, candidates, target)
        By track that ranks candidates; the last three are of the first fold.
    rungs : mapping of str to sequence of Part
        The ladder's, empty where there is none.
    """
    first = parts[0]
    for ranks, n_candidates, scores, candidates, target in views.values():
        rank_histogram(folder, ranks, n_candidates)
        if first.truth.images is not None:
            retrieval_sheet(folder, first, scores, candidates, target)
    if first.predictions.images is not None and first.truth.images is not None:
        order = ("predicted, ", "predicted", "true features", "permuted training")
        named = {"predicted": first.predictions.images}
        named |= {name: p[0].predictions.images for name, p in rungs.items() if name.startswith(order)}
        place = sorted(named, key=lambda name: next(i for i, o in enumerate(order) if name.startswith(o)))
        reconstruction_sheet(folder, first, {name: named[name] for name in place})
    loss_curves(folder)
    own = (RECONSTRUCTED, RETRIEVED, RANKS, LOSS)
    others = sorted({path.name for path in folder.glob("*.png")} - set(own))  # what the method drew itself
    return [*(name for name in own if (folder / name).is_file()), *others]


def _read_log(path: Path) -> list[list[str]]:
    with open(path, newline="") as file:
        table = list(csv.reader(file))
    if len({len(row) for row in table}) > 1:
        raise BenchError(f"{path}: rows differ in length, expected one value for every column")
    return table


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure  # a Figure alone needs no display and leaves no global state

    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def _show(axes, image: np.ndarray, title: str = "", right: bool = False) -> None:
    axes.imshow(image if image.shape[-1] == 3 else image[..., 0], cmap="gray", vmin=0, vmax=255)
    axes.set(xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set(visible=right, color=COLOURS[2], linewidth=3)
    if title:
        axes.set_title(title, fontsize=8)


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=100, format="png", metadata={"Software": None})
