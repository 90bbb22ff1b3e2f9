"""Draws scenes: textured, lit backgrounds and anti-aliased shapes, whole blocks at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from benchmark.data.scenes import Scenes

IMAGE_SIZE = 64
_RIM = 1.2  # width of the dark outline that sets an object off from its background, pixels
_HALF = 14  # half width of the window an object is drawn in, pixels
_X = np.arange(IMAGE_SIZE, dtype=np.float32) + 0.5
_U = _X / IMAGE_SIZE


def render(scenes: Scenes) -> np.ndarray:
    """Draw the scenes.

    Returns
    -------
    ndarray of shape (n, 64, 64, 3), uint8
    """
    images = np.empty((len(scenes), IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    for start in range(0, len(scenes), 64):  # blocks that stay in the processor's cache
        block = scenes.take(slice(start, start + 64))
        canvas = _draw_backgrounds(block)
        _draw_objects(canvas, block)
        np.clip(canvas, 0, 1, out=canvas)
        canvas *= 255
        canvas += 0.5
        images[start : start + 64] = canvas.astype(np.uint8).transpose(0, 2, 3, 1)
    return images


# ---------------------------------------------------------------- helpers


def _rgb(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Convert hue in degrees, saturation and value to RGB in a new last axis."""
    k = (np.array([5, 3, 1], np.float32) + (hue / 60)[..., None]) % 6
    return value[..., None] * (1 - saturation[..., None].clip(0, 1) * np.minimum(k, 4 - k).clip(0, 1))


def _waves(u: np.ndarray, low: float, high: float, angle: float | np.ndarray, spread: float) -> np.ndarray:
    """Sum plane waves to (m, 64, 64), about unit variance; frequencies in cycles a picture, around an angle."""
    frequency = 2 * np.pi * (low + (high - low) * u[..., 0])
    direction = np.reshape(angle, (-1, 1)) + spread * (2 * u[..., 1] - 1)
    a = (frequency * np.cos(direction))[..., None] * _U + 2 * np.pi * u[..., 2:]
    b = (frequency * np.sin(direction))[..., None] * _U
    # sin(a + b) is separable, so the sum over waves is one matrix product.
    rows = np.concatenate([np.cos(b), np.sin(b)], axis=1, dtype=np.float32)
    columns = np.concatenate([np.sin(a), np.cos(a)], axis=1, dtype=np.float32)
    return rows.transpose(0, 2, 1) @ columns * np.float32((2 / u.shape[1]) ** 0.5)


def _dots(u: np.ndarray, count: int, sigma: float) -> np.ndarray:
    """Scatter soft dots, (m, 64, 64), values 0 to 1: a quasi-random sequence shifted by the scene's own numbers."""
    i = np.arange(1, count + 1)
    x = 64 * ((u[:, 0, 0, None] + i * 0.7548776662) % 1)
    y = 64 * ((u[:, 0, 1, None] + i * 0.5698402910) % 1)
    strength = 0.35 + 0.65 * ((u[:, 0, 2, None] + i * 0.618034) % 1)
    rows = np.exp(-((_X[:, None] - y[:, None, :]) ** 2) / (2 * sigma**2)) * strength[:, None]
    columns = np.exp(-((_X - x[:, :, None]) ** 2) / (2 * sigma**2))
    return (rows.astype(np.float32) @ columns.astype(np.float32)).clip(0, 1)


def _step(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


# ---------------------------------------------------------------- backgrounds
# Each kind gives three colours (m, 3) and two mixing maps: ground = mix(mix(A, B, map 1), C, map 2).


def _sky(s: Scenes):
    top, bottom = _rgb(s.hue, s.saturation, s.value), _rgb(s.hue - 25, s.saturation * 0.3, s.value * 1.08)
    glow = (8 * s.warmth).clip(0, 1)[:, None]  # warm light makes an evening sky
    bottom = bottom + glow * (_rgb(s.hue * 0 + 24, s.saturation * 0.9, s.value * 1.05) - bottom)
    cloud = _rgb(s.hue, s.saturation * 0.08, np.full_like(s.hue, 0.98))
    fade = _step(_U[:, None] * 1.1 + 0.6 * (s.horizon[:, None, None] - 0.5)) + np.zeros_like(_U)
    field = _waves(s.texture_waves, 1.0, 4.5, np.pi / 2, 1.0)
    return top, bottom, cloud, fade, _step(0.55 * field + 0.15 * s.texture_scale[:, None, None]) * _contrast(s, 0.85)


def _sea(s: Scenes):
    near, far = _rgb(s.hue, s.saturation, s.value * 0.8), _rgb(s.hue - 12, s.saturation * 0.8, s.value * 1.25)
    pale = _rgb(s.hue + 15, s.saturation * 0.25, np.full_like(s.hue, 0.9))
    line = (0.06 + 0.34 * s.horizon)[:, None, None]
    depth = _step((1 - _U[:, None]) / (1 - line)) + np.zeros_like(_U)
    crest = _waves(s.texture_waves, 5 + 3 * s.texture_scale[:, None], 9.0, np.pi / 2, 0.10)
    above = ((line - _U[:, None]) * 40 + 0.5).clip(0, 1)
    return near, far, pale, depth, np.maximum(above * 0.9, (0.3 * crest).clip(0, 1) * _contrast(s, 0.7))


def _grass(s: Scenes):
    dark, light = _rgb(s.hue + 8, s.saturation, s.value * 0.62), _rgb(s.hue - 8, s.saturation * 0.9, s.value * 1.25)
    blade = _rgb(s.hue - 20, s.saturation * 0.8, s.value * 1.5)
    patches = 0.5 + 0.28 * _waves(s.texture_waves, 0.5, 2.2, s.texture_angle, 1.5)
    blades = _waves(s.texture_waves[:, ::-1], 9.0, 9 + 7 * s.texture_scale[:, None], 0.0, 0.22)
    return dark, light, blade, patches.clip(0, 1), (0.42 * blades).clip(0, 1) * _contrast(s, 0.65)


def _sand(s: Scenes):
    dark, light = _rgb(s.hue - 5, s.saturation * 1.2, s.value * 0.72), _rgb(s.hue, s.saturation, s.value * 1.1)
    shade = _rgb(s.hue - 10, s.saturation * 1.25, s.value * 0.5)
    dunes = 0.5 + 0.3 * _waves(s.texture_waves, 0.5, 1.8, s.texture_angle + 0.6, 1.0)
    low = 3.5 + 3.5 * s.texture_scale[:, None]
    ripples = _waves(s.texture_waves[:, ::-1], low, low + 1.2, s.texture_angle, 0.22)
    return dark, light, shade, dunes.clip(0, 1), (0.25 + 0.4 * ripples).clip(0, 1) * _contrast(s, 0.6)


def _snow(s: Scenes):
    air, ground = (
        _rgb(s.hue, s.saturation * 1.9 + 0.05, s.value * 0.74),
        _rgb(s.hue, s.saturation * 0.4, s.value * 1.06),
    )
    flake = np.ones_like(air)
    hills = 0.08 * _waves(s.texture_waves[:, :3], 0.5, 1.6, 0.0, 0.3)
    line = (0.35 + 0.5 * s.horizon)[:, None, None] + hills
    drift = ((_U[:, None] - line) * 14 + 0.5).clip(0, 1)
    return air, ground, flake, drift * 0.92, _dots(s.texture_waves, 46, 0.95) * _contrast(s, 1.0)


def _night(s: Scenes):
    top, glow = _rgb(s.hue, s.saturation, s.value * 0.7), _rgb(s.hue + 30, s.saturation * 0.85, s.value * 2.0)
    star = _rgb(s.hue * 0 + 50, s.saturation * 0.2, np.full_like(s.hue, 1.0))
    haze = _step(_U[:, None] + 0.7 * (s.horizon[:, None, None] - 0.6)) + np.zeros_like(_U)
    cloud = 0.14 * _waves(s.texture_waves, 0.6, 2.0, s.texture_angle, 0.8)
    return top, glow, star, (haze * 0.9 + cloud).clip(0, 1), _dots(s.texture_waves, 30, 0.7) * _contrast(s, 1.0)


def _brick(s: Scenes):
    dark, light = _rgb(s.hue, s.saturation * 1.1, s.value * 0.7), _rgb(s.hue + 6, s.saturation * 0.9, s.value * 1.2)
    mortar = _rgb(s.hue + 15, s.saturation * 0.2, s.value * 0.45 + 0.38)
    height = (64 / (5 + 4 * s.texture_scale))[:, None, None]
    v = (_X[:, None] + 64 * s.horizon[:, None, None]) / height
    row = np.floor(v)
    u = (_X + 64 * s.texture_waves[:, 0, 0, None, None]) / (2.1 * height) + 0.5 * (row % 2)
    column = np.floor(u)
    tone = (np.sin(row * 12.9898 + column * 78.233 + 6.28 * s.texture_waves[:, 0, 1, None, None]) * 43.7) % 1
    edge = np.minimum(np.minimum(v - row, 1 - v + row), 2.1 * np.minimum(u - column, 1 - u + column)) * height
    drift = 0.18 * _waves(s.texture_waves, 0.5, 1.6, s.texture_angle, 1.0)
    return dark, light, mortar, (0.25 + 0.5 * tone + drift).clip(0, 1), (1.35 - edge).clip(0, 1) * _contrast(s, 0.9)


def _forest(s: Scenes):
    leaf, light = _rgb(s.hue, s.saturation, s.value * 0.75), _rgb(s.hue - 15, s.saturation * 0.8, s.value * 1.7)
    trunk = _rgb(s.hue * 0 + 26, s.saturation * 0.7, s.value * 0.42)
    canopy = _step(1.1 - 1.3 * _U[:, None] + 0.6 * (s.horizon[:, None, None] - 0.5))
    leaves = 0.16 * _waves(s.texture_waves, 5.0, 9.0, s.texture_angle, 1.6)
    lean = 0.25 * (s.texture_angle / np.pi - 0.5)
    trunks = _waves(s.texture_waves[:, :4], 2.0, 4 + 3 * s.texture_scale[:, None], lean, 0.05)
    return leaf, light, trunk, (0.75 * canopy + leaves).clip(0, 1), _step(1.6 * trunks - 0.1) * _contrast(s, 0.9)


def _contrast(s: Scenes, most: float) -> np.ndarray:
    return (np.float32(most) * s.texture_contrast)[:, None, None]


_KINDS = (_sky, _sea, _grass, _sand, _snow, _night, _brick, _forest)  # in the order of BACKGROUNDS


def _draw_backgrounds(scenes: Scenes) -> np.ndarray:
    """Return the lit backgrounds, shape (m, 3, 64, 64), float32."""
    canvas = np.empty((len(scenes), 3, IMAGE_SIZE, IMAGE_SIZE), np.float32)
    for kind, draw in enumerate(_KINDS):
        rows = np.flatnonzero(scenes.background == kind)
        if not len(rows):
            continue
        *colours, first, second = draw(scenes.take(rows))
        a, b, c = (colour.astype(np.float32)[:, :, None, None] for colour in colours)
        first, second = (m.astype(np.float32)[:, None] for m in (first, second))
        ground = first * (b - a)
        ground += a
        ground += second * (c - ground)
        canvas[rows] = ground
    canvas *= _light(scenes)[:, None]
    tint = scenes.warmth[:, None] * np.array([1, 0.15, -1], np.float32)
    canvas *= (1 + tint)[:, :, None, None]
    return canvas


def _light(scenes: Scenes) -> np.ndarray:
    """Return the light that falls on each pixel, shape (m, 64, 64): a linear fall-off and a soft spot."""
    along_x, along_y = (f(scenes.light_angle)[:, None] * (_U - 0.5) for f in (np.cos, np.sin))
    ramp = scenes.light_strength[:, None, None] * (along_y[:, :, None] + along_x[:, None, :])
    spot_x, spot_y = (np.exp(-((_X - p[:, None]) ** 2) / (2 * 15.0**2)) for p in (scenes.spot_x, scenes.spot_y))
    spot = (scenes.spot_strength[:, None] * spot_y)[:, :, None] * spot_x[:, None, :]
    return (scenes.exposure[:, None, None] * (1 + ramp + spot)).astype(np.float32)


# ---------------------------------------------------------------- objects
# Signed distances in radii, negative inside; x to the right, y downwards.


def _circle(x, y):
    return np.hypot(x, y) - 0.95


def _square(x, y):
    return np.maximum(np.abs(x), np.abs(y)) - 0.83


def _triangle(x, y):
    y = y - 0.3
    return np.maximum(y, 0.8660254 * np.abs(x) - 0.5 * y) - 0.62


def _star(x, y):
    sector = 2 * np.pi / 5
    angle = np.abs((np.arctan2(x, -y) + sector / 2) % sector - sector / 2)
    radius = np.hypot(x, y)
    # The edge runs from the tip (radius 1.1, angle 0) to the notch (0.48, 36 degrees).
    tip, notch = np.array([1.1, 0.0]), 0.48 * np.array([np.cos(sector / 2), np.sin(sector / 2)])
    normal = np.array([notch[1] - tip[1], tip[0] - notch[0]]) / np.hypot(*(notch - tip))
    return (radius * np.cos(angle) - tip[0]) * normal[0] + (radius * np.sin(angle) - tip[1]) * normal[1]


def _cross(x, y):
    x, y = np.abs(x), np.abs(y)
    return np.minimum(np.maximum(x - 0.98, y - 0.33), np.maximum(x - 0.33, y - 0.98))


def _ring(x, y):
    return np.abs(np.hypot(x, y) - 0.72) - 0.27


def _heart(x, y):
    x, y = np.abs(x) * 0.57, 0.56 - 0.57 * y
    lobe = np.hypot(x - 0.25, y - 0.75) - 0.35355339
    middle = 0.5 * np.maximum(x + y, 0)
    point = np.sqrt(np.minimum(x**2 + (y - 1) ** 2, (x - middle) ** 2 + (y - middle) ** 2)) * np.sign(x - y)
    return np.where(x + y > 1, lobe, point) / 0.57


def _moon(x, y):
    return np.maximum(np.hypot(x, y) - 1.0, 0.78 - np.hypot(x - 0.48, y + 0.12))


_DISTANCES = (_circle, _square, _triangle, _star, _cross, _ring, _heart, _moon)  # in the order of SHAPES


def _draw_objects(canvas: np.ndarray, scenes: Scenes) -> None:
    """Draw every object onto the canvas (m, 3, 64, 64), in place."""
    # Objects do not overlap, but their windows may: one slot at a time.
    for k in range(scenes.shape.shape[1]):
        rows = np.flatnonzero(scenes.shape[:, k] >= 0)
        if len(rows):
            _draw_slot(canvas, scenes, rows, k)


def _draw_slot(canvas: np.ndarray, scenes: Scenes, rows: np.ndarray, k: int) -> None:
    s = scenes.take(rows)
    window = np.arange(2 * _HALF)
    left, top = (np.clip(np.floor(p[:, k]).astype(int) - _HALF, 0, IMAGE_SIZE - 2 * _HALF) for p in (s.x, s.y))
    px = (left[:, None] + window + 0.5 - s.x[:, k, None]) / s.radius[:, k, None]
    py = (top[:, None] + window + 0.5 - s.y[:, k, None]) / s.radius[:, k, None]
    cos, sin = (f(s.rotation[:, k])[:, None, None] for f in (np.cos, np.sin))
    px, py = px.astype(np.float32)[:, None, :], py.astype(np.float32)[:, :, None]
    x, y = cos * px + sin * py, cos * py - sin * px
    distance = np.empty(x.shape, np.float32)
    for shape, function in enumerate(_DISTANCES):
        chosen = np.flatnonzero(s.shape[:, k] == shape)
        if len(chosen):
            distance[chosen] = function(x[chosen], y[chosen])
    distance *= s.radius[:, k, None, None]
    inside, covered = (0.5 - distance).clip(0, 1), (0.5 + _RIM - distance).clip(0, 1)
    colour = _rgb(s.object_hue[:, k], s.object_saturation[:, k], s.object_value[:, k])
    # Objects take half of the scene's tint and exposure, and are shaded along the same light.
    colour = colour * (0.5 + 0.5 * s.exposure[:, None])
    colour = colour * (1 + 0.5 * s.warmth[:, None] * np.array([1, 0.15, -1], np.float32))
    toward = np.cos(s.light_angle)[:, None, None] * px + np.sin(s.light_angle)[:, None, None] * py
    shade = 1 + 0.45 * s.light_strength[:, None, None] * toward
    paint = inside * (shade - 0.2) + np.float32(0.2) * covered  # the rim is the same colour at a fifth of the light
    index = rows[:, None, None], slice(None), (top[:, None] + window)[:, :, None], (left[:, None] + window)[:, None, :]
    # Advanced indices around a slice: the channel axis comes last.
    old = canvas[index]
    canvas[index] = old * (1 - covered)[..., None] + paint[..., None] * colour.astype(np.float32)[:, None, None, :]
