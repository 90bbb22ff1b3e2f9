"""The picture of a dataset's checkup: one panel a check, the verdicts below."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.checkup import FAULT, OK, WARNING, Checkup

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {OK: "#2a7f3f", WARNING: "#b06a00", FAULT: "#c0202a"}
GREY, BLUE = "0.65", "#2b5fa8"
WIDTH = 180  # characters of a sentence's line
COARSE, FINE = (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10), (0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.3, 1.5, 2)


def picture(checkup: Checkup, path: Path) -> Path:
    """Draw scores by shift, repeats, trials, the two sides and the closest pictures; return the file's path."""
    from matplotlib.figure import Figure  # a Figure alone needs no display and leaves no global state

    lines = [(f, textwrap.wrap(f"{f.check}: {f.sentence}", WIDTH)) for f in checkup.findings]
    height = 0.2 * sum(len(text) for _, text in lines) + 0.2
    figure = Figure(figsize=(14, 7.5 + height), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(7.5, height))
    axes = top.subplots(2, 3).ravel()
    for axis, (name, draw) in zip(axes, _PANELS.items(), strict=False):
        if name in checkup.drawn:
            draw(axis, checkup.drawn[name])
        else:
            _nothing(axis, _TITLES[name])
    _closest(axes[5], checkup.drawn)
    top.suptitle(f"{checkup.dataset}, {checkup.subject}, split {checkup.split}")
    axis = bottom.subplots()
    axis.set_axis_off()
    row, rows = 0, sum(len(text) for _, text in lines)
    for found, text in lines:
        y = 1 - (row + 0.5) / rows
        axis.text(0, y, found.verdict, color=COLOURS.get(found.verdict, "0.4"), weight="bold", va="center", fontsize=9)
        for i, line in enumerate(text):
            axis.text(0.075, y - i / rows, line, va="center", fontsize=9)
        row += len(text)
    axis.set(xlim=(0, 1), ylim=(0, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100, format="png", facecolor="white")
    return path


def _alignment(axis: Axes, drawn: tuple) -> None:
    name, shifts, scores, shuffled = drawn
    axis.axhspan(shuffled.min(), shuffled.max(), color=GREY, alpha=0.5, label="shuffled pairs")
    axis.plot(shifts, scores, "o-", color=BLUE, label=f"ridge to {name}")
    axis.set(xticks=shifts, xlabel="labels taken from so many trials later", ylabel="correlation, left-out trials")
    axis.legend(fontsize=8)


def _repeats(axis: Axes, drawn: tuple) -> None:
    r, null = drawn
    n_bins = min(60, max(10, r.size // 4))
    bins = np.linspace(min(r.min(), null.min()), max(r.max(), null.max()) + 1e-6, n_bins)
    weights = np.full(null.size, r.size / null.size)
    axis.hist(null.ravel(), bins, weights=weights, color=GREY, label="shuffled stimuli")
    axis.hist(r, bins, histtype="step", color=BLUE, linewidth=1.5, label="repeats")
    axis.set(xlabel="correlation of two halves of the repeats", ylabel="voxels")
    axis.legend(fontsize=8)


def _trials(axis: Axes, drawn: tuple) -> None:
    rows, distance, limit = drawn
    axis.plot(rows, distance, ".", markersize=3, color=BLUE)
    axis.axhline(limit, color=COLOURS[WARNING], linewidth=1, label="far out from here")
    axis.set(xlabel="trial", ylabel="distance from the mean, median = 1")
    axis.set_ylim(0, 1.1 * max(limit, distance.max()))
    axis.legend(fontsize=8)


def _shift(axis: Axes, drawn: tuple) -> None:
    away, ratio, away_permuted, ratio_permuted = drawn
    if away_permuted is not None:
        axis.plot(away_permuted, ratio_permuted, ".", markersize=3, color=GREY, label="permuted sides")
    axis.plot(away, ratio, ".", markersize=3, color=BLUE, label="voxels")
    axis.axhline(1, color="black", linewidth=0.5)
    axis.axvline(0, color="black", linewidth=0.5)
    axis.set(xlabel="mean, test less train, in SD of train", ylabel="SD, test / train", yscale="log")
    axis.locator_params(axis="x", nbins=6)
    low, high = axis.get_ylim()
    axis.set_yticks([v for v in (FINE if high < 2.5 * low else COARSE) if low <= v <= high])
    axis.set_yticks([], minor=True)
    axis.yaxis.set_major_formatter("{x:g}")
    axis.legend(fontsize=8)


def _pictures(axis: Axes, drawn: tuple) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.hist(drawn[0], 50, color=BLUE)
    axis.set(xlabel="correlation with the closest training picture", ylabel="test pictures")
    axis.locator_params(axis="x", nbins=6)
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))


def _closest(axis: Axes, drawn: Mapping[str, Any]) -> None:
    title = "closest pictures, train and test"
    if "pictures" not in drawn:
        _nothing(axis, title)
        return
    both = [np.asarray(image) for image in drawn["pictures"][1]]
    gap = np.full((both[0].shape[0], max(1, both[0].shape[1] // 20), both[0].shape[2]), 255, np.uint8)
    shown = np.concatenate([both[0], gap, both[1]], axis=1)
    axis.imshow(shown[..., 0] if shown.shape[-1] == 1 else shown, cmap="gray", vmin=0, vmax=255)
    axis.set_axis_off()
    axis.set_title(title, fontsize=10)


def _nothing(axis: Axes, title: str) -> None:
    axis.set_axis_off()
    axis.text(0.5, 0.5, "not checked", ha="center", va="center", color="0.4", transform=axis.transAxes)
    axis.set_title(title, fontsize=10)


def _titled(name: str, draw):
    def panel(axis: Axes, drawn: tuple) -> None:
        draw(axis, drawn)
        axis.set_title(_TITLES[name], fontsize=10)

    return panel


_TITLES = {
    "alignment": "decoding by shift of the labels",
    "repeats": "repeats' reliability",
    "trials": "trials far out",
    "shift": "test against train",
    "pictures": "pictures across the split",
}
_DRAW = {"alignment": _alignment, "repeats": _repeats, "trials": _trials, "shift": _shift, "pictures": _pictures}
_PANELS = {name: _titled(name, draw) for name, draw in _DRAW.items()}
