"""Training of the ``mini`` KL autoencoder: errors of pixels and of edges, and a weak pull to a unit normal."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from benchmark.pretrained import kl
from benchmark.pretrained.training.common import Batch, Settings, held_out

DEFAULTS = Settings(steps=1600, batch=8, rate=1.5e-3, seed=2111, weight_decay=1e-4, betas=(0.9, 0.99), average=0.995)
ABOUT = """
diffusers' `AutoencoderKL` with 4 pixels to a latent: (64, 64, 3) to (4, 16, 16); latents are standardised per channel.
The untrained weights are set to average pooling and bilinear upsampling: after some 40 s of processor time on 4,096
scenes, batches of 8, this start had reached a pixel correlation of .97 and the usual random start .67.
"""
_KL_WEIGHT = 3e-4  # per latent


class Trainee(torch.nn.Module):
    """The autoencoder and running moments of its latents."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.model = kl.build(config)
        start_as_pooling(self.model)
        self.register_buffer("mean", torch.zeros(config["latent_channels"]))
        self.register_buffer("square", torch.ones(config["latent_channels"]))


@torch.no_grad()
def start_as_pooling(model: torch.nn.Module) -> None:
    """Set the first weights so that the untrained model is average pooling and bilinear upsampling.

    Three latents start as mean colours; the fourth and all residual branches are left to training. From the usual
    random start a picture's brightness, which every group norm removes, costs most of a short training. Here the last
    norms see each colour with both signs beside a constant pair, which keeps it: silu(a) - silu(-a) = a.
    """
    for name, parameter in model.named_parameters():
        if name.endswith(("conv2.weight", "conv2.bias", "to_out.0.weight", "to_out.0.bias")):
            parameter.zero_()
    encoder, decoder = model.encoder, model.decoder
    _route(encoder.conv_in, [(i, i, 1.0) for i in range(3)], _CENTRE)
    for block in encoder.down_blocks:
        for resnet in block.resnets:
            if resnet.conv_shortcut is not None:
                _route(resnet.conv_shortcut, [(i, i, 1.0) for i in range(3)], torch.ones(1, 1))
        for sampler in block.downsamplers or []:
            _route(sampler.conv, [(i, i, 1.0) for i in range(3)], _POOL)
    _pairs(encoder.down_blocks[-1].resnets[0].conv_shortcut, encoder.conv_norm_out)
    _differences(encoder.conv_out, encoder.conv_norm_out, 2.5)
    latents = model.config.latent_channels
    encoder.conv_out.weight[latents:] *= 0.1
    encoder.conv_out.bias[latents:] = -5
    model.quant_conv.weight.copy_(torch.eye(2 * latents)[:, :, None, None])
    model.quant_conv.bias.zero_()
    model.post_quant_conv.weight.copy_(torch.eye(latents)[:, :, None, None])
    model.post_quant_conv.bias.zero_()
    _route(decoder.conv_in, [(i, i, 1.0) for i in range(latents)], _CENTRE)
    for block in decoder.up_blocks:
        for resnet in block.resnets:
            if resnet.conv_shortcut is not None:
                _route(resnet.conv_shortcut, [(i, i, 1.0) for i in range(4)], torch.ones(1, 1))
        for sampler in block.upsamplers or []:
            _route(sampler.conv, [(i, i, 1.0) for i in range(4)], _BILINEAR)
    _pairs(decoder.up_blocks[-1].resnets[0].conv_shortcut, decoder.conv_norm_out)
    _differences(decoder.conv_out, decoder.conv_norm_out, 0.4)


_CENTRE = torch.tensor([[0.0, 0, 0], [0, 1, 0], [0, 0, 0]])
_POOL = torch.tensor([[1.0, 1, 0], [1, 1, 0], [0, 0, 0]]) / 4  # stride 2, padded to the right and below
_BILINEAR = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16  # after doubling each pixel
_CONSTANT = 4.0


def _route(conv: torch.nn.Module, ways: list[tuple[int, int, float]], kernel: torch.Tensor) -> None:
    """Make output channels copies of input channels, filtered: (output, input, factor)."""
    for after, before, factor in ways:
        conv.weight[after], conv.bias[after] = 0, 0
        conv.weight[after, before] = factor * kernel


def _pairs(conv: torch.nn.Module, norm: torch.nn.GroupNorm) -> None:
    """Give the first three groups of a norm one colour with both signs and a constant with both signs."""
    size = norm.num_channels // norm.num_groups
    for colour in range(3):
        first = colour * size
        _route(conv, [(first, colour, 1.0), (first + 1, colour, -1.0)], torch.ones(1, 1))
        for channel, sign in ((first + 2, 1), (first + 3, -1)):
            conv.weight[channel], conv.bias[channel] = 0, sign * _CONSTANT


def _differences(conv: torch.nn.Module, norm: torch.nn.GroupNorm, gain: float) -> None:
    """Read the three colours back from their pairs."""
    size = norm.num_channels // norm.num_groups
    # Standard deviation of a group that the constants dominate.
    gain = gain * _CONSTANT * (2 / size) ** 0.5
    for colour in range(3):
        conv.weight[colour], conv.bias[colour] = 0, 0
        conv.weight[colour, colour * size, 1, 1] = gain
        conv.weight[colour, colour * size + 1, 1, 1] = -gain


def config() -> dict[str, Any]:
    return dict(kl.MINI)


def build(config: dict[str, Any]) -> Trainee:
    return Trainee(config)


def pixels(images: np.ndarray) -> torch.Tensor:
    """Return pictures as (n, 3, h, w) in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def loss(module: Trainee, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
    x = pixels(batch.images)
    posterior = module.model.encode(x).latent_dist
    noise = torch.randn(posterior.mean.shape, generator=batch.generator)
    y = module.model.decode(posterior.mean + posterior.std * noise).sample
    absolute, squared = (y - x).abs().mean(), (y - x).square().mean()
    edges = sum((a - b).abs().mean() for a, b in zip(_edges(y), _edges(x), strict=True))
    divergence = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
    with torch.no_grad():
        module.mean.lerp_(posterior.mean.mean((0, 2, 3)), 0.02)
        module.square.lerp_(posterior.mean.square().mean((0, 2, 3)), 0.02)
    values = {"absolute": absolute.item(), "edges": edges.item(), "divergence": divergence.item()}
    return absolute + squared + 0.5 * edges + _KL_WEIGHT * divergence, values


def _edges(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x.diff(dim=2), x.diff(dim=3)


def export(module: Trainee) -> dict[str, torch.Tensor]:
    # Moments of the latents travel with the weights; the loader puts them into the configuration.
    std = (module.square - module.mean.square()).clamp(min=1e-6).sqrt()
    return module.model.state_dict() | {"latents_mean": module.mean, "latents_std": std}


def strip(model: kl.KLAutoencoder, images: np.ndarray) -> list[tuple[str, np.ndarray]]:
    return [("latents", model.decode(model.encode(images)))]


@torch.no_grad()
def evaluate(module: Trainee, rng: np.random.Generator) -> dict[str, float]:
    _, images = held_out(256)
    x = pixels(images)
    y = module.model.decode(module.model.encode(x).latent_dist.mode()).sample.clamp(-1, 1)
    return {"pixel_correlation": pixel_correlation(x, y)}


def pixel_correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the mean over pictures of the correlation of all their values."""
    a, b = (v.flatten(1).double() for v in (a, b))
    a, b = (v - v.mean(1, keepdim=True) for v in (a, b))
    return torch.nn.functional.cosine_similarity(a, b, dim=1).mean().item()
