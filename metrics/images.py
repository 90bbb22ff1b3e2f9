"""Pixel metrics between pictures: PixCorr and SSIM, over a whole batch at a time.

Pictures are uint8, or floats in [0, 1], of shape (n, height, width, channels) with 1 or 3 channels, and of equal
size: resizing is part of a protocol (see `metrics.protocols`). Work goes in blocks of pictures, so that memory does not
grow with n. Sums are exact or in float64. SSIM of uint8 and float32 is filtered in float32 where that is exact to 1e-6
or so, as on photographs; small pictures and those with areas of one value (where rounding adds up instead of averaging
out, to 5e-5) are filtered in float64.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache, partial

import numpy as np
from numpy.lib.stride_tricks import as_strided

from metrics import validate, vectors

GREY = (2125, 7154, 721)  # ITU-R BT.709 weights as in scikit-image's rgb2gray, times 10,000
SIGMA = 1.5
RADIUS = 5  # int(truncate 3.5 * sigma + .5): 11 taps
C1, C2 = 0.01**2, 0.03**2  # data range 1
_TILE = 16  # outputs per banded product: larger wastes multiplications by zero, smaller wastes calls
_SMALL = 2**14  # pixels up to which float64 costs nothing to speak of
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
    width = true[0, ..., 0].size * _repeat(true) ** 2
    return _in_blocks(partial(_ssim, columns=columns), true, predicted, width)


def constant_pictures(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the items of which either picture is one constant value, shape (n,), bool."""
    rows = (np.asarray(pictures).reshape(len(pictures), -1) for pictures in (true, predicted))  # sizes may differ
    return np.logical_or(*(row.min(axis=1) == row.max(axis=1) for row in rows))


class _Room(threading.local):
    """Arrays of a thread that are used again for the next block: fresh memory would cost more than the arithmetic."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    def empty(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Return an array with any content."""
        if name not in self.arrays or (self.arrays[name].shape, self.arrays[name].dtype) != (shape, dtype):
            self.arrays[name] = np.empty(shape, dtype)
        return self.arrays[name]


def _in_blocks(function: Callable[..., np.ndarray], true: np.ndarray, predicted: np.ndarray, width: int) -> np.ndarray:
    """Return ``function`` of the pictures, called block by block on every core (numpy lets go of the lock)."""
    room = _Room()
    parts = vectors.blocks(len(true), width, _BLOCK)
    return np.clip(vectors.threaded(lambda part: function(true[part], predicted[part], room), parts), -1, 1)


def _pixcorr(true: np.ndarray, predicted: np.ndarray, room: _Room) -> np.ndarray:
    size = true[0].size
    x, y = _segments(true, room, "x"), _segments(predicted, room, "y")
    ones = np.ones(x.shape[2], np.float32)
    sum_x, sum_y = ((z @ ones).sum(axis=1, dtype=np.float64) for z in (x, y))
    xx, yy, xy = (np.einsum("nsk,nsk->ns", a, b).sum(axis=1, dtype=np.float64) for a, b in ((x, x), (y, y), (x, y)))
    variance = (xx - sum_x * sum_x / size) * (yy - sum_y * sum_y / size)
    flat = constant_pictures(true, predicted)
    return np.where(flat, 0, (xy - sum_x * sum_y / size) / np.sqrt(np.where(flat, 1, variance)))


def _ssim(true: np.ndarray, predicted: np.ndarray, room: _Room, columns: bool) -> np.ndarray:
    if true.dtype != np.float64:
        exact = _needs_float64(true) | _needs_float64(predicted)
        if exact.any():
            values = np.empty(len(true))
            values[exact] = _ssim(*(_as_float64(pictures[exact]) for pictures in (true, predicted)), room, columns)
            if not exact.all():
                values[~exact] = _filtered(true[~exact], predicted[~exact], room, columns)
            return values
    return _filtered(true, predicted, room, columns)


def _needs_float64(pictures: np.ndarray) -> np.ndarray:
    """Return the small pictures and those that have one value all over the window in more than 5 % of places."""
    n, height, width = pictures.shape[:3]
    if height * width <= _SMALL:
        return np.ones(n, bool)
    channel = pictures[..., pictures.shape[-1] // 2]  # of three, green; every fourth place is looked at
    side, centre = 2 * RADIUS, channel[:, RADIUS:-RADIUS:4, RADIUS:-RADIUS:4]
    flat = np.ones(centre.shape, bool)
    for rows in (slice(None, -side, 4), slice(side, None, 4)):
        for columns in (slice(None, -side, 4), slice(side, None, 4)):
            flat &= channel[:, rows, columns] == centre
    return flat.mean(axis=(1, 2)) > 0.05


def _as_float64(pictures: np.ndarray) -> np.ndarray:
    return pictures / 255.0 if pictures.dtype == np.uint8 else pictures.astype(np.float64)


def _filtered(true: np.ndarray, predicted: np.ndarray, room: _Room, columns: bool) -> np.ndarray:
    times = _repeat(true)
    n, height, width = len(true), times * true.shape[1], times * true.shape[2]
    dtype = np.dtype(np.float32) if true.dtype == np.uint8 else true.dtype
    maps = room.empty("maps", (4, n, *_padded(height, width, columns)), dtype)
    maps[:2, :, height:], maps[:2, :, :, width:] = 0, 0
    x, y, squares, product = maps
    mean_x, mean_y = (_grey(pictures, out[:, :height, :width], room) for pictures, out in ((true, x), (predicted, y)))
    np.multiply(x, y, out=product)
    np.multiply(x, x, out=squares)
    squares += np.multiply(y, y, out=room.empty("square", x.shape, dtype))
    x, y, squares, product = _window(maps, columns, room)
    # x and y are shifted to mean 0, which variances and covariances do not see and floats gain by
    luminance = np.multiply(x, y, out=room.empty("luminance", x.shape, dtype))
    product -= luminance
    product *= 2
    product += C2
    both = np.multiply(x, x, out=room.empty("both", x.shape, dtype))
    both += np.multiply(y, y, out=luminance)
    squares -= both
    squares += C2
    product /= squares
    x += mean_x
    y += mean_y
    np.multiply(x, y, out=luminance)
    luminance *= 2
    luminance += C1
    product *= luminance
    x *= x
    y *= y
    x += y
    x += C1
    product /= x
    return product[:, : height - 2 * RADIUS, : width - (0 if columns else 2 * RADIUS)].mean(
        axis=(1, 2), dtype=np.float64
    )


def _repeat(pictures: np.ndarray) -> int:
    """Return how often a pixel is repeated in each direction so that the window fits."""
    shorter = min(pictures.shape[1:3])
    return 1 if shorter > 2 * RADIUS else -(-16 // shorter)


def _segments(pictures: np.ndarray, room: _Room, name: str) -> np.ndarray:
    """Return the pixel values as float32, shape (n, n_segments, 256), filled up with zeros.

    256 products of two bytes sum to less than 2**24: a float32 sum over a segment is exact in any order.
    """
    n, size = len(pictures), pictures[0].size
    padded = room.empty(name, (n, -(-size // 256) * 256), np.dtype(np.float32))
    padded[:, :size] = pictures.reshape(n, size)
    padded[:, size:] = 0
    return padded.reshape(n, -1, 256)


def _grey(pictures: np.ndarray, out: np.ndarray, room: _Room) -> np.ndarray:
    """Write grey pictures minus their mean, as floats in [0, 1], and return the mean, (n, 1, 1)."""
    weights = np.array(GREY if pictures.shape[-1] == 3 else (1,), out.dtype)
    whole = pictures.dtype == np.uint8
    colours = room.empty("colours", pictures.shape, out.dtype)
    colours[:] = pictures
    # of uint8, whole numbers below 2**24: exact in float32, in any order
    grey = np.matmul(colours, weights, out=room.empty("grey", pictures.shape[:3], out.dtype))
    mean = grey.mean(axis=(1, 2), keepdims=True, dtype=np.float64)
    mean = (np.rint(mean) if whole else mean).astype(out.dtype)
    scale = out.dtype.type(1 / ((255 if whole else 1) * float(weights.sum())))
    grey -= mean
    grey *= scale
    times = _repeat(pictures)
    out[:] = grey if times == 1 else grey.repeat(times, axis=1).repeat(times, axis=2)
    return mean * scale


def _padded(height: int, width: int, columns: bool) -> tuple[int, int]:
    """Return height and width with which whole tiles of outputs fit."""
    outputs = -(-(height - 2 * RADIUS) // _TILE) * _TILE, -(-(width - 2 * RADIUS) // _TILE) * _TILE
    return outputs[0] + 2 * RADIUS, width if columns else outputs[1] + 2 * RADIUS


def _window(maps: np.ndarray, columns: bool, room: _Room) -> np.ndarray:
    """Gaussian window down columns, and along rows too unless ``columns``; outputs are the first pixel's and on.

    Every tile of outputs is the product of a banded matrix with the pixels it needs, which overlap with the next
    tile's: two calls for all maps, tiles and pictures.

    Parameters
    ----------
    maps : ndarray of shape (m, n, height, width), contiguous, of a `_padded` size
    columns : bool

    Returns
    -------
    ndarray of shape (m, n, height - 10, width or width - 10)
    """
    *several, height, width = maps.shape
    band, step = _band(_TILE, maps.dtype.type), maps.itemsize
    n, tall = int(np.prod(several)), (height - 2 * RADIUS) // _TILE
    shape, strides = (n, tall, len(band), width), (height * width, _TILE * width, width, 1)
    result = room.empty("columns", (n, tall, _TILE, width), maps.dtype)
    np.matmul(band.T, as_strided(maps, shape, [step * s for s in strides], writeable=False), out=result)
    if not columns:
        maps, rows, wide = result, n * tall * _TILE, (width - 2 * RADIUS) // _TILE
        result = room.empty("rows", (rows, wide * _TILE), maps.dtype)
        pixels = as_strided(maps, (wide, rows, len(band)), [step * s for s in (_TILE, width, 1)], writeable=False)
        np.matmul(pixels, band, out=result.reshape(rows, wide, _TILE).swapaxes(0, 1))
    return result.reshape(*several, height - 2 * RADIUS, -1)


@cache
def _band(n_outputs: int, dtype: type) -> np.ndarray:
    """Return the filter as a banded matrix, shape (n_outputs + 10, n_outputs): a product is faster than 11 shifts."""
    taps = np.exp(-0.5 * (np.arange(-RADIUS, RADIUS + 1) / SIGMA) ** 2)
    taps = (taps / taps.sum()).astype(dtype)
    offset = np.arange(n_outputs + 2 * RADIUS)[:, None] - np.arange(n_outputs)
    return np.where((offset >= 0) & (offset <= 2 * RADIUS), taps[np.clip(offset, 0, 2 * RADIUS)], dtype(0))
