"""Input checks that every metric shares.

What is accepted, and how it is converted: float16 becomes float32; float32 and float64 stay; integers
become float64, and are refused beyond +-2**53, where float64 would round them. Pictures are uint8 from 0
to 255, or floats in [0, 1]; where one side is uint8 and the other float, uint8 is divided by 255. Booleans,
complex numbers, text, masked entries, NaN and infinity are refused. So are pictures that are darker than one step
of 8 bits throughout but not black: they were divided by 255 twice, or cut to whole numbers. Every refusal is a
``ValueError`` of one sentence that names the metric and says what was expected. What no check can see: another order
of the items, and integers that overflowed before they came here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np

_LARGEST_EXACT_INTEGER = 2**53


def real(name: str, what: str, values: np.ndarray, ndim: int) -> np.ndarray:
    """Return a finite, non-empty float32 or float64 array with ``ndim`` dimensions.

    Parameters
    ----------
    name : str
        Name of the metric, for the message.
    what : str
        Name of the argument, for the message.
    values : array_like of real numbers
    ndim : int

    Raises
    ------
    ValueError
        Where the number type, the number of dimensions, the size or a value is not as expected.
    """
    array = _array(name, what, values)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name}: expected `{what}` to hold real numbers, got dtype {array.dtype}.")
    if array.ndim != ndim:
        raise ValueError(f"{name}: expected `{what}` with {ndim} dimension(s), got shape {array.shape}.")
    if array.size == 0:
        raise ValueError(f"{name}: expected a non-empty `{what}`, got shape {array.shape}.")
    # min and max let NaN through to the result, and need no temporary of the array's size
    low, high = array.min(), array.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"{name}: expected finite values only, `{what}` has NaN or infinity.")
    if array.dtype.kind != "f":
        if int(low) < -_LARGEST_EXACT_INTEGER or int(high) > _LARGEST_EXACT_INTEGER:
            raise ValueError(f"{name}: expected integers within +-2**53 in `{what}`, got {low} to {high}.")
        return array.astype(np.float64)
    if array.dtype.itemsize > 8 and max(-low, high) > np.finfo(np.float64).max:
        raise ValueError(f"{name}: expected numbers in the range of float64 in `{what}`, got {low} to {high}.")
    return array.astype(np.float32 if array.dtype.itemsize <= 4 else np.float64, copy=False)


def _array(name: str, what: str, values: Any) -> np.ndarray:
    """Return an array of whatever type."""
    if np.ma.is_masked(values):
        raise ValueError(f"{name}: expected `{what}` without masked entries.")
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError):  # rows of different lengths, tensors that are on a GPU or in bfloat16
        raise ValueError(f"{name}: expected `{what}` as an array, got {type(values).__name__}.") from None


def vectors(name: str, true: np.ndarray, predicted: np.ndarray, min_items: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return two matrices of the same shape (n, d) with at least ``min_items`` rows."""
    true, predicted = real(name, "true", true, 2), real(name, "predicted", predicted, 2)
    if true.shape != predicted.shape:
        raise ValueError(f"{name}: expected `predicted` with the shape of `true`, {true.shape}, got {predicted.shape}.")
    at_least(name, true, min_items)
    return true, predicted


def at_least(name: str, rows: np.ndarray, min_items: int) -> None:
    """Refuse fewer than ``min_items`` rows."""
    if len(rows) < min_items:
        raise ValueError(f"{name}: expected at least {min_items} items to compare, got {len(rows)}.")


def centre(name: str, values: np.ndarray, d: int) -> np.ndarray:
    """Return the vector (d,) that is subtracted from targets and predictions."""
    array = real(name, "centre", values, 1)
    if len(array) != d:
        raise ValueError(f"{name}: expected `centre` with {d} values, one per dimension, got {len(array)}.")
    return array


def scores(name: str, scores: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a score matrix (n, n_candidates) and the column of the right candidate of every row, (n,)."""
    scores = real(name, "scores", scores, 2)
    n, n_candidates = scores.shape
    if n_candidates < 2:
        raise ValueError(f"{name}: expected `scores` over at least 2 candidates, got {n_candidates}.")
    return scores, _columns(name, target, n, n_candidates)


def _columns(name: str, target: np.ndarray, n: int, n_candidates: int) -> np.ndarray:
    """Return the right candidate of every row, (n,), int."""
    target = _array(name, "target", target)
    if target.dtype.kind not in "iu":
        raise ValueError(f"{name}: expected `target` to hold integers (columns of `scores`), got dtype {target.dtype}.")
    if target.shape != (n,):
        raise ValueError(f"{name}: expected `target` with shape ({n},), one column per row, got {target.shape}.")
    if target.min() < 0 or target.max() >= n_candidates:
        raise ValueError(
            f"{name}: expected `target` within 0..{n_candidates - 1}, got {target.min()} to {target.max()}."
        )
    return target.astype(np.intp)


def gallery(name: str, predicted: np.ndarray, candidates: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return predictions (n, d), candidates (n_candidates, d) and the right candidate of every prediction, (n,)."""
    predicted = real(name, "predicted", predicted, 2)
    candidates = real(name, "candidates", candidates, 2)
    if candidates.shape[1] != predicted.shape[1]:
        raise ValueError(
            f"{name}: expected `candidates` with {predicted.shape[1]} dimensions, got {candidates.shape[1]}."
        )
    return predicted, candidates, _columns(name, target, len(predicted), len(candidates))


def captions(name: str, true: Sequence[Sequence[str]], predicted: Sequence[str]) -> tuple[list[list[str]], list[str]]:
    """Return the reference captions of every item, at least one each, and its predicted caption."""
    for what, texts in (("true", true), ("predicted", predicted)):
        if not _listed(texts):
            raise ValueError(f"{name}: expected `{what}` as a sequence over items, got {type(texts).__name__}.")
    if len(true) == 0 or len(true) != len(predicted):
        raise ValueError(f"{name}: expected one predicted caption per item, got {len(predicted)} for {len(true)}.")
    if not all(_listed(texts) and len(texts) for texts in true):
        raise ValueError(f"{name}: expected `true` to hold at least one reference caption per item, in a sequence.")
    if not all(isinstance(text, str) for texts in (*true, predicted) for text in texts):
        raise ValueError(f"{name}: expected captions as texts.")
    return [list(texts) for texts in true], list(predicted)


def _listed(texts: Any) -> bool:
    """Return whether a value has a length and an order of its own, and is no text."""
    if isinstance(texts, np.ndarray):
        return texts.ndim == 1
    return hasattr(texts, "__len__") and not isinstance(texts, (str, bytes, Mapping, Set))


def images(name: str, true: np.ndarray, predicted: np.ndarray, same_size: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Return two arrays (n, height, width, channels), channels 1 or 3, both uint8 or both of one float type.

    Parameters
    ----------
    name : str
        Name of the metric, for the message.
    true, predicted : array_like
        uint8, or floats in [0, 1]. uint8 pictures without a value above 1 are refused: they are floats in [0, 1]
        that were cut to whole numbers.
    same_size : bool
        Whether height and width must be the same; the number of pictures and channels must be.
    """
    true, predicted = _pictures(name, "true", true), _pictures(name, "predicted", predicted)
    given, expected = (x.shape if same_size else (len(x), x.shape[-1]) for x in (predicted, true))
    if given != expected:
        what = "the shape" if same_size else "the count and channels"
        raise ValueError(f"{name}: expected `predicted` with {what} of `true`, {expected}, got {given}.")
    if true.dtype == predicted.dtype:
        return true, predicted
    common = np.float64 if np.float64 in (true.dtype, predicted.dtype) else np.float32
    return tuple(x / common(255) if x.dtype == np.uint8 else x.astype(common) for x in (true, predicted))


def _pictures(name: str, what: str, values: np.ndarray) -> np.ndarray:
    array = _array(name, what, values)
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise ValueError(f"{name}: expected `{what}` as uint8 (0 to 255) or float pictures, got dtype {array.dtype}.")
    if array.ndim != 4 or array.shape[-1] not in (1, 3):
        raise ValueError(
            f"{name}: expected `{what}` with shape (n, height, width, 1 or 3 channels), got {array.shape}."
        )
    if array.size == 0:
        raise ValueError(f"{name}: expected a non-empty `{what}`, got shape {array.shape}.")
    high = array.max()
    if array.dtype == np.uint8:
        if high == 1:
            raise ValueError(f"{name}: expected uint8 pictures from 0 to 255, `{what}` has no value above 1.")
        return array
    low = array.min()
    if not (low >= 0 and high <= 1):  # NaN fails too
        raise ValueError(f"{name}: expected float pictures within 0 and 1, `{what}` has {low:g} to {high:g}.")
    if 0 < high <= 1 / 255:
        raise ValueError(f"{name}: expected float pictures from 0 to 1, `{what}` has no value above 1 / 255.")
    return array.astype(np.float32 if array.dtype.itemsize <= 4 else np.float64, copy=False)


def finite(name: str, values: np.ndarray) -> np.ndarray:
    """Return ``values``, refusing a result that overflowed."""
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: expected values small enough for float64 arithmetic, the result overflowed.")
    return values
