"""Trials put together: those that agree in what a split averages over, the mean of each group, ids of items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def groups(trials: Mapping[str, np.ndarray], keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Group trials that agree in all keys; return each group's first trial and each trial's group."""
    n = len(trials["stimulus"])
    if not keys:
        return np.arange(n), np.arange(n)
    codes = np.stack([np.unique(trials[key], return_inverse=True)[1] for key in keys], axis=1)
    _, first, group = np.unique(codes, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)  # groups in order of first presentation
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[group.ravel()]


def average(data: np.ndarray, group: np.ndarray, n_groups: int) -> np.ndarray:
    """Return the mean row of every group, float32."""
    if n_groups == len(group):
        return data
    from scipy.sparse import csr_array

    weight = (1 / np.bincount(group, minlength=n_groups))[group].astype(np.float32)
    return csr_array((weight, (group, np.arange(len(group)))), shape=(n_groups, len(group))) @ data


def condition(trials: Mapping[str, np.ndarray], first: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return the condition of every group; empty where its trials differ in it."""
    own = trials["condition"][first]
    mixed = np.bincount(group, trials["condition"] != own[group], minlength=len(first)) > 0
    return np.where(mixed, "", own)


def joined(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Join texts with a slash; an empty right side adds nothing."""
    return np.where(right == "", left, np.char.add(np.char.add(left, "/"), right))


def numbered(ids: np.ndarray) -> np.ndarray:
    """Make ids unique: the second of the same name gets ``#2``, and so on."""
    _, group, counts = np.unique(ids, return_inverse=True, return_counts=True)
    order = np.argsort(group, kind="stable")
    number = np.empty(len(ids), int)
    number[order] = np.arange(len(ids)) - np.repeat(np.cumsum(counts) - counts, counts) + 1
    return np.where(number == 1, ids, np.char.add(np.char.add(ids, "#"), number.astype(str)))
