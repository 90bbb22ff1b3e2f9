"""Rendered scenes: a latent description, its picture, its captions and its attributes.

A scene is a background of one of eight kinds, lit and coloured by continuous latents, with one to three
objects that differ in shape, colour, size and place. Captions name the categorical part and leave out layout, hue,
lighting and texture. See ``docs/synthetic-scenes.md``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from benchmark.data.rendering import IMAGE_SIZE, render
from benchmark.errors import BenchError

__all__ = ["Scenes", "attributes", "captions", "categorical_key", "concatenate", "description", "is_reserved"]
__all__ += ["key_hash", "pool_of", "render", "sample"]

VERSION = "1.0"  # raised whenever a scene's picture, captions or key can change
BACKGROUNDS = ("sky", "sea", "grass", "sand", "snow", "night", "brick", "forest")
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "heart", "moon")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
SIZES = ("small", "large")
PLACES = ("top left", "top middle", "top right", "bottom left", "bottom middle", "bottom right")
COUNTS = ("one", "two", "three")
MAX_OBJECTS = 3
POOLS = ("pretrain", "train", "test")

_PHRASES = ("the sky", "the sea", "grass", "sand", "snow", "the night", "a brick wall", "a forest")
_ARTICLE = tuple("an" if c[0] in "aeiou" else "a" for c in COLOURS)
_JOINTS = "a an and are at behind front in is object objects of on over picture the there wall with"
_GROUPS = (BACKGROUNDS, SHAPES, COLOURS, SIZES, PLACES, COUNTS, (_JOINTS,))
CAPTION_WORDS = tuple(sorted({word for group in _GROUPS for text in group for word in text.split()}))

# Centre of the objects' hue (degrees), saturation and value, by colour name.
_COLOUR_HSV = np.array(
    [
        [0, 0.88, 0.88],
        [27, 0.92, 0.97],
        [54, 0.88, 0.98],
        [128, 0.80, 0.68],
        [218, 0.85, 0.92],
        [275, 0.68, 0.72],
        [328, 0.48, 0.98],
        [0, 0.02, 0.98],
    ],
    np.float32,
)
# Two ends of each background's hue range (degrees), and of its saturation and value.
_PALETTE = np.array(
    [
        # hue       saturation    value
        [[185, 240], [0.25, 0.75], [0.52, 0.95]],  # sky
        [[155, 225], [0.35, 0.80], [0.34, 0.76]],  # sea
        [[52, 135], [0.32, 0.72], [0.32, 0.74]],  # grass
        [[20, 55], [0.20, 0.58], [0.50, 0.92]],  # sand
        [[170, 275], [0.03, 0.24], [0.62, 0.96]],  # snow
        [[195, 300], [0.40, 0.85], [0.10, 0.36]],  # night
        [[-8, 36], [0.15, 0.65], [0.32, 0.76]],  # brick
        [[70, 175], [0.28, 0.65], [0.20, 0.52]],  # forest
    ],
    np.float32,
)
_N_WAVES = 6
_RADIUS = np.array([[6.0, 7.0], [9.2, 10.4]], np.float32)  # pixels, small and large
_CENTRE_X = np.array([12.0, 32.0, 52.0] * 2, np.float32)
_CENTRE_Y = np.array([17.0] * 3 + [47.0] * 3, np.float32)


@dataclass(frozen=True)
class Scenes:
    """Latent description of ``n`` scenes; object arrays have three slots, -1 or 0 where a slot is empty.

    Objects are listed in the order of their places. Positions and radii are in pixels of a 64 x 64 picture,
    angles in radians, hues in degrees, everything else about [0, 1] unless said.

    Attributes
    ----------
    background : ndarray of shape (n,), int
        Index into ``BACKGROUNDS``.
    hue, saturation, value : ndarray of shape (n,)
        Palette, each within the range of the background's kind.
    exposure : ndarray of shape (n,)
        Factor of all light.
    warmth : ndarray of shape (n,)
        Tint of the light, about -0.1 (cool) to 0.1 (warm).
    light_angle, light_strength : ndarray of shape (n,)
        Direction and depth of the linear fall-off of light over the picture.
    spot_x, spot_y, spot_strength : ndarray of shape (n,)
        A soft patch of light (positive) or shade (negative).
    horizon : ndarray of shape (n,)
        Height of the background's own layout: horizon, gradient or row offset.
    texture_scale, texture_angle, texture_contrast : ndarray of shape (n,)
    texture_waves : ndarray of shape (n, 6, 3)
        Uniform numbers behind direction, frequency and phase of the texture's waves.
    n_objects : ndarray of shape (n,), int
    shape, colour, size, place : ndarray of shape (n, 3), int
    x, y, radius, rotation : ndarray of shape (n, 3)
    object_hue, object_saturation, object_value : ndarray of shape (n, 3)
    """

    background: np.ndarray
    hue: np.ndarray
    saturation: np.ndarray
    value: np.ndarray
    exposure: np.ndarray
    warmth: np.ndarray
    light_angle: np.ndarray
    light_strength: np.ndarray
    spot_x: np.ndarray
    spot_y: np.ndarray
    spot_strength: np.ndarray
    horizon: np.ndarray
    texture_scale: np.ndarray
    texture_angle: np.ndarray
    texture_contrast: np.ndarray
    texture_waves: np.ndarray
    n_objects: np.ndarray
    shape: np.ndarray
    colour: np.ndarray
    size: np.ndarray
    place: np.ndarray
    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray
    rotation: np.ndarray
    object_hue: np.ndarray
    object_saturation: np.ndarray
    object_value: np.ndarray

    def __len__(self) -> int:
        return len(self.background)

    def take(self, rows: np.ndarray | slice) -> Scenes:
        """Return the given scenes (indices, boolean mask or slice)."""
        return Scenes(*(getattr(self, f.name)[rows] for f in dataclasses.fields(self)))


def concatenate(parts: list[Scenes]) -> Scenes:
    """Return the scenes of all parts, one after the other."""
    return Scenes(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in dataclasses.fields(Scenes)))


# ---------------------------------------------------------------- sampling


def sample(rng: np.random.Generator, n: int, pool: str = "pretrain", distinct: bool = False) -> Scenes:
    """Draw scenes from one pool of the key space.

    The categorical key of a scene decides its pool by a fixed hash, so pools never share a key:
    ``"pretrain"`` (3/4 of the keys) for pretrained models, ``"train"`` (3/16) and ``"test"`` (1/16) for built-in
    datasets.

    Parameters
    ----------
    rng : numpy.random.Generator
    n : int
    pool : {"pretrain", "train", "test"}
    distinct : bool
        Whether every scene must have a key of its own.

    Returns
    -------
    Scenes

    Raises
    ------
    BenchError
        For an unknown pool.
    """
    if pool not in POOLS:
        raise BenchError(f"pool must be one of {', '.join(POOLS)}, not {pool!r}")
    share = (12 / 16, 3 / 16, 1 / 16)[POOLS.index(pool)]
    kept = _draw(rng, 0)
    while len(kept) < n:
        drawn = _draw(rng, int((n - len(kept)) / share * 1.2) + 32)
        kept = concatenate([kept, drawn.take(pool_of(drawn) == POOLS.index(pool))])
        if distinct:
            kept = kept.take(np.sort(np.unique(key_hash(kept), return_index=True)[1]))
    return kept.take(slice(0, n))


def _draw(rng: np.random.Generator, n: int) -> Scenes:
    def uniform(low, high, size=n):
        return rng.uniform(low, high, size).astype(np.float32)

    background = rng.integers(len(BACKGROUNDS), size=n)
    low, high = _PALETTE[background, :, 0], _PALETTE[background, :, 1]
    palette = low + (high - low) * uniform(0, 1, (n, 3))
    slots = (n, MAX_OBJECTS)
    n_objects = rng.integers(1, MAX_OBJECTS + 1, size=n)
    empty = np.arange(MAX_OBJECTS) >= n_objects[:, None]
    # Distinct places, sorted, empty slots last.
    place = np.argsort(rng.random((n, len(PLACES))), axis=1)[:, :MAX_OBJECTS]
    place = np.sort(np.where(empty, len(PLACES), place), axis=1)
    shape, colour, size = (rng.integers(k, size=slots) for k in (len(SHAPES), len(COLOURS), len(SIZES)))
    place, shape, colour, size = (np.where(empty, -1, a).astype(np.int64) for a in (place, shape, colour, size))
    radius = _RADIUS[size, 0] + (_RADIUS[size, 1] - _RADIUS[size, 0]) * uniform(0, 1, slots)
    radius[empty] = 0
    x, y = _spread(
        _CENTRE_X[place] + uniform(-3, 3, slots), _CENTRE_Y[place] + uniform(-5.5, 5.5, slots), radius, empty
    )
    base = _COLOUR_HSV[colour]
    jitter = np.where(colour == COLOURS.index("yellow"), 4, 7).astype(np.float32)
    rotation = uniform(-0.25, 0.25, slots)
    blank = np.float32(0)
    return Scenes(
        background=background,
        hue=palette[:, 0],
        saturation=palette[:, 1],
        value=palette[:, 2],
        exposure=uniform(0.62, 1.2),
        warmth=uniform(-0.12, 0.12),
        light_angle=uniform(0, 2 * np.pi),
        light_strength=uniform(0.05, 0.65),
        spot_x=uniform(0, IMAGE_SIZE),
        spot_y=uniform(0, IMAGE_SIZE),
        spot_strength=uniform(-0.5, 0.5),
        horizon=uniform(0, 1),
        texture_scale=uniform(0, 1),
        texture_angle=uniform(0, np.pi),
        texture_contrast=uniform(0.35, 1),
        texture_waves=uniform(0, 1, (n, _N_WAVES, 3)),
        n_objects=n_objects,
        shape=shape,
        colour=colour,
        size=size,
        place=place,
        x=x,
        y=y,
        radius=radius,
        rotation=np.where(empty, blank, rotation),
        object_hue=np.where(empty, blank, (base[..., 0] + jitter * uniform(-1, 1, slots)) % 360),
        object_saturation=np.where(empty, blank, base[..., 1] * uniform(0.88, 1.06, slots)).clip(0, 1),
        object_value=np.where(empty, blank, base[..., 2] * uniform(0.86, 1.04, slots)).clip(0, 1),
    )


def _spread(x: np.ndarray, y: np.ndarray, radius: np.ndarray, empty: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Push overlapping objects apart and keep all of them inside the picture."""
    edge = radius + 1.0
    for _ in range(30):
        for i, j in ((0, 1), (0, 2), (1, 2)):
            dx, dy = x[:, j] - x[:, i], y[:, j] - y[:, i]
            distance = np.hypot(dx, dy) + np.float32(1e-6)
            short = np.where(empty[:, i] | empty[:, j], 0, radius[:, i] + radius[:, j] + 1.5 - distance).clip(0)
            step = (0.5 * short / distance).astype(np.float32)
            x[:, i] -= step * dx
            x[:, j] += step * dx
            y[:, i] -= step * dy
            y[:, j] += step * dy
        x, y = (np.clip(v, edge, IMAGE_SIZE - edge) for v in (x, y))
    return np.where(empty, np.float32(0), x), np.where(empty, np.float32(0), y)


# ---------------------------------------------------------------- keys


def categorical_key(scenes: Scenes) -> list[tuple[int, ...]]:
    """Return all categorical attributes of every scene: background, then shape, colour, size, place of each object."""
    objects = np.stack([scenes.shape, scenes.colour, scenes.size, scenes.place], axis=2)
    table = np.column_stack([scenes.background, objects.reshape(len(scenes), 4 * MAX_OBJECTS)])
    return [tuple(row) for row in table.tolist()]


def key_hash(scenes: Scenes) -> np.ndarray:
    """Return a 64-bit hash of the categorical key, shape (n,), uint64; different keys have different hashes.

    The key is packed into one integer (a bijection), then mixed by the finaliser of SplitMix64 (a bijection too).
    """
    code = scenes.background.astype(np.uint64)
    for slot in range(MAX_OBJECTS):
        for values, count in ((scenes.shape, 8), (scenes.colour, 8), (scenes.size, 2), (scenes.place, 6)):
            code = code * np.uint64(count + 1) + (values[:, slot] + 1).astype(np.uint64)
    code = code + np.uint64(0x9E3779B97F4A7C15)
    code = (code ^ (code >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    code = (code ^ (code >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return code ^ (code >> np.uint64(31))


def pool_of(scenes: Scenes) -> np.ndarray:
    """Return the index into ``POOLS`` of every scene's key, shape (n,), int."""
    sixteenth = (key_hash(scenes) & np.uint64(15)).astype(np.int64)
    return np.where(sixteenth >= 4, 0, np.where(sixteenth == 0, 2, 1))


def is_reserved(scenes: Scenes) -> np.ndarray:
    """Return whether each scene's key belongs to built-in datasets; nothing may be pretrained on those."""
    return pool_of(scenes) != POOLS.index("pretrain")


# ---------------------------------------------------------------- what a scene is, in words and numbers


def captions(scenes: Scenes, rng: np.random.Generator | int = 0) -> list[tuple[str, ...]]:
    """Write three to five different captions of every scene.

    They name every object with its colour and the background, and some sizes and places; never the exact layout,
    hue, lighting or texture.

    Parameters
    ----------
    scenes : Scenes
    rng : numpy.random.Generator or int
        Chooses templates and the order in which objects are named.
    """
    rng = np.random.default_rng(rng)
    n = len(scenes)
    orders = np.argsort(rng.random((n, 5, MAX_OBJECTS)), axis=2)
    chosen = np.argsort(rng.random((n, 5)), axis=1)
    number = rng.integers(3, 6, size=n)
    rows = zip(
        categorical_key(scenes),
        scenes.n_objects.tolist(),
        orders.tolist(),
        chosen.tolist(),
        number.tolist(),
        strict=True,
    )
    return [_scene_captions(*row) for row in rows]


def _scene_captions(key: tuple[int, ...], n_objects: int, orders: list, chosen: list, number: int) -> tuple[str, ...]:
    ground = _PHRASES[key[0]]
    objects = [key[1 + 4 * i : 5 + 4 * i] for i in range(n_objects)]
    result = []
    for template, order in zip(chosen[:number], orders, strict=False):
        listed = [objects[i] for i in order if i < n_objects]
        plain = [f"{_ARTICLE[c]} {COLOURS[c]} {SHAPES[s]}" for s, c, _, _ in listed]
        sized = [f"a {SIZES[z]} {COLOURS[c]} {SHAPES[s]}" for s, c, z, _ in listed]
        if template == 0:
            text = f"{_join(plain)} on {ground}"
        elif template == 1:
            text = f"{ground} with {_join(sized)}"
        elif template == 2:
            first = f"{plain[0]} at the {PLACES[listed[0][3]]}"
            text = f"{_join([first, *plain[1:]])} in front of {ground}"
        elif template == 3:
            text = f"a picture of {_join([sized[0], *plain[1:]])}, {ground} behind"
        else:
            verb, noun = ("is", "object") if n_objects == 1 else ("are", "objects")
            placed = f"{sized[-1]} in the {PLACES[listed[-1][3]]}"
            text = f"there {verb} {COUNTS[n_objects - 1]} {noun} over {ground}, {_join([*plain[:-1], placed])}"
        result.append(text)
    return tuple(result)


def _join(items: list[str]) -> str:
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def attributes(scenes: Scenes) -> dict[str, np.ndarray]:
    """Return the true description of every scene.

    Returns
    -------
    dict
        ``background`` and ``n_objects`` (n,), ``shape``, ``colour``, ``size``, ``place`` (n, 3) with -1 in empty slots,
        all int64; multi-hot ``shapes`` (n, 8), ``colours`` (n, 8), ``sizes`` (n, 2), ``places`` (n, 6) and
        ``shape_colour`` (n, 64), all uint8.
    """
    names = ("background", "n_objects", "shape", "colour", "size", "place")
    table = {name: getattr(scenes, name).astype(np.int64) for name in names}
    pair = np.where(scenes.shape < 0, -1, scenes.shape * len(COLOURS) + scenes.colour)
    table["shapes"] = _multi_hot(scenes.shape, len(SHAPES))
    table["colours"] = _multi_hot(scenes.colour, len(COLOURS))
    table["sizes"] = _multi_hot(scenes.size, len(SIZES))
    table["places"] = _multi_hot(scenes.place, len(PLACES))
    table["shape_colour"] = _multi_hot(pair, len(SHAPES) * len(COLOURS))
    return table


DESCRIPTION_BLOCKS = {
    "background": len(BACKGROUNDS),
    "n_objects": MAX_OBJECTS,
    "shape": len(SHAPES),
    "colour": len(COLOURS),
    "size": len(SIZES),
    "place": len(PLACES),
    "shape_colour": len(SHAPES) * len(COLOURS),
    "shape_size": len(SHAPES) * len(SIZES),
    "colour_size": len(COLOURS) * len(SIZES),
    "shape_place": len(SHAPES) * len(PLACES),
    "colour_place": len(COLOURS) * len(PLACES),
    "background_shape": len(BACKGROUNDS) * len(SHAPES),
}


def description(scenes: Scenes) -> np.ndarray:
    """Return the semantic vector of every scene, shape (n, 291), float32.

    Zeros and ones: single attributes, then conjunctions of two attributes of one object, then background with shape,
    in the order and sizes of ``DESCRIPTION_BLOCKS``.
    """
    s = scenes
    pairs = {
        "background": (s.background[:, None],),
        "n_objects": (s.n_objects[:, None] - 1,),
        "shape": (s.shape,),
        "colour": (s.colour,),
        "size": (s.size,),
        "place": (s.place,),
        "shape_colour": (s.shape, s.colour, len(COLOURS)),
        "shape_size": (s.shape, s.size, len(SIZES)),
        "colour_size": (s.colour, s.size, len(SIZES)),
        "shape_place": (s.shape, s.place, len(PLACES)),
        "colour_place": (s.colour, s.place, len(PLACES)),
        "background_shape": (np.where(s.shape < 0, -1, s.background[:, None]), s.shape, len(SHAPES)),
    }
    blocks = []
    for name, width in DESCRIPTION_BLOCKS.items():
        first, *rest = pairs[name]
        index = np.where(first < 0, -1, first * rest[1] + rest[0]) if rest else first
        blocks.append(_multi_hot(index, width))
    return np.concatenate(blocks, axis=1).astype(np.float32)


def _multi_hot(index: np.ndarray, width: int) -> np.ndarray:
    # One column more takes the empty slots (-1) and is cut off.
    hot = np.zeros((len(index), width + 1), np.uint8)
    np.put_along_axis(hot, np.where(index < 0, width, index), 1, axis=1)
    return hot[:, :width]
