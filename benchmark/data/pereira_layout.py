"""One column layout for voxels of many subjects: parcel by parcel, slice by slice, padded with means.

Every parcel (ROI) is as wide as in the subject where it is largest, the template. A subject's voxels of a
slice come first in that slice's columns; the columns it lacks hold the mean of its own voxels of that parcel
and slice in the same scan. A slice with more voxels than the template spills into the next columns, so that no
voxel is lost (Affolter et al. 2020; slices are matched by coordinate).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Layout:
    """The voxels of one recording that lie in a parcel, ordered by parcel, slice and place in the parcel's list.

    Attributes
    ----------
    column : ndarray of shape (n,), int
        Column of the recording, counted from 0.
    roi, z : ndarray of shape (n,), int
        Parcel number, counted from 0, and slice.
    """

    column: np.ndarray
    roi: np.ndarray
    z: np.ndarray


@dataclass(frozen=True, eq=False)
class Template:
    """Columns by parcel and slice.

    Attributes
    ----------
    roi, z, count : ndarray of shape (n_slices,), int
        Parcel, slice and number of columns, ordered by parcel and slice.
    sizes : ndarray of shape (n_rois,), int
        Columns of every parcel.
    """

    roi: np.ndarray
    z: np.ndarray
    count: np.ndarray
    sizes: np.ndarray


@dataclass(frozen=True, eq=False)
class Projection:
    """How a recording's voxels fill the common columns.

    Attributes
    ----------
    row : ndarray of shape (n_columns,), int
        Row of the table of ``n`` voxels, then slice means, then parcel means, then the mean of all.
    slice_start, roi_start : ndarray of int
        First voxel of every slice and of every parcel that the recording has.
    """

    row: np.ndarray
    slice_start: np.ndarray
    roi_start: np.ndarray


def layout(lists: Sequence[np.ndarray], z: np.ndarray) -> Layout:
    """Order the voxels of parcels.

    Parameters
    ----------
    lists : sequence of ndarray of int
        Columns of every parcel, counted from 0; may be empty.
    z : ndarray of shape (n_voxels,), int
        Slice of every voxel of the recording.
    """
    column = np.concatenate([np.asarray(part, np.int64) for part in lists])
    roi = np.repeat(np.arange(len(lists)), [len(part) for part in lists])
    order = np.lexsort((z[column], roi))  # stable: the order of the list within a slice
    return Layout(column[order], roi[order], z[column][order])


def template(layouts: Sequence[Layout], n_rois: int) -> Template:
    """Return, parcel by parcel, the slices of the recording where the parcel is largest (the first of equals)."""
    sizes = np.stack([np.bincount(found.roi, minlength=n_rois) for found in layouts])
    largest = sizes.argmax(axis=0)
    parts = [
        (found.roi[mine], found.z[mine]) for i, found in enumerate(layouts) if (mine := largest[found.roi] == i).any()
    ]
    pairs, count = np.unique(np.concatenate([np.stack(part, axis=1) for part in parts]), axis=0, return_counts=True)
    return Template(pairs[:, 0], pairs[:, 1], count, sizes.max(axis=0))


def projection(found: Layout, goal: Template) -> Projection:
    """Assign the voxels of a recording, and means for what it lacks, to the common columns.

    Before the columns of slice k end, ``q_k`` of the parcel's columns so far are padded: as many as the
    template is ahead of the voxels, never fewer than before, never more than the parcel's spare columns.

    Parameters
    ----------
    found : Layout
    goal : Template

    Returns
    -------
    Projection
        Where a parcel has more voxels than columns (possible only for a recording that the template was
        not made from), the last ones are left out.
    """
    n_rois = len(goal.sizes)
    low, high = (getattr(np.concatenate([found.z, goal.z]), what)() for what in ("min", "max"))
    span = int(high - low + 1)
    own, goal_key = found.roi * span + found.z - low, goal.roi * span + goal.z - low
    key = np.union1d(own, goal_key)  # every slice of either, by parcel
    roi = key // span
    n, columns = np.zeros(len(key), np.int64), np.zeros(len(key), np.int64)
    present, slice_start, counts = np.unique(own, return_index=True, return_counts=True)
    n[np.searchsorted(key, present)] = counts
    columns[np.searchsorted(key, goal_key)] = goal.count

    first = np.searchsorted(roi, np.arange(n_rois + 1))  # first slice of every parcel
    n_before, columns_before = (np.concatenate([[0], np.cumsum(part)])[first[roi]] for part in (n, columns))
    n_so_far, columns_so_far = np.cumsum(n) - n_before, np.cumsum(columns) - columns_before
    spare = np.maximum(goal.sizes - np.bincount(found.roi, minlength=n_rois), 0)
    step = int(goal.sizes.sum()) + 1  # more than any count: the running maximum starts anew with every parcel
    padded = np.maximum.accumulate(np.maximum(columns_so_far - n_so_far, 0) + step * roi) - step * roi
    padded = np.minimum(padded, spare[roi])
    pad = padded - np.where(np.arange(len(key)) == first[roi], 0, np.concatenate([[0], padded[:-1]]))
    placed = np.clip(goal.sizes[roi] - (n_so_far - n), 0, n)

    kind = np.repeat(np.tile([0, 1, 2], len(key)), np.stack([placed, n - placed, pad], axis=1).ravel())
    fill = np.repeat(_fill(n, roi, first, found), pad) + len(found.column)
    row = np.cumsum(kind < 2) - 1
    row[kind == 2] = fill
    roi_start = np.searchsorted(found.roi, np.unique(found.roi))
    return Projection(row[kind != 1], slice_start, roi_start)


def project(responses: np.ndarray, found: Layout, plan: Projection) -> np.ndarray:
    """Return responses in the common columns.

    Parameters
    ----------
    responses : ndarray of shape (n_scans, n_voxels)
    found : Layout
    plan : Projection

    Returns
    -------
    ndarray of shape (n_scans, n_columns), float32
        Means are taken in float64.
    """
    voxels = responses.T[found.column].astype(np.float64, copy=False)  # MATLAB stores voxel by voxel
    means = [_means(voxels, start) for start in (plan.slice_start, plan.roi_start, np.zeros(1, int))]
    table = np.concatenate([voxels, *means], dtype=np.float32)
    return np.ascontiguousarray(table[plan.row].T)


def _fill(n: np.ndarray, roi: np.ndarray, first: np.ndarray, found: Layout) -> np.ndarray:
    """Return the mean that pads each slice: its own, the slice before's, the parcel's or that of all."""
    present = n > 0
    slice_number = np.cumsum(present) - 1  # of the slice itself, or of the last one before
    last = np.maximum.accumulate(np.where(present, np.arange(len(n)), -1))
    has_roi = np.bincount(found.roi, minlength=len(first) - 1) > 0
    n_slices, n_with = present.sum(), has_roi.sum()
    whole = np.where(has_roi, n_slices + np.cumsum(has_roi) - 1, n_slices + n_with)
    return np.where(last >= first[roi], slice_number, whole[roi])


def _means(voxels: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Return the means of consecutive rows."""
    return np.add.reduceat(voxels, start, axis=0) / np.diff(np.append(start, len(voxels)))[:, None]
