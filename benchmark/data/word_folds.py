"""Leave-words-out folds: every word is held out once, in folds drawn by a fixed seed (Pereira et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmark.errors import BenchError


def leave_words_out(ids: Sequence[str], n_folds: int = 18, seed: int = 0) -> list[dict[str, Any]]:
    """Return the folds of a leave-words-out split, as a split file lists them.

    Parameters
    ----------
    ids : sequence of str
        Stimulus ids, each once; 180 of them give folds of 10.
    n_folds : int
        Folds differ in size by one word at most.
    seed : int
        Fixes the permutation that deals the words out.

    Returns
    -------
    list of dict
        ``name`` (``words01`` and on), ``train`` and ``test``; both sides in the order of ``ids``.

    Raises
    ------
    BenchError
        Where an id is given twice, or a fold would be empty or leave nothing to train on.
    """
    ids = [str(value) for value in ids]
    if len(set(ids)) < len(ids):
        raise BenchError("leave-words-out folds: a stimulus id is there twice, expected each once")
    if not 2 <= n_folds <= len(ids):
        raise BenchError(f"leave-words-out folds: {n_folds} folds of {len(ids)} words, expected 2 to {len(ids)}")
    held_out = np.array_split(np.random.default_rng(seed).permutation(len(ids)), n_folds)
    return [
        {
            "name": f"words{number:02d}",
            "train": [ids[i] for i in np.setdiff1d(np.arange(len(ids)), rows)],
            "test": [ids[i] for i in np.sort(rows)],
        }
        for number, rows in enumerate(held_out, 1)
    ]
