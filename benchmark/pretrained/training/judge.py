"""Training of the judge on true attributes; some pictures are softened or noisy, so that it bears generated ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from benchmark.data import scenes as worlds
from benchmark.pretrained import judge
from benchmark.pretrained.training.common import Batch, Settings, held_out

ABOUT = """
A small residual network that reads off background and, for each of six places, shape or none, colour and size. It
scores pictures and is used for nothing else: another architecture and seed than the CLIP that guides methods, and no
captions. Some training pictures are softened or noisy, so that it bears generated ones. The strip shows its readings.
"""
DEFAULTS = Settings(steps=900, batch=64, rate=3e-3, seed=7703, weight_decay=0.01, average=0.995, betas=(0.9, 0.99))


def config() -> dict[str, Any]:
    return {"width": [24, 56, 112], "image_size": 64}


def build(config: dict[str, Any]) -> judge.Network:
    network = judge.build(config)
    with torch.no_grad():  # start from a look around each place
        centre = (torch.arange(8) + 0.5) * 8
        for row, (x, y) in enumerate((x, y) for y in (17.0, 47.0) for x in (12.0, 32.0, 52.0)):
            distance = (centre[:, None] - y).square() + (centre[None] - x).square()
            network.where[row] = (-distance / (2 * 9.0**2)).flatten()
    return network


def loss(module: judge.Network, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
    pictures = disturb(judge.pixels(batch.images, 64), batch.generator)
    ground, columns = module(module.maps(pictures))
    true = judge.by_place(worlds.attributes(batch.scenes))
    empty = true["shape"] < 0
    shapes = np.where(empty, len(worlds.SHAPES), true["shape"])
    shape, colour, size = (part.flatten(0, 1) for part in judge.split(columns))
    targets = [torch.from_numpy(t).flatten() for t in (shapes, true["colour"], true["size"])]
    parts = {
        "ground": functional.cross_entropy(ground, torch.from_numpy(true["background"])),
        "shape": functional.cross_entropy(shape, targets[0]),
        "colour": functional.cross_entropy(colour, targets[1], ignore_index=-1),
        "size": functional.cross_entropy(size, targets[2], ignore_index=-1),
    }
    total = 0.5 * parts["ground"] + 2 * parts["shape"] + parts["colour"] + 0.5 * parts["size"]
    return total, {k: v.item() for k, v in parts.items()}


def disturb(pictures: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Soften about a third of the pictures and add noise to about a third."""
    soft, noisy = torch.rand((2, len(pictures), 1, 1, 1), generator=generator) - 0.66
    blurred = functional.avg_pool2d(functional.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, 1)
    pictures = torch.lerp(pictures, blurred, (3 * soft).clamp(0, 1))
    noise = torch.randn(pictures.shape, generator=generator)
    return (pictures + 0.3 * noisy.clamp(min=0) * noise).clamp(-1, 1)


def words(model: judge.Judge, images: np.ndarray) -> list[str]:
    """Return the reading of every picture in words."""
    found = model.read(images)
    texts = []
    for row, ground in enumerate(found["background"]):
        objects = [
            f"{worlds.SIZES[z]} {worlds.COLOURS[c]} {worlds.SHAPES[s]} {worlds.PLACES[p]}"
            for p, (s, c, z) in enumerate(zip(*(found[k][row] for k in ("shape", "colour", "size")), strict=True))
            if s >= 0
        ]
        texts.append(", ".join([worlds.BACKGROUNDS[ground], *objects]))
    return texts


def export(module: judge.Network) -> dict[str, torch.Tensor]:
    return module.state_dict()


def evaluate(module: judge.Network, rng: np.random.Generator) -> dict[str, float]:
    scenes, images = held_out(600)
    frozen = judge.Judge(build(config()))
    frozen.network.load_state_dict(module.state_dict())
    true = worlds.attributes(scenes)
    return {"attribute_accuracy": float(frozen.attribute_accuracy(images, true).mean())} | frozen.scores(images, true)
