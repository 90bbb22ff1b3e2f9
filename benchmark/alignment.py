"""Whether predictions stand beside the right targets: chance in the order given, but not in another order."""

from __future__ import annotations

import numpy as np

from benchmark.registry import resolve

SHIFTS = (*range(-10, 0), *range(1, 11))
ORDERS, DRAWS = 999, 99  # random orders, and random sets of other targets, that a finding must beat all of
FEWEST = 8
SIDE = 64  # pixels: pictures are compared at this size


def note(true: np.ndarray, predicted: np.ndarray, spare: np.ndarray | None, rng: np.random.Generator) -> str:
    """Return a sentence where the rows are probably in another order than the targets, else an empty text.

    Only predictions that identify their targets no better than chance (two-way, by Pearson correlation with the mean
    over items taken away) are looked at. They are then tried moved by up to ten rows, against the best such move of
    random orders; and in the best of all orders, which is far above chance for any predictions, against the best
    order for as many targets that are not test items.

    Parameters
    ----------
    true, predicted : ndarray of shape (n, d)
    spare : ndarray of shape (n_spare, d) or None
        Targets of stimuli that are no test items. The best order is tried only where they are at least as many.
    rng : Generator
    """
    n = len(true)
    if n < FEWEST:
        return ""
    standardised = resolve("metrics.vectors:standardised")
    units = standardised(predicted)
    scores = _centred(units @ standardised(true).T)
    share = _shares(scores)
    rows = np.arange(n)
    orders = rng.permuted(np.tile(rows, (ORDERS, 1)), axis=1)
    given = float(share[rows, rows].mean())
    if given > np.quantile(share[rows, orders].mean(axis=1), 0.99):
        return ""
    start = f"the rows are probably in another order than the test items: two-way is {given:.3f} as they are, but "
    shifts = [s for s in SHIFTS if abs(s) < n]
    moved = [share[rows, (rows + s) % n].mean() for s in shifts]
    by_chance = np.max([share[rows, np.roll(orders, -s, axis=1)].mean(axis=1) for s in shifts], axis=0).max()
    if max(moved) > by_chance:
        shift = shifts[int(np.argmax(moved))]
        return f"{start}{max(moved):.3f} when each is moved by {shift:+d} (random orders reach {by_chance:.3f})"
    distinct, group = np.unique(true, axis=0, return_inverse=True)
    if spare is None or len(spare) < len(distinct):
        return ""
    best, order = _best_order(scores)
    others, reached = standardised(spare), []
    for _ in range(DRAWS):
        targets = others[rng.choice(len(spare), len(distinct), replace=False)][group.ravel()]
        matrix = _centred(units @ targets.T)
        value, chosen = _best_order(matrix)
        if value >= best:  # most predictions without information end here after a few draws
            return ""
        reached.append(_shares(matrix)[rows, chosen].mean())
    value, limit = share[rows, order].mean(), np.mean(reached)
    return f"{start}{value:.3f} in the best order (with stimuli that are no test items {limit:.3f})"


def small(pictures: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return uint8 pictures (n, h, w, c) as rows of at most 64 x 64 x c values, sides in proportion to a given size."""
    import torch
    from torch.nn.functional import interpolate

    size = (min(height, SIDE), min(width, SIDE))
    steps = range(0, len(pictures), 64)  # blocks, so that no float copy of all pictures is made
    blocks = (torch.from_numpy(np.array(pictures[i : i + 64])).permute(0, 3, 1, 2).float() for i in steps)
    return np.concatenate([interpolate(block, size, mode="area").flatten(1).numpy() for block in blocks])


def _centred(scores: np.ndarray) -> np.ndarray:
    scores = scores - scores.mean(axis=0)
    return np.round(scores - scores.mean(axis=1, keepdims=True), 12)  # equal predictions tie


def _shares(scores: np.ndarray) -> np.ndarray:
    """Return for every prediction and target the share of the other targets that fit worse; ties count 1/2."""
    from scipy.stats import rankdata

    return (rankdata(scores, axis=1) - 1) / (scores.shape[1] - 1)


def _best_order(scores: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the mean score of the best assignment of targets to predictions, and the target of each."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(scores, maximize=True)
    return float(scores[rows, columns].mean()), columns
