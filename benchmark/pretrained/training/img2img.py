"""Training of the ``mini`` Stable Diffusion: the text stream of the mini Versatile Diffusion, trained on alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from benchmark.data import scenes as worlds
from benchmark.pretrained import hub, img2img, versatile
from benchmark.pretrained.training.common import Batch, Settings, held_out
from benchmark.pretrained.training.versatile import denoising_error, examples, parts

DEFAULTS = Settings(steps=600, batch=32, rate=3e-4, seed=2141, weight_decay=1e-3, betas=(0.9, 0.99), average=0.995)

ABOUT = """
Stable Diffusion's UNet at a small size, guided by a caption: the text stream of the mini Versatile Diffusion, trained
on by itself. The strip shows each scene's flat mean colour and its first caption, denoised at strength 0.9.
"""


class Trainee(torch.nn.Module):
    """The UNet and the tokens of the empty caption."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.model = img2img.build(config["unet"])
        tensors = load_file(hub.files("versatile", "mini")["versatile.safetensors"])
        tensors = {k: v.float() for k, v in img2img.text_flow(tensors).items()}
        positions = tensors.pop("token_positions")[: parts()[0].text_token_count]
        self.model.load_state_dict(tensors)
        self.token_positions = torch.nn.Parameter(positions)
        self.prediction_type = config["prediction_type"]
        self.register_buffer("empty", torch.from_numpy(parts()[0].text_tokens([""])))


def config() -> dict[str, Any]:
    return dict(versatile.MINI)


def build(config: dict[str, Any]) -> Trainee:
    hub.require(["versatile"], "mini")
    return Trainee(config)


def loss(module: Trainee, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
    latents, weights, _, text_tokens = examples(batch)
    return denoising_error(module, latents, weights, text_tokens, batch)


def export(module: Trainee) -> dict[str, torch.Tensor]:
    return module.model.state_dict() | {"token_positions": module.token_positions.detach()}


def strip(model: img2img.Img2Img, images: np.ndarray) -> list[tuple[str, np.ndarray]]:
    n = len(images)
    captions = [several[0] for several in worlds.captions(held_out(400)[0].take(slice(-n, None)), 1)]
    return [("caption", model.generate(captions, _flat(images), range(n), strength=0.9, guidance=3.0))]


def _flat(images: np.ndarray) -> np.ndarray:
    return np.broadcast_to(images.mean((1, 2), keepdims=True).astype(np.uint8), images.shape)


def evaluate(module: Trainee, rng: np.random.Generator) -> dict[str, float]:
    """Return how often the picture drawn from its true caption and a start of mean colour is closest to its caption."""
    scenes, images = held_out(48)
    clip, kl = parts()
    model = img2img.Img2Img(module.model, clip, kl, module.prediction_type, module.token_positions)
    captions = [several[0] for several in worlds.captions(scenes, 1)]
    drawn = model.generate(captions, _flat(images), range(48), strength=0.9, steps=20, guidance=3.0)
    similarity = clip.encode_image(drawn) @ clip.encode_text(captions).T
    return {"clip_two_way": float((similarity.diagonal()[:, None] > similarity).sum() / (48 * 47))}
