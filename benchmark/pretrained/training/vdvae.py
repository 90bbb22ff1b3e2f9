"""Training of the ``mini`` VDVAE: the published objective, with the cost of coarse latents lowered."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from benchmark.pretrained import vdvae
from benchmark.pretrained.training.common import Batch, Settings, held_out
from benchmark.pretrained.training.kl import pixel_correlation

DEFAULTS = Settings(steps=2500, batch=8, rate=1.5e-3, seed=2121, weight_decay=1e-3, betas=(0.9, 0.99), average=0.99)
ABOUT = """
The published VDVAE architecture at a small size: stochastic layers at 1, 4, 4, 8, 8, 8, 16, 16, 32 and 64 pixels, 8
channels each. The first six layers (up to 8 x 8: 1,800 latents) are meant for regression. The strip shows each scene
from the posterior means of all layers, and from those of the first six with the rest at the prior's means
(temperature 0) or drawn from it (1). The objective is the published one, but that information in layers up to 8 x 8
is discounted; the untrained weights are set to a Laplacian pyramid of the picture.
"""
# Brain responses are regressed on latents up to this resolution: information is made cheaper there than in finer ones.
_COARSE, _COARSE_COST = 8, 0.2


def config() -> dict[str, Any]:
    return dataclasses.asdict(vdvae.MINI)


def build(config: dict[str, Any]) -> torch.nn.Module:
    model = vdvae.VDVAE(vdvae.VDVAEConfig(**config))
    start_as_pyramid(model)
    return model


@torch.no_grad()
def start_as_pyramid(model: vdvae.VDVAE) -> None:
    """Set the first weights so that latents are a Laplacian pyramid of the picture's colours.

    Each block's first three latents are what the pooled picture has and the state of the decoder has not yet. Colours
    are kept with both signs (channels 0-2 and 3-5), which passes them through: gelu(a) - gelu(-a) = a. The other
    channels start at random.
    """
    encoder, decoder = model.encoder, model.decoder
    width = model.config.width
    encoder.in_conv.weight[:6], encoder.in_conv.bias[:6] = 0, 0
    for channel in range(6):
        encoder.in_conv.weight[channel, channel % 3, 1, 1] = _SIGN[channel]
    for block in encoder.enc_blocks:
        block.c4.weight.zero_()
        block.c4.bias.zero_()
    for block in decoder.dec_blocks:
        _read_difference(block.enc, width)
        block.prior.c4.bias.zero_()
        block.resnet.c4.weight.zero_()
        block.resnet.c4.bias.zero_()
        block.z_proj.weight[:6], block.z_proj.bias[:6] = 0, 0
        block.z_proj.weight[6:] *= 0.1
        for channel in range(6):
            block.z_proj.weight[channel, channel % 3] = _SIGN[channel] / _GAIN
    out, k = decoder.out_net["out_conv"], model.config.n_mixtures
    out.weight *= 0.1
    out.bias.zero_()
    for colour in range(3):
        first = k * (1 + 3 * colour)  # means, log scales, coefficients
        out.weight[first : first + k] = 0
        out.weight[first : first + k, colour, 0, 0] = model.config.scale / 127.5
        out.bias[first + k : first + 2 * k] = -2.5


_SIGN = (1.0, 1.0, 1.0, -1.0, -1.0, -1.0)
_GAIN = 2.0  # of latents over colours


def _read_difference(block: torch.nn.Module, width: int) -> None:
    """Make the first three posterior means the colours of the activation less those of the state."""
    for conv in (block.c1, block.c2, block.c3):
        middle = conv.kernel_size[0] // 2
        conv.weight[:6], conv.bias[:6] = 0, 0
        for channel in range(6):
            for other in range(6):
                if other % 3 == channel % 3:
                    sign = _SIGN[channel] * _SIGN[other]
                    if conv is block.c1:
                        conv.weight[channel, width + other, middle, middle] = sign
                        sign = -sign
                    conv.weight[channel, other, middle, middle] = sign
    latents = block.c4.out_channels // 2
    block.c4.weight *= 0.1
    block.c4.bias.zero_()
    for colour in range(3):
        block.c4.weight[colour], block.c4.weight[latents + colour] = 0, 0
        for other in (colour, colour + 3):
            block.c4.weight[colour, other] = _SIGN[other] * _GAIN
        block.c4.bias[latents + colour] = -2


def loss(module: vdvae.VDVAE, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
    """Return the negative evidence lower bound in nats a pixel value, coarse latents at a discount."""
    x = module.prepare(batch.images)
    activations = module.encoder(x)
    costs: list[tuple[int, torch.Tensor]] = []

    def choose(i, block, state, prior_mean, prior_log_sigma):
        posterior = block.enc(torch.cat([state, activations[block.resolution]], dim=1))
        mean, log_sigma = posterior.chunk(2, dim=1)
        costs.append((block.resolution, divergence(mean, log_sigma, prior_mean, prior_log_sigma)))
        return mean + log_sigma.exp() * torch.randn(mean.shape, generator=batch.generator)

    mixture = module.decoder(len(x), choose)
    target = torch.from_numpy(batch.images).permute(0, 3, 1, 2).float() / 127.5 - 1
    distortion = vdvae.mixture_loss(mixture, target).mean()
    values = batch.images[0].size
    coarse = sum(c for r, c in costs if r <= _COARSE) / values
    fine = sum(c for r, c in costs if r > _COARSE) / values
    logged = {"distortion": distortion.item(), "coarse": coarse.item(), "fine": fine.item()}
    # Pricey fine latents at first would be learnt late: their cost rises over the first fifth.
    rise = min(1.0, 5 * batch.progress)
    return distortion + _COARSE_COST * rise * coarse + rise * fine, logged


def divergence(mean, log_sigma, prior_mean, prior_log_sigma) -> torch.Tensor:
    """Return the Kullback-Leibler divergence of two diagonal Gaussians, nats a picture, mean over pictures."""
    ratio = (2 * (log_sigma - prior_log_sigma)).exp() + ((mean - prior_mean) * (-prior_log_sigma).exp()).square()
    return (prior_log_sigma - log_sigma + 0.5 * (ratio - 1)).flatten(1).sum(1).mean()


def export(module: vdvae.VDVAE) -> dict[str, torch.Tensor]:
    return module.state_dict()


def strip(model: vdvae.VDVAE, images: np.ndarray) -> list[tuple[str, np.ndarray]]:
    seeds = range(len(images))
    latents, prefix = model.encode(images), model.encode(images, model.config.prefix)
    return [
        ("all layers", model.decode(latents, seeds)),
        ("to 8 x 8, t 0", model.decode(prefix, seeds, temperature=0)),
        ("to 8 x 8, t 1", model.decode(prefix, seeds)),
    ]


def evaluate(module: vdvae.VDVAE, rng: np.random.Generator) -> dict[str, float]:
    _, images = held_out(128)
    true = torch.from_numpy(images).float()
    latents, seeds = module.encode(images), range(len(images))
    result = {}
    for name, n_layers in (("all", None), ("prefix", module.config.prefix)):
        for temperature in (1.0, 0.0):
            given = latents[:, : module.n_latents(n_layers)]
            decoded = torch.from_numpy(module.decode(given, seeds, temperature)).float()
            result[f"pixel_correlation_{name}_t{temperature:g}"] = pixel_correlation(true, decoded)
    return result
