"""Small files in the layout of the Pereira et al. 2018 release, in both its variants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat, savemat

N_ROIS, DIMENSIONS = 333, 300
PARADIGMS = ("sentence", "picture", "wordcloud")
READERS = {
    384: ("P01", "M02", "M04", "M07", "M08", "M09", "M14", "M15"),
    243: ("P01", "M02", "M03", "M04", "M07", "M15"),
}
ATLASES = [
    "aal_1ofN", "languageParcelsConservative_aal", "languageParcels_aal", "semantic_aal", "multipleDemand_aal", "MD",
    "DMN", "languageLH", "languageRH", "visual_body", "visual_face", "visual_object", "visual_scene", "visual",
    "gordon",
]  # fmt: skip
ROI_NAMES = [f"ROI{k + 1}_{'VentralAttn' if k % 2 else 'Default'}_R_{k}.1_38.3_-9.2" for k in range(N_ROIS)]


@dataclass
class Voxels:
    """Where a participant's voxels lie: coordinates from 1, and the columns of every parcel, from 1."""

    coords: np.ndarray
    lists: list[np.ndarray]


def make_pereira(
    root: Path,
    words: Sequence[str],
    subjects: Sequence[str] = ("P01", "M03", "M05"),
    older: Sequence[str] = ("M05",),
    sentences: bool = True,
    per_roi: int = 3,
    noise: float = 1.0,
    seed: int = 0,
) -> dict[str, Voxels]:
    """Write a folder of the release; ``M05`` is of the older variant and has, as in truth, no sentences.

    Responses are a linear image of the word vectors, alike in all participants, plus noise.
    """
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    vectors = rng.standard_normal((len(words), DIMENSIONS))
    np.savetxt(root / "vectors_180concepts.GV42B300.txt", vectors, fmt="%.8f")
    (root / "stimuli_180concepts.txt").write_text("\n".join(words) + "\n")
    tuning = rng.standard_normal((DIMENSIONS, N_ROIS)) / np.sqrt(DIMENSIONS)
    made = {}
    for subject in subjects:
        (root / subject).mkdir(exist_ok=True)
        voxels = made[subject] = make_voxels(rng, per_roi)
        old = subject in older
        prefix = "examples" if old else "data"
        for paradigm in PARADIGMS:
            data = np.empty((len(words), len(voxels.coords)))
            data[:] = noise * rng.standard_normal(data.shape)
            for k, columns in enumerate(voxels.lists):
                data[:, columns - 1] += (vectors @ tuning[:, k])[:, None]
            content = {
                "examples": data,
                "keyConcept": cell(words),
                "labelsConcept": np.arange(1.0, len(words) + 1)[:, None],
                "meta": meta(voxels, old),
            }
            savemat(root / subject / f"{prefix}_180concepts_{paradigm}s.mat", content, do_compression=not old)
        for n, readers in READERS.items():
            if sentences and subject in readers:
                data = rng.standard_normal((n, len(voxels.coords)))
                content = {
                    "examples_passagesentences": data,
                    "keySentences": cell(["a"] * n),
                    "meta": meta(voxels, old),
                }
                savemat(root / subject / f"{prefix}_{n}sentences.mat", content)
    return made


def make_voxels(rng: np.random.Generator, per_roi: int = 3, n_outside: int = 6) -> Voxels:
    """Draw parcels of 1 to ``per_roi`` voxels in up to three slices each, and voxels outside of all."""
    sizes = rng.integers(1, per_roi + 1, N_ROIS)
    n = sizes.sum() + n_outside
    owner = rng.permutation(np.concatenate([np.repeat(np.arange(N_ROIS), sizes), np.full(n_outside, -1)]))
    z = np.where(owner >= 0, 20 + owner % 40 + rng.integers(0, 3, n), 1)
    coords = np.stack([1 + np.arange(n) % 88, 1 + np.arange(n) // 88, z], axis=1)
    return Voxels(coords, [np.flatnonzero(owner == k) + 1 for k in range(N_ROIS)])


def meta(voxels: Voxels, older: bool) -> dict[str, Any]:
    """Return the struct ``meta`` of either variant, fields in the order of the release."""
    n, size = len(voxels.coords), voxels.coords.max(axis=0)
    to_column = np.zeros(size)
    to_column[tuple((voxels.coords - 1).T)] = np.arange(1, n + 1)
    common = {
        "dimx": float(size[0]), "dimy": float(size[1]), "dimz": float(size[2]), "dimensions": size[None].astype(float),
        "indicesIn3D": np.arange(1.0, n + 1)[:, None], "colToCoord": voxels.coords.astype(float),
        "coordToCol": to_column, "voxelsToNeighbours": np.zeros((n, 26)), "numberOfNeighbours": np.zeros((n, 1)),
    }  # fmt: skip
    mask = np.zeros((n, 1))
    for k, columns in enumerate(voxels.lists):
        mask[columns - 1] = k + 1
    gordon = cell([columns[:, None].astype(float) for columns in voxels.lists])
    other = cell([np.arange(1.0, n + 1)[:, None]])  # an atlas of one parcel that holds every voxel
    if older:
        return common | {
            "roiMultimaskAAL": np.ones((n, 1)), "roiMultimaskGordon": mask, "roisAAL": cell(["all"]),
            "roisGordon": cell(ROI_NAMES), "roiColumnsAAL": other, "roiColumnsGordon": gordon,
        }  # fmt: skip
    n_other = len(ATLASES) - 1
    return common | {
        "atlases": cell(ATLASES).T, "rois": cell([cell(["all"])] * n_other + [cell(ROI_NAMES)]).T,
        "roiColumns": cell([other] * n_other + [gordon]).T,
        "roiMultimask": cell([np.ones((n, 1))] * n_other + [mask]).T,
    }  # fmt: skip


def cell(values: Sequence[Any]) -> np.ndarray:
    """Return a MATLAB cell array of one column."""
    out = np.empty((len(values), 1), object)
    for i, value in enumerate(values):
        out[i, 0] = value
    return out


def edit_mat(path: Path, change: Callable[[dict[str, Any]], Mapping[str, Any] | None]) -> None:
    """Change a file's variables in place: the function edits them, or returns new ones."""
    content = {name: value for name, value in loadmat(path).items() if not name.startswith("__")}
    changed = change(content)
    savemat(path, content if changed is None else dict(changed))
