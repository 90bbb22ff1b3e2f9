"""Pixel metrics between pictures: PixCorr and SSIM, over a whole batch at a time.

Pictures are uint8, or floats in [0, 1], of shape (n, height, width, channels) with 1 or 3 channels, and of equal
size: resizing is part of a protocol (see `metrics.protocols`). uint8 and float32 are filtered in float32, float64 in
float64; sums are exact or in float64. Work goes in blocks of pictures, so that memory does not grow with n.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np

from metrics import validate, vectors

GREY = (2125, 7154, 721)  # ITU-R BT.709 weights as in scikit-image's rgb2gray, times 10,000
SIGMA = 1.5
RADIUS = 5  # int(truncate 3.5 * sigma + .5): 11 taps
C1, C2 = 0.01**2, 0.03**2  # data range 1
_TILE = 16  # outputs per banded product: larger wastes multiplications by zero, smaller wastes calls
_BLOCK = 2**18  # pixels per block, so that a block's maps stay in cache


def pixcorr(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Pearson correlation over all pixel values of a picture and its reconstruction.

    Parameters
    ----------
    true, predicted : ndarray of shape (n, height, width, channels), uint8 or float

    Returns
    -------
    ndarray of shape (n,), float64
        In [-1, 1]; 0 where either picture is one constant value.

    Raises
    ------
    ValueError
        Bad input, see `metrics.validate`.
    """
    return correlate(*validate.images("pixcorr", true, predicted))


def ssim(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Structural similarity of the grey pictures, two-dimensional, Gaussian window.

    Wang et al. 2004 with sigma 1.5 (11 x 11 taps), K1 .01, K2 .03, data range 1, population covariance, mean
    over the positions where the whole window fits. Equals scikit-image's ``structural_similarity`` with
    ``gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1`` on ``rgb2gray`` of the
    picture / 255, to 5e-6 (1e-6 for float64 pictures). The window needs 11 pixels: where a side is shorter,
    every pixel of both pictures is repeated ceil(16 / shorter side) times in both directions first.

    Parameters
    ----------
    true, predicted : ndarray of shape (n, height, width, channels), uint8 or float
        Three channels are turned to grey with the weights .2125, .7154, .0721.

    Returns
    -------
    ndarray of shape (n,), float64
        In [-1, 1].

    Raises
    ------
    ValueError
        Bad input, see `metrics.validate`.
    """
    return similarity(*validate.images("ssim", true, predicted))


def ssim_columns(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Structural similarity of every pixel column of the grey pictures by itself, mean over columns.

    As `ssim`, but with a one-dimensional window of 11 pixels down each column. This is what scikit-image before
    0.20 made of ``multichannel=True`` on a grey picture (now ``channel_axis=-1``): it took columns for channels.

    Parameters
    ----------
    true, predicted : ndarray of shape (n, height, width, channels), uint8 or float

    Returns
    -------
    ndarray of shape (n,), float64
        In [-1, 1].

    Raises
    ------
    ValueError
        Bad input, see `metrics.validate`.
    """
    return similarity(*validate.images("ssim_columns", true, predicted), columns=True)


def correlate(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """PixCorr of pictures that were checked."""
    if true.dtype == np.uint8:
        return _in_blocks(_pixcorr, true, predicted, true[0, ..., 0].size)
    return vectors.pearson(*(pictures.reshape(len(pictures), -1) for pictures in (true, predicted)))


def similarity(true: np.ndarray, predicted: np.ndarray, columns: bool = False) -> np.ndarray:
    """SSIM of pictures that were checked, two-dimensional or by columns."""
    blur = _along_columns if columns else _blur
    return _in_blocks(lambda x, y: _ssim(x, y, blur), true, predicted, true[0, ..., 0].size * _repeat(true) ** 2)


def constant_pictures(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the items of which either picture is one constant value, shape (n,), bool."""
    rows = (np.asarray(pictures).reshape(len(pictures), -1) for pictures in (true, predicted))  # sizes may differ
    return np.logical_or(*(row.min(axis=1) == row.max(axis=1) for row in rows))


def _in_blocks(function: Callable[..., np.ndarray], true: np.ndarray, predicted: np.ndarray, width: int) -> np.ndarray:
    """Return ``function`` of the pictures, called block by block on every core (numpy lets go of the lock)."""
    parts = list(vectors.blocks(len(true), width, _BLOCK))
    with ThreadPoolExecutor(min(len(parts), os.cpu_count() or 1, 8)) as pool:
        values = pool.map(lambda part: function(true[part], predicted[part]), parts)
        return np.clip(np.concatenate(list(values)), -1, 1)


def _pixcorr(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    size = true[0].size
    x, y = _segments(true), _segments(predicted)
    sum_x, sum_y = (z.sum(axis=2).sum(axis=1, dtype=np.float64) for z in (x, y))
    xx, yy, xy = (np.einsum("nsk,nsk->ns", a, b).sum(axis=1, dtype=np.float64) for a, b in ((x, x), (y, y), (x, y)))
    variance = (xx - sum_x * sum_x / size) * (yy - sum_y * sum_y / size)
    flat = constant_pictures(true, predicted)
    return np.where(flat, 0, (xy - sum_x * sum_y / size) / np.sqrt(np.where(flat, 1, variance)))


def _ssim(true: np.ndarray, predicted: np.ndarray, blur: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    (x, mean_x), (y, mean_y) = _grey(true), _grey(predicted)
    x_f, y_f, squares, product = (blur(z) for z in (x, y, x * x + y * y, x * y))
    # x and y are shifted to mean 0, which variances and covariances do not see and float32 gains by
    structure = 2 * (product - x_f * y_f) + C2
    structure /= squares - x_f * x_f - y_f * y_f + C2
    x_f += mean_x
    y_f += mean_y
    luminance = 2 * x_f * y_f + C1
    luminance /= x_f * x_f + y_f * y_f + C1
    luminance *= structure
    return luminance.mean(axis=(1, 2), dtype=np.float64)


def _repeat(pictures: np.ndarray) -> int:
    """Return how often a pixel is repeated in each direction so that the window fits."""
    shorter = min(pictures.shape[1:3])
    return 1 if shorter > 2 * RADIUS else -(-16 // shorter)


def _segments(pictures: np.ndarray) -> np.ndarray:
    """Return the pixel values as float32, shape (n, n_segments, 256), filled up with zeros.

    256 products of two bytes sum to less than 2**24: a float32 sum over a segment is exact in any order.
    """
    n, size = len(pictures), pictures[0].size
    padded = np.zeros((n, -(-size // 256) * 256), np.float32)
    padded[:, :size] = pictures.reshape(n, size)
    return padded.reshape(n, -1, 256)


def _grey(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return grey pictures minus their mean, (n, height, width), and the mean, (n, 1, 1), as floats in [0, 1]."""
    weights = GREY if pictures.shape[-1] == 3 else (1,)
    whole = pictures.dtype == np.uint8
    dtype = np.float32 if whole else pictures.dtype
    # of uint8, whole numbers below 2**24: exact in float32
    grey = np.multiply(pictures[..., 0], weights[0], dtype=dtype)
    for channel, weight in enumerate(weights[1:], start=1):
        grey += np.multiply(pictures[..., channel], weight, dtype=dtype)
    if (times := _repeat(pictures)) > 1:
        grey = grey.repeat(times, axis=1).repeat(times, axis=2)
    mean = grey.mean(axis=(1, 2), keepdims=True, dtype=np.float64)
    mean = (np.rint(mean) if whole else mean).astype(dtype)
    scale = np.asarray(1 / ((255 if whole else 1) * sum(weights)), dtype)
    grey -= mean
    grey *= scale
    return grey, mean * scale


def _blur(maps: np.ndarray) -> np.ndarray:
    """Gaussian window over both axes of (n, height, width), where it fits: (n, height - 10, width - 10)."""
    return _along_rows(_along_columns(maps))


def _along_columns(maps: np.ndarray) -> np.ndarray:
    n, height, width = maps.shape
    result = np.empty((n, height - 2 * RADIUS, width), maps.dtype)
    for start in range(0, height - 2 * RADIUS, _TILE):
        band = _band(min(_TILE, height - 2 * RADIUS - start), maps.dtype.type)
        np.matmul(band.T, maps[:, start : start + len(band)], out=result[:, start : start + band.shape[1]])
    return result


def _along_rows(maps: np.ndarray) -> np.ndarray:
    n, height, width = maps.shape
    result = np.empty((n, height, width - 2 * RADIUS), maps.dtype)
    for start in range(0, width - 2 * RADIUS, _TILE):
        band = _band(min(_TILE, width - 2 * RADIUS - start), maps.dtype.type)
        np.matmul(maps[..., start : start + len(band)], band, out=result[..., start : start + band.shape[1]])
    return result


@cache
def _band(n_outputs: int, dtype: type) -> np.ndarray:
    """Return the filter as a banded matrix, shape (n_outputs + 10, n_outputs): a product is faster than 11 shifts."""
    taps = np.exp(-0.5 * (np.arange(-RADIUS, RADIUS + 1) / SIGMA) ** 2)
    taps = (taps / taps.sum()).astype(dtype)
    offset = np.arange(n_outputs + 2 * RADIUS)[:, None] - np.arange(n_outputs)
    return np.where((offset >= 0) & (offset <= 2 * RADIUS), taps[np.clip(offset, 0, 2 * RADIUS)], dtype(0))
