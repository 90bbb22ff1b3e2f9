"""Forward model of ``synthetic-scenes``: voxels that see pictures or their meaning, and trials with noise.

Every function is stated, with its constants, in ``docs/synthetic-scenes.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import fft

from benchmark.data import scenes as sc


@dataclass(frozen=True)
class Params:
    """Constants of the forward model (see docs/synthetic-scenes.md)."""

    size_jitter: float = 0.1  # of an ROI's number of voxels, between subjects
    frequencies: tuple[float, ...] = (4.0, 8.0, 16.0)  # of the Gabor filters, cycles a picture
    orientations: int = 4
    bandwidth: float = 0.4  # SD of a filter's spectrum, in units of its frequency
    normalisation: float = 0.5  # constant of the divisive normalisation, in units of the mean amplitude
    grid: int = 16  # receptive fields pool maps of grid x grid
    orientation_width: float = 0.45  # SD of a voxel's orientation tuning, radians
    frequency_width: float = 0.6  # SD of a voxel's frequency tuning, octaves
    saturation: float = 0.5  # of the mild nonlinearity tanh(saturation * z)
    tunings: int = 4  # directions of the description that a semantic area's voxels mix
    own: tuple[float, float] = (0.22, 0.72)  # share of early and semantic signal that is the subject's own
    dead: float = 0.05  # share of voxels without any signal
    ncsnr_most: float = 0.68  # the others' ncsnr is this times a beta variable
    ncsnr_shape: tuple[float, float] = (1.6, 2.0)
    aligned: float = 1.4  # SD of the noise that is distributed like the signal, in units of the signal's SD
    shared: float = 0.1  # share of the rest of the noise's variance that is common to voxels
    shared_factors: int = 20
    scale_sd: float = 0.3  # of the log of a voxel's noise SD, around 1.2 % signal change
    offset_sd: float = 0.5  # of a voxel's mean response, % signal change


@dataclass(frozen=True)
class Area:
    """One ROI: size, place in the volume, stream, and what its voxels respond to.

    ``field`` is the receptive field's SD in pixels (0 for semantic areas), ``half`` the half of the
    visual field it covers, ``mix`` the variance shares of contrast energy, luminance and colour. ``gains``
    are the weights' SD by block of the description, ``shapes`` the preferred shapes (four times the weight).
    """

    voxels: int
    anchor: tuple[float, float, float]
    stream: str
    field: float = 0.0
    half: str = ""
    mix: tuple[float, float, float] = (0.0, 0.0, 0.0)
    gains: Mapping[str, float] | None = None
    shapes: tuple[str, ...] = ()


_OBJECT = {
    "background": 0.6,
    "shape": 1.0,
    "shape_colour": 0.8,
    "shape_size": 0.5,
    "n_objects": 0.3,
    "size": 0.2,
    "shape_place": 0.3,
}
_PLACE = {"background": 2.2, "background_shape": 0.7, "place": 0.8, "n_objects": 0.5, "shape_place": 0.4, "size": 0.3}
_MIXED = {name: 0.8 for name in sc.DESCRIPTION_BLOCKS} | {"background": 1.3}
_COLOURED = _MIXED | {"colour": 1.3, "shape_colour": 1.2, "colour_size": 1.0, "colour_place": 0.8}
_BODY, _FACE, _LETTER = ("star", "cross", "triangle"), ("circle", "heart", "moon"), ("cross", "ring", "square")
VOLUME = (36, 30, 24)
# Areas that are no ROI of the dataset, only part of a stream.
_UNNAMED = ("early rest", "midventral rest", "midlateral rest", "midparietal rest", "parietal rest")
AREAS = {  # those with receptive fields first
    "V1v": Area(190, (3, 4, 9), "early", 4.0, "upper", (0.40, 0.35, 0.25)),
    "V1d": Area(190, (3, 4, 14), "early", 4.0, "lower", (0.40, 0.35, 0.25)),
    "V2v": Area(160, (6, 4, 7), "early", 6.0, "upper", (0.42, 0.30, 0.28)),
    "V2d": Area(160, (6, 4, 16), "early", 6.0, "lower", (0.42, 0.30, 0.28)),
    "V3v": Area(130, (9, 6, 6), "early", 8.5, "upper", (0.45, 0.28, 0.27)),
    "V3d": Area(130, (9, 6, 18), "early", 8.5, "lower", (0.45, 0.28, 0.27)),
    "early rest": Area(60, (2, 7, 12), "early", 7.0, "both", (0.4, 0.35, 0.25)),
    "hV4": Area(150, (10, 8, 4), "midventral", 11.0, "both", (0.30, 0.20, 0.50)),
    "midventral rest": Area(60, (9, 11, 4), "midventral", gains=_COLOURED),
    "midlateral rest": Area(70, (14, 6, 11), "midlateral", gains=_MIXED),
    "midparietal rest": Area(60, (8, 9, 20), "midparietal", gains=_MIXED | {"place": 1.5, "shape_place": 1.2}),
    "parietal rest": Area(90, (10, 13, 21), "parietal", gains=_MIXED | {"place": 1.5, "colour_place": 1.2}),
    "EBA": Area(170, (16, 10, 12), "lateral", gains=_OBJECT, shapes=_BODY),
    "FBA-1": Area(50, (13, 13, 4), "ventral", gains=_OBJECT, shapes=_BODY),
    "FBA-2": Area(60, (13, 16, 4), "ventral", gains=_OBJECT, shapes=_BODY),
    "mTL-bodies": Area(20, (14, 20, 5), "ventral", gains=_OBJECT, shapes=_BODY),
    "OFA": Area(70, (15, 7, 7), "lateral", gains=_OBJECT | {"colour": 0.5}, shapes=_FACE),
    "FFA-1": Area(80, (12, 12, 3), "ventral", gains=_OBJECT | {"colour": 0.5}, shapes=_FACE),
    "FFA-2": Area(70, (12, 15, 3), "ventral", gains=_OBJECT | {"colour": 0.5}, shapes=_FACE),
    "mTL-faces": Area(15, (13, 20, 4), "ventral", gains=_OBJECT, shapes=_FACE),
    "aTL-faces": Area(20, (12, 24, 3), "ventral", gains=_OBJECT, shapes=_FACE),
    "OPA": Area(110, (14, 8, 16), "lateral", gains=_PLACE),
    "PPA": Area(140, (7, 15, 5), "ventral", gains=_PLACE),
    "RSC": Area(100, (3, 14, 13), "parietal", gains=_PLACE),
    "OWFA": Area(40, (13, 9, 5), "midventral", gains=_COLOURED, shapes=_LETTER),
    "VWFA-1": Area(50, (14, 14, 6), "ventral", gains=_COLOURED, shapes=_LETTER),
    "VWFA-2": Area(40, (14, 17, 6), "ventral", gains=_COLOURED, shapes=_LETTER),
}
STREAMS = ("early", "midventral", "midlateral", "midparietal", "ventral", "lateral", "parietal")
# Voxels of the first area that also belong to the second, as the localisers of one patch overlap.
OVERLAPS = {("FBA-1", "FFA-1"): 0.25, ("FBA-2", "FFA-2"): 0.25, ("OFA", "EBA"): 0.15}
ROI_NAMES = (*(name for name in AREAS if name not in _UNNAMED), *STREAMS)


# ---------------------------------------------------------------- layout


def layout(rng: np.random.Generator, params: Params, empty: tuple[str, ...] = ()):
    """Draw one subject's areas and place their voxels.

    Returns
    -------
    area : ndarray of shape (n_voxels,), int
        Index into ``AREAS``, ascending.
    rois : dict of str to ndarray of shape (n_voxels,), bool
    coords : ndarray of shape (n_voxels, 3), int
        Position in the volume; the halves of an area lie in the two hemispheres.
    """
    jitter = rng.uniform(1 - params.size_jitter, 1 + params.size_jitter, len(AREAS))
    sizes = np.rint(jitter * [a.voxels for a in AREAS.values()]).astype(int)
    sizes[[list(AREAS).index(name) for name in empty]] = 0
    area = np.repeat(np.arange(len(AREAS)), sizes)
    rois = {name: area == i for i, name in enumerate(AREAS)}
    for (first, second), share in OVERLAPS.items():
        both = rois[first] & (rng.random(len(area)) < share)
        rois[second] = rois[second] | both
    stream = np.array([STREAMS.index(a.stream) for a in AREAS.values()])[area]
    masks = {name: rois[name] for name in AREAS if name not in _UNNAMED}
    masks |= {name: stream == i for i, name in enumerate(STREAMS)}
    return area, masks, _coordinates(rng, sizes)


def _coordinates(rng: np.random.Generator, sizes: np.ndarray) -> np.ndarray:
    """Give every voxel a cell of its own near its area's anchor, half of them mirrored across the midline."""
    cells = np.indices(VOLUME).reshape(3, -1).T
    middle = (VOLUME[0] - 1) / 2
    free = np.ones(len(cells), bool)
    coords = []
    for size, spec in zip(sizes, AREAS.values(), strict=True):
        for side, count in ((-1, size // 2), (1, size - size // 2)):
            x, y, z = np.array(spec.anchor) + rng.uniform(-0.5, 0.5, 3)
            distance = np.linalg.norm(cells - (middle + side * x, y, z), axis=1)
            across = side * (cells[:, 0] - middle) < 0
            chosen = np.argsort(np.where(free & ~across, distance, np.inf), kind="stable")[:count]
            free[chosen] = False
            coords.append(cells[chosen])
    return np.concatenate(coords)


# ---------------------------------------------------------------- signal


def early_maps(images: np.ndarray, params: Params) -> dict[str, np.ndarray]:
    """Return what receptive fields pool over.

    Parameters
    ----------
    images : ndarray of shape (n, 64, 64, 3), uint8

    Returns
    -------
    dict
        ``energy`` (orientations * frequencies, n, grid * grid): amplitude of quadrature Gabor pairs after divisive
        normalisation by the mean over orientations and frequencies; ``luminance`` (1, n, ...); ``colour`` (2, n, ...):
        red-green and blue-yellow. Every map is centred at each position and has unit variance overall.
    """
    blocks = [_raw_maps(images[i : i + 32], params) for i in range(0, len(images), 32)]  # stay in the cache
    energy, luminance, colour = (np.concatenate(parts, axis=1) for parts in zip(*blocks, strict=True))
    energy /= energy.mean((1, 2), keepdims=True)
    energy /= params.normalisation + energy.mean(0)
    maps = {"energy": energy, "luminance": luminance, "colour": colour}
    return {name: _standard_maps(values) for name, values in maps.items()}


def _raw_maps(images: np.ndarray, params: Params) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return pooled Gabor amplitude, luminance and colour opponency of some pictures, (channels, n, grid * grid)."""
    rgb = np.asarray(images, np.float32) / np.float32(255)
    luminance = rgb.mean(-1)
    opponent = (rgb[..., 0] - rgb[..., 1], rgb[..., 2] - (rgb[..., 0] + rgb[..., 1]) / 2)
    pad = 8  # a mirrored border keeps the opposite edge out of the circular convolution
    spectrum = fft.fft2(np.pad(luminance, ((0, 0), (pad, pad), (pad, pad)), "reflect"))
    size = images.shape[1]
    k = np.fft.fftfreq(size + 2 * pad) * size
    amplitude = []
    for frequency in params.frequencies:
        for angle in np.arange(params.orientations) * np.pi / params.orientations:
            distance = (k - frequency * np.cos(angle)) ** 2 + (k[:, None] - frequency * np.sin(angle)) ** 2
            # One-sided in frequency: real and imaginary part are the quadrature pair.
            window = np.exp(-distance / (2 * (params.bandwidth * frequency) ** 2)).astype(np.float32)
            window[0, 0] = 0
            pair = fft.ifft2(spectrum * window, overwrite_x=True)[:, pad:-pad, pad:-pad]
            amplitude.append(np.sqrt(_pool(pair.real**2 + pair.imag**2, params.grid)))
    colour = [_pool(c, params.grid) for c in opponent]
    return np.stack(amplitude), _pool(luminance, params.grid)[None], np.stack(colour)


def early_signal(rng: np.random.Generator, maps: Mapping[str, np.ndarray], spec: Area, n: int, params: Params):
    """Return the signal of ``n`` voxels with Gaussian receptive fields, (n_stimuli, n), each of unit variance."""
    size = sc.IMAGE_SIZE
    centre_x = rng.uniform(0, size, n)
    low, high = {"upper": (0, 0.55), "lower": (0.45, 1), "both": (0, 1)}[spec.half]
    centre_y = rng.uniform(low * size, high * size, n)
    width = spec.field * np.exp(0.25 * rng.standard_normal(n))
    at = (np.arange(params.grid) + 0.5) * size / params.grid
    rows, columns = (np.exp(-((at[:, None] - c) ** 2) / (2 * width**2)) for c in (centre_y, centre_x))
    field = (rows[:, None] * columns[None]).reshape(-1, n).astype(np.float32)
    angle = np.arange(params.orientations) * np.pi / params.orientations
    away = (angle[:, None] - rng.uniform(0, np.pi, n) + np.pi / 2) % np.pi - np.pi / 2
    octave = np.log2(params.frequencies)
    octaves = octave[:, None] - rng.uniform(octave.min(), octave.max(), n)
    energy = np.exp(
        -0.5 * (octaves / params.frequency_width)[:, None] ** 2 - 0.5 * (away / params.orientation_width) ** 2
    )
    weights = {
        "energy": energy.reshape(-1, n),
        "luminance": rng.choice([-1.0, 1.0], (1, n)),
        "colour": rng.standard_normal((2, n)),
    }
    signal = np.float32(0)
    for share, (name, weight) in zip(spec.mix, weights.items(), strict=True):
        weight = weight.astype(np.float32)
        pooled = sum((maps[name][c] @ field) * weight[c] for c in range(len(weight)))
        signal = signal + np.float32(np.sqrt(share)) * _standard(pooled)
    return _standard(np.tanh(params.saturation * _standard(signal)))


def semantic_signal(rng: np.random.Generator, described: np.ndarray, spec: Area, n: int, params: Params):
    """Return the signal of ``n`` voxels that respond to a scene's description, (n_stimuli, n), each of unit variance.

    Parameters
    ----------
    described : ndarray of shape (n_stimuli, 291)
        ``scenes.description``.
    """
    gains = [np.full(width, spec.gains.get(name, 0.0)) for name, width in sc.DESCRIPTION_BLOCKS.items()]
    gain = np.concatenate(gains)
    if spec.shapes:
        gain = gain * np.where(_about_shape(spec.shapes), 1.0, 0.25)
    directions = gain[:, None] * rng.standard_normal((len(gain), params.tunings))
    weights = (directions @ rng.standard_normal((params.tunings, n))).astype(np.float32)
    drive = _standard((described - described.mean(0)) @ weights)
    return _standard(np.tanh(params.saturation * drive))


def _about_shape(shapes: tuple[str, ...]) -> np.ndarray:
    """Return which columns of the description may drive an area that prefers some shapes."""
    preferred = np.isin(np.array(sc.SHAPES), shapes)
    columns = []
    for name, width in sc.DESCRIPTION_BLOCKS.items():
        if name == "background_shape":
            columns.append(np.tile(preferred, len(sc.BACKGROUNDS)))
        elif name.startswith("shape"):
            columns.append(np.repeat(preferred, width // len(sc.SHAPES)))
        else:
            columns.append(np.ones(width, bool))
    return np.concatenate(columns)


def own_signal(rng: np.random.Generator, signal: np.ndarray, share: float) -> np.ndarray:
    """Replace a share of the signal's variance by what only this subject sees in each stimulus.

    It is the same on every repeat and distributed like the signal, but no function of the picture.
    """
    mixing = _normal(rng, len(signal), len(signal)) * np.float32(np.sqrt(share / len(signal)))
    return _standard(np.float32(np.sqrt(1 - share)) * signal + mixing @ signal)


# ---------------------------------------------------------------- trials


def trials(rng: np.random.Generator, signal: np.ndarray, stimulus: np.ndarray, params: Params):
    """Return single-trial responses to a unit-variance signal.

    Parameters
    ----------
    rng : numpy.random.Generator
    signal : ndarray of shape (n_stimuli, n_voxels), float32
    stimulus : ndarray of shape (n_trials,), int

    Returns
    -------
    responses : ndarray of shape (n_trials, n_voxels), float32
        Percent signal change.
    ncsnr : ndarray of shape (n_voxels,), float32
        Signal SD over single-trial noise SD.
    """
    n_trials, n_voxels = len(stimulus), signal.shape[1]
    ncsnr = params.ncsnr_most * rng.beta(*params.ncsnr_shape, n_voxels)
    ncsnr = np.where(rng.random(n_voxels) < params.dead, 0, ncsnr).astype(np.float32)
    strong = signal * ncsnr
    # Noise that moves along the signal's own directions, as attention and imagery would.
    mixing = _normal(rng, n_trials, len(signal)) * np.float32(params.aligned / np.sqrt(len(signal)))
    responses = strong[stimulus] + mixing @ strong
    rest = np.sqrt(1 - (params.aligned * ncsnr) ** 2)
    loadings = _normal(rng, params.shared_factors, n_voxels)
    loadings *= np.sqrt(params.shared) * rest / np.linalg.norm(loadings, axis=0)
    responses += _normal(rng, n_trials, params.shared_factors) @ loadings
    private = _normal(rng, n_trials, n_voxels)
    private *= np.float32(np.sqrt(1 - params.shared)) * rest
    responses += private
    responses *= np.exp(params.scale_sd * _normal(rng, n_voxels)) * np.float32(1.2)
    responses += np.float32(params.offset_sd) * _normal(rng, n_voxels)
    return responses, ncsnr


# ---------------------------------------------------------------- helpers


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def _standard(values: np.ndarray) -> np.ndarray:
    values = values - values.mean(0)
    return (values / values.std(0)).astype(np.float32)


def _standard_maps(maps: np.ndarray) -> np.ndarray:
    maps = maps - maps.mean(1, keepdims=True)
    return (maps / maps.std((1, 2), keepdims=True)).astype(np.float32)


def _pool(maps: np.ndarray, grid: int) -> np.ndarray:
    n, size, _ = maps.shape
    return maps.reshape(n, grid, size // grid, grid, size // grid).mean((2, 4)).reshape(n, -1)
