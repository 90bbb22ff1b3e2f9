"""One picture of a dataset, to confirm by eye that it was read as meant."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmark.data.base import Dataset, SubjectData
from benchmark.data.scan import blocks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

N_SLICES, N_STIMULI, N_TRIALS, N_ROIS = 6, 6, 200, 10


def picture(dataset: Dataset, subject: str, path: Path) -> Path:
    """Draw responses in place (or as rows), ROI masks, their histogram and a few stimuli.

    Parameters
    ----------
    dataset : Dataset
    subject : str
    path : Path
        PNG file to write.

    Returns
    -------
    Path
        The file written.
    """
    from matplotlib.figure import Figure  # a Figure alone needs no display and leaves no global state

    data = dataset.load_subject(subject)
    figure = Figure(figsize=(13, 9), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(3, 2) if dataset.stimuli.images is not None else (4, 1))
    left, right = top.subfigures(1, 2, width_ratios=(3, 1))
    if {"coords", "shape"} <= set(data.space):
        _slices(left, data)
    else:
        _rows(left, data)
    _histogram(right, data)
    _stimuli(bottom, dataset, data)
    n_trials, n_voxels = data.responses.shape
    ncsnr = "" if data.ncsnr is None else f", median ncsnr {np.nanmedian(data.ncsnr):.2f}"
    figure.suptitle(
        f"{dataset.name} {dataset.version}, {subject}: {n_trials} trials, {n_voxels} voxels, "
        f"{len(np.unique(data.stimulus))} of {len(dataset.stimuli)} stimuli{ncsnr}"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, format="png")
    return path


def mean_response(data: SubjectData) -> np.ndarray:
    """Return the mean of every voxel over its trials, NaN left out; shape (n_voxels,)."""
    total, count = np.zeros(data.responses.shape[1]), np.zeros(data.responses.shape[1])
    for _, block in blocks(data.responses):
        total += np.nansum(block, axis=0, dtype=np.float64)
        count += ~np.isnan(block).all(axis=0) if len(block) == 1 else (~np.isnan(block)).sum(axis=0)
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)


def volume(values: np.ndarray, coords: np.ndarray, shape: np.ndarray, empty: float = np.nan) -> np.ndarray:
    """Return voxel values at their places, shape ``shape``, and ``empty`` elsewhere."""
    grid = np.full(tuple(int(n) for n in shape), empty, np.float64)
    grid[tuple(np.asarray(coords).T)] = values
    return grid


def _largest(data: SubjectData) -> dict[str, np.ndarray]:
    """Return the largest ROIs that have voxels."""
    filled = sorted((name for name, mask in data.rois.items() if mask.any()), key=lambda n: -data.rois[n].sum())
    return {name: data.rois[name] for name in filled[:N_ROIS]}


def _limit(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.quantile(np.abs(finite), 0.98)) or 1.0 if finite.size else 1.0


def _slices(panel: SubFigure, data: SubjectData) -> None:
    from matplotlib import colormaps
    from matplotlib.lines import Line2D

    coords, shape = np.asarray(data.space["coords"]), np.asarray(data.space["shape"])
    mean = mean_response(data)
    grid, limit = volume(mean, coords, shape), _limit(mean)
    filled = np.unique(coords[:, 2])
    chosen = filled[np.unique(np.linspace(0, len(filled) - 1, N_SLICES + 2).round().astype(int))]
    chosen = chosen[1:-1] if len(chosen) > N_SLICES else chosen  # the outermost slices are nearly empty
    axes = panel.subplots(1 + (len(chosen) > 3), min(len(chosen), 3), squeeze=False).ravel()
    for axis in axes[len(chosen) :]:
        axis.set_axis_off()
    rois = _largest(data)
    colours = dict(zip(rois, colormaps["tab10"].colors, strict=False))
    masks = {name: volume(mask, coords, shape, 0) for name, mask in rois.items()}
    for axis, z in zip(axes, chosen, strict=False):
        shown = axis.imshow(grid[:, :, z].T, origin="lower", cmap="RdBu_r", vmin=-limit, vmax=limit)
        for name, mask in masks.items():
            dashed = list(masks).index(name) % 2  # an edge that two ROIs share shows both
            _outline(axis, mask[:, :, z] > 0, colours[name], (0, (2, 2)) if dashed else "solid")
        axis.set(title=f"slice z = {z}", xticks=[], yticks=[])
    panel.colorbar(shown, ax=axes.tolist(), shrink=0.6, label="mean response")
    if rois:
        handles = [Line2D([], [], color=colours[name], label=f"{name} ({rois[name].sum()})") for name in rois]
        panel.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    panel.suptitle("mean response in place, ROI masks outlined", fontsize=10)


def _outline(axis: Axes, mask: np.ndarray, colour: tuple[float, ...], style: str | tuple) -> None:
    """Draw the edges between voxels of a mask and their neighbours, so that even one voxel shows."""
    from matplotlib.collections import LineCollection

    padded = np.pad(mask, 1)
    x, y = np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1])  # an edge at x - 0.5, along y
    upright = np.stack([np.stack([x - 0.5, y - 0.5], 1), np.stack([x - 0.5, y + 0.5], 1)], 1)
    x, y = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1])
    level = np.stack([np.stack([x - 0.5, y - 0.5], 1), np.stack([x + 0.5, y - 0.5], 1)], 1)
    edges = np.concatenate([upright, level])
    axis.add_collection(LineCollection(edges, colors=[colour], linewidths=1.2, linestyles=[style]))


def _rows(panel: SubFigure, data: SubjectData) -> None:
    rois = _largest(data)
    axes = np.atleast_1d(panel.subplots(2 if rois else 1, 1, height_ratios=(4, 1) if rois else (1,), sharex=True))
    rows = np.asarray(data.responses[:N_TRIALS], np.float32)
    limit = _limit(rows)
    shown = axes[0].imshow(rows, aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    axes[0].set(ylabel="trial", title=f"responses of the first {len(rows)} trials{', ROI masks below' if rois else ''}")
    panel.colorbar(shown, ax=axes.tolist(), shrink=0.6, label="response")
    if rois:
        axes[1].imshow(
            np.stack(list(rois.values())), aspect="auto", cmap="Greys", vmin=0, vmax=1, interpolation="nearest"
        )
        axes[1].set_yticks(range(len(rois)), [f"{name} ({mask.sum()})" for name, mask in rois.items()], fontsize=7)
    axes[-1].set_xlabel("voxel")


def _histogram(panel: SubFigure, data: SubjectData) -> None:
    n_trials, n_voxels = data.responses.shape
    chosen = np.unique(np.linspace(0, n_trials - 1, max(1, min(n_trials, 2_000_000 // n_voxels))).astype(int))
    sample = np.asarray(data.responses[chosen], np.float32)
    finite = sample[np.isfinite(sample)]
    axis = panel.subplots()
    axis.hist(finite, bins=80, color="0.4", log=True)
    axis.set(xlabel="response", ylabel="count (log)")
    missing = f", {1 - finite.size / sample.size:.1%} NaN" if finite.size < sample.size else ""
    axis.set_title(f"mean {finite.mean():.3g}, SD {finite.std():.3g}{missing}", fontsize=10)


def _stimuli(panel: SubFigure, dataset: Dataset, data: SubjectData) -> None:
    shown, first = np.unique(data.stimulus, return_index=True)
    stimuli = dataset.stimuli
    axes = np.atleast_1d(panel.subplots(1, N_STIMULI))
    panel.suptitle("the first stimuli shown, with their trials (from 0)", fontsize=10)
    for axis in axes:
        axis.set_axis_off()
    for axis, row in zip(axes, shown[np.argsort(first)][:N_STIMULI], strict=False):
        trials = np.flatnonzero(data.stimulus == row)
        word = "" if stimuli.words is None else str(stimuli.words[row])
        if stimuli.images is not None:
            image = np.asarray(stimuli.images[row])
            axis.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)
        else:
            axis.text(0.5, 0.6, word, ha="center", va="center", fontsize=14, transform=axis.transAxes)
        listed = ", ".join(map(str, trials[:4])) + (f", ... ({len(trials)})" if len(trials) > 4 else "")
        axis.set_title(f"{stimuli.ids[row]}\ntrials {listed}", fontsize=8)
        texts = [] if stimuli.captions is None else list(stimuli.captions[row])[:2]
        texts = [word, *texts] if word and stimuli.images is not None else texts
        caption = "\n".join(textwrap.fill(textwrap.shorten(text, 52, placeholder="…"), 28) for text in texts)
        axis.text(
            0.5,
            -0.05 if stimuli.images is not None else 0.3,
            caption,
            ha="center",
            va="top",
            fontsize=7,
            transform=axis.transAxes,
        )
