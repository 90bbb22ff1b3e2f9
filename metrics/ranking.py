"""Rank metrics over a score matrix: row i scores every candidate for item i, higher is more likely.

Two candidates tie when their scores are equal; no tolerance is applied, so make the scores with a function
that gives equal scores to equal candidates, such as `similarity`. Top-k, MRR and the rank distribution
take the expectation under random tie order; the other metrics use mid-ranks. A row of equal scores thus gets
chance from every metric here.
"""

from __future__ import annotations

import numpy as np

from metrics import validate, vectors


def top1(scores: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Expected top-1 credit, see `topk`."""
    return topk(scores, target, 1)


def top5(scores: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Expected top-5 credit, see `topk`."""
    return topk(scores, target, 5)


def top10(scores: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Expected top-10 credit, see `topk`."""
    return topk(scores, target, 10)


def topk(scores: np.ndarray, target: np.ndarray, k: int) -> np.ndarray:
    """Probability that the target is among the first k candidates under random tie order.

    clip((k - n_greater) / n_tied, 0, 1), where n_tied counts the target itself.

    Parameters
    ----------
    scores : array_like of shape (n, n_candidates)
        At least two candidates. Where there are no more than k the value is 1.
    target : array_like of shape (n,), int
        Column of the right candidate.
    k : int
        At least 1.

    Returns
    -------
    ndarray of shape (n,), float64
        In [0, 1]; chance is k / n_candidates.

    Raises
    ------
    ValueError
        Bad input, see `metrics.validate`.
    """
    if k < 1:
        raise ValueError(f"topk: expected k of at least 1, got {k}.")
    greater, tied, _ = _counts(f"top{k}", scores, target)
    return np.clip((k - greater) / tied, 0, 1)


def mid_rank(scores: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Rank of the target among the candidates, 1 is best; tied candidates share their mean rank.

    Summarised by the median over items (`rank_median`).

    Parameters
    ----------
    scores : array_like of shape (n, n_candidates)
        At least two candidates.
    target : array_like of shape (n,), int
        Column of the right candidate.

    Returns
    -------
    ndarray of shape (n,), float64
        In [1, n_candidates]; chance is (n_candidates + 1) / 2.

    Raises
    ------
    ValueError
        Bad input, see `metrics.validate`.
    """
    greater, tied, _ = _counts("rank_median", scores, target)
    return 1 + greater + (tied - 1) / 2


def rank_accuracy(scores: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Rank accuracy: 1 - (mid-rank - 1) / (n_candidates - 1).

    Parameters
    ----------
    scores : array_like of shape (n, n_candidates)
        At least two candidates.
    target : array_like of shape (n,), int
        Column of the right candidate.

    Returns
    -------
    ndarray of shape (n,), float64
        In [0, 1]; chance is 1/2.

    Raises
    ------
    ValueError
        Bad input, see `metrics.validate`.
    """
    greater, tied, n_candidates = _counts("rank_accuracy", scores, target)
    return 1 - (greater + (tied - 1) / 2) / (n_candidates - 1)


def mrr(scores: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Reciprocal rank, in expectation under random tie order.

    The mean of 1 / r over the ranks r that the target shares with its ties; the mean over items is the MRR.

    Parameters
    ----------
    scores : array_like of shape (n, n_candidates)
        At least two candidates.
    target : array_like of shape (n,), int
        Column of the right candidate.

    Returns
    -------
    ndarray of shape (n,), float64
        In (0, 1]; chance is H_N / N with N candidates and the harmonic number H_N = 1 + 1/2 + ... + 1/N.

    Raises
    ------
    ValueError
        Bad input, see `metrics.validate`.
    """
    greater, tied, n_candidates = _counts("mrr", scores, target)
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, n_candidates + 1))])
    # the difference of two sums loses digits of 1 / r far down the list; untied ranks need no difference
    return np.where(tied == 1, 1 / (1 + greater), (harmonic[greater + tied] - harmonic[greater]) / tied)


def rank_distribution(scores: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Expected number of items at every rank under random tie order.

    Parameters
    ----------
    scores : array_like of shape (n, n_candidates)
        At least two candidates.
    target : array_like of shape (n,), int
        Column of the right candidate.

    Returns
    -------
    ndarray of shape (n_candidates,), float64
        Entry r - 1 belongs to rank r; the entries sum to n, and the first k to n times the top-k.

    Raises
    ------
    ValueError
        Bad input, see `metrics.validate`.
    """
    greater, tied, n_candidates = _counts("rank_distribution", scores, target)
    # every item spreads 1 / tied over the ranks greater + 1 .. greater + tied
    spread = [np.bincount(end, 1 / tied, n_candidates + 1)[:-1] for end in (greater, greater + tied)]
    return np.maximum(np.cumsum(spread[0] - spread[1]), 0)


def similarity(
    predicted: np.ndarray, candidates: np.ndarray, kind: str = "cosine", centre: np.ndarray | None = None
) -> np.ndarray:
    """Similarity of every prediction with every candidate, as a score matrix for the rank metrics.

    Computed in float64. Equal candidates get exactly equal scores, and so do equal predictions: each different
    vector is compared once, and its scores are copied (the rounding of a matrix product depends on the position).

    Parameters
    ----------
    predicted : array_like of shape (n, d)
    candidates : array_like of shape (n_candidates, d)
    kind : str
        ``"cosine"`` or ``"pearson"``.
    centre : array_like of shape (d,), optional
        Mean of the training targets, taken from both sides first; for cosine only.

    Returns
    -------
    ndarray of shape (n, n_candidates), float64
        In [-1, 1]; 0 where a vector is all zeros (cosine) or has zero variance (Pearson).

    Raises
    ------
    ValueError
        Bad input, see `metrics.validate`.
    """
    predicted = validate.real("similarity", "predicted", predicted, 2)
    candidates = validate.real("similarity", "candidates", candidates, 2)
    d = predicted.shape[1]
    if candidates.shape[1] != d:
        raise ValueError(f"similarity: expected `candidates` with {d} dimensions, got {candidates.shape[1]}.")
    if kind not in ("cosine", "pearson") or (kind == "pearson" and centre is not None):
        raise ValueError(f"similarity: expected `kind` cosine, or pearson without a centre, got {kind!r}.")
    shift = np.zeros(d) if centre is None else validate.centre("similarity", centre, d)
    units, places = [], []
    for matrix in (predicted, candidates):
        rows, place = np.unique(matrix, axis=0, return_inverse=True)
        units.append(vectors.unit(rows, shift) if kind == "cosine" else vectors.standardised(rows))
        places.append(place.ravel())  # numpy 2.0 returns it with a second axis
    return np.clip(units[0] @ units[1].T, -1, 1)[np.ix_(*places)]


def _counts(name: str, scores: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Return how many candidates score above the target, how many equal it (with itself), and their number."""
    scores, target = validate.scores(name, scores, target)
    n, n_candidates = scores.shape
    greater, tied = np.empty(n, np.intp), np.empty(n, np.intp)
    own = scores[np.arange(n), target][:, None]
    for part in vectors.blocks(n, n_candidates):
        greater[part] = np.count_nonzero(scores[part] > own[part], axis=1)
        tied[part] = np.count_nonzero(scores[part] == own[part], axis=1)
    return greater, tied, n_candidates
