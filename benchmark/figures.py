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
N_ITEMS, N_RETRIEVED = 8, 5
# Told apart in grey and by readers with any colour vision, on white and on dark pages (the ground is opaque).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def shown(ids: Sequence[str], n: int = N_ITEMS) -> np.ndarray:
    """Return the rows of the items that are shown: those whose hashed ids come first, the same in every run."""
    order = sorted(range(len(ids)), key=lambda i: hashlib.sha256(str(ids[i]).encode()).digest())
    return np.array(sorted(order[:n]))


def loss_curves(folder: Path) -> bool:
    """Draw ``train_log.csv`` (epoch, then one column a loss) of a run and of its folds; False where there is none."""
    logs = [p for p in (folder / "train_log.csv", *sorted(folder.glob("folds/*/train_log.csv"))) if p.is_file()]
    tables = [(log, table) for log in logs if len(table := _read_log(log)) > 1]
    if not tables:
        return False
    figure = _figure(6, 3.6)
    axes = figure.subplots()
    names = tables[0][1][0][1:]
    if (folder / TEST_LOG).is_file():
        rows = _read_log(folder / TEST_LOG)[1:]
        for number, network in enumerate(dict.fromkeys(row[0] for row in rows)):
            points = sorted((float(epoch), float(loss)) for name, epoch, loss in rows if name == network)
            label = None if number else "test"
            axes.plot(*zip(*points, strict=True), color="black", lw=1, ls=":", marker=".", ms=4, label=label)
    for column, name in enumerate(names, 1):
        for number, (_, table) in enumerate(tables):
            points = [(float(row[0]), float(row[column])) for row in table[1:] if row[column] not in ("", "nan")]
            if points:
                label = name.replace("_", " ") if not number else None
                axes.plot(*zip(*points, strict=True), color=COLOURS[(column - 1) % len(COLOURS)], lw=1.3, label=label)
    axes.set(xlabel=tables[0][1][0][0], ylabel="loss", title=f"{len(tables)} folds" if tables[1:] else "")
    axes.legend(frameon=False, fontsize=7, ncols=1 + len(names) // 5)
    _save(figure, folder / LOSS)
    return True


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
    """Draw, for a few test items, the stimulus and below it the pictures of each name."""
    chosen = shown(part.items.ids)
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
