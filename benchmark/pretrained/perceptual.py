"""Published networks that metrics look through, and what each protocol shows them.

Every network is a class of torchvision or open_clip with a published state dict; no code comes with the weights.
Protocols differ in how a picture gets to the network, and the numbers with them:

``bench-1``          shorter side to the network's own size (bicubic, antialiased, 8 bits), centre crop
``brain-diffuser``   PIL's bilinear resize of the 8-bit picture to 224 x 224 (Ozcelik & VanRullen 2023)
``mindeye``          float tensors, bilinear without antialiasing to 256 x 256 and from there to the size in
                     :data:`SIDES` (Scotti et al. 2023, whose torchvision did not antialias tensors)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmark.errors import BenchError
from benchmark.pretrained.clip import OPENAI_MEAN, OPENAI_STD, check_images, preprocess

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PATHS = ("bench-1", "brain-diffuser", "mindeye")
SIDES = {  # pixels a side in the order of PATHS; LPIPS and CLIP are in bench-1 otherwise
    "alexnet": (224, 224, 256),
    "inception": (299, 224, 342),
    "effnet-b1": (240, 224, 255),
    "swav": (224, 224, 224),
    "clip": (224, 224, 224),
}
LPIPS_SIDE = 128
LPIPS_LAYERS = ("features.1", "features.4", "features.7", "features.9", "features.11")
_STORED = 256


class Network:
    """A frozen network whose layers are read.

    Parameters
    ----------
    module : torch.nn.Module
        Takes standardised pictures (n, 3, side, side).
    name : str
        A key of :data:`SIDES`.
    device : str
    """

    def __init__(self, module: torch.nn.Module, name: str, device: str = "cpu") -> None:
        self.module = module.eval().requires_grad_(False).to(device)
        self.name, self.device = name, device
        self.mean, self.std = (OPENAI_MEAN, OPENAI_STD) if name == "clip" else (IMAGENET_MEAN, IMAGENET_STD)
        self._readers: dict[tuple[str, ...], Callable[[torch.Tensor], Mapping[str, torch.Tensor]]] = {}

    @classmethod
    def from_full(cls, files: Mapping[str, Path], device: str = "cpu", architecture: str = "alexnet") -> Network:
        """Build a network from its one published file."""
        (place,) = files.values()
        if architecture == "clip":
            from benchmark.pretrained.clip import Clip

            return cls(Clip.from_full(files).model.visual, "clip", device)
        return cls(_loaded(architecture, place), architecture, device)

    def features(self, images: np.ndarray, layer: str = "", path: str = "bench-1", batch: int = 32) -> np.ndarray:
        """Return a layer's output, flattened, shape (n, d), float32.

        Parameters
        ----------
        images : ndarray of shape (n, h, w, 1 or 3), uint8
        layer : str
            Name of a module of the network; empty for its output.
        path : {"bench-1", "brain-diffuser", "mindeye"}
        batch : int

        Raises
        ------
        BenchError
        """
        side = SIDES[self.name][_index(path)]
        read = self._read(images, (layer,), path, side, batch)
        return np.concatenate([states[layer].flatten(1).cpu().numpy() for states in read])

    @torch.no_grad()
    def _read(
        self, images: np.ndarray, layers: tuple[str, ...], path: str, side: int, batch: int
    ) -> Iterator[Mapping[str, torch.Tensor]]:
        if layers not in self._readers:
            self._readers[layers] = _reader(self.module, layers)
        images = check_images(in_colour(images))
        shift, scale = (torch.tensor(v)[:, None, None] for v in (self.mean, self.std))
        for start in range(0, len(images), batch):
            pixels = (pixels_for(images[start : start + batch], path, side) - shift) / scale
            yield self._readers[layers](pixels.to(self.device))


class Lpips(Network):
    """LPIPS 0.1 on AlexNet, as vectors whose squared distance it is.

    LPIPS adds up, over layers, weighted squared differences of activations of unit length, averaged over positions:
    with every activation times the root of its weight over the number of positions, that is a squared distance.

    Parameters
    ----------
    module : torch.nn.Module
        torchvision's AlexNet.
    weights : sequence of 5 tensors
        Weights of the channels of :data:`LPIPS_LAYERS`, none below 0.
    device : str
    """

    def __init__(self, module: torch.nn.Module, weights: Sequence[torch.Tensor], device: str = "cpu") -> None:
        super().__init__(module, "alexnet", device)
        if any((weight < 0).any() for weight in weights):
            raise ValueError("expected no LPIPS weight below 0")
        # LPIPS states the shift and scale of pixels in [-1, 1]: those of ImageNet for [0, 1]
        self.roots = [weight.flatten().sqrt().to(device) for weight in weights]

    @classmethod
    def from_full(cls, files: Mapping[str, Path], device: str = "cpu") -> Lpips:
        """Build it from AlexNet's published file and that of the layers' weights."""
        alexnet, heads = files.values()
        weights = _load(heads)
        return cls(
            _loaded("alexnet", alexnet), [weights[f"lin{i}.model.1.weight"] for i in range(len(LPIPS_LAYERS))], device
        )

    def features(self, images: np.ndarray, batch: int = 32) -> np.ndarray:
        """Return vectors (n, d), float32, whose squared distances are LPIPS.

        Parameters
        ----------
        images : ndarray of shape (n, h, w, 1 or 3), uint8
        batch : int
        """
        parts = []
        for states in self._read(images, LPIPS_LAYERS, "bench-1", LPIPS_SIDE, batch):
            columns = []
            for layer, root in zip(LPIPS_LAYERS, self.roots, strict=True):
                x = states[layer]
                x = x / (1e-8 + x.square().sum(1, keepdim=True)).sqrt()
                x = x * (root / np.sqrt(x.shape[2] * x.shape[3]))[:, None, None]
                columns.append(x.flatten(1))
            parts.append(torch.cat(columns, 1).cpu().numpy())
        return np.concatenate(parts)


def build(architecture: str) -> torch.nn.Module:
    """Return torchvision's network, with random weights."""
    from torchvision import models

    if architecture == "alexnet":
        return models.alexnet()
    if architecture == "inception":  # as torchvision makes it for its published weights
        return models.inception_v3(transform_input=True, aux_logits=True, init_weights=False)
    if architecture == "effnet-b1":
        return models.efficientnet_b1()
    if architecture == "swav":
        module = models.resnet50()
        module.fc = torch.nn.Identity()
        return module
    raise BenchError(f"no network is called {architecture!r}")


def in_colour(images: np.ndarray) -> np.ndarray:
    """Return pictures with three channels, the one of grey pictures three times."""
    grey = isinstance(images, np.ndarray) and images.ndim == 4 and images.shape[-1] == 1
    return images.repeat(3, axis=-1) if grey else images


def pixels_for(images: np.ndarray, path: str, side: int) -> torch.Tensor:
    """Return what a protocol shows a network before standardisation: (n, 3, side, side), float32 in [0, 1]."""
    _index(path)
    if path == "bench-1":
        return preprocess(images, side, (0, 0, 0), (1, 1, 1))
    if path == "brain-diffuser":
        return torch.from_numpy(_by_pil(images, side)).permute(0, 3, 1, 2).float() / 255
    pixels = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255
    for size in (_STORED, side):
        if pixels.shape[2:] != (size, size):
            pixels = torch.nn.functional.interpolate(pixels, (size, size), mode="bilinear", antialias=False)
    return pixels


def _by_pil(images: np.ndarray, side: int) -> np.ndarray:
    from PIL import Image

    result = np.empty((len(images), side, side, 3), np.uint8)
    for picture, row in zip(images, result, strict=True):  # PIL takes one at a time
        row[:] = Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR)
    return result


def _index(path: str) -> int:
    if path not in PATHS:
        raise BenchError(f"no protocol is called {path!r}; there are {', '.join(PATHS)}")
    return PATHS.index(path)


def _reader(module: torch.nn.Module, layers: tuple[str, ...]) -> Callable[[torch.Tensor], Mapping[str, torch.Tensor]]:
    """Return a function from pictures to the outputs of layers; what comes after them is not computed."""
    if layers == ("",):
        return lambda pixels: {"": module(pixels)}
    from torchvision.models.feature_extraction import create_feature_extractor

    return create_feature_extractor(module, return_nodes={layer: layer for layer in layers}).eval()


def _loaded(architecture: str, place: Path) -> torch.nn.Module:
    state = _load(place)
    if architecture == "swav":  # a training checkpoint: its trunk is named module.*, and it has heads of its own
        state = {key.removeprefix("module."): value for key, value in state.items()}
        state = {k: v for k, v in state.items() if not k.startswith(("projection_head", "prototypes", "fc."))}
    with torch.device("meta"):
        module = build(architecture)
    module.load_state_dict(state, assign=True)
    return module


def _load(place: Path) -> dict[str, torch.Tensor]:
    return torch.load(place, map_location="cpu", weights_only=True)
