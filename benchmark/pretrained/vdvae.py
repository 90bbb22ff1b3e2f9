"""Very deep VAE (Child 2021): hierarchical latents of a picture, and a picture from the first layers of them.

The network is driven by the two published block strings, and its parameters carry the names and shapes of the
published ImageNet-64 checkpoint, so that file loads as it is. Latents are flattened per layer in the order channel,
row, column; layers follow each other in decoder order (coarse to fine).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmark.errors import BenchError
from benchmark.pretrained import diffusion

__all__ = ["FULL", "MINI", "VDVAE", "VDVAEConfig", "parse_blocks"]


@dataclass(frozen=True)
class VDVAEConfig:
    """Size of a VDVAE.

    Attributes
    ----------
    encoder_blocks, decoder_blocks : str
        ``RxN``: N blocks at resolution R; ``RdS`` (encoder): one block, then average pooling by S; ``RmS``
        (decoder): one block that first adds the state of resolution S, upsampled.
    width, n_channels_z : int
        Channels of the states and of each layer's latents.
    bottleneck : float
        Width of a block's middle, relative to ``width``.
    n_mixtures : int
        Components of the logistic mixture of a pixel.
    image_size : int
    shift, scale : float
        Grey values enter the network as (value - shift) / scale.
    prefix : int
        Number of layers that brain responses are regressed on by default.
    """

    encoder_blocks: str
    decoder_blocks: str
    width: int
    n_channels_z: int
    bottleneck: float
    n_mixtures: int
    image_size: int
    shift: float
    scale: float
    prefix: int


FULL = VDVAEConfig(
    encoder_blocks="64x11,64d2,32x20,32d2,16x9,16d2,8x8,8d2,4x7,4d4,1x5",
    decoder_blocks="1x2,4m1,4x3,8m4,8x7,16m8,16x15,32m16,32x31,64m32,64x12",
    width=512,
    n_channels_z=16,
    bottleneck=0.25,
    n_mixtures=10,
    image_size=64,
    shift=115.92961967,
    scale=69.37404,
    prefix=31,
)
MINI = VDVAEConfig(
    encoder_blocks="64x1,64d2,32x2,32d2,16x2,16d2,8x3,8d2,4x2,4d4,1x1",
    decoder_blocks="1x1,4m1,4x1,8m4,8x2,16m8,16x1,32m16,64m32",
    width=48,
    n_channels_z=8,
    bottleneck=0.5,
    n_mixtures=2,
    image_size=64,
    shift=127.5,
    scale=69.37404,
    prefix=6,
)


def parse_blocks(text: str) -> list[tuple[int, str, int | None]]:
    """Read a block string into (resolution, kind, number), kind being ``"x"``, ``"d"`` or ``"m"``, one per block."""
    blocks: list[tuple[int, str, int | None]] = []
    for entry in text.split(","):
        kind = next((k for k in "xdm" if k in entry), None)
        left, _, right = entry.partition(kind or ",")
        if kind is None or not (left.isdigit() and right.isdigit()):
            raise BenchError(f"block string {text!r}: {entry!r} is not of the form 64x3, 64d2 or 8m4")
        blocks += [(int(left), "x", None)] * int(right) if kind == "x" else [(int(left), kind, int(right))]
    return blocks


class _Block(nn.Module):
    """Four convolutions with a GELU before each; optionally residual, then pooled."""

    def __init__(self, inner: tuple[int, int, int], resolution: int, residual: bool = False, pool: int | None = None):
        super().__init__()
        before, middle, after = inner
        kernel = 3 if resolution > 2 else 1
        self.residual, self.pool = residual, pool
        self.c1 = nn.Conv2d(before, middle, 1)
        self.c2 = nn.Conv2d(middle, middle, kernel, padding=kernel // 2)
        self.c3 = nn.Conv2d(middle, middle, kernel, padding=kernel // 2)
        self.c4 = nn.Conv2d(middle, after, 1)

    def forward(self, x):
        h = x
        for conv in (self.c1, self.c2, self.c3, self.c4):
            h = conv(F.gelu(h))
        if self.residual:
            h = x + h
        return F.avg_pool2d(h, self.pool) if self.pool else h


class _Encoder(nn.Module):
    def __init__(self, config: VDVAEConfig):
        super().__init__()
        width, middle = config.width, int(config.width * config.bottleneck)
        self.in_conv = nn.Conv2d(3, width, 3, padding=1)
        blocks = parse_blocks(config.encoder_blocks)
        self.enc_blocks = nn.ModuleList(
            _Block((width, middle, width), resolution, residual=True, pool=pool) for resolution, _, pool in blocks
        )
        with torch.no_grad():
            for block in self.enc_blocks:
                block.c4.weight *= len(blocks) ** -0.5

    def forward(self, x):
        """Return the last activation at each resolution."""
        x = self.in_conv(x)
        activations = {x.shape[2]: x}
        for block in self.enc_blocks:
            x = block(x)
            activations[x.shape[2]] = x
        return activations


class _DecoderBlock(nn.Module):
    def __init__(self, config: VDVAEConfig, resolution: int, mixin: int | None, n_blocks: int):
        super().__init__()
        width, z, middle = config.width, config.n_channels_z, int(config.width * config.bottleneck)
        self.resolution, self.mixin = resolution, mixin
        self.enc = _Block((2 * width, middle, 2 * z), resolution)
        self.prior = _Block((width, middle, 2 * z + width), resolution)
        self.z_proj = nn.Conv2d(z, width, 1)
        self.resnet = _Block((width, middle, width), resolution, residual=True)
        with torch.no_grad():
            self.prior.c4.weight.zero_()
            self.z_proj.weight *= n_blocks**-0.5
            self.resnet.c4.weight *= n_blocks**-0.5

    def forward(self, states: dict, choose):
        """Update the state of this resolution in place; ``choose(state, prior mean, prior log sigma)`` gives z."""
        x = states[self.resolution]
        if self.mixin is not None:
            x = x + F.interpolate(states[self.mixin], scale_factor=self.resolution // self.mixin)
        z_channels = self.z_proj.in_channels
        mean, log_sigma, extra = self.prior(x).split([z_channels, z_channels, x.shape[1]], dim=1)
        z = choose(x, mean, log_sigma)
        states[self.resolution] = self.resnet(x + extra + self.z_proj(z))


class _Decoder(nn.Module):
    def __init__(self, config: VDVAEConfig):
        super().__init__()
        blocks = parse_blocks(config.decoder_blocks)
        self.dec_blocks = nn.ModuleList(_DecoderBlock(config, r, mixin, len(blocks)) for r, _, mixin in blocks)
        self.resolutions = sorted({r for r, _, _ in blocks})
        self.bias_xs = nn.ParameterList(
            nn.Parameter(torch.zeros(1, config.width, resolution, resolution)) for resolution in self.resolutions
        )
        self.gain = nn.Parameter(torch.ones(1, config.width, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, config.width, 1, 1))
        self.out_net = nn.ModuleDict({"out_conv": nn.Conv2d(config.width, 10 * config.n_mixtures, 1)})

    def forward(self, n: int, choose):
        """Run all blocks; ``choose(i, block, state, prior mean, prior log sigma)`` gives the latents of block i."""
        states = {r: start.expand(n, -1, -1, -1) for r, start in zip(self.resolutions, self.bias_xs, strict=True)}
        for i, block in enumerate(self.dec_blocks):
            block(states, lambda *args, i=i, block=block: choose(i, block, *args))
        return self.out_net["out_conv"](states[self.resolutions[-1]] * self.gain + self.bias)


class VDVAE(nn.Module):
    """A VDVAE with latents as flat vectors.

    Parameters
    ----------
    config : VDVAEConfig
    """

    def __init__(self, config: VDVAEConfig = MINI):
        super().__init__()
        self.config = config
        self.encoder = _Encoder(config)
        self.decoder = _Decoder(config)

    @classmethod
    def from_mini(cls, config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], device: str = "cpu") -> VDVAE:
        """Build the ``mini`` model from its json's ``config`` and its tensors."""
        model = cls(VDVAEConfig(**config))
        model.load_state_dict({name: value.float() for name, value in tensors.items()})
        return model.eval().requires_grad_(False).to(device)

    @classmethod
    def from_full(cls, files: Mapping[str, Path], device: str = "cpu") -> VDVAE:
        """Build the published ImageNet-64 model from its checkpoint."""
        (path,) = files.values()
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        with torch.device("meta"):
            model = cls(FULL)
        # Checkpoints written by a data-parallel model prefix every name.
        tensors = {name.removeprefix("module."): value.float() for name, value in tensors.items()}
        model.load_state_dict(tensors, assign=True)
        return model.eval().requires_grad_(False).to(device)

    @property
    def layer_sizes(self) -> list[int]:
        """Number of latents of every stochastic layer, in decoder order."""
        return [self.config.n_channels_z * b.resolution**2 for b in self.decoder.dec_blocks]

    def n_latents(self, n_layers: int | None = None) -> int:
        """Return the length of the flat vector of the first ``n_layers`` layers (default: all)."""
        return sum(self.layer_sizes[: self._check_layers(n_layers)])

    def _check_layers(self, n_layers: int | None) -> int:
        total = len(self.decoder.dec_blocks)
        if n_layers is None:
            return total
        if not 1 <= n_layers <= total:
            raise BenchError(f"n_layers must be between 1 and {total}, not {n_layers}")
        return n_layers

    def _layers_of(self, size: int) -> int:
        sizes = list(accumulate(self.layer_sizes))
        if size not in sizes:
            raise BenchError(f"a VDVAE vector of {size} latents ends inside a layer; whole layers end at {sizes}")
        return sizes.index(size) + 1

    def split(self, latents: torch.Tensor) -> list[torch.Tensor]:
        """Cut flat latents (n, size) into layers of shape (n, channels, rows, columns)."""
        n_layers = self._layers_of(latents.shape[1])
        parts = latents.split(self.layer_sizes[:n_layers], dim=1)
        z = self.config.n_channels_z
        return [
            part.reshape(len(latents), z, block.resolution, block.resolution)
            for part, block in zip(parts, self.decoder.dec_blocks, strict=False)
        ]

    def prepare(self, images: np.ndarray) -> torch.Tensor:
        """Turn uint8 pictures (n, h, w, 3) into the network's input (n, 3, size, size); bilinear, antialiased."""
        size = self.config.image_size
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape[1:]:
            raise BenchError(f"VDVAE needs uint8 pictures (n, height, width, 3), got {images.dtype} {images.shape}")
        if images.shape[1:3] != (size, size):
            images = diffusion.resize(images, size, "bilinear")
        x = torch.from_numpy(np.array(images)).to(self.decoder.gain.device).permute(0, 3, 1, 2)
        return ((x.float() - self.config.shift) / self.config.scale).to(self.decoder.gain.dtype)

    @torch.inference_mode()
    def encode(self, images: np.ndarray, n_layers: int | None = None, seeds=None) -> np.ndarray:
        """Return the latents of pictures.

        Parameters
        ----------
        images : ndarray of shape (n, size, size, 3), uint8
        n_layers : int, optional
            Number of layers, coarsest first; default all.
        seeds : sequence of int, optional
            One per picture: draw from the posterior. Default: the posterior means (deterministic).

        Returns
        -------
        ndarray of shape (n, n_latents(n_layers)), float32
        """
        n_layers = self._check_layers(n_layers)
        activations = self.encoder(self.prepare(images))
        noise = None if seeds is None else _Noise(seeds, len(images))
        chosen = []

        def choose(i, block, x, prior_mean, prior_log_sigma):
            if i >= n_layers:  # finer layers are not asked for
                return prior_mean
            mean, log_sigma = block.enc(torch.cat([x, activations[block.resolution]], dim=1)).chunk(2, dim=1)
            z = mean if noise is None else mean + log_sigma.exp() * noise.normal(mean)
            chosen.append(z.flatten(1))
            return z

        self.decoder(len(images), choose)
        return torch.cat(chosen, dim=1).float().cpu().numpy()

    @torch.inference_mode()
    def decode(
        self, latents: np.ndarray, seeds, temperature: float = 1.0, draw_pixels: bool = False, batch: int = 64
    ) -> np.ndarray:
        """Return pictures from the latents of the first layers; finer layers are drawn from the prior.

        Parameters
        ----------
        latents : ndarray of shape (n, size)
            Whole layers, as :meth:`encode` gives them.
        seeds : sequence of int
            One per picture; a picture depends on its own seed only.
        temperature : float
            Factor of the prior's standard deviation; 0 takes its means.
        draw_pixels : bool
            Draw pixels from the logistic mixture (as published) instead of taking its mean.
        batch : int
            Does not change the result.

        Returns
        -------
        ndarray of shape (n, size, size, 3), uint8
        """
        if len(seeds) != len(latents):
            raise BenchError(f"{len(seeds)} seeds for {len(latents)} pictures: one per picture is needed")
        if len(latents) > batch:
            cuts = (slice(i, i + batch) for i in range(0, len(latents), batch))
            return np.concatenate([self.decode(latents[s], seeds[s], temperature, draw_pixels, batch) for s in cuts])
        gain = self.decoder.gain
        given = self.split(torch.as_tensor(np.array(latents), device=gain.device, dtype=gain.dtype))
        noise = _Noise(seeds, len(latents))

        def choose(i, block, x, mean, log_sigma):
            if i < len(given):
                return given[i]
            return mean + temperature * log_sigma.exp() * noise.normal(mean) if temperature else mean

        mixture = self.decoder(len(latents), choose)
        pixels = mixture_sample(mixture, noise) if draw_pixels else mixture_mean(mixture)
        if not torch.isfinite(pixels).all():
            raise BenchError("VDVAE decoding gave NaN or infinite pixels")
        return (127.5 * (pixels.float() + 1)).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()


class _Noise:
    """Random numbers drawn picture by picture, so that no picture depends on another; always on the CPU."""

    def __init__(self, seeds, n: int):
        if len(seeds) != n:
            raise BenchError(f"{len(seeds)} seeds for {n} pictures: one per picture is needed")
        self.generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]

    def normal(self, like: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.randn(like.shape[1:], generator=g) for g in self.generators]).to(like)

    def uniform(self, like: torch.Tensor) -> torch.Tensor:
        drawn = torch.stack([torch.rand(like.shape[1:], generator=g) for g in self.generators])
        return drawn.clamp(1e-5, 1 - 1e-5).to(like)


# ---------------------------------------------------------------- the mixture of discretised logistics (Salimans 2017)
# Channels: k logits, then for red, green and blue each k means, k log scales and k coefficients; green leans on red,
# blue on red and green.


def mixture_parameters(mixture: torch.Tensor):
    """Split channels (n, 10 k, h, w) into logits (n, k, h, w) and means, log scales, coefficients (n, 3, k, h, w)."""
    k = mixture.shape[1] // 10
    n, _, h, w = mixture.shape
    means, log_scales, coefficients = mixture[:, k:].reshape(n, 3, 3 * k, h, w).split(k, dim=2)
    return mixture[:, :k], means, log_scales.clamp(min=-7), coefficients.tanh()


def mixture_loss(mixture: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return the negative log likelihood, nats a value, shape (n,), of pictures (n, 3, h, w) in [-1, 1]."""
    logits, means, log_scales, coefficients = mixture_parameters(mixture)
    target = x[:, :, None]
    red, green = target[:, :1], target[:, 1:2]
    means = torch.cat(
        [
            means[:, :1],
            means[:, 1:2] + coefficients[:, :1] * red,
            means[:, 2:] + coefficients[:, 1:2] * red + coefficients[:, 2:] * green,
        ],
        dim=1,
    )
    centred = target - means
    sharpness = torch.exp(-log_scales)
    upper, lower = sharpness * (centred + 1 / 255), sharpness * (centred - 1 / 255)
    inside = (torch.sigmoid(upper) - torch.sigmoid(lower)).clamp(min=1e-12).log()
    # Far from the mean the difference of the two underflows: use the density.
    middle = sharpness * centred
    density = middle - log_scales - 2 * F.softplus(middle) - np.log(127.5)
    inside = torch.where(torch.sigmoid(upper) - torch.sigmoid(lower) > 1e-5, inside, density)
    log_p = torch.where(
        target < -0.999, upper - F.softplus(upper), torch.where(target > 0.999, -F.softplus(lower), inside)
    )
    log_p = torch.logsumexp(log_p.sum(dim=1) + F.log_softmax(logits, dim=1), dim=1)
    return -log_p.mean(dim=(1, 2)) / 3


def _chain(means, coefficients) -> torch.Tensor:
    red = means[:, 0].clamp(-1, 1)
    green = (means[:, 1] + coefficients[:, 0] * red).clamp(-1, 1)
    blue = (means[:, 2] + coefficients[:, 1] * red + coefficients[:, 2] * green).clamp(-1, 1)
    return torch.stack([red, green, blue], dim=1)


def mixture_mean(mixture: torch.Tensor) -> torch.Tensor:
    """Return the mean of the components' centres, shape (n, 3, h, w)."""
    logits, means, _, coefficients = mixture_parameters(mixture)
    return (_chain(means, coefficients) * F.softmax(logits, dim=1)[:, None]).sum(dim=2)


def mixture_sample(mixture: torch.Tensor, noise: _Noise) -> torch.Tensor:
    """Draw pictures, shape (n, 3, h, w)."""
    logits, means, log_scales, coefficients = mixture_parameters(mixture)
    gumbel = -torch.log(-torch.log(noise.uniform(logits)))
    index = (logits + gumbel).argmax(dim=1)[:, None, None].expand(-1, 3, 1, -1, -1)
    means, log_scales, coefficients = (a.gather(2, index)[:, :, 0] for a in (means, log_scales, coefficients))
    u = noise.uniform(means)
    return _chain(means + log_scales.exp() * (torch.log(u) - torch.log1p(-u)), coefficients)
