"""Pixel metrics between pictures: PixCorr and SSIM, over a whole batch at a time.

Pictures are uint8, shape (n, height, width, channels) with 1 or 3 channels, and of equal size: resizing is
the caller's choice and part of a protocol. Work goes in blocks of pictures, so that memory does not grow with n.
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
    true, predicted : ndarray of shape (n, height, width, channels), uint8

    Returns
    -------
    ndarray of shape (n,), float64
        In [-1, 1]; 0 where either picture is one constant value.

    Raises
    ------
    ValueError
        Bad input, see `metrics.validate`.
    """
    true, predicted = validate.images("pixcorr", true, predicted)
    return _in_blocks(_pixcorr, true, predicted, true[0, ..., 0].size)


def ssim(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Structural similarity of the grey pictures, two-dimensional, Gaussian window.

    Wang et al. 2004 with sigma 1.5 (11 x 11 taps), K1 .01, K2 .03, data range 1, population covariance, mean
    over the positions where the whole window fits. Equals scikit-image's ``structural_similarity`` with
    ``gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1`` on ``rgb2gray`` of the
    picture / 255, to 5e-6 (the filters run in float32). The window needs 11 pixels: where a side is shorter,
    every pixel of both pictures is repeated ceil(16 / shorter side) times in both directions first.

    Parameters
    ----------
    true, predicted : ndarray of shape (n, height, width, channels), uint8
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
    true, predicted = validate.images("ssim", true, predicted)
    return _in_blocks(_ssim, true, predicted, true[0, ..., 0].size * _repeat(true) ** 2)


def constant_pictures(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the items of which either picture is one constant value, shape (n,), bool."""
    rows = (np.asarray(pictures).reshape(len(pictures), -1) for pictures in (true, predicted))
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


def _ssim(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    (x, mean_x), (y, mean_y) = _grey(true), _grey(predicted)
    x_f, y_f, squares, product = (_blur(z) for z in (x, y, x * x + y * y, x * y))
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
    """Return grey pictures minus their mean, (n, height, width), and the mean, (n, 1, 1), as float32 in [0, 1]."""
    weights = GREY if pictures.shape[-1] == 3 else (1,)
    # whole numbers below 2**24: exact in float32
    grey = np.multiply(pictures[..., 0], weights[0], dtype=np.float32)
    for channel, weight in enumerate(weights[1:], start=1):
        grey += np.multiply(pictures[..., channel], weight, dtype=np.float32)
    if (times := _repeat(pictures)) > 1:
        grey = grey.repeat(times, axis=1).repeat(times, axis=2)
    mean = np.rint(grey.mean(axis=(1, 2), keepdims=True, dtype=np.float64)).astype(np.float32)
    scale = np.float32(1 / (255 * sum(weights)))
    grey -= mean
    grey *= scale
    return grey, mean * scale


def _blur(maps: np.ndarray) -> np.ndarray:
    """Gaussian window over both axes of (n, height, width), where it fits: (n, height - 10, width - 10), float32."""
    return _along_rows(_along_columns(maps))


def _along_columns(maps: np.ndarray) -> np.ndarray:
    n, height, width = maps.shape
    result = np.empty((n, height - 2 * RADIUS, width), np.float32)
    for start in range(0, height - 2 * RADIUS, _TILE):
        band = _band(min(_TILE, height - 2 * RADIUS - start))
        np.matmul(band.T, maps[:, start : start + len(band)], out=result[:, start : start + band.shape[1]])
    return result


def _along_rows(maps: np.ndarray) -> np.ndarray:
    n, height, width = maps.shape
    result = np.empty((n, height, width - 2 * RADIUS), np.float32)
    for start in range(0, width - 2 * RADIUS, _TILE):
        band = _band(min(_TILE, width - 2 * RADIUS - start))
        np.matmul(maps[..., start : start + len(band)], band, out=result[..., start : start + band.shape[1]])
    return result


@cache
def _band(n_outputs: int) -> np.ndarray:
    """Return the filter as a banded matrix, shape (n_outputs + 10, n_outputs): a product is faster than 11 shifts."""
    taps = np.exp(-0.5 * (np.arange(-RADIUS, RADIUS + 1) / SIGMA) ** 2)
    taps = (taps / taps.sum()).astype(np.float32)
    offset = np.arange(n_outputs + 2 * RADIUS)[:, None] - np.arange(n_outputs)
    return np.where((offset >= 0) & (offset <= 2 * RADIUS), taps[np.clip(offset, 0, 2 * RADIUS)], np.float32(0))
