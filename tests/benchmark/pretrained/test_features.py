"""Features by name: from the model the first time, from the cache afterwards."""

import numpy as np
import pytest
import torch

from benchmark.data import scenes as worlds
from benchmark.errors import BenchError
from benchmark.pretrained import hub
from benchmark.pretrained.cache import shelves
from benchmark.pretrained.features import features
from benchmark.pretrained.training import clip as task
from benchmark.pretrained.training.common import save


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    config = task.config()
    save(folder, "clip", task.export(task.build(config)), {"config": config})
    return folder


@pytest.fixture
def scenes():
    return worlds.sample(np.random.default_rng(0), 7)


def test_second_time_without_the_model(weights, scenes, tmp_path, monkeypatch):
    images = worlds.render(scenes)
    options = {"profile": "mini", "cache": tmp_path, "weights": weights}
    first = features("clip", "image_tokens", images, batch=3, **options)
    np.testing.assert_allclose(first, hub.load("clip", "mini", weights).image_tokens(images), atol=1e-5)
    monkeypatch.setattr(hub, "load", lambda *a, **k: pytest.fail("the model was loaded"))
    np.testing.assert_array_equal(features("clip", "image_tokens", images[::-1], **options), first[::-1])


def test_several_captions_are_averaged(weights, scenes, tmp_path):
    several = worlds.captions(scenes)
    found = features("clip", "text_tokens", several, profile="mini", cache=tmp_path, weights=weights, batch=2)
    clip = hub.load("clip", "mini", weights)
    expected = np.stack([clip.text_tokens(texts).mean(0) for texts in several])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    # An empty caption beside others does not count; alone it is the empty text.
    odd = features("clip", "text_tokens", [("a red star", ""), ("",)], profile="mini", cache=tmp_path, weights=weights)
    np.testing.assert_allclose(odd, clip.text_tokens(["a red star", ""]), atol=1e-5)


def test_options_separate_and_unknown_outputs_are_told(weights, scenes, tmp_path):
    images = worlds.render(scenes)
    options = {"profile": "mini", "cache": tmp_path, "weights": weights}
    features("clip", "encode_image", images, **options)
    features("clip", "encode_image", images, stored="float16", **options)
    assert sorted(shelf.label.stored for shelf in shelves(tmp_path)) == ["float16", "float32"]
    with pytest.raises(BenchError, match="clip has no output 'smell'"):
        features("clip", "smell", images, **options)
