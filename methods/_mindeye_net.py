"""Networks and losses of MindEye and MindEye-bagging (imports torch).

Sources: Scotti et al. 2023 (arXiv:2305.18274) and facts of its public code, and of the course project that made
the bagging variant of its low-level branch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F


class Residual(nn.Module):
    """Linear - LayerNorm - activation - Dropout, added to its input."""

    def __init__(self, width: int, dropout: float, activation: type[nn.Module] = nn.SiLU, bias: bool = False):
        super().__init__()
        linear = nn.Linear(width, width, bias=bias)
        self.layers = nn.Sequential(linear, nn.LayerNorm(width), activation(), nn.Dropout(dropout))

    def forward(self, x):
        return x + self.layers(x)


class LowLevel(nn.Module):
    """From responses to the latents of an autoencoder (n, channels, rows, columns).

    A residual perceptron, reshaped to a small map, and diffusers' convolutional decoder, which is trained with it.

    Parameters
    ----------
    n_voxels, hidden : int
    latent_shape : (int, int, int)
        Channels, rows, columns; the map is a quarter of rows and columns.
    map_channels : int
    blocks : tuple of int
        Channels of the decoder's resolutions.
    """

    def __init__(
        self,
        n_voxels: int,
        latent_shape: tuple[int, int, int],
        hidden: int = 2048,
        map_channels: int = 64,
        blocks: Sequence[int] = (64, 128, 256),
        dropout: tuple[float, float] = (0.5, 0.3),
    ):
        super().__init__()
        from diffusers.models.autoencoders.vae import Decoder

        channels, rows, columns = latent_shape
        factor = 2 ** (len(blocks) - 1)
        self.shape = map_channels, rows // factor, columns // factor
        first = nn.Linear(n_voxels, hidden, bias=False)
        self.entry = nn.Sequential(first, nn.LayerNorm(hidden), nn.SiLU(), nn.Dropout(dropout[0]))
        self.residual = nn.Sequential(*(Residual(hidden, dropout[1]) for _ in range(4)))
        self.out = nn.Linear(hidden, math.prod(self.shape), bias=False)
        self.norm = nn.GroupNorm(1, map_channels)
        self.decoder = Decoder(
            in_channels=map_channels,
            out_channels=channels,
            up_block_types=["UpDecoderBlock2D"] * len(blocks),
            block_out_channels=list(blocks),
            layers_per_block=1,
            norm_num_groups=min(32, blocks[0] // 2),
        )
        for module in self.modules():
            if isinstance(module, nn.Linear) and not any(module is m for m in self.decoder.modules()):
                nn.init.xavier_uniform_(module.weight)

    def forward(self, x):
        x = self.out(self.residual(self.entry(x)))
        return self.decoder(self.norm(x.reshape(len(x), *self.shape)))


class Backbone(nn.Module):
    """From responses to image tokens for the prior, and through the projector to those for retrieval."""

    def __init__(
        self,
        n_voxels: int,
        tokens: tuple[int, int],
        hidden: int = 4096,
        n_blocks: int = 4,
        projector: int = 2048,
        dropout: tuple[float, float] = (0.5, 0.15),
    ):
        super().__init__()
        self.tokens = tokens
        width = tokens[1]
        entry = nn.Linear(n_voxels, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Dropout(dropout[0])
        self.entry = nn.Sequential(*entry)
        self.residual = nn.Sequential(*(Residual(hidden, dropout[1], nn.GELU, bias=True) for _ in range(n_blocks)))
        self.out = nn.Linear(hidden, math.prod(tokens))
        layers: list[nn.Module] = []
        for n_in, n_out in ((width, projector), (projector, projector), (projector, width)):
            layers += nn.LayerNorm(n_in), nn.GELU(), nn.Linear(n_in, n_out)
        self.projector = nn.Sequential(*layers)

    def forward(self, x):
        """Return tokens for the prior and tokens for retrieval, (n, tokens, width) each."""
        tokens = self.out(self.residual(self.entry(x))).reshape(len(x), *self.tokens)
        return tokens, self.projector(tokens)


class Prior(nn.Module):
    """A diffusion prior: denoises image tokens under the backbone's tokens; predicts the clean tokens.

    The prediction is the condition and a correction that starts at zero, so that few steps of training are enough
    for a small network to draw what the backbone says (the published prior starts from nothing).

    Parameters
    ----------
    tokens : (int, int)
        Number and width.
    depth, heads, timesteps : int
    drop : float
        How often the condition is left out in training.
    """

    def __init__(self, tokens: tuple[int, int], depth: int = 6, heads: int = 12, timesteps: int = 100, drop=0.2):
        super().__init__()
        n, width = tokens
        self.timesteps, self.drop, self.scale = timesteps, drop, width**0.5
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.transformer = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.time = nn.Embedding(timesteps, width)
        self.positions = nn.Parameter(0.02 * torch.randn(2 * n + 1, width))
        self.nothing = nn.Parameter(0.02 * torch.randn(n, width))
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        steps = torch.linspace(0, 1, timesteps + 1, dtype=torch.float64)
        curve = torch.cos((steps + 0.008) / 1.008 * math.pi / 2) ** 2  # the cosine schedule (Nichol & Dhariwal 2021)
        beta = (1 - curve[1:] / curve[:-1]).clamp(max=0.999)
        self.register_buffer("kept", torch.cumprod(1 - beta, 0).float(), persistent=False)

    def forward(self, noised, step, condition):
        """Return the clean tokens, all (n, tokens, width) and in units of ``scale``."""
        parts = self.time(step)[:, None], condition, noised
        x = self.transformer(torch.cat(parts, 1) + self.positions)
        return condition + self.out(self.norm(x[:, -noised.shape[1] :]))

    def loss(self, condition, target):
        """Return the mean squared error at random steps."""
        clean, noise = target * self.scale, torch.randn_like(target)
        step = torch.randint(self.timesteps, (len(target),), device=target.device)
        kept = self.kept[step][:, None, None]
        left_out = torch.rand(len(target), device=target.device) < self.drop
        condition = torch.where(left_out[:, None, None], self.nothing, condition)
        return F.mse_loss(self(kept.sqrt() * clean + (1 - kept).sqrt() * noise, step, condition), clean)

    @torch.no_grad()
    def sample(self, condition, noise, steps: int = 20):
        """Denoise (DDIM, eta 0) from given noise; return tokens in the units of the targets."""
        x, times = noise, torch.linspace(self.timesteps - 1, 0, steps).round().long().tolist()
        for i, t in enumerate(times):
            step = torch.full((len(x),), t, device=x.device)
            clean, kept = self(x, step, condition), self.kept[t]
            after = self.kept[times[i + 1]] if i + 1 < len(times) else torch.ones_like(kept)
            epsilon = (x - kept.sqrt() * clean) / (1 - kept).sqrt()
            x = after.sqrt() * clean + (1 - after).sqrt() * epsilon
        return x / self.scale


def mixed(x: torch.Tensor, generator: torch.Generator, beta: float = 0.15, share: float = 0.5):
    """Mix a share of the rows with random others (MixCo).

    Returns
    -------
    x : Tensor
    partner : Tensor of int
    weight : Tensor of shape (n,)
        Of the row itself; 1 where it was not mixed.
    """
    n = len(x)
    partner = torch.randperm(n, generator=generator)
    weight = torch._sample_dirichlet(torch.full((n, 2), beta, dtype=torch.float64), generator)[:, 0].float()
    weight = torch.where(torch.rand(n, generator=generator) < share, weight, 1.0)
    partner, weight = partner.to(x.device), weight.to(x.device)
    return weight[:, None] * x + (1 - weight[:, None]) * x[partner], partner, weight


def bimixco(predicted, target, partner, weight, temperature: float = 0.006) -> torch.Tensor:
    """Return the bidirectional contrastive loss of mixed rows; inputs (n, d) of unit length."""
    n = len(predicted)
    logits = predicted @ target.T / temperature
    wanted = torch.diag(weight)
    wanted[torch.arange(n, device=wanted.device), partner] += 1 - weight
    columns = wanted.T / wanted.sum(0)[:, None].clamp(min=1e-8)
    return (_soft(logits, wanted) + _soft(logits.T, columns)) / 2


def softclip(predicted, target, temperature: float) -> torch.Tensor:
    """Return the contrastive loss with soft targets, the similarities among the targets themselves."""
    soft = (target @ target.T / temperature).softmax(1)
    logits = predicted @ target.T / temperature
    return (_soft(logits, soft) + _soft(logits.T, soft)) / 2


def _soft(logits, wanted):
    return -(logits.log_softmax(1) * wanted).sum(1).mean()


def optimiser(modules: Sequence[nn.Module], lr: float, decay: float, n_steps: int, epochs: int):
    """Return AdamW (no decay of biases and norms) and its OneCycle schedule over all steps."""
    named = [(name, p) for module in modules for name, p in module.named_parameters() if p.requires_grad]
    plain = [p for _, p in named if p.ndim < 2]
    groups = [
        {"params": [p for _, p in named if p.ndim >= 2], "weight_decay": decay},
        {"params": plain, "weight_decay": 0},
    ]
    adam = torch.optim.AdamW(groups, lr=lr, fused=named[0][1].is_cuda)
    warm, n_steps = min(0.3, 2 / epochs), max(2, n_steps)  # the schedule has no form for a single step
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        adam, lr, total_steps=n_steps, pct_start=max(warm, 2 / n_steps), final_div_factor=1000
    )
    return adam, cycle
