"""Metrics that compare predicted vectors with true vectors, item by item or dimension by dimension.

Everything is summed in float64, in blocks of rows or columns so that no float64 copy of a whole matrix
is made. A vector *has zero variance* when the range of its entries is at most 1e-13 of its largest
magnitude, that is, when float64 cannot tell it from a constant; its correlation is 0. A vector of zeros
has cosine 0. ``Metric.degenerate`` gives the items or dimensions that these rules decided.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np

from metrics import validate

FLAT = 1e-13
_BLOCK = 2**21  # numbers per block: 16 MB in float64
_CACHED = 2**17  # numbers per block where it is to stay in cache: 1 MB in float64


def blocks(n: int, width: int, size: int = _BLOCK) -> Iterator[slice]:
    """Yield slices that cover ``range(n)``, each with about ``size / width`` members (at least one)."""
    step = max(1, size // max(1, width))
    for start in range(0, n, step):
        yield slice(start, min(n, start + step))


@contextmanager
def workers(n: int) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of at most ``n`` threads, one a core, each with one thread of BLAS."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"), ThreadPoolExecutor(min(n, os.cpu_count() or 1, 8)) as pool:
        yield pool


def threaded(function: Callable[[slice], np.ndarray], parts: Iterable[slice]) -> np.ndarray:
    """Return what a function makes of every part, joined along the last axis; numpy lets go of the lock in it."""
    parts = list(parts)
    if len(parts) == 1:
        return function(parts[0])
    with workers(len(parts)) as pool:
        return np.concatenate(list(pool.map(function, parts)), axis=-1)


def spread(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what standardises every row without overflow: ``unit = (row / peak - mean) / norm``.

    Parameters
    ----------
    rows : ndarray of shape (n, d)

    Returns
    -------
    peak : ndarray of shape (n,), float64
        Largest magnitude; 1 for a row of zeros.
    mean : ndarray of shape (n,), float64
        Mean of ``row / peak``.
    norm : ndarray of shape (n,), float64
        Length of ``row / peak - mean``; infinite where the row has zero variance, so that its unit vector is 0.
    """
    n, d = rows.shape
    if not n:
        return np.empty(0), np.empty(0), np.empty(0)
    result = threaded(lambda part: _spread(rows[part]), blocks(n, d, _CACHED))
    return result[0], result[1], result[2]


def _spread(rows: np.ndarray) -> np.ndarray:
    """Return peak, mean and norm of a few rows, shape (3, n)."""
    high, low = (x.astype(np.float64) for x in (rows.max(axis=1), rows.min(axis=1)))
    peak = np.maximum(high, -low)
    peak[peak == 0] = 1
    flat = high / peak - low / peak <= FLAT
    # squares of float32 numbers are within the range of float64, others are scaled first
    scaled = rows.dtype != np.float32
    values = rows / peak[:, None] if scaled else rows.astype(np.float64)
    mean = values.mean(axis=1)
    values -= mean[:, None]
    norm = np.sqrt(np.einsum("nd,nd->n", values, values))
    if not scaled:
        mean, norm = mean / peak, norm / peak
    return np.stack([peak, mean, np.where(flat, np.inf, norm)])


def standardised(rows: np.ndarray) -> np.ndarray:
    """Return rows minus their own mean, scaled to length 1, in float64; zeros where a row has zero variance."""
    peak, mean, norm = spread(rows)
    return (rows / peak[:, None] - mean[:, None]) / norm[:, None]


def unit(rows: np.ndarray, centre: np.ndarray | float = 0.0) -> np.ndarray:
    """Return rows minus centre, scaled to length 1, in float64; zeros where nothing but rounding is left.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
    centre : ndarray of shape (d,) or 0
    """
    centre = np.broadcast_to(np.asarray(centre, np.float64), rows.shape[1:])
    peak = np.maximum(np.abs(rows).max(axis=1), np.abs(centre).max()).astype(np.float64)[:, None]
    peak[peak == 0] = 1
    rows = rows / peak - centre / peak
    left = np.abs(rows).max(axis=1, keepdims=True)
    left[left <= (1e-6 if centre.any() else 0)] = np.inf
    rows /= left
    length = np.sqrt(np.einsum("nd,nd->n", rows, rows))[:, None]
    return rows / np.where(length == 0, 1, length)


def zero_variance(rows: np.ndarray) -> np.ndarray:
    """Return which rows of a matrix (n, d) have zero variance, shape (n,), bool."""
    return np.isinf(spread(np.asarray(rows))[2])


def pearson(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Pearson correlation of every row of ``true`` with the same row of ``predicted``, shape (n,), 0 at zero variance.

    Parameters
    ----------
    true, predicted : ndarray of shape (n, d)
    """
    n, d = true.shape
    result = np.empty(n)
    for part in blocks(n, d):
        result[part] = np.einsum("nd,nd->n", standardised(true[part]), standardised(predicted[part]))
    return np.clip(result, -1, 1)


def cosine(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Cosine similarity of every prediction with its target.

    Parameters
    ----------
    true, predicted : array_like of shape (n, d)

    Returns
    -------
    ndarray of shape (n,), float64
        In [-1, 1]; 0 where either vector is all zeros.

    Raises
    ------
    ValueError
        Bad input, see `metrics.validate`.
    """
    true, predicted = validate.vectors("cosine", true, predicted)
    return _cosine(true, predicted, np.zeros(true.shape[1]))


def cosine_centred(true: np.ndarray, predicted: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Cosine similarity after the mean of the training targets is taken from both vectors.

    Embeddings such as CLIP's share a large common component that inflates the raw cosine; here a method
    that always predicts the training mean gets 0.

    Parameters
    ----------
    true, predicted : array_like of shape (n, d)
    centre : array_like of shape (d,)
        Mean of the *training* targets.

    Returns
    -------
    ndarray of shape (n,), float64
        In [-1, 1]; 0 where either centred vector is all zeros or as short as float32 rounding of the
        vector (at most 1e-6 of the largest magnitude in the vector and the centre).

    Raises
    ------
    ValueError
        Bad input, see `metrics.validate`.
    """
    true, predicted = validate.vectors("cosine_centred", true, predicted)
    return _cosine(true, predicted, validate.centre("cosine_centred", centre, true.shape[1]))


def l1(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Mean absolute difference over the dimensions, for every item; lower is better.

    Parameters
    ----------
    true, predicted : array_like of shape (n, d)

    Returns
    -------
    ndarray of shape (n,), float64
        In the units of the vectors, at least 0.

    Raises
    ------
    ValueError
        Bad input, see `metrics.validate`, or values so large that the difference overflows.
    """
    true, predicted = validate.vectors("l1", true, predicted)
    n, d = true.shape
    result = np.empty(n)
    with np.errstate(over="ignore"):
        for part in blocks(n, d):
            result[part] = np.abs(np.subtract(true[part], predicted[part], dtype=np.float64)).mean(axis=1)
    return validate.finite("l1", result)


def correlation_distance(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """One minus the Pearson correlation over the dimensions, for every item; lower is better.

    Parameters
    ----------
    true, predicted : array_like of shape (n, d)

    Returns
    -------
    ndarray of shape (n,), float64
        In [0, 2]; 1 where either vector has zero variance.

    Raises
    ------
    ValueError
        Bad input, see `metrics.validate`.
    """
    true, predicted = validate.vectors("correlation_distance", true, predicted)
    return 1 - pearson(true, predicted)


def squared_distance(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Sum of squared differences over the dimensions, for every item; lower is better.

    Parameters
    ----------
    true, predicted : array_like of shape (n, d)

    Returns
    -------
    ndarray of shape (n,), float64
        At least 0.

    Raises
    ------
    ValueError
        Bad input, see `metrics.validate`, or values so large that the square overflows.
    """
    true, predicted = validate.vectors("squared_distance", true, predicted)
    n, d = true.shape
    result = np.empty(n)
    with np.errstate(over="ignore"):
        for part in blocks(n, d):
            difference = np.subtract(true[part], predicted[part], dtype=np.float64)
            result[part] = np.einsum("nd,nd->n", difference, difference)
    return validate.finite("squared_distance", result)


def collapse(predicted: np.ndarray) -> np.ndarray:
    """Collapse index: mean cosine over all pairs of different predictions.

    Near 1 the method says much the same for every item. It looks at predictions only, so neither end is
    the better one; compare with the value that the targets themselves have.

    Parameters
    ----------
    predicted : array_like of shape (n, d)
        At least two.

    Returns
    -------
    ndarray of shape (1,), float64
        In [-1, 1]; a prediction of zeros has cosine 0 with every other.

    Raises
    ------
    ValueError
        Bad input, see `metrics.validate`.
    """
    predicted = validate.real("collapse", "predicted", predicted, 2)
    validate.at_least("collapse", predicted, 2)
    n, d = predicted.shape
    total, nonzero = np.zeros(d), 0
    for part in blocks(n, d):
        units = unit(predicted[part])
        total += units.sum(axis=0)
        nonzero += np.count_nonzero(units.any(axis=1))
    # |sum of units|^2 holds every ordered pair and, once per nonzero row, the row with itself
    return np.clip([(total @ total - nonzero) / (n * (n - 1))], -1, 1)


def r2(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Coefficient of determination of every dimension over the test items.

    1 - sum (true - predicted)^2 / sum (true - mean of the test targets)^2, as scikit-learn's ``r2_score``
    with ``multioutput="raw_values"``. No dimension is dropped: where the target has zero variance the value
    is 1 if the prediction equals it exactly, else 0 (scikit-learn's rule too).

    Parameters
    ----------
    true, predicted : array_like of shape (n, d)
        At least two items.

    Returns
    -------
    ndarray of shape (d,), float64
        At most 1, without lower bound.

    Raises
    ------
    ValueError
        Bad input, see `metrics.validate`, or values so large that the ratio overflows.
    """
    true, predicted = validate.vectors("r2", true, predicted, min_items=2)
    n, d = true.shape
    result = np.empty(d)
    with np.errstate(over="ignore", invalid="ignore"):
        for part in blocks(d, n):
            columns = np.ascontiguousarray(true[:, part].T)
            peak, _, norm = spread(columns)
            error = (columns - predicted[:, part].T.astype(np.float64)) / peak[:, None]
            residual = np.einsum("dn,dn->d", error, error)
            flat = np.isinf(norm)
            exact = (columns == predicted[:, part].T).all(axis=1)
            result[part] = np.where(flat, np.where(exact, 1.0, 0.0), 1 - residual / norm**2)
    return validate.finite("r2", result)


def pearson_dim(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Pearson correlation of every dimension (or voxel) over the test items.

    Parameters
    ----------
    true, predicted : array_like of shape (n, d)
        At least two items.

    Returns
    -------
    ndarray of shape (d,), float64
        In [-1, 1]; 0 where target or prediction has zero variance. No dimension is dropped.

    Raises
    ------
    ValueError
        Bad input, see `metrics.validate`.
    """
    true, predicted = validate.vectors("pearson_dim", true, predicted, min_items=2)
    n, d = true.shape
    result = np.empty(d)
    for part in blocks(d, n):
        result[part] = pearson(true[:, part].T, predicted[:, part].T)
    return result


def zero_items(true: np.ndarray, predicted: np.ndarray, centre: np.ndarray | None = None) -> np.ndarray:
    """Return the items whose cosine is 0 by rule, a vector of zeros being involved, shape (n,), bool."""
    true, predicted = np.asarray(true), np.asarray(predicted)
    centre = np.zeros(true.shape[1]) if centre is None else np.asarray(centre)
    n, d = true.shape
    result = np.empty(n, bool)
    for part in blocks(n, d):
        either = [~unit(rows[part], centre).any(axis=1) for rows in (true, predicted)]
        result[part] = np.logical_or(*either)
    return result


def zero_predictions(predicted: np.ndarray) -> np.ndarray:
    """Return which predictions are all zeros, shape (n,), bool."""
    return ~np.asarray(predicted).any(axis=1)


def zero_variance_dimensions(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the dimensions whose correlation is 0 by rule, shape (d,), bool."""
    return zero_variance(np.asarray(true).T) | zero_variance(np.asarray(predicted).T)


def zero_variance_targets(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the dimensions whose target has zero variance, shape (d,), bool."""
    return zero_variance(np.asarray(true).T)


def _cosine(true: np.ndarray, predicted: np.ndarray, centre: np.ndarray) -> np.ndarray:
    n, d = true.shape
    result = np.empty(n)
    for part in blocks(n, d):
        result[part] = np.einsum("nd,nd->n", unit(true[part], centre), unit(predicted[part], centre))
    return np.clip(result, -1, 1)


def attribute_accuracy(true: np.ndarray, read: np.ndarray) -> np.ndarray:
    """Share of attributes that are right.

    Parameters
    ----------
    true, read : array_like of shape (n, n_attributes), int
        Class of every attribute, -1 where there is none. Entries that are -1 on both sides are left out, so
        an object that is missing or made up counts as wrong in each of its attributes.

    Returns
    -------
    ndarray of shape (n,), float64
        In [0, 1]; 1 where no attribute is left.

    Raises
    ------
    ValueError
        Bad input, see `metrics.validate`, or a number that is no class.
    """
    true, read = validate.vectors("attribute_accuracy", true, read)
    for what, classes in (("true", true), ("read", read)):
        if (classes < -1).any() or (classes != np.rint(classes)).any():
            raise ValueError(
                f"attribute_accuracy: expected `{what}` to hold classes from 0, or -1 where there is none."
            )
    counted = (true != -1) | (read != -1)
    right = ((true == read) & counted).sum(1)
    n = counted.sum(1)
    return np.where(n == 0, 1.0, right / np.maximum(n, 1))
