"""Brain2Word's parcels: how many voxels each Gordon ROI has, and how many hidden units it gets."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources

import numpy as np

# Voxels for each hidden unit of a ROI.
VOXELS_PER_UNIT = 20


@cache
def tables() -> tuple[np.ndarray, np.ndarray]:
    """Return the published sizes and widths of the 333 Gordon ROIs, in atlas order.

    The sizes are the largest over 15 subjects (they sum to 65,730); the widths were made of the largest over the
    first 10 subjects (3,221), so they cannot be computed from the sizes.

    Returns
    -------
    sizes, widths : ndarray of shape (333,), int
        Source: ``sizes.npy`` and ``reduced_sizes.npy`` of the public code of Affolter et al. 2020.
    """
    text = resources.files("benchmark.data").joinpath("parcels.json").read_text("utf-8")
    found = json.loads(text)
    result = np.array(found["input_sizes"]), np.array(found["hidden_widths"])
    for values in result:
        values.setflags(write=False)
    return result


def widths(sizes: np.ndarray, voxels_per_unit: int = VOXELS_PER_UNIT) -> np.ndarray:
    """Return the number of hidden units of every ROI.

    Parameters
    ----------
    sizes : array_like of shape (n_rois,), int
        Voxels of every ROI, at least one.
    voxels_per_unit : int
        A unit for each so many voxels, rounded up. The published widths are taken instead where it is 20
        and the sizes are exactly the published ones.

    Returns
    -------
    ndarray of shape (n_rois,), int
    """
    sizes = np.asarray(sizes)
    published, units = tables()
    if voxels_per_unit == VOXELS_PER_UNIT and np.array_equal(sizes, published):
        return units
    return -(-sizes // voxels_per_unit)
