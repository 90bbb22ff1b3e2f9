"""What the checks look at, the findings they give, and the arithmetic they share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from benchmark.api import Stimuli
from benchmark.data import prepare
from benchmark.data.base import Dataset, SubjectData
from benchmark.data.scan import blocks

OK, WARNING, FAULT, UNCHECKED = "ok", "warning", "fault", "not checked"
TRANSDUCTIVE = "transductive scaling"  # the tag of a dataset that says so
CLEAR = 3.0  # standard deviations of the shuffled values that a real one lies above them
ENOUGH = 30  # training stimuli or rows, and repeated stimuli, below which nothing found is no fault
SHUFFLES = 40
SIDE = 16  # pixels of a small picture


@dataclass(frozen=True)
class Finding:
    """One check's verdict.

    Attributes
    ----------
    check : str
    verdict : str
        ``"ok"``, ``"warning"``, ``"fault"`` or ``"not checked"``.
    sentence : str
    value : float or None
        The number that the verdict rests on.
    """

    check: str
    verdict: str
    sentence: str
    value: float | None = None


@dataclass(frozen=True, eq=False)
class Recording:
    """One subject's trials, some of its voxels, and the sides of the first fold.

    ``x`` (n_trials, n_voxels) holds the voxels to check with NaN filled, ``columns`` says which of the recording's
    they are; ``train`` and ``test`` are its rows on either side, the same ones where a split holds out subjects.
    """

    dataset: Dataset
    fold: prepare.Fold
    data: SubjectData
    columns: np.ndarray
    x: np.ndarray
    train: np.ndarray
    test: np.ndarray
    rng: np.random.Generator

    @property
    def unit(self) -> str:
        return self.fold.split.unit

    @property
    def stimuli(self) -> Stimuli:
        return self.dataset.stimuli

    def centred(self, rows: np.ndarray) -> np.ndarray:
        """Return the responses of rows less their mean within session and condition."""
        labels = codes(self.data.session[rows], self.data.condition[rows])
        return self.x[rows] - group_means(self.x[rows], labels)[labels]

    @cached_property
    def small(self) -> np.ndarray:
        """The pictures of ``shown`` at 16 x 16 by area averaging, (n, values), float32."""
        return _small(self.stimuli.images, self.shown)

    @cached_property
    def shown(self) -> np.ndarray:
        """The stimuli of both sides, in order."""
        return np.union1d(*self.sides())

    def sides(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the stimuli of training and test rows."""
        return np.unique(self.data.stimulus[self.train]), np.unique(self.data.stimulus[self.test])


def filled(responses: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the columns of all rows, NaN and infinity replaced by the column's mean."""
    x = np.empty((len(responses), len(columns)), np.float32)
    for start, block in blocks(responses):
        np.take(block, columns, axis=1, out=x[start : start + len(block)])
    holes = ~np.isfinite(x)
    if holes.any():
        x[holes] = 0
        mean = x.sum(axis=0, dtype=np.float64) / np.maximum(1, (~holes).sum(axis=0))
        np.copyto(x, mean.astype(np.float32), where=holes)
    return x


def _small(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    import torch
    from torch.nn.functional import interpolate

    out = []
    step = max(1, (1 << 26) // max(1, 4 * images[:1].nbytes))  # pictures in memory at a time
    for start in range(0, len(rows), step):
        block = torch.from_numpy(np.asarray(images[rows[start : start + step]], np.float32)).permute(0, 3, 1, 2)
        out.append(interpolate(block, (SIDE, SIDE), mode="area").flatten(1).numpy())
    return np.concatenate(out)


def codes(*columns: np.ndarray) -> np.ndarray:
    """Return one integer from 0 for every combination of the columns' values."""
    both = np.stack([np.unique(c, return_inverse=True)[1].ravel() for c in columns], axis=1)
    return np.unique(both, axis=0, return_inverse=True)[1].ravel()


def group_means(x: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return the mean row of every group, float32."""
    from scipy.sparse import csr_array

    weight = (1 / np.bincount(group))[group].astype(np.float32)
    return csr_array((weight, (group, np.arange(len(group)))), shape=(group.max() + 1, len(group))) @ x


def sd_of(x: np.ndarray) -> np.ndarray:
    """Return the standard deviation of every column; 1 where it is 0."""
    sd = x.std(axis=0, dtype=np.float64).astype(x.dtype)
    return np.where(sd > 0, sd, 1)


def standard(x: np.ndarray, axis: int = 0) -> np.ndarray:
    """Return values less their mean over an axis, divided by their standard deviation; zeros where they are equal."""
    x = x - x.mean(axis=axis, keepdims=True)
    sd = x.std(axis=axis, keepdims=True)
    return np.divide(x, sd, out=np.zeros_like(x), where=sd > 1e-6 * np.abs(x).max(initial=1e-30))


def of(count: int, total: int) -> str:
    """Return ``"3 of 12"``."""
    return f"{int(count)} of {total}"
