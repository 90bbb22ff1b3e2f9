"""What ships with the package: whole, small, described, and as good as the model cards say, on held-out scenes."""

import json

import numpy as np
import pytest

from benchmark.data import scenes as worlds
from benchmark.pretrained import hub
from benchmark.pretrained.training import captioner, clip, common

SHIPPED = sorted(path.stem for path in hub.PACKAGE.glob("*.json"))


def test_all_weights_together_are_small():
    assert sum(path.stat().st_size for path in hub.PACKAGE.iterdir()) < 30e6


@pytest.mark.parametrize("name", SHIPPED)
def test_every_model_is_whole_and_described(name):
    hub.require([name], "mini")
    description = json.loads((hub.PACKAGE / f"{name}.json").read_text())
    assert {"name", "data", "seed", "steps", "seconds", "held_out", "parameters"} <= set(description)
    assert description["name"] == name


@pytest.fixture(scope="module")
def held_out():
    # Other scenes than those of the model cards.
    return common.held_out(600, seed=123_456)


def test_clip(held_out):
    scenes, images = held_out
    captions = clip.one_caption(scenes, np.random.default_rng(0))
    model = hub.load("clip", "mini")
    found = clip.retrieval(model.encode_image(images), model.encode_text(captions), captions)
    assert found["caption_top1_of_300"] >= 0.75
    assert found["two_way"] >= 0.99


def test_judge(held_out):
    scenes, images = held_out
    judge, true = hub.load("judge", "mini"), worlds.attributes(scenes)
    assert judge.attribute_accuracy(images, true).mean() >= 0.95
    scores = judge.scores(images, true)
    assert min(scores.values()) >= 0.95
    # Against the truth of another scene it must say no.
    other = {name: np.roll(value, 1, axis=0) for name, value in true.items()}
    assert judge.attribute_accuracy(images, other).mean() < 0.3


def test_captioner(held_out):
    scenes, images = held_out
    found = hub.load("captioner", "mini").caption(images[:200])
    assert captioner.words_right(found, captioner.plain_captions(scenes.take(slice(200)))) >= 0.85
