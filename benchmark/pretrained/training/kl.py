"""Training of the ``mini`` KL autoencoder: absolute and squared error, errors of edges, and a weak pull to a unit normal."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from benchmark.pretrained import kl
from benchmark.pretrained.training.common import Batch, Settings, held_out

DEFAULTS = Settings(steps=3000, batch=16, rate=2e-3, seed=2111, weight_decay=1e-4, betas=(0.9, 0.99))
_KL_WEIGHT = 3e-4  # per latent


class Trainee(torch.nn.Module):
    """The autoencoder and running moments of its latents."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.model = kl.build(config)
        self.register_buffer("mean", torch.zeros(config["latent_channels"]))
        self.register_buffer("square", torch.ones(config["latent_channels"]))


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
