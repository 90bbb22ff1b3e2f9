"""The captioner: both profiles through transformers' BLIP, with random weights."""

import json

import numpy as np
import pytest
import torch

from benchmark.data import scenes as worlds
from benchmark.errors import BenchError
from benchmark.pretrained import captioner, hub
from benchmark.pretrained.clip import WordTokeniser
from benchmark.pretrained.training import captioner as task
from benchmark.pretrained.training.common import save


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captioner")
    torch.manual_seed(0)
    config = task.config()
    save(folder, "captioner", task.export(task.build(config)), {"config": config})
    return hub.load("captioner", "mini", folder)


def test_any_batch_size_gives_the_same_captions(tiny):
    images = worlds.render(worlds.sample(np.random.default_rng(0), 5))
    found = tiny.caption(images)
    assert len(found) == 5
    assert tiny.caption(images, batch=2) == found
    assert tiny.caption(images[:0]) == []
    assert set(" ".join(found).replace(",", " ").split()) <= set(worlds.CAPTION_WORDS)


def test_floats_are_refused(tiny):
    with pytest.raises(BenchError, match="uint8"):
        tiny.caption(np.zeros((1, 64, 64, 3), np.float32))


def test_training_captions_are_whole_and_in_order():
    scenes = worlds.sample(np.random.default_rng(4), 200)
    texts = task.plain_captions(scenes)
    for text, background, n, shape, colour in zip(
        texts, scenes.background, scenes.n_objects, scenes.shape, scenes.colour, strict=True
    ):
        words = text.replace(",", " ").split()
        pairs = [w for w in words if w in worlds.SHAPES or w in worlds.COLOURS]
        expected = [w for i in range(n) for w in (worlds.COLOURS[colour[i]], worlds.SHAPES[shape[i]])]
        assert pairs == expected
        assert worlds.BACKGROUNDS[background] in words
    tokenise = WordTokeniser(task.config()["words"], task.config()["length"])
    assert tokenise.decode(tokenise(texts)) == texts


def test_words_right_by_hand():
    true = ["the sea with a small red star and a large red ring"]
    assert task.words_right(true, true) == 1
    # sea, red, star, red, ring: found sea, red, ring and one word too many (blue, moon); 3 of 5.
    assert task.words_right(["the sea with a small red ring and a large blue moon"], true) == pytest.approx(3 / 5)
    # One object too few: 3 of 5; one too many: 5 of 7.
    assert task.words_right(["the sea with a small red star"], true) == pytest.approx(3 / 5)
    assert task.words_right([true[0] + " and a pink moon"], true) == pytest.approx(5 / 7)


def test_published_layout_loads(tmp_path):
    """Small files of the published layout: config.json, model.safetensors, vocab.txt."""
    folder = tmp_path / "blip-image-captioning-large"
    torch.manual_seed(0)
    model = captioner.build(task.config() | {"stem": []})
    model.save_pretrained(folder)
    special = ["[PAD]", *worlds.CAPTION_WORDS, ",", "[DEC]", "[SEP]", "[CLS]", "[UNK]", "[MASK]"]
    (folder / "vocab.txt").write_text("\n".join(special) + "\n")
    loaded = hub.load("captioner", "full", tmp_path)
    images = worlds.render(worlds.sample(np.random.default_rng(0), 3))
    expected = {k: v for k, v in model.state_dict().items()}
    assert all(torch.equal(v, expected[k]) for k, v in loaded.model.state_dict().items())
    assert all(isinstance(text, str) for text in loaded.caption(np.repeat(np.repeat(images, 3, 1), 2, 2)))
    (folder / "config.json").write_text(json.dumps({"model_type": "blip"})[:-1])
    with pytest.raises(BenchError, match="not valid JSON"):
        hub.load("captioner", "full", tmp_path)


def test_published_size():
    from transformers import BlipConfig, BlipForConditionalGeneration

    config = BlipConfig(
        text_config={"num_attention_heads": 12},
        vision_config={
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
        },
    )
    with torch.device("meta"):
        model = BlipForConditionalGeneration(config)
    assert model.vision_model.embeddings.position_embedding.shape == (1, 577, 1024)
    # The hub counts 470 M parameters, the tied word matrix twice.
    assert sum(v.numel() for v in model.state_dict().values()) == pytest.approx(470e6, rel=0.002)
