"""Responses as the networks with a layer of ROIs take them: blocks of voxels, scaled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from benchmark import parcels


@dataclass(frozen=True, eq=False)
class Blocks:
    """Voxels in the order of their ROIs and the scaling fitted to training rows.

    Attributes
    ----------
    columns : ndarray of int
        A voxel in several ROIs is there several times, one in none is left out.
    rois : tuple of (sizes, widths), or None
        Voxels and hidden units of every block; None where there is no layer of ROIs.
    mean, scale : ndarray of shape (n_columns,), float32
    """

    columns: np.ndarray
    rois: tuple[np.ndarray, np.ndarray] | None
    mean: np.ndarray
    scale: np.ndarray

    def __call__(self, data: np.ndarray) -> np.ndarray:
        """Return responses, scaled, float32."""
        x = np.asarray(data[:, self.columns], np.float32) - self.mean
        x /= self.scale
        return x


def fit_blocks(
    data: np.ndarray,
    rows: np.ndarray,
    masks: Mapping[str, np.ndarray] | None,
    voxels_per_unit: int = parcels.VOXELS_PER_UNIT,
) -> tuple[Blocks, np.ndarray]:
    """Choose the voxels, fit the scaling to the given rows and return both blocks and these rows, scaled.

    Parameters
    ----------
    data : ndarray of shape (n, n_voxels)
    rows : ndarray of int
    masks : mapping of str to ndarray of shape (n_voxels,), bool; or None
        ROIs; None where the network has no layer of ROIs. Without any voxel in them the whole brain is one block.
    voxels_per_unit : int
        Of :func:`benchmark.parcels.widths`.
    """
    columns, rois = np.arange(data.shape[1]), None
    if masks is not None:
        blocks = [voxels for mask in masks.values() if len(voxels := np.flatnonzero(mask))] or [columns]
        sizes = np.array([len(voxels) for voxels in blocks])
        columns, rois = np.concatenate(blocks), (sizes, parcels.widths(sizes, voxels_per_unit))
    x = np.asarray(data[np.ix_(rows, columns)], np.float32)
    mean = x.mean(0, dtype=np.float64).astype(np.float32)
    x -= mean
    std = np.sqrt(np.einsum("ij,ij->j", x, x) / len(x))  # no second copy of the data
    scale = np.where(std > 1e-6 * np.abs(mean), std, 1).astype(np.float32)
    x /= scale
    return Blocks(columns, rois, mean, scale), x
