import dataclasses

import numpy as np
import pytest

from benchmark.data import scenes as sc
from benchmark.errors import BenchError

_COLOUR_HUE = {"red": 0, "orange": 27, "yellow": 54, "green": 128, "blue": 218, "purple": 275, "pink": 328}


@pytest.fixture(scope="module")
def many():
    return sc.sample(np.random.default_rng(7), 2000)


@pytest.fixture(scope="module")
def pictures(many):
    return sc.render(many)


def _hand_made():
    """Sand with a small white star top left and a large red circle bottom right; a large blue ring at night."""
    scenes = sc.sample(np.random.default_rng(0), 2)
    pad = np.array
    return dataclasses.replace(
        scenes,
        background=pad([sc.BACKGROUNDS.index("sand"), sc.BACKGROUNDS.index("night")]),
        n_objects=pad([2, 1]),
        shape=pad([[3, 0, -1], [5, -1, -1]]),
        colour=pad([[7, 0, -1], [4, -1, -1]]),
        size=pad([[0, 1, -1], [1, -1, -1]]),
        place=pad([[0, 5, -1], [1, -1, -1]]),
    )


# ---------------------------------------------------------------- sampling and pools


def test_sample_is_fixed_by_the_seed():
    a, b, c = (sc.sample(np.random.default_rng(seed), 50) for seed in (1, 1, 2))
    assert all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    assert not np.array_equal(a.hue, c.hue)


@pytest.mark.parametrize("n", [0, 1, 33])
def test_sample_gives_the_number_asked_for(n):
    scenes = sc.sample(np.random.default_rng(0), n, "test", distinct=True)
    assert len(scenes) == n
    assert sc.render(scenes).shape == (n, 64, 64, 3)
    assert sc.description(scenes).shape == (n, sum(sc.DESCRIPTION_BLOCKS.values()))
    assert len(sc.captions(scenes)) == n


def test_an_unknown_pool_is_one_clear_sentence():
    with pytest.raises(BenchError, match="pool must be one of pretrain, train, test, not 'valid'"):
        sc.sample(np.random.default_rng(0), 3, "valid")


def test_pools_share_no_key():
    keys = {pool: set(sc.categorical_key(sc.sample(np.random.default_rng(3), 6000, pool))) for pool in sc.POOLS}
    assert not keys["pretrain"] & keys["train"]
    assert not keys["pretrain"] & keys["test"]
    assert not keys["train"] & keys["test"]


def test_the_pool_depends_on_the_key_alone(many):
    other = sc.sample(np.random.default_rng(8), len(many))
    kept = ("background", "n_objects", "shape", "colour", "size", "place")
    repainted = dataclasses.replace(other, **{name: getattr(many, name) for name in kept})
    assert np.array_equal(sc.pool_of(repainted), sc.pool_of(many))
    assert not sc.is_reserved(many).any()
    assert sc.is_reserved(sc.sample(np.random.default_rng(0), 20, "train")).all()
    assert sc.is_reserved(sc.sample(np.random.default_rng(0), 20, "test")).all()


def test_the_hash_tells_all_keys_apart():
    parts = [sc.sample(np.random.default_rng(1), 6000, pool) for pool in sc.POOLS]
    scenes = sc.concatenate(parts)
    keys = sc.categorical_key(scenes)
    distinct = {}
    for key, code in zip(keys, sc.key_hash(scenes).tolist(), strict=True):
        assert distinct.setdefault(code, key) == key
    assert len(distinct) == len(set(keys)) > 12000


def test_distinct_scenes_have_keys_of_their_own():
    keys = sc.categorical_key(sc.sample(np.random.default_rng(0), 1500, "train", distinct=True))
    assert len(set(keys)) == 1500


def test_every_attribute_value_occurs_about_equally_often(many):
    assert np.bincount(many.background, minlength=8).min() > 190
    for values, count in ((many.shape, 8), (many.colour, 8), (many.size, 2), (many.place, 6)):
        found = np.bincount(values[values >= 0], minlength=count)
        assert found.min() > 0.75 * found.sum() / count
    assert np.bincount(many.n_objects, minlength=4)[1:].min() > 580


# ---------------------------------------------------------------- layout


def test_objects_lie_inside_apart_and_in_their_places(many):
    there = many.shape >= 0
    assert np.array_equal(there.sum(1), many.n_objects)
    column, row = (many.x // (64 / 3)).clip(0, 2), many.y // 32
    assert np.array_equal((3 * row + column)[there], many.place[there])
    edge = np.minimum(np.minimum(many.x, 64 - many.x), np.minimum(many.y, 64 - many.y)) - many.radius
    assert edge[there].min() > 0.5
    for i, j in ((0, 1), (0, 2), (1, 2)):
        both = there[:, i] & there[:, j]
        apart = np.hypot(many.x[:, i] - many.x[:, j], many.y[:, i] - many.y[:, j])
        assert (apart - many.radius[:, i] - many.radius[:, j])[both].min() > 0.5
    assert many.radius[there & (many.size == 0)].max() + 2 < many.radius[there & (many.size == 1)].min()


# ---------------------------------------------------------------- pictures


def test_a_picture_does_not_depend_on_its_batch(many, pictures):
    rows = np.array([5, 1234, 17, 1999])
    assert pictures.dtype == np.uint8
    assert np.array_equal(sc.render(many.take(rows)), pictures[rows])


def test_backgrounds_are_varied_within_a_kind(many):
    empty = dataclasses.replace(many, shape=np.full_like(many.shape, -1))
    flat = sc.render(empty).reshape(len(many), -1).astype(np.float32)
    kind = np.eye(8, dtype=np.float32)[many.background]
    means = (kind.T @ flat) / kind.sum(0)[:, None]
    total = flat.var(0).sum()
    between = (kind @ means).var(0).sum() / total
    assert 0.2 < between < 0.6  # a background's kind says a part, not everything


def test_objects_carry_their_colour(many, pictures):
    # A solid shape without a hole at its centre, and a colour that has a hue.
    solid = np.isin(many.shape, [sc.SHAPES.index(s) for s in ("circle", "square", "star", "cross", "heart")])
    image, slot = np.nonzero(solid & (many.colour != sc.COLOURS.index("white")))
    y, x = many.y[image, slot].astype(int), many.x[image, slot].astype(int)
    rgb = pictures[image, y, x].astype(float) / 255
    # Hue from the definition of the HSV hexagon, apart from the renderer's own formula.
    hue = np.degrees(np.arctan2(np.sqrt(3) * (rgb[:, 1] - rgb[:, 2]), 2 * rgb[:, 0] - rgb[:, 1] - rgb[:, 2])) % 360
    names = list(_COLOUR_HUE)
    away = np.abs((hue[:, None] - np.array(list(_COLOUR_HUE.values())) + 180) % 360 - 180)
    named = np.array([sc.COLOURS.index(names[i]) for i in away.argmin(1)])
    assert np.mean(named == many.colour[image, slot]) > 0.98


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        ("circle", np.pi * 0.95**2),
        ("square", (2 * 0.83) ** 2),
        ("triangle", 3 * np.sqrt(3) * 0.62**2),
        ("star", 5 * 1.1 * 0.48 * np.sin(np.pi / 5)),
        ("cross", 2 * (2 * 0.98 * 2 * 0.33) - (2 * 0.33) ** 2),
        ("ring", np.pi * ((0.72 + 0.27) ** 2 - (0.72 - 0.27) ** 2)),
    ],
)
def test_shapes_have_the_area_of_their_geometry(many, shape, area):
    one = many.take(np.flatnonzero(many.n_objects == 1)[:40])
    n = len(one)
    first = np.array([True, False, False])
    dark = dataclasses.replace(
        one,
        background=np.full(n, sc.BACKGROUNDS.index("night")),
        texture_contrast=np.zeros(n),
        value=np.zeros(n),
        exposure=np.ones(n),
        light_strength=np.zeros(n),
        warmth=np.zeros(n),
        shape=np.where(first, sc.SHAPES.index(shape), one.shape),
        object_hue=np.zeros((n, 3)),
        object_saturation=np.zeros((n, 3)),
        object_value=np.ones((n, 3)),
    )
    light = sc.render(dark)[..., 0] / 255.0
    # The rim has a fifth of the light: pixels above half are inside.
    measured = (light > 0.6).sum((1, 2)) / one.radius[:, 0] ** 2
    assert np.median(measured) == pytest.approx(area, rel=0.06)


def test_every_object_is_visible(many, pictures):
    empty = sc.render(dataclasses.replace(many, shape=np.full_like(many.shape, -1)))
    changed = np.abs(pictures.astype(int) - empty).max(-1) > 30
    rows, columns = np.mgrid[:64, :64] + 0.5
    for slot in range(3):
        there = np.flatnonzero(many.shape[:, slot] >= 0)
        x, y, radius = (getattr(many, name)[there, slot][:, None, None] for name in ("x", "y", "radius"))
        near = np.hypot(columns - x, rows - y) < radius * 1.2 + 1
        share = (changed[there] & near).sum((1, 2)) / (np.pi * radius[:, 0, 0] ** 2)
        assert share.min() > 0.25
        assert np.quantile(share, 0.01) > 0.5


# ---------------------------------------------------------------- words and numbers


def test_captions_of_a_hand_made_scene():
    first, second = sc.captions(_hand_made(), 3)
    assert len(first) >= 3
    for caption in first:
        assert all(words in caption for words in ("red circle", "white star", "sand"))
        assert ("large" not in caption) or "large red circle" in caption
        assert ("small" not in caption) or "small white star" in caption
        assert ("top" not in caption) or "white star at the top left" in caption or "star in the top left" in caption
    assert all("blue ring" in caption and "night" in caption for caption in second)


def test_captions_are_few_different_and_in_the_vocabulary(many):
    written = sc.captions(many, 0)
    assert {len(c) for c in written} == {3, 4, 5}
    assert all(len(set(c)) == len(c) for c in written)
    words = {word for c in written for text in c for word in text.replace(",", "").split()}
    assert words == set(sc.CAPTION_WORDS)
    assert written == sc.captions(many, 0)
    assert written != sc.captions(many, 1)


def test_captions_name_no_layout_hue_lighting_or_texture(many):
    other = sc.sample(np.random.default_rng(11), len(many))
    kept = ("background", "n_objects", "shape", "colour", "size", "place")
    repainted = dataclasses.replace(other, **{name: getattr(many, name) for name in kept})
    assert sc.captions(repainted, 5) == sc.captions(many, 5)
    assert np.array_equal(sc.description(repainted), sc.description(many))


def test_attributes_of_a_hand_made_scene():
    table = sc.attributes(_hand_made())
    assert table["shapes"].tolist() == [[1, 0, 0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1, 0, 0]]
    assert table["colours"].tolist() == [[1, 0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 1, 0, 0, 0]]
    assert table["sizes"].tolist() == [[1, 1], [0, 1]]
    assert table["places"].tolist() == [[1, 0, 0, 0, 0, 1], [0, 1, 0, 0, 0, 0]]
    assert [np.flatnonzero(row).tolist() for row in table["shape_colour"]] == [[0, 31], [44]]
    assert table["n_objects"].tolist() == [2, 1]


def test_description_equals_a_loop_over_its_blocks(many):
    few = many.take(slice(0, 40))
    expected = []
    for i in range(len(few)):
        objects = [
            (few.shape[i, k], few.colour[i, k], few.size[i, k], few.place[i, k]) for k in range(few.n_objects[i])
        ]
        on = {("background", few.background[i]), ("n_objects", few.n_objects[i] - 1)}
        for s, c, z, p in objects:
            on |= {("shape", s), ("colour", c), ("size", z), ("place", p)}
            on |= {("shape_colour", 8 * s + c), ("shape_size", 2 * s + z), ("colour_size", 2 * c + z)}
            on |= {("shape_place", 6 * s + p), ("colour_place", 6 * c + p)}
            on |= {("background_shape", 8 * few.background[i] + s)}
        expected.append([float((name, k) in on) for name, width in sc.DESCRIPTION_BLOCKS.items() for k in range(width)])
    described = sc.description(few)
    assert described.dtype == np.float32
    assert np.array_equal(described, np.array(expected))
