"""KL autoencoder (diffusers' ``AutoencoderKL``): pictures to the latents that diffusion works on, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmark.errors import BenchError
from benchmark.pretrained import diffusion

__all__ = ["FULL", "MINI", "KLAutoencoder", "build"]

# The autoencoder of Stable Diffusion 1 and of Versatile Diffusion: 8 pixels to a latent.
FULL: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "latent_channels": 4,
    "norm_num_groups": 32,
    "sample_size": 512,
    "scaling_factor": 0.18215,
}
# 4 pixels to a latent: (64, 64, 3) to (4, 16, 16).
MINI: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    "block_out_channels": [16, 32, 64],
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 4,
    "sample_size": 64,
}


def build(config: Mapping[str, Any]) -> torch.nn.Module:
    """Return diffusers' autoencoder of a configuration, with random weights."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(**config)


class KLAutoencoder:
    """A frozen autoencoder whose latents have about unit variance.

    Latents are standardised as the configuration says: per channel by ``latents_mean`` and ``latents_std`` where it
    has them (mini), else multiplied by ``scaling_factor`` (published).

    Parameters
    ----------
    model : diffusers.AutoencoderKL
    device : str
    """

    def __init__(self, model: torch.nn.Module, device: str = "cpu") -> None:
        self.model = model.eval().requires_grad_(False).to(device)
        self.device, self.image_size = device, model.config.sample_size
        self.latent_channels = model.config.latent_channels
        self.factor = 2 ** (len(model.config.block_out_channels) - 1)
        mean = model.config.latents_mean or [0.0] * self.latent_channels
        std = model.config.latents_std or [1 / model.config.scaling_factor] * self.latent_channels
        self.mean, self.std = (torch.tensor(v, device=device)[:, None, None] for v in (mean, std))

    @classmethod
    def from_mini(
        cls, config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], device: str = "cpu"
    ) -> KLAutoencoder:
        """Build the ``mini`` model from its json's ``config`` and its tensors, moments of the latents among them."""
        tensors = {name: value.float() for name, value in tensors.items()}
        moments = {name: tensors.pop(name).tolist() for name in ("latents_mean", "latents_std")}
        model = build({**config, **moments})
        model.load_state_dict(tensors)
        return cls(model, device)

    @classmethod
    def from_full(cls, files: Mapping[str, Path], device: str = "cpu") -> KLAutoencoder:
        """Build the published model from its two files."""
        from safetensors.torch import load_file

        config = json.loads(files["vae/config.json"].read_text("utf-8"))
        with torch.device("meta"):
            model = build({k: v for k, v in config.items() if not k.startswith("_")})
        tensors = load_file(files["vae/diffusion_pytorch_model.safetensors"])
        model.load_state_dict({_current_name(k): _matrix(k, v.float()) for k, v in tensors.items()}, assign=True)
        return cls(model, device)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of a picture's latents."""
        side = self.image_size // self.factor
        return self.latent_channels, side, side

    @torch.no_grad()
    def encode(self, images: np.ndarray, batch: int = 64, resized: bool = False) -> np.ndarray:
        """Return the latents (mode of the posterior) of pictures.

        Parameters
        ----------
        images : ndarray of shape (n, h, w, 3), uint8
            Height and width must be multiples of ``factor``.
        batch : int
        resized : bool
            Bring pictures to ``image_size`` first (bilinear, antialiased).

        Returns
        -------
        ndarray of shape (n, channels, h / factor, w / factor), float32
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise BenchError(f"the autoencoder needs uint8 pictures (n, h, w, 3), got {images.dtype} {images.shape}")
        if resized and images.shape[1:3] != (self.image_size, self.image_size):
            parts = [images[i : i + batch] for i in range(0, len(images), batch)]
            images = np.concatenate([diffusion.resize(part, self.image_size, "bilinear") for part in parts])
        if images.shape[1] % self.factor or images.shape[2] % self.factor:
            raise BenchError(f"picture sides must be multiples of {self.factor}, got {images.shape[1:3]}")
        parts = [np.zeros((0, self.latent_channels, *(s // self.factor for s in images.shape[1:3])), np.float32)]
        for start in range(0, len(images), batch):
            x = torch.from_numpy(np.ascontiguousarray(images[start : start + batch])).to(self.device)
            x = (x.permute(0, 3, 1, 2).float() / 127.5 - 1).to(self.model.dtype)
            z = self.model.encode(x).latent_dist.mode().float()
            parts.append(((z - self.mean) / self.std).cpu().numpy())
        return np.concatenate(parts)

    @torch.no_grad()
    def decode(self, latents: np.ndarray | torch.Tensor, batch: int = 64) -> np.ndarray:
        """Return pictures (n, h, w, 3), uint8, of latents (n, channels, rows, columns)."""
        latents = torch.as_tensor(latents)
        if latents.ndim != 4 or latents.shape[1] != self.latent_channels:
            raise BenchError(f"latents must be (n, {self.latent_channels}, rows, columns), got {tuple(latents.shape)}")
        rows, columns = (s * self.factor for s in latents.shape[2:])
        parts = [np.zeros((0, rows, columns, 3), np.uint8)]
        for start in range(0, len(latents), batch):
            z = latents[start : start + batch].to(self.device, torch.float32) * self.std + self.mean
            x = self.model.decode(z.to(self.model.dtype)).sample.float()
            if not torch.isfinite(x).all():
                raise BenchError("decoding latents gave NaN or infinite pixels")
            parts.append((127.5 * (x + 1)).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy())
        return np.concatenate(parts)


# The published file is older than diffusers' present names of the attention in the middle.
_RENAMED = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def _current_name(name: str) -> str:
    before, found, after = name.rpartition(".attentions.0.")
    part, _, end = after.partition(".")
    return f"{before}{found}{_RENAMED.get(part, part)}.{end}" if found else name


def _matrix(name: str, value: torch.Tensor) -> torch.Tensor:
    """Some copies of the file hold these linear layers as 1 x 1 convolutions."""
    return value[:, :, 0, 0] if ".attentions.0." in name and value.ndim == 4 else value
