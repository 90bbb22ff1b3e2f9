"""The judge: a small convolutional network that reads a scene's attributes off a picture.

It is used for scoring only, has another architecture, other data and another seed than any model that guides a method,
and exists in profile ``mini`` only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmark.data.scenes import BACKGROUNDS, COLOURS, PLACES, SHAPES, SIZES
from benchmark.errors import BenchError
from benchmark.pretrained.clip import check_images

_COLUMNS = (len(SHAPES) + 1, len(COLOURS), len(SIZES))  # of one place; the last shape means that it is empty


class Network(nn.Module):
    """Residual convolutions, then one soft look at each of the six places.

    Parameters
    ----------
    width : sequence of 3 int
        Channels at strides 2, 4 and 8.
    image_size : int
    """

    def __init__(self, width: tuple[int, int, int], image_size: int = 64) -> None:
        super().__init__()
        a, b, c = width
        self.image_size = image_size
        self.trunk = nn.Sequential(
            _step(3, a, 2), _Residual(a), _step(a, b, 2), _Residual(b), _step(b, c, 2), _Residual(c)
        )
        cells = (image_size // 8) ** 2
        self.position = nn.Parameter(torch.zeros(c, cells))
        self.look = nn.Conv1d(c, len(PLACES), 1)
        self.where = nn.Parameter(torch.zeros(len(PLACES), cells))
        self.place = nn.Parameter(torch.zeros(len(PLACES), c))
        self.hidden = nn.Linear(c, c)
        self.read = nn.Linear(c, sum(_COLUMNS))
        self.ground = nn.Linear(2 * c, len(BACKGROUNDS))

    def maps(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the last maps, shape (n, c, h / 8, w / 8), of pixels (n, 3, h, w) in [-1, 1]."""
        return self.trunk(pixels)

    def forward(self, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return scores of the backgrounds, (n, 8), and of every place's columns, (n, 6, 19)."""
        cells = maps.flatten(2)
        ground = self.ground(torch.cat([cells.mean(2), cells.amax(2)], 1))
        cells = cells + self.position
        attention = (self.look(cells) + self.where).softmax(2)
        seen = attention @ cells.transpose(1, 2) + self.place
        return ground, self.read(functional.relu(seen + self.hidden(seen)))


class Judge:
    """The frozen judge.

    Parameters
    ----------
    network : Network
    device : str
    """

    def __init__(self, network: Network, device: str = "cpu") -> None:
        self.network = network.eval().requires_grad_(False).to(device)
        self.device = device

    @classmethod
    def from_mini(cls, config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], device: str = "cpu") -> Judge:
        """Build the judge from its json's ``config`` and its tensors."""
        network = build(config)
        network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in tensors.items()})
        return cls(network, device)

    def features(self, images: np.ndarray, batch: int = 256) -> np.ndarray:
        """Return features for two-way identification, shape (n, 6 c), float32: means of the last maps in 2 x 3 regions.

        Parameters
        ----------
        images : ndarray of shape (n, h, w, 3), uint8
        batch : int
        """
        pool = functional.adaptive_avg_pool2d
        parts = [pool(self.network.maps(x), (2, 3)).flatten(1) for x in self._batches(images, batch)]
        return torch.cat(parts).cpu().numpy()

    def read(self, images: np.ndarray, batch: int = 256) -> dict[str, np.ndarray]:
        """Read every picture's attributes.

        Returns
        -------
        dict
            ``background`` (n,) and, for each of the six places, ``shape``, ``colour`` and ``size`` (n, 6), int64, -1
            where no object is seen.
        """
        outputs = [self.network(self.network.maps(x)) for x in self._batches(images, batch)]
        ground = torch.cat([o[0] for o in outputs]).argmax(1).cpu().numpy()
        shape, colour, size = (part.argmax(2).cpu().numpy() for part in split(torch.cat([o[1] for o in outputs])))
        empty = shape == len(SHAPES)
        found = {"background": ground}
        return found | {k: np.where(empty, -1, v) for k, v in (("shape", shape), ("colour", colour), ("size", size))}

    def attribute_accuracy(self, images: np.ndarray, attributes: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return each picture's share of right attributes, shape (n,), float64.

        Counted are the background and, for every place with an object in the scene or in the picture, shape, colour
        and size; where only one of the two has an object there, all three are wrong.

        Parameters
        ----------
        images : ndarray of shape (n, h, w, 3), uint8
        attributes : mapping
            As :func:`benchmark.data.scenes.attributes` gives them: ``background`` (n,), ``shape``, ``colour``, ``size``
            and ``place`` (n, 3).
        """
        found, true = self.read(images), by_place(attributes)
        _check_length(images, true)
        either = (found["shape"] >= 0) | (true["shape"] >= 0)
        right = sum(((found[k] == true[k]) & either).sum(1) for k in ("shape", "colour", "size"))
        return (right + (found["background"] == true["background"])) / (1 + 3 * either.sum(1))

    def scores(self, images: np.ndarray, attributes: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Return ``background`` accuracy, ``colour_f1`` and ``shape_f1`` of all pictures together.

        F1 is of the sets of colours (shapes) in each picture, wherever they are, counted over all pictures.
        """
        found, true = self.read(images), by_place(attributes)
        _check_length(images, true)
        result = {"background": float((found["background"] == true["background"]).mean())}
        for name, count in (("colour", len(COLOURS)), ("shape", len(SHAPES))):
            a, b = (_multi_hot(table[name], count) for table in (found, true))
            total = a.sum() + b.sum()
            result[f"{name}_f1"] = float(2 * (a & b).sum() / total) if total else 1.0
        return result

    @torch.no_grad()
    def _batches(self, images: np.ndarray, batch: int):
        check_images(images)
        size = self.network.image_size
        for start in range(0, max(1, len(images)), batch):
            yield pixels(images[start : start + batch], size).to(self.device)


def build(config: Mapping[str, Any]) -> Network:
    """Return the network of a configuration, with random weights."""
    return Network(tuple(config["width"]), config["image_size"])


def pixels(images: np.ndarray, size: int) -> torch.Tensor:
    """Return pictures as (n, 3, size, size), float32, in [-1, 1]."""
    x = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
    if x.shape[2:] == (size, size):
        return x
    if not len(images):
        return x.new_zeros(0, 3, size, size)
    return functional.interpolate(x, (size, size), mode="bicubic", antialias=True).clamp(-1, 1)


def split(columns: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Split the columns of every place, (n, 6, 19), into shape (or empty), colour and size."""
    return columns.split(_COLUMNS, dim=2)


def by_place(attributes: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Turn objects in slots, (n, 3), into a column a place, (n, 6), -1 where there is none."""
    missing = [k for k in ("background", "shape", "colour", "size", "place") if k not in attributes]
    if missing:
        raise BenchError(
            f"the judge needs the attributes background, shape, colour, size, place; missing: {missing[0]}"
        )
    place = np.asarray(attributes["place"])
    column = np.where(place < 0, len(PLACES), place)
    result = {"background": np.asarray(attributes["background"])}
    for name in ("shape", "colour", "size"):
        table = np.full((len(place), len(PLACES) + 1), -1, np.int64)
        np.put_along_axis(table, column, np.asarray(attributes[name]), axis=1)
        result[name] = np.where(np.arange(len(PLACES) + 1) == len(PLACES), -1, table)[:, : len(PLACES)]
    return result


def _check_length(images: np.ndarray, true: Mapping[str, np.ndarray]) -> None:
    if len(images) != len(true["background"]):
        raise BenchError(f"{len(images)} pictures but attributes of {len(true['background'])} scenes")


def _multi_hot(index: np.ndarray, count: int) -> np.ndarray:
    return (index[:, :, None] == np.arange(count)).any(1)


def _step(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _step(width, width, 1), nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(x + self.body(x))
