"""Bad input is refused in one sentence that names the metric; other number types follow the stated rule."""

import numpy as np
import pytest
import torch

from metrics import validate
from metrics.ranking import rank_distribution
from metrics.table import METRICS

ON_SCORES = ("scores", "categories", "texts")
ON_NUMBERS = {name: metric for name, metric in METRICS.items() if metric.kind != "captions"}


def arguments(metric):
    rng = np.random.default_rng(0)
    if metric.kind in ON_SCORES:
        return [rng.standard_normal((6, 5)), rng.integers(0, 5, 6)]
    if metric.kind == "hubs":
        return [rng.standard_normal((6, 15))]
    if metric.kind == "pools":
        predicted, candidates = rng.integers(-9, 9, (2, 6, 5)).astype(np.float64)
        return [predicted, candidates[:4], np.array([0, 1, 2, 3, 0, 1])]
    if metric.kind == "images":
        return list(rng.integers(0, 256, (2, 6, 12, 13, 3), dtype=np.uint8))
    lowest = 0 if metric.features == "judge-read" else -9
    values = list(rng.integers(lowest, 9, (2, 6, 5)).astype(np.float64))
    return values[1:] if metric.kind == "set" else values


def options(metric):
    return {"centre": np.full(5, 0.25)} if metric.centred else {}


def put(value):
    def change(array):
        array = array.astype(np.float64)
        array.flat[7] = value
        return array

    return change


def mask(array):
    return np.ma.masked_array(array, mask=np.arange(array.size).reshape(array.shape) == 3)


REAL = {
    "NaN": put(np.nan),
    "inf": put(np.inf),
    "-inf": put(-np.inf),
    "empty": lambda x: x[:0],
    "no columns": lambda x: x[:, :0],
    "one dimension": lambda x: x[0],
    "three dimensions": lambda x: x[None],
    "text": lambda x: x.astype(str),
    "objects": lambda x: x.astype(object),
    "complex": lambda x: x.astype(complex),
    "bool": lambda x: x > 0,
    "masked": mask,
    "huge integers": lambda x: np.full(x.shape, 2**60),
    "beyond float64": lambda x: x.astype(np.longdouble) * np.longdouble("1e400"),
    "rows of different lengths": lambda x: [[1.0], *([1.0, 2.0] for _ in range(len(x) - 1))],
    "a tensor that cannot be an array": lambda x: torch.zeros(x.shape, dtype=torch.bfloat16),
}
PAIRED = {"other count": lambda x: x[:-1], "other width": lambda x: x[:, :-1], "transposed": lambda x: x.T}
IMAGES = {
    "float in [0, 255]": lambda x: x.astype(np.float32),
    "float16 in [0, 255]": lambda x: x.astype(np.float16),
    "float in [-1, 1]": lambda x: x / 127.5 - 1,
    "just above 1": lambda x: x / 254.9,
    "cut to 0 and 1": lambda x: (x / 255 > 0.5).astype(np.uint8),
    "NaN": lambda x: put(np.nan)(x / 255),
    "inf": lambda x: put(np.inf)(x / 255),
    "-inf": lambda x: put(-np.inf)(x / 255),
    "text": lambda x: x.astype(str),
    "objects": lambda x: x.astype(object),
    "complex": lambda x: x / (255 + 0j),
    "uint16": lambda x: x.astype(np.uint16) * 257,
    "int16 that overflowed": lambda x: (x.astype(np.int16) * 200).astype(np.int16),
    "int64": lambda x: x.astype(np.int64),
    "int8": lambda x: x.astype(np.int8),
    "bool": lambda x: x > 0,
    "empty": lambda x: x[:0],
    "no rows": lambda x: x[:, :0],
    "channels first": lambda x: x.transpose(0, 3, 1, 2),
    "no channel axis": lambda x: x[..., 0],
    "alpha": lambda x: np.concatenate([x, x[..., :1]], axis=-1),
    "two channels": lambda x: x[..., :2],
    "one picture": lambda x: x[0],
    "masked": mask,
    "divided by 255 twice": lambda x: x / 255 / 255,
    "a tensor that cannot be an array": lambda x: torch.zeros(x.shape, dtype=torch.bfloat16),
}
IMAGES_PAIRED = {
    "other count": lambda x: x[:-1],
    "grey against colour": lambda x: x[..., :1],
}
OWN_SIZE = {"other size": lambda x: x[:, :-1], "transposed": lambda x: x.transpose(0, 2, 1, 3)}
TARGET = {
    "float": lambda x: x.astype(float),
    "bool": lambda x: x > 0,
    "two dimensions": lambda x: x[:, None],
    "other count": lambda x: x[:-1],
    "negative": lambda x: np.append(x[:-1], -1),
    "out of range": lambda x: np.append(x[:-1], 5),
    "masked": mask,
}
CLASSES = {"no whole number": put(0.5), "below -1": put(-2)}


def cases():
    for metric in ON_NUMBERS.values():
        places = range(1 if metric.kind in (*ON_SCORES, "hubs", "set") else 2)
        one, paired = (IMAGES, IMAGES_PAIRED) if metric.kind == "images" else (REAL, PAIRED)
        if metric.kind == "images" and metric.protocol == "bench-1":  # published protocols resize by themselves
            paired = paired | OWN_SIZE
        one = one | (CLASSES if metric.features == "judge-read" else {})
        for place in places:
            for what, change in (one | (paired if len(places) == 2 else {})).items():
                yield pytest.param(metric, place, change, id=f"{metric.name}-{place}-{what}")
        if metric.kind in (*ON_SCORES, "pools"):
            for what, change in TARGET.items():
                yield pytest.param(metric, len(arguments(metric)) - 1, change, id=f"{metric.name}-target-{what}")
        if metric.kind in (*ON_SCORES, "hubs"):
            yield pytest.param(metric, 0, lambda x: x[:, :1], id=f"{metric.name}-one candidate")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("metric", "place", "change"), list(cases()))
def test_bad_input_is_refused_in_one_sentence(metric, place, change):
    given = arguments(metric)
    metric.function(*given, **options(metric))  # good as it is
    given[place] = change(given[place])
    with pytest.raises(ValueError, match=r"^[\w\[\]-]+: expected [^\n]+\.$") as refusal:
        metric.function(*given, **options(metric))
    names = [m.name for m in METRICS.values() if m.function is metric.function]  # of all that share the function
    assert str(refusal.value).partition(":")[0] in (*names, metric.function.__name__)


CAPTIONS = [metric for metric in METRICS.values() if metric.kind == "captions"]
TRUE, SAID = [("a red boat", "a boat"), ("two dogs",)], ["a boat", "two cats"]
WRONG_CAPTIONS = {
    "NaN": (TRUE, ["a boat", np.nan], "as texts"),
    "infinity": (TRUE, np.array([np.inf, 1.0]), "as texts"),
    "numbers": (TRUE, [1, 2], "as texts"),
    "vectors": (TRUE, np.zeros((2, 5)), "`predicted` as a sequence over items"),
    "none": (TRUE, None, "`predicted` as a sequence over items, got NoneType"),
    "one text, as long as there are items": (TRUE, "ab", "`predicted` as a sequence over items, got str"),
    "bytes": (TRUE, b"ab", "`predicted` as a sequence over items"),
    "a dictionary": (TRUE, {"s1": "a boat", "s2": "two cats"}, "`predicted` as a sequence over items, got dict"),
    "a set": (TRUE, {"a boat", "two cats"}, "`predicted` as a sequence over items"),
    "a generator": (TRUE, (text for text in SAID), "`predicted` as a sequence over items"),
    "several to an item": (TRUE, [["a boat"], ["two", "cats"]], "as texts"),
    "too few": (TRUE, SAID[:1], "one predicted caption per item, got 1 for 2"),
    "too many": (TRUE, [*SAID, "x"], "one predicted caption per item, got 3 for 2"),
    "empty": ([], [], "one predicted caption per item"),
    "true: one text an item": (["a boat", "two dogs"], SAID, "in a sequence"),
    "true: one text": ("ab", SAID, "`true` as a sequence over items"),
    "true: a dictionary": ({"s1": ("a",), "s2": ("b",)}, SAID, "`true` as a sequence over items"),
    "true: none for an item": ([("a boat",), None], SAID, "at least one reference caption per item"),
    "true: no text for an item": ([("a boat",), ()], SAID, "at least one reference caption per item"),
    "true: a number": ([("a boat",), 5], SAID, "at least one reference caption per item"),
    "true: a dictionary for an item": ([("a boat",), {"x": 1}], SAID, "at least one reference caption per item"),
    "true: NaN": ([("a boat",), (np.nan,)], SAID, "as texts"),
}


@pytest.mark.parametrize("metric", CAPTIONS, ids=lambda metric: metric.name)
@pytest.mark.parametrize("what", WRONG_CAPTIONS)
def test_bad_captions_are_refused_in_one_sentence(metric, what):
    true, predicted, sentence = WRONG_CAPTIONS[what]
    with pytest.raises(ValueError, match=rf"^{metric.name}: expected [^\n]*{sentence}[^\n]*\.$"):
        metric.function(true, predicted)


@pytest.mark.parametrize("metric", [m for m in CAPTIONS if not m.lacks], ids=lambda metric: metric.name)
def test_captions_in_another_order_show_in_the_number_and_arrays_and_lists_are_alike(metric):
    texts = ["a man rides a red horse", "two dogs run in the green grass", "a plate of food on a table"]
    true = [(text,) for text in texts]
    assert metric.function(true, texts).mean() > metric.function(true, texts[::-1]).mean()
    arrays = [np.array(own) for own in true], np.array(texts)
    np.testing.assert_array_equal(metric.function(*arrays), metric.function(true, texts))
    if metric.name == "cider":
        with pytest.raises(ValueError, match="at least 2 items"):
            metric.function(true[:1], texts[:1])
    else:
        assert metric.function(true[:1], texts[:1]) == pytest.approx(1)


@pytest.mark.parametrize("centre", [np.zeros(4), np.zeros((1, 5)), np.full(5, np.nan), np.array(["a"] * 5)])
def test_bad_centre_is_refused(centre):
    metric = METRICS["cosine_centred"]
    with pytest.raises(ValueError, match=r"^cosine_centred: expected [^\n]*`centre`|`centre` has NaN"):
        metric.function(*arguments(metric), centre=centre)


@pytest.mark.parametrize("name", [n for n, m in ON_NUMBERS.items() if m.kind != "images"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int8, np.int64, np.uint16, ">f4", ">i2", np.longdouble])
def test_number_types_give_the_value_of_the_same_numbers_in_float64(name, dtype):
    metric = METRICS[name]
    given = arguments(metric)
    if metric.kind in (*ON_SCORES, "hubs"):
        given[0] = np.rint(10 * given[0])
    given = [x + 40 if x.dtype == np.float64 else x for x in given]
    other = [x.astype(dtype) if x.dtype == np.float64 else x.astype(np.int16) for x in given]
    values = metric.function(*other, **options(metric))
    np.testing.assert_allclose(values, metric.function(*given, **options(metric)), atol=1e-12)


@pytest.mark.parametrize("name", [n for n, m in ON_NUMBERS.items() if m.kind != "images"])
def test_float16_sums_do_not_overflow(name):
    metric = METRICS[name]
    given = arguments(metric)
    other = [(x * 1000).astype(np.float16) if x.dtype == np.float64 else x for x in given]
    exact = [x.astype(np.float64) if x.dtype == np.float16 else x for x in other]
    np.testing.assert_allclose(
        metric.function(*other, **options(metric)), metric.function(*exact, **options(metric)), atol=1e-12
    )


@pytest.mark.parametrize("metric", list(ON_NUMBERS.values()), ids=list(ON_NUMBERS))
def test_inputs_are_left_as_they_were(metric):
    given = arguments(metric)
    before = [x.copy() for x in given]
    for array in given:
        array.flags.writeable = False
    metric.function(*given, **options(metric))
    for array, copy in zip(given, before, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["top1_csls", "top5_csls"])
@pytest.mark.parametrize(("dtype", "largest"), [(np.float64, 1e308), (np.float32, 3e38)])
def test_scores_whose_sums_overflow_are_refused(name, dtype, largest):
    scores, target = arguments(METRICS[name])
    scores[2, 3] = -largest
    with pytest.raises(ValueError, match=r"^csls: expected [^\n]+\.$"):
        METRICS[name].function(scores.astype(dtype), target)


ON_IMAGES = [metric for metric in METRICS.values() if metric.kind == "images"]


@pytest.mark.parametrize("metric", ON_IMAGES, ids=lambda metric: metric.name)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float_pictures_in_0_to_1_give_the_value_of_the_same_uint8(metric, dtype):
    true, predicted = arguments(metric)
    expected = metric.function(true, predicted)
    np.testing.assert_allclose(metric.function(*(x / dtype(255) for x in (true, predicted))), expected, atol=5e-6)
    np.testing.assert_allclose(metric.function(true, predicted / dtype(255)), expected, atol=5e-6)


@pytest.mark.parametrize("metric", ON_IMAGES, ids=lambda metric: metric.name)
def test_grey_on_both_sides_is_one_channel_of_three_equal_ones(metric):
    grey = [x[..., :1] for x in arguments(metric)]
    colour = [x.repeat(3, axis=-1) for x in grey]
    np.testing.assert_allclose(metric.function(*grey), metric.function(*colour), atol=5e-6)


@pytest.mark.parametrize("metric", ON_IMAGES, ids=lambda metric: metric.name)
def test_float16_pictures_become_float32(metric):
    given = [(x / 255).astype(np.float16) for x in arguments(metric)]
    np.testing.assert_array_equal(metric.function(*given), metric.function(*(x.astype(np.float32) for x in given)))


@pytest.mark.parametrize("metric", [m for m in ON_IMAGES if m.degenerate], ids=lambda metric: metric.name)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_a_picture_of_one_value_has_correlation_0_whatever_the_resize_leaves_on_it(metric, dtype):
    true, predicted = arguments(metric)
    true[1], true[4], predicted[3], predicted[4] = 3, 77, 200, 77
    given = [x if dtype == np.uint8 else (x / 255).astype(dtype) for x in (true, predicted)]
    values = metric.function(*given)
    assert np.flatnonzero(values == 0).tolist() == [1, 3, 4]


@pytest.mark.parametrize("metric", list(ON_NUMBERS.values()), ids=list(ON_NUMBERS))
def test_one_item_is_a_finite_number_or_refused(metric):
    given = [x if metric.kind == "pools" and i == 1 else x[:1] for i, x in enumerate(arguments(metric))]
    if metric.kind == "pools":
        with pytest.raises(ValueError, match="expected every candidate to be the target of an item"):
            metric.function(*given, **options(metric))
    elif metric.kind in ("dimensions", "set") or "two_way" in metric.name or metric.name == "pairwise_2v2":
        with pytest.raises(ValueError, match="expected at least 2 items to compare, got 1"):
            metric.function(*given, **options(metric))
    else:
        assert np.isfinite(metric.function(*given, **options(metric))).all()


@pytest.mark.parametrize("name", ["pixcorr", "ssim", "two_way", "cosine", "effnet_b", "lpips"])
def test_another_order_of_one_side_cannot_be_seen_but_shows_in_the_number(name):
    metric = METRICS[name]
    true = arguments(metric)[0]
    good, bad = (metric.function(true, x).mean() for x in (true, true[::-1]))
    assert (good > bad) == metric.higher_is_better


def test_the_largest_exact_integer_is_still_accepted():
    assert validate.real("x", "y", np.array([2**53]), 1)[0] == 2.0**53
    with pytest.raises(ValueError, match="2\\*\\*53"):
        validate.real("x", "y", np.array([2**53 + 1]), 1)
    with pytest.raises(ValueError, match="2\\*\\*53"):
        validate.real("x", "y", np.array([2**64 - 1], np.uint64), 1)


def test_rank_distribution_checks_its_input_too():
    with pytest.raises(ValueError, match=r"^rank_distribution: expected `target` within 0\.\.2"):
        rank_distribution(np.ones((1, 3)), np.array([3]))
