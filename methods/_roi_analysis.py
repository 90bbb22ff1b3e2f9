"""What Brain-Diffuser draws when single ROIs are switched on (an illustration, not an evaluation).

Source: Ozcelik & VanRullen 2023 and the facts of its public code, except that V1 to V4 are the visual ROIs
themselves (that code took them from the face areas' mask) and that lengths, which it gives for features of
the published size, are scaled to the size at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

GROUPS = {
    "faces": ("OFA", "FFA-1", "FFA-2", "mTL-faces", "aTL-faces"),
    "words": ("OWFA", "VWFA-1", "VWFA-2", "mfs-words", "mTL-words"),
    "places": ("OPA", "PPA", "RSC"),
    "bodies": ("EBA", "FBA-1", "FBA-2", "mTL-bodies"),
    "V1": ("V1v", "V1d"),
    "V2": ("V2v", "V2d"),
    "V3": ("V3v", "V3d"),
    "V4": ("hV4",),
    **{f"ecc {name}": (f"ecc-{name}",) for name in ("0-0.5", "0.5-1", "1-2", "2-4", "4+")},
}
# Length of a feature's deviation from the training mean, and the published number of values (or tokens).
_LENGTH = {"vdvae": (50.0, 91_168), "image_tokens": (15.0, 257), "text_tokens": (9.0, 77)}
_VDVAE_NORM = 80.0


def patterns(rois: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the binary voxel pattern of every group that has voxels, float32."""
    found = {}
    for name, members in GROUPS.items():
        masks = [rois[m] for m in members if m in rois]
        if masks and np.any(union := np.logical_or.reduce(masks)):
            found[name] = union.astype(np.float32)
    return found


def features(
    deviations: Mapping[str, np.ndarray],
    means: Mapping[str, np.ndarray],
    stds: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Return the features that are drawn.

    Parameters
    ----------
    deviations : mapping of str to ndarray of shape (n_rois, ...)
        W r of every pattern r: predictions without the intercept.
    means, stds : mapping of str to ndarray of shape (...)
        Of the training targets.
    """
    found = {}
    for name, values in deviations.items():
        length, size = _LENGTH[name]
        flat = values.reshape(len(values), -1).astype(np.float64)
        norm = np.linalg.norm(flat, axis=1, keepdims=True)
        n = flat.shape[1] if name == "vdvae" else values.shape[1]
        factor = np.sqrt(n / size)
        flat = flat / np.where(norm == 0, 1, norm) * length * factor + means[name].ravel()
        if name == "vdvae":  # unlike the tokens: standardised over the ROIs, at the spread of training, at one length
            std = flat.std(0)
            flat = (flat - flat.mean(0)) / np.where(std == 0, 1, std) * stds[name].ravel() + means[name].ravel()
            flat *= _VDVAE_NORM * factor / np.linalg.norm(flat, axis=1, keepdims=True)
        found[name] = flat.reshape(values.shape).astype(np.float32)
    return found


def draw(folder: Path, pictures: Mapping[str, np.ndarray]) -> None:
    """Write the pictures by ROI as ``roi_analysis.png`` and, as arrays, ``roi_analysis.npz``."""
    from matplotlib.figure import Figure

    np.savez(folder / "roi_analysis.npz", **pictures)
    figure = Figure(figsize=(1.2 * len(pictures), 1.5), layout="constrained", facecolor="white")
    for axes, (name, picture) in zip(np.ravel(figure.subplots(1, len(pictures))), pictures.items(), strict=True):
        axes.imshow(picture)
        axes.set(xticks=[], yticks=[])
        axes.set_title(name, fontsize=8)
    figure.savefig(folder / "roi_analysis.png", dpi=100, format="png", metadata={"Software": None})
