"""Training of the ``mini`` captioner: next words of one caption template, objects in the order of their places.

One template leaves nothing to guess but what is in the picture. A read-out of the object that covers each image token
speeds training up and is not exported.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from benchmark.data import scenes as worlds
from benchmark.pretrained import captioner, clip
from benchmark.pretrained.training.clip import cover_loss
from benchmark.pretrained.training.common import Batch, Settings, held_out

ABOUT = """
transformers' BLIP class at a small size, with a stem of convolutions like the mini CLIP's, greedily decoded. It writes
one template: background first, then the objects in the order of their places. `content_words` counts background, shape
and colour words; a word too many is wrong.
"""
DEFAULTS = Settings(steps=1200, batch=64, rate=1.5e-3, seed=5501, warmup=100)
CONTENT = worlds.BACKGROUNDS + worlds.SHAPES + worlds.COLOURS


def config() -> dict[str, Any]:
    size = {"hidden_size": 96, "intermediate_size": 384}
    return {
        "vision": size
        | {"num_hidden_layers": 4, "num_attention_heads": 3, "image_size": 64, "patch_size": 8}
        | {"initializer_range": 0.02},
        "text": size | {"num_hidden_layers": 2, "num_attention_heads": 3},
        "stem": [24, 56],
        "words": [*worlds.CAPTION_WORDS, ","],
        "length": 26,
    }


class Trainee(torch.nn.Module):
    """BLIP and the read-out that only training uses."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.model = captioner.build(config)
        self.words = clip.WordTokeniser(config["words"], config["length"])
        self.covers = torch.nn.Linear(config["vision"]["hidden_size"], 9 + 8 + 2)


def build(config: dict[str, Any]) -> Trainee:
    return Trainee(config)


def loss(module: Trainee, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
    ids = module.words(plain_captions(batch.scenes))
    out = module.model(pixel_values=captioner.pixels(batch.images, 64), input_ids=ids, attention_mask=(ids > 0).long())
    words = functional.cross_entropy(out.logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), ignore_index=0)
    covered = cover_loss(module.covers(out.last_hidden_state[:, 1:]), batch.scenes)
    return words + 0.25 * covered, {"words": words.item(), "covered": covered.item()}


def plain_captions(scenes: worlds.Scenes) -> list[str]:
    """Return the caption with background, sizes, colours and shapes, objects in the order of their places."""
    keys, numbers = worlds.categorical_key(scenes), scenes.n_objects.tolist()
    return [worlds._scene_captions(key, n, [[0, 1, 2]], [1], 1)[0] for key, n in zip(keys, numbers, strict=True)]


def words(model: captioner.Captioner, images: np.ndarray) -> list[str]:
    """Return the captions."""
    return model.caption(images)


def export(module: Trainee) -> dict[str, torch.Tensor]:
    # Tied weights are stored once for each name: safetensors wants tensors of their own.
    return {name: tensor.clone() for name, tensor in module.model.state_dict().items()}


def evaluate(module: Trainee, rng: np.random.Generator) -> dict[str, float]:
    scenes, images = held_out(300)
    # The frozen class takes the module's weights out of training, so it gets a copy.
    copy = captioner.build(config())
    copy.load_state_dict(module.model.state_dict())
    found = captioner.Captioner(copy, module.words.decode, module.words.length).caption(images)
    return {"content_words": words_right(found, plain_captions(scenes))}


def words_right(found: list[str], true: list[str], content: tuple[str, ...] = CONTENT) -> float:
    """Return the share of object, colour and background words that are right, counting words too many as wrong."""

    def counts(texts: list[str]) -> np.ndarray:
        return np.array([[text.replace(",", " ").split().count(word) for word in content] for text in texts])

    a, b = counts(found), counts(true)
    return float(np.minimum(a, b).sum() / np.maximum(a.sum(1), b.sum(1)).sum())
