"""The judge: what it reads off pictures, and how readings are scored against the truth."""

import numpy as np
import pytest
import torch

from benchmark.data import scenes as worlds
from benchmark.errors import BenchError
from benchmark.pretrained.judge import Judge, build, by_place

SHAPES, COLOURS, SIZES = worlds.SHAPES, worlds.COLOURS, worlds.SIZES


class Reader(Judge):
    """A judge that is told what to read."""

    def __init__(self, found):
        self.found = found

    def read(self, images, batch=256):
        return self.found


@pytest.fixture
def true():
    """Large red star top left and small blue ring bottom right on sea; small white moon top right on grass."""
    return {
        "background": np.array([1, 2]),
        "shape": np.array([[3, 5, -1], [7, -1, -1]]),
        "colour": np.array([[0, 4, -1], [7, -1, -1]]),
        "size": np.array([[1, 0, -1], [0, -1, -1]]),
        "place": np.array([[0, 5, -1], [2, -1, -1]]),
    }


PICTURES = np.zeros((2, 64, 64, 3), np.uint8)


def test_by_place(true):
    table = by_place(true)
    np.testing.assert_array_equal(table["shape"], [[3, -1, -1, -1, -1, 5], [-1, -1, 7, -1, -1, -1]])
    np.testing.assert_array_equal(table["size"], [[1, -1, -1, -1, -1, 0], [-1, -1, 0, -1, -1, -1]])
    with pytest.raises(BenchError, match="missing: place"):
        by_place({k: v for k, v in true.items() if k != "place"})


def test_scores_of_the_truth_are_one(true):
    judge = Reader(by_place(true))
    np.testing.assert_array_equal(judge.attribute_accuracy(PICTURES, true), [1, 1])
    assert judge.scores(PICTURES, true) == {"background": 1, "colour_f1": 1, "shape_f1": 1}


def test_scores_by_hand(true):
    found = {k: v.copy() for k, v in by_place(true).items()}
    found["background"][0] = 0  # 6 of 7 right
    for name in ("shape", "colour", "size"):  # scene 1: one object too many, so 4 of 7 right
        found[name][1, 4] = 0
    judge = Reader(found)
    np.testing.assert_allclose(judge.attribute_accuracy(PICTURES, true), [6 / 7, 4 / 7])
    scores = judge.scores(PICTURES, true)
    # Shapes: true {star, ring}, {moon}; found {star, ring}, {moon, circle}.
    assert scores == pytest.approx({"background": 0.5, "colour_f1": 6 / 7, "shape_f1": 6 / 7})


def test_place_counts_for_accuracy_but_not_for_the_sets(true):
    found = by_place(true)
    moved = {k: v if k == "background" else np.roll(v, 1, axis=1) for k, v in found.items()}
    judge = Reader(moved)
    # Scene 0: places {0, 5} against {1, 0}: three places, none right; scene 1: two places.
    np.testing.assert_allclose(judge.attribute_accuracy(PICTURES, true), [1 / 10, 1 / 7])
    assert judge.scores(PICTURES, true)["shape_f1"] == 1


def test_lengths_must_agree(true):
    judge = Reader(by_place(true))
    with pytest.raises(BenchError, match="3 pictures but attributes of 2 scenes"):
        judge.scores(np.zeros((3, 64, 64, 3), np.uint8), true)


def test_network_interface():
    torch.manual_seed(0)
    judge = Judge(build({"width": [4, 8, 8], "image_size": 64}))
    images = worlds.render(worlds.sample(np.random.default_rng(0), 5))
    found = judge.read(images, batch=2)
    assert found["background"].shape == (5,)
    assert {k: v.shape for k, v in found.items() if k != "background"} == dict.fromkeys(
        ("shape", "colour", "size"), (5, 6)
    )
    assert ((found["shape"] < 0) == (found["colour"] < 0)).all()
    assert found["shape"].max() < len(SHAPES)
    features = judge.features(images)
    assert features.shape == (5, 48)
    np.testing.assert_allclose(judge.features(images, batch=2), features, atol=1e-5)
    assert judge.features(images[:0]).shape == (0, 48)
    # A picture of another size is read at the judge's own.
    large = images.repeat(2, 1).repeat(2, 2)
    assert np.abs(judge.features(large) - features).mean() < 0.2 * np.abs(features).mean()
    with pytest.raises(BenchError, match="uint8"):
        judge.features(images / 255)
