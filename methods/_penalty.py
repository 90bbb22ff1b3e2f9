"""A ridge penalty by the score that leave-words-out is about: does a prediction name its word?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmark.api import TrainSet
from metrics.ranking import rank_accuracy, similarity

N_FOLDS = 5


def by_rank_accuracy(train: TrainSet, penalties: Sequence[float], seed: int) -> float | None:
    """Return the penalty whose predictions of left-out training words rank the right word best.

    The least squared error will not do for words that training never saw: with one noisy response a word
    it shrinks every prediction to the mean vector, and then the candidate most like the mean wins whatever
    the response. Folds of the training words are left out in turn; the others are the candidates.

    Parameters
    ----------
    train : TrainSet
    penalties : sequence of float
        In units of the kernel's mean diagonal, as in ``benchmark.ridge``.
    seed : int
        Deals the words out to the folds.

    Returns
    -------
    float or None
        The largest of the best; None where there are too few words to rank.
    """
    vectors = np.asarray(train.stimuli.embeddings[train.space], np.float64)
    n_folds = min(N_FOLDS, len(vectors) // 2)
    if n_folds < 2:
        return None
    x = train.fmri.data - train.fmri.data.mean(0)
    x /= np.where(np.ptp(x, axis=0) == 0, 1, x.std(0))
    gram = (x @ x.T).astype(np.float64)
    offered = np.sort(np.asarray(penalties, np.float64))[::-1]  # ties go to the stronger penalty
    total = np.zeros(len(offered))
    for words in np.array_split(np.random.default_rng(seed).permutation(len(vectors)), n_folds):
        out = np.isin(train.stimulus, words)
        known, column = np.unique(train.stimulus[out], return_inverse=True)
        predicted = _path(gram, vectors[train.stimulus], out, offered)
        scores = similarity(predicted.reshape(-1, predicted.shape[-1]), vectors[known], kind="pearson")
        total += rank_accuracy(scores, np.tile(column, len(offered))).reshape(len(offered), -1).sum(1)
    return float(offered[total.argmax()])


def _path(gram: np.ndarray, y: np.ndarray, out: np.ndarray, penalties: np.ndarray) -> np.ndarray:
    """Predict the left-out rows with every penalty, shape (penalties, rows, d); one eigendecomposition serves all."""
    inside, cross = gram[np.ix_(~out, ~out)], gram[np.ix_(out, ~out)]
    mean, centre = inside.mean(0), y[~out].mean(0)
    values, basis = np.linalg.eigh(inside - mean - mean[:, None] + mean.mean())
    probe = cross - cross.mean(1, keepdims=True) - mean + mean.mean()
    left, right = probe @ basis, basis.T @ (y[~out] - centre)
    unit = values.sum() / len(values) or 1.0
    return (left / (np.maximum(values, 0) + penalties[:, None, None] * unit)) @ right + centre
