"""A small Algonauts 2023 training split in the published layout, or as a copy without NSD ids."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.data.algonauts_files import CLASSES

VERTICES = {"lh": 30, "rh": 36}
SHARED = json.loads(resources.files("benchmark.data").joinpath("nsd_shared1000.json").read_text("utf-8"))
N_SHARED, N_OWN = 12, 48
SIDE, GRID = 20, 4  # pixels of a side; a picture is a grid of shades


def numbers(subject: str) -> list[int]:
    """NSD pictures of a subject in order: twelve shared ones and 48 of its own."""
    rng = np.random.default_rng(int(subject[-1]))
    own = rng.choice(np.setdiff1d(np.arange(73000), SHARED), N_OWN, replace=False)
    return sorted([*SHARED[:N_SHARED], *own.tolist()])


def picture(number: int) -> np.ndarray:
    """A grid of shades of one colour, (GRID, GRID, 3) uint8; the small CLIP tells the colour."""
    rng = np.random.default_rng(number)
    grid = 0.7 * rng.integers(0, 256, 3) + 0.3 * rng.integers(0, 256, (GRID, GRID, 3))
    return grid.astype(np.uint8)


def responses(subject: str, noise: float = 0.3) -> dict[str, np.ndarray]:
    """Responses (n_images, n_vertices) by hemisphere: a linear image of the picture plus noise."""
    rng = np.random.default_rng(10 + int(subject[-1]))
    features = np.stack([picture(k) for k in numbers(subject)]).reshape(-1, GRID * GRID * 3) / 128.0 - 1
    out = {}
    for side, n in VERTICES.items():
        rows = features @ rng.normal(size=(features.shape[1], n)) / 7 + noise * rng.normal(size=(len(features), n))
        out[side] = ((rows - rows.mean(axis=0)) / rows.std(axis=0)).astype(np.float32)
    return out


def mapping(kind: str) -> dict[int, str]:
    """Names of labels; mTL-bodies is not among them."""
    return {0: "Unknown"} | {k: name for k, name in enumerate(CLASSES[kind], 1) if name != "mTL-bodies"}


def labels(side: str, kind: str) -> np.ndarray:
    """Labels of the vertices; no vertex is in aTL-faces."""
    values = [value for value, name in mapping(kind).items() if name != "aTL-faces"]
    rng = np.random.default_rng(sum(map(ord, side + kind)))
    return rng.permutation(np.resize(values, VERTICES[side]))


def make_algonauts(root: Path, subjects: Sequence[str] = ("subj01",), *, named: bool = True) -> Path:
    """Write the files and return the folder.

    Parameters
    ----------
    root : Path
    subjects : sequence of str
    named : bool
        The challenge's names; otherwise those of a copy without NSD ids: ``0.png``, ``lh.streams_space.npy``.
    """
    for subject in subjects:
        folder = root / subject
        for part in ("training_split/training_images", "training_split/training_fmri", "roi_masks"):
            (folder / part).mkdir(parents=True)
        for row, number in enumerate(numbers(subject)):
            name = f"train-{row + 1:04d}_nsd-{number:05d}.png" if named else f"{row}.png"
            image = Image.fromarray(picture(number)).resize((SIDE, SIDE), Image.Resampling.NEAREST)
            # not compressed: ids and split of a copy without names come from the bytes, the same with any zlib
            image.save(folder / "training_split" / "training_images" / name, compress_level=0)
        for side, rows in responses(subject).items():
            np.save(folder / "training_split" / "training_fmri" / f"{side}_training_fmri.npy", rows)
        for kind in CLASSES:
            np.save(folder / "roi_masks" / f"mapping_{kind}.npy", mapping(kind), allow_pickle=True)
            for side in VERTICES:
                suffix = "challenge_space" if named else "space"
                np.save(folder / "roi_masks" / f"{side}.{kind}_{suffix}.npy", labels(side, kind))
    return root
