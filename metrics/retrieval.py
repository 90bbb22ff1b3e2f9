"""Retrieval over a fixed gallery: score matrices for large galleries, pools, hubness and CSLS, captions of an image.

A gallery is the set of candidates that are ranked: the test images of a fold, each once, or their captions. Rank
metrics of one row of scores are in `metrics.ranking`.
"""

from __future__ import annotations

import numpy as np

from metrics import ranking, validate, vectors

POOL, DRAWS, SEED = 300, 30, 20230529
NEIGHBOURS = 10
_EXACT = 2**24  # entries of a score matrix up to which all of it is made in float64
# Two entries of the float32 product (measured error: 1.5e-7 and 5e-6 of the entry) that are closer are compared again.
_SCREEN, _SCREEN_SLOPE = 1e-6, 2e-5
_FEATURES = 1024


def scores(predicted: np.ndarray, candidates: np.ndarray, target: np.ndarray, kind: str = "cosine") -> np.ndarray:
    """Similarity of every prediction with every candidate, for ranking the target.

    As `ranking.similarity` up to 2**24 entries. A larger matrix of float32 vectors is made in float32, one
    block of rows after the other, and what comes close to the target's entry in its row is compared with it again in
    float64 and put on its right side. So the order of candidates and target is that of float64 throughout, and
    equal candidates tie; the entries themselves are right to about 2e-5.

    Parameters
    ----------
    predicted : array_like of shape (n, d)
    candidates : array_like of shape (n_candidates, d)
    target : array_like of shape (n,), int
        Row of ``candidates`` that is right for each prediction.
    kind : str
        ``"cosine"`` or ``"pearson"``.

    Returns
    -------
    ndarray of shape (n, n_candidates), float64 or float32
        In [-1, 1], in float32 up to rounding.

    Raises
    ------
    ValueError
        Bad input, see `metrics.validate`.
    """
    predicted, candidates, target = validate.gallery("scores", predicted, candidates, target)
    n, n_candidates = len(predicted), len(candidates)
    if n * n_candidates <= _EXACT or not predicted.dtype == candidates.dtype == np.float32:
        return ranking.similarity(predicted, candidates, kind)
    make = vectors.unit if kind == "cosine" else vectors.standardised
    distinct, row = _distinct(predicted)
    queries = make(predicted[distinct])
    distinct, column = _distinct(candidates)
    gallery = make(candidates[distinct])
    queries32, gallery32 = queries.astype(np.float32), gallery.astype(np.float32)
    alone = len(gallery) == n_candidates
    result = np.empty((n, n_candidates), np.float32)
    for part in vectors.blocks(n, n_candidates, 2**23):
        own = column[target[part]]
        block = _ordered(queries[row[part]], queries32[row[part]], gallery, gallery32, own)
        result[part] = block if alone else block[:, column]  # clipping to 1 would undo the order next to 1
    return result


def _distinct(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first of each set of equal rows, in order, and for every row its place among them."""
    _, first, group = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return first[order], place[group.ravel()]


def _ordered(queries, queries32, gallery, gallery32, own) -> np.ndarray:
    """Return scores (n, n_gallery), float32, whose entries lie on the right side of entry ``own`` of their row."""
    total = np.zeros((len(queries), len(gallery)), np.float32)
    for features in vectors.blocks(queries.shape[1], 1, _FEATURES):
        total += queries32[:, features] @ gallery32[:, features].T
    value = total[np.arange(len(own)), own]
    margin = (_SCREEN + _SCREEN_SLOPE * np.abs(value))[:, None]
    low, high = value[:, None] - margin, value[:, None] + margin
    rows, columns = np.nonzero((total >= low) & (total <= high))
    if 50 * len(rows) < total.size:  # a gathered pair costs about 50 times its share of a matrix product
        exact = np.einsum("kd,kd->k", queries[rows], gallery[columns])
        difference = exact - np.einsum("nd,nd->n", queries, gallery[own])[rows]
    else:
        exact = queries @ gallery.T
        difference = exact[rows, columns] - exact[np.arange(len(own)), own][rows]
    difference[columns == own[rows]] = 0
    side = np.stack([np.nextafter(value, np.float32(-np.inf)), value, np.nextafter(value, np.float32(np.inf))])
    total[rows, columns] = side[np.sign(difference).astype(int) + 1, rows]
    return total


def pools(n: int, size: int = POOL, draws: int = DRAWS) -> np.ndarray:
    """Return fixed draws of candidates without replacement, the same for every method.

    Up to ``size`` candidates make one pool. Of more, ``draws`` pools are drawn (as many as are needed for everyone to
    be in one, if that is more) such that the numbers of pools that two candidates are in differ by one at most.

    Parameters
    ----------
    n : int
        Number of candidates.
    size, draws : int

    Returns
    -------
    ndarray of shape (n_draws, min(size, n)), int
    """
    if n <= size:
        return np.arange(n)[None]
    rng = np.random.default_rng(SEED)
    found, left = [], np.arange(0)
    for _ in range(max(draws, -(-n // size))):
        pool, left = left[:size], left[size:]
        if missing := size - len(pool):  # the next round begins with candidates that the pool does not have yet
            rest = rng.permutation(np.setdiff1d(np.arange(n), pool))
            left = rng.permutation(np.concatenate([rest[missing:], pool]))
            pool = np.concatenate([pool, rest[:missing]])
        found.append(pool)
    return np.stack(found)


def image_retrieval(predicted: np.ndarray, candidates: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Rank the images of a pool for every prediction: expected top-1 credit, see `ranking.topk`.

    The value of an item is the mean over the pools (see `pools`) that its image is in. The mean over items is the
    mean over pools where all images are in equally many (always where there is one pool); elsewhere the two differ by
    the weight of one pool.

    Parameters
    ----------
    predicted : array_like of shape (n, d)
    candidates : array_like of shape (n_candidates, d)
        At least two, each the target of some item.
    target : array_like of shape (n,), int
        Row of ``candidates`` that is right for each prediction.

    Returns
    -------
    ndarray of shape (n,), float64
        In [0, 1]; chance is 1 / min(300, n_candidates).

    Raises
    ------
    ValueError
        Bad input, see `metrics.validate`.
    """
    return _over_pools("image_retrieval", predicted, candidates, target, lambda s, own: ranking.topk(s, own, 1))


def brain_retrieval(predicted: np.ndarray, candidates: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Rank the predictions of a pool for every image: expected top-1 credit, given to the image's own predictions.

    Any prediction of the image itself is right. Otherwise as `image_retrieval`.

    Parameters
    ----------
    predicted : array_like of shape (n, d)
    candidates : array_like of shape (n_candidates, d)
    target : array_like of shape (n,), int

    Returns
    -------
    ndarray of shape (n,), float64
        In [0, 1]; chance is 1 / min(300, n_candidates) with one prediction for each image.

    Raises
    ------
    ValueError
        Bad input, see `metrics.validate`.
    """
    return _over_pools("brain_retrieval", predicted, candidates, target, _credit_of_images)


def _over_pools(name: str, predicted, candidates, target, credit) -> np.ndarray:
    predicted, candidates, target = validate.gallery(name, predicted, candidates, target)
    validate.at_least(name, candidates, 2)
    if len(np.unique(target)) < len(candidates):
        raise ValueError(f"{name}: expected every candidate to be the target of an item.")
    total, count = np.zeros(len(predicted)), np.zeros(len(predicted))
    for pool in pools(len(candidates)):
        place = np.full(len(candidates), -1)
        place[pool] = np.arange(len(pool))
        own = place[target]
        rows = np.flatnonzero(own >= 0)
        total[rows] += credit(ranking.similarity(predicted[rows], candidates[pool]), own[rows])
        count[rows] += 1
    return total / count


def _credit_of_images(scores: np.ndarray, own: np.ndarray) -> np.ndarray:
    best = scores == scores.max(axis=0)
    right = best[np.arange(len(own)), own]
    credit = np.bincount(own, right, scores.shape[1]) / best.sum(axis=0)
    return credit[own]


def csls(scores: np.ndarray, k: int = NEIGHBOURS) -> np.ndarray:
    """Scores for ranking candidates that are corrected for hubs (cross-domain similarity local scaling).

    Twice the score minus the candidate's mean score with the k predictions that are nearest to it. The third term of
    the definition, a prediction's own mean, is the same for all candidates and left out.

    Parameters
    ----------
    scores : array_like of shape (n, n_candidates)
    k : int
        All predictions are taken where there are fewer.

    Returns
    -------
    ndarray of shape (n, n_candidates)

    Raises
    ------
    ValueError
        Bad input, see `metrics.validate`, or scores whose sums would overflow.
    """
    scores = validate.real("csls", "scores", scores, 2)
    if max(scores.max(), -scores.min()) > np.finfo(scores.dtype).max / (4 * k):
        raise ValueError(f"csls: expected `scores` whose sums are within the range of {scores.dtype}.")
    n, n_candidates = scores.shape
    k = min(k, n)
    near = np.empty(n_candidates, scores.dtype)
    for part in vectors.blocks(n_candidates, n):
        columns = np.ascontiguousarray(scores[:, part].T)
        near[part] = np.sort(np.partition(columns, n - k, axis=1)[:, n - k :], axis=1).mean(axis=1)
    result = 2 * scores
    result -= near
    return result


def top1_csls(scores: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Expected top-1 credit by `csls`; see `ranking.topk` for parameters, result and errors."""
    return _csls_topk("top1_csls", scores, target, 1)


def top5_csls(scores: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Expected top-5 credit by `csls`; see `ranking.topk` for parameters, result and errors."""
    return _csls_topk("top5_csls", scores, target, 5)


def _csls_topk(name: str, scores, target, k: int) -> np.ndarray:
    scores, target = validate.scores(name, scores, target)
    return ranking.topk(csls(scores), target, k)


def occurrences(scores: np.ndarray, k: int = NEIGHBOURS) -> np.ndarray:
    """How often every candidate is among the k first of a prediction, in expectation under random tie order.

    Parameters
    ----------
    scores : array_like of shape (n, n_candidates)
    k : int

    Returns
    -------
    ndarray of shape (n_candidates,), float64
        The sum is n * min(k, n_candidates).
    """
    scores = validate.real("hubness", "scores", scores, 2)
    n, n_candidates = scores.shape
    k = min(k, n_candidates)
    result = np.zeros(n_candidates)
    for part in vectors.blocks(n, n_candidates):
        block = scores[part]
        last = np.partition(block, n_candidates - k, axis=1)[:, n_candidates - k, None]
        above, at = block > last, block == last
        share = (k - above.sum(axis=1)) / at.sum(axis=1)
        result += above.sum(axis=0) + share @ at
    return result


def hubness(scores: np.ndarray) -> np.ndarray:
    """Skewness of the 10-occurrence of the candidates, see `occurrences`.

    Parameters
    ----------
    scores : array_like of shape (n, n_candidates)
        At least two candidates.

    Returns
    -------
    ndarray of shape (1,), float64
        Near 0 no candidate is retrieved much more often than others; large where a few hubs are retrieved for
        everything. 0 where all occur equally often (always so with at most 10 candidates).

    Raises
    ------
    ValueError
        Bad input, see `metrics.validate`.
    """
    scores = validate.real("hubness", "scores", scores, 2)
    if scores.shape[1] < 2:
        raise ValueError(f"hubness: expected `scores` over at least 2 candidates, got {scores.shape[1]}.")
    counts = occurrences(scores)
    centred = counts - counts.mean()
    spread = np.sqrt(np.mean(centred**2))
    if spread <= 1e-9 * counts.mean():
        return np.zeros(1)
    return np.array([np.mean((centred / spread) ** 3)])


def own_caption(scores: np.ndarray, owner: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reduce scores of captions to a ranking problem with one right caption for each item.

    The right one is the best of the image's own captions; its others are not wrong answers and go below everything.

    Parameters
    ----------
    scores : array_like of shape (n, n_captions)
        Similarities in [-1, 1].
    owner : array_like of shape (n_captions,), int
        Image that each caption describes.
    target : array_like of shape (n,), int
        Image of every item.

    Returns
    -------
    scores : ndarray of shape (n, n_captions)
    target : ndarray of shape (n,), int
        Column of the right caption.
    """
    scores = validate.real("own_caption", "scores", scores, 2)
    own = np.asarray(owner)[None] == np.asarray(target)[:, None]
    if not own.any(axis=1).all():
        raise ValueError("own_caption: expected at least one caption of every item's image.")
    best = np.where(own, scores, -3).argmax(axis=1)
    own[np.arange(len(own)), best] = False
    return np.where(own, scores.dtype.type(-2), scores), best


def topk_chance(n_captions: int, k: int, n_own: int = 5) -> float:
    """Chance that one of ``n_own`` right ones is among the first k of ``n_captions`` in random order."""
    k, j = min(k, n_captions), np.arange(min(k, n_captions))
    return float(1 - np.prod(np.maximum(n_captions - n_own - j, 0) / (n_captions - j)))


def first_rank_median(n_captions: int, n_own: int = 5) -> float:
    """Median of the rank of the first of ``n_own`` right ones among ``n_captions`` in random order."""
    j = np.arange(n_captions)
    behind = np.cumprod(np.maximum(n_captions - n_own - j, 0) / (n_captions - j))
    return float(np.argmax(behind <= 0.5 + 1e-12) + 1)
