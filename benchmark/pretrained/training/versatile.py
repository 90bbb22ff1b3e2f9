"""Training of the ``mini`` Versatile Diffusion: latents of the mini autoencoder, tokens of the mini CLIP."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from benchmark.data import scenes as worlds
from benchmark.data.locate import cache_dir
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
    data="40,960 scenes of benchmark.data.scenes, pool pretrain",
    checkpoint_every=240,
)
ABOUT = """
Versatile Diffusion's dual-guided UNet (diffusers' `UNet2DConditionModel` with an image and a text transformer at every
attention) on the 16 x 16 x 4 latents of the mini autoencoder, guided by the tokens of the mini CLIP. Two things differ
from the published model: the UNet sees its cells' positions, and a learnt vector per token is added to the tokens,
which at this size hardly tell where they come from. It predicts v; errors on objects weigh four times. The strip
shows, from true features: started from the true picture at strength 0.75; from noise alone; from noise by text alone;
from noise by image alone.
"""
_CHUNK, _FIRST, _CHUNKS, _GROWTH = 2048, 4, 20, 100  # scenes a chunk; chunks at first, at most, growth in a training
_EMPHASIS = 4.0
_DROPPED = 0.10
_IMAGE_ONLY, _TEXT_ONLY = 0.20, 0.25
_AVERAGED = 1 / 3


@dataclass(frozen=True)
class Inputs:
    """Latents and tokens of scenes, in half precision.

    Attributes
    ----------
    latents : Tensor of shape (n, 4, 16, 16)
    emphasis : Tensor of shape (n, 16, 16)
        Weight of each cell's error: 1, and more where there is an object.
    image_tokens : Tensor of shape (n, tokens, width)
    captions : Tensor of shape (n, most captions, tokens, width)
        Zero behind the last caption of a scene.
    n_captions : Tensor of shape (n,), int
    """

    latents: torch.Tensor
    emphasis: torch.Tensor
    image_tokens: torch.Tensor
    captions: torch.Tensor
    n_captions: torch.Tensor


@cache
def parts():
    """Return the frozen CLIP and autoencoder that the model stands on."""
    return hub.load("clip", "mini"), hub.load("kl", "mini")


@cache
def chunk(index: int) -> Inputs:
    """Return the inputs of 2,048 scenes of the pretrain pool; they depend on the index and the two models alone.

    They are kept in the cache folder, so that a resumed training does not compute them again.
    """
    identity = [DEFAULTS.seed, _CHUNK, _EMPHASIS, index, hub.checksum("clip", "mini"), hub.checksum("kl", "mini")]
    digest = hashlib.sha256(repr(identity).encode()).hexdigest()[:16]
    path = cache_dir() / "training" / f"versatile-{digest}.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        save_file(vars(_compute_chunk(index)), part)
        os.replace(part, path)
    return Inputs(**load_file(path))


def _compute_chunk(index: int) -> Inputs:
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
    weights = torch.from_numpy(emphasis(scenes, latents.shape[2])).half()
    image_tokens = torch.from_numpy(clip.image_tokens(images)).half()
    return Inputs(latents, weights, image_tokens, padded, torch.from_numpy(number))


def emphasis(scenes: worlds.Scenes, side: int) -> np.ndarray:
    """Return each latent cell's weight, (n, side, side): objects are a tenth of a picture and most of its meaning."""
    centre = (np.arange(side) + 0.5) * worlds.IMAGE_SIZE / side
    distance = np.hypot(centre[:, None] - scenes.y[:, :, None, None], centre - scenes.x[:, :, None, None])
    inside = (distance < scenes.radius[:, :, None, None] + 2) & (scenes.shape >= 0)[:, :, None, None]
    return np.where(inside.any(1), _EMPHASIS, 1.0).astype(np.float32)


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
    latents, weights, image_tokens, text_tokens = examples(batch)
    tokens = torch.cat([text_tokens, image_tokens], dim=1)
    draw = rng.random(n)
    mix = np.where(draw < _IMAGE_ONLY, 0.0, np.where(draw > 1 - _TEXT_ONLY, 1.0, rng.random(n)))
    mix = torch.from_numpy(mix.astype(np.float32))[:, None, None, None]
    versatile.set_conditions(module.model, mix, text_tokens.shape[1], image_tokens.shape[1])
    return denoising_error(module, latents, weights, tokens, batch)


def examples(batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return latents, their emphasis, image tokens and text tokens, from a pool that grows while training goes on."""
    rng, n = batch.rng, len(batch.images)
    inputs = chunk(int(rng.integers(min(_CHUNKS, _FIRST + int(batch.progress * _GROWTH)))))
    rows = torch.from_numpy(rng.choice(len(inputs.latents), n, replace=False))
    text_tokens = pick_captions(inputs.captions[rows].float(), inputs.n_captions[rows].numpy(), rng)
    latents, weights, image_tokens = (a[rows].float() for a in (inputs.latents, inputs.emphasis, inputs.image_tokens))
    return latents, weights, image_tokens, text_tokens


def denoising_error(
    module: torch.nn.Module, latents: torch.Tensor, weights: torch.Tensor, tokens: torch.Tensor, batch: Batch
) -> tuple[torch.Tensor, dict[str, float]]:
    """Return the weighted squared error of v at random noise levels; a tenth of the scenes loses its conditions."""
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
    error = (module.model(noised, timesteps, tokens).sample - target).square().mean(1)
    objects = weights > 1
    values = {"error_objects": error[objects].mean().item(), "error_ground": error[~objects].mean().item()}
    return (error * weights).sum() / weights.sum(), values


def pick_captions(captions: torch.Tensor, number: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    """Return the tokens of one caption of each scene, or in a third of the cases the mean over all of them."""
    one = captions[torch.arange(len(captions)), torch.from_numpy(rng.integers(number))]
    mean = captions.sum(1) / torch.from_numpy(number)[:, None, None]
    averaged = torch.from_numpy(rng.random(len(captions)) < _AVERAGED)
    return torch.where(averaged[:, None, None], mean, one)


def export(module: Trainee) -> dict[str, torch.Tensor]:
    return module.model.state_dict() | {"token_positions": module.token_positions.detach()}


def strip(model: versatile.Versatile, images: np.ndarray) -> list[tuple[str, np.ndarray]]:
    n = len(images)
    scenes = held_out(400)[0].take(slice(-n, None))  # the card's scenes
    text = np.stack([model.clip.text_tokens(several).mean(0) for several in worlds.captions(scenes, 1)])
    tokens = model.clip.image_tokens(images), text, range(n)
    return [
        ("from scene", model.generate(*tokens, images, guidance=3.0)),
        ("from noise", model.generate(*tokens, guidance=3.0)),
        ("text", model.generate(*tokens, guidance=3.0, text_weight=1)),
        ("image", model.generate(*tokens, guidance=3.0, text_weight=0)),
    ]


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
