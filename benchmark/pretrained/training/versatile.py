"""Training of the ``mini`` Versatile Diffusion: latents of the mini autoencoder, tokens of the mini CLIP."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from benchmark.data import scenes as worlds
from benchmark.pretrained import diffusion, hub, versatile
from benchmark.pretrained.training.common import Batch, Settings, held_out
from benchmark.pretrained.training.kl import pixel_correlation

DEFAULTS = Settings(
    steps=12000,
    batch=32,
    rate=1e-3,
    seed=2131,
    weight_decay=1e-3,
    betas=(0.9, 0.99),
    average=0.999,
    checkpoint_every=240,
)
_CHUNK, _FIRST, _CHUNKS, _GROWTH = 2048, 4, 20, 100  # scenes a chunk; chunks at first, at most, growth over a training
_DROPPED = 0.10
_IMAGE_ONLY, _TEXT_ONLY = 0.20, 0.25
_AVERAGED = 1 / 3


@dataclass(frozen=True)
class Inputs:
    """Latents and tokens of scenes, in half precision; ``captions`` holds as many per scene as ``n_captions`` says."""

    latents: torch.Tensor
    image_tokens: torch.Tensor
    captions: torch.Tensor
    n_captions: torch.Tensor


@cache
def parts():
    """Return the frozen CLIP and autoencoder that the model stands on."""
    return hub.load("clip", "mini"), hub.load("kl", "mini")


@cache
def chunk(index: int) -> Inputs:
    """Return the inputs of 2,048 scenes of the pretrain pool; they depend on the index alone."""
    clip, kl = parts()
    rng = np.random.default_rng([DEFAULTS.seed, 1, index])
    scenes = worlds.sample(rng, _CHUNK, pool="pretrain")
    images = worlds.render(scenes)
    captions = worlds.captions(scenes, rng)
    number = np.array([len(c) for c in captions])
    tokens = torch.from_numpy(clip.text_tokens([text for several in captions for text in several])).half()
    padded = torch.zeros((_CHUNK, number.max(), *tokens.shape[1:]), dtype=torch.float16)
    padded[torch.from_numpy(np.arange(number.max()) < number[:, None])] = tokens
    latents = torch.from_numpy(kl.encode(images)).half()
    image_tokens = torch.from_numpy(clip.image_tokens(images)).half()
    return Inputs(latents, image_tokens, padded, torch.from_numpy(number))


class Trainee(torch.nn.Module):
    """The UNet and the inputs that stand for no condition."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.model = versatile.build(config["unet"])
        for name, parameter in self.model.named_parameters():
            # Residual branches start at zero, so that the first steps train a shallow network.
            if name.endswith(("conv2.weight", "conv2.bias", "proj_out.weight", "proj_out.bias")):
                torch.nn.init.zeros_(parameter)
        self.prediction_type = config["prediction_type"]
        clip, kl = parts()
        positions = first_positions(clip.text_token_count, clip.image_token_count, clip.width)
        self.token_positions = torch.nn.Parameter(positions)
        grey, nothing = versatile.Versatile(self.model, clip, kl).unconditional()
        self.model.requires_grad_(True).train()
        self.register_buffer("empty", torch.from_numpy(np.concatenate([nothing, grey], axis=1)))


def first_positions(n_text: int, n_image: int, width: int) -> torch.Tensor:
    """Return the start of the tokens' positions: waves of their place in the caption or picture, (tokens, width)."""
    side = round((n_image - 1) ** 0.5)
    text = diffusion.position_waves(torch.arange(n_text)[:, None] / n_text)
    image = diffusion.position_waves(diffusion.centres(side, side))
    table = torch.zeros(n_text + n_image, width)
    table[:n_text, : text.shape[1]] = 2 * text
    table[n_text + 1 :, : image.shape[1]] = 2 * image  # after the class token, which has no place
    return table


def config() -> dict[str, Any]:
    return dict(versatile.MINI)


def build(config: dict[str, Any]) -> Trainee:
    return Trainee(config)


def loss(module: Trainee, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
    """Return the squared error of the network's output at random noise levels, mixing weights and captions."""
    rng, n = batch.rng, len(batch.images)
    latents, image_tokens, text_tokens = examples(batch)
    tokens = torch.cat([text_tokens, image_tokens], dim=1)
    draw = rng.random(n)
    weight = np.where(draw < _IMAGE_ONLY, 0.0, np.where(draw > 1 - _TEXT_ONLY, 1.0, rng.random(n)))
    weight = torch.from_numpy(weight.astype(np.float32))[:, None, None, None]
    versatile.set_conditions(module.model, weight, text_tokens.shape[1], image_tokens.shape[1])
    return denoising_error(module, latents, tokens, batch)


def examples(batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return latents, image tokens and text tokens of scenes drawn from a pool that grows while training goes on."""
    rng, n = batch.rng, len(batch.images)
    inputs = chunk(int(rng.integers(min(_CHUNKS, _FIRST + int(batch.progress * _GROWTH)))))
    rows = torch.from_numpy(rng.choice(len(inputs.latents), n, replace=False))
    text_tokens = pick_captions(inputs.captions[rows].float(), inputs.n_captions[rows].numpy(), rng)
    return inputs.latents[rows].float(), inputs.image_tokens[rows].float(), text_tokens


def denoising_error(
    module: torch.nn.Module, latents: torch.Tensor, tokens: torch.Tensor, batch: Batch
) -> tuple[torch.Tensor, dict[str, float]]:
    """Return the mean squared error of v at random noise levels; a tenth of the scenes loses its conditions."""
    n = len(latents)
    dropped = torch.from_numpy(batch.rng.random(n) < _DROPPED)
    tokens = torch.where(dropped[:, None, None], module.empty, tokens)
    tokens = diffusion.prepare_tokens(tokens, module.token_positions)
    scheduler = diffusion.noise_schedule(module.prediction_type)
    timesteps = torch.from_numpy(batch.rng.integers(scheduler.config.num_train_timesteps, size=n))
    noise = torch.randn(latents.shape, generator=batch.generator)
    noised = scheduler.add_noise(latents, noise, timesteps)
    noised = diffusion.with_coordinates(noised, module.model.config.in_channels)
    target = scheduler.get_velocity(latents, noise, timesteps)
    error = (module.model(noised, timesteps, tokens).sample - target).square().mean((1, 2, 3))
    noisy = timesteps >= 500
    values = {"error_noisy": error[noisy].mean().item(), "error_clear": error[~noisy].mean().item()}
    return error.mean(), values


def pick_captions(captions: torch.Tensor, number: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    """Return the tokens of one caption of each scene, or in a third of the cases the mean over all of them."""
    one = captions[torch.arange(len(captions)), torch.from_numpy(rng.integers(number))]
    mean = captions.sum(1) / torch.from_numpy(number)[:, None, None]
    averaged = torch.from_numpy(rng.random(len(captions)) < _AVERAGED)
    return torch.where(averaged[:, None, None], mean, one)


def export(module: Trainee) -> dict[str, torch.Tensor]:
    return module.model.state_dict() | {"token_positions": module.token_positions.detach()}


def evaluate(module: Trainee, rng: np.random.Generator) -> dict[str, float]:
    """Return how the pictures drawn from true tokens and the true picture agree with it."""
    scenes, images = held_out(24)
    clip, kl = parts()
    model = versatile.Versatile(module.model, clip, kl, module.prediction_type, module.token_positions)
    text = np.stack([clip.text_tokens(several).mean(0) for several in worlds.captions(scenes, 1)])
    drawn = {
        name: model.generate(clip.image_tokens(images), text, range(24), start, steps=12, guidance=3.0)
        for name, start in (("start", images), ("noise", None))
    }
    own = clip.encode_image(images)
    result = {}
    for name, pictures in drawn.items():
        similarity = clip.encode_image(pictures) @ own.T
        beaten = similarity.diagonal()[:, None] > similarity
        result[f"clip_two_way_{name}"] = float(beaten.sum() / (24 * 23))
        pair = (torch.from_numpy(p).float() for p in (images, pictures))
        result[f"pixel_correlation_{name}"] = pixel_correlation(*pair)
    return result
