"""Versatile Diffusion (Xu et al. 2023): latent diffusion guided by image tokens and text tokens of CLIP at once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmark.errors import BenchError
from benchmark.pretrained import diffusion
from benchmark.pretrained.clip import Clip
from benchmark.pretrained.kl import KLAutoencoder

__all__ = ["MINI", "Versatile", "build", "merge_flows", "set_conditions"]

MINI: dict[str, Any] = {
    "unet": {
        "sample_size": 16,
        "in_channels": 20,  # latents and waves of the position
        "out_channels": 4,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "block_out_channels": [64, 96, 128],
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "cross_attention_dim": 96,
        "attention_head_dim": [2, 3, 4],  # diffusers takes this as the number of heads
    },
    "prediction_type": "v_prediction",
}


def build(config: Mapping[str, Any]) -> torch.nn.Module:
    """Return diffusers' UNet with a text and an image transformer at every attention, with random weights.

    Since 2023 diffusers' blocks pass ``encoder_attention_mask`` to every transformer, which its dual transformer does
    not take (diffusers issue 13651); here it does, and a stream of weight zero is not computed.
    """
    from diffusers import UNet2DConditionModel
    from diffusers.models.transformers.dual_transformer_2d import DualTransformer2DModel

    class Dual(DualTransformer2DModel):
        def forward(self, hidden_states, encoder_hidden_states, encoder_attention_mask=None, return_dict=True, **rest):
            weight = self.mix_ratio
            if isinstance(weight, float) and weight in (0.0, 1.0):
                first = self.condition_lengths[0]
                tokens = encoder_hidden_states[:, :first] if weight else encoder_hidden_states[:, first:]
                stream = self.transformers[self.transformer_index_for_condition[0 if weight else 1]]
                return stream(hidden_states, tokens, return_dict=return_dict, **rest)
            rest.pop("attention_mask", None)
            return super().forward(hidden_states, encoder_hidden_states, return_dict=return_dict, **rest)

    unet = UNet2DConditionModel(**config, dual_cross_attention=True)
    for module in unet.modules():
        if isinstance(module, DualTransformer2DModel):
            module.__class__ = Dual
    return unet.to(memory_format=torch.channels_last)  # a tenth faster on CPUs


def set_conditions(unet: torch.nn.Module, text_weight: float | torch.Tensor, n_text: int, n_image: int) -> None:
    """Set how the two streams are mixed: h + w (text(h) - h) + (1 - w) (image(h) - h).

    Parameters
    ----------
    text_weight : float or Tensor of shape (n, 1, 1, 1)
    n_text, n_image : int
        Lengths of the token sequences, which the UNet gets one after the other in this order.
    """
    for module in unet.modules():
        if hasattr(module, "transformer_index_for_condition"):
            module.mix_ratio = text_weight
            module.condition_lengths = [n_text, n_image]


def merge_flows(
    image_flow: Mapping[str, torch.Tensor], text_flow: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Join the published image and text UNets: all of the first, and the attentions of both as streams 0 and 1."""
    merged = {}
    for stream, flow in enumerate((image_flow, text_flow)):
        for name, value in flow.items():
            before, found, after = name.partition(".attentions.")
            if found:
                index, _, rest = after.partition(".")
                merged[f"{before}.attentions.{index}.transformers.{stream}.{rest}"] = value
            elif stream == 0:
                merged[name] = value
    return merged


class Versatile:
    """A frozen Versatile Diffusion.

    Parameters
    ----------
    unet : diffusers.UNet2DConditionModel
        From :func:`build`.
    clip : Clip
    kl : KLAutoencoder
    prediction_type : {"epsilon", "v_prediction"}
    positions : Tensor of shape (text tokens + image tokens, width), optional
        See :func:`diffusion.prepare_tokens`.
    device : str
    """

    def __init__(
        self,
        unet: torch.nn.Module,
        clip: Clip,
        kl: KLAutoencoder,
        prediction_type: str = "epsilon",
        positions: torch.Tensor | None = None,
        device: str = "cpu",
    ) -> None:
        self.unet = unet.eval().requires_grad_(False).to(device)
        self.positions = None if positions is None else positions.detach().to(device)
        self.clip, self.kl, self.device = clip, kl, device
        self.scheduler = diffusion.noise_schedule(prediction_type)

    @classmethod
    def from_mini(
        cls, config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], device: str = "cpu", *, clip, kl
    ) -> Versatile:
        """Build the ``mini`` model from its json's ``config`` and its tensors."""
        unet = build(config["unet"])
        tensors = {name: value.float() for name, value in tensors.items()}
        positions = tensors.pop("token_positions")
        unet.load_state_dict(tensors)
        return cls(unet, clip, kl, config["prediction_type"], positions, device)

    @classmethod
    def from_full(cls, files: Mapping[str, Path], device: str = "cpu", *, clip, kl) -> Versatile:
        """Build the published model from the two UNets of the four-flow checkpoint."""
        config = json.loads(files["image_unet/config.json"].read_text("utf-8"))
        config = {k: v for k, v in config.items() if not k.startswith("_") and k != "dual_cross_attention"}
        with torch.device("meta"):
            unet = build(config)
        flows = (
            torch.load(files[f"{flow}/diffusion_pytorch_model.bin"], map_location="cpu", weights_only=True, mmap=True)
            for flow in ("image_unet", "text_unet")
        )
        dtype = torch.float16 if str(device).startswith("cuda") else torch.float32
        merged = {k: v.to(dtype) for k, v in merge_flows(*flows).items()}
        unet.load_state_dict(merged, assign=True)
        return cls(unet, clip, kl, "epsilon", device=device)

    @property
    def token_shapes(self) -> dict[str, tuple[int, int]]:
        """Number and width of the image tokens and of the text tokens."""
        width = self.clip.width
        return {"image": (self.clip.image_token_count, width), "text": (self.clip.text_token_count, width)}

    def unconditional(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the image tokens of mid-grey and the text tokens of the empty caption, each (1, tokens, width)."""
        size = self.clip.image_size
        return self.clip.image_tokens(np.full((1, size, size, 3), 128, np.uint8)), self.clip.text_tokens([""])

    @torch.no_grad()
    def generate(
        self,
        image_tokens: np.ndarray,
        text_tokens: np.ndarray,
        seeds: Sequence[int],
        start: np.ndarray | None = None,
        strength: float = 0.75,
        steps: int = 50,
        guidance: float = 7.5,
        text_weight: float = 0.4,
        batch: int = 32,
    ) -> np.ndarray:
        """Draw pictures.

        Parameters
        ----------
        image_tokens : ndarray of shape (n, image tokens, width)
        text_tokens : ndarray of shape (n, text tokens, width)
            As :class:`Clip` gives them, or predictions of them. Image tokens may be cut to the first few.
        seeds : sequence of int
            One per picture; a picture depends on its own seed only.
        start : ndarray of shape (n, h, w, 3), uint8, optional
            Low-level pictures to start from; without them, from noise alone.
        strength : float
            Share of the steps that are run from ``start``.
        steps : int
        guidance : float
            u + guidance * (c - u) of the outputs with (c) and without (u) conditions; 1 leaves guidance out.
        text_weight : float
            In [0, 1]: 1 is text alone, 0 image alone.
        batch : int
            Does not change the result.

        Returns
        -------
        ndarray of shape (n, size, size, 3), uint8
        """
        n = self._check(image_tokens, text_tokens, seeds, start, text_weight)
        set_conditions(self.unet, float(text_weight), text_tokens.shape[1], image_tokens.shape[1])
        grey, nothing = self.unconditional()
        empty = self._context(nothing, grey[:, : image_tokens.shape[1]])
        size = self.kl.image_size
        parts = [np.zeros((0, size, size, 3), np.uint8)]
        for first in range(0, n, batch):
            rows = slice(first, first + batch)
            tokens = self._context(text_tokens[rows], image_tokens[rows])
            noise = self._tensor(diffusion.seeded_noise(seeds[rows], self.kl.latent_shape))
            begin = None
            if start is not None:
                begin = self._tensor(self.kl.encode(diffusion.resize(start[rows], size)))
            predict = diffusion.guided(self.unet, tokens, empty, guidance)
            latents = diffusion.sample(predict, noise, begin, self.scheduler, strength, steps)
            parts.append(self.kl.decode(latents.float()))
        return np.concatenate(parts)

    def _context(self, text_tokens: np.ndarray, image_tokens: np.ndarray) -> torch.Tensor:
        tokens = torch.from_numpy(np.concatenate([text_tokens, image_tokens], axis=1).astype(np.float32))
        positions = None if self.positions is None else self.positions[: tokens.shape[1]]
        return self._tensor(diffusion.prepare_tokens(tokens.to(self.device), positions))

    def _tensor(self, values) -> torch.Tensor:
        return torch.as_tensor(values).to(self.device, self.unet.dtype)

    def _check(self, image_tokens, text_tokens, seeds, start, text_weight) -> int:
        n = len(seeds)
        for kind, tokens in (("image", image_tokens), ("text", text_tokens)):
            shape = (n, *self.token_shapes[kind])
            cut = (n, *tokens.shape[1:2], shape[2]) if kind == "image" and 0 < tokens.shape[1] <= shape[1] else shape
            if tokens.shape != cut:
                raise BenchError(f"{kind} tokens must be {shape}, got {tokens.shape}")
            if not np.isfinite(tokens).all():
                raise BenchError(f"{kind} tokens hold NaN or infinity")
        if start is not None and len(start) != n:
            raise BenchError(f"{len(start)} start pictures for {n} seeds")
        if not 0 <= text_weight <= 1:
            raise BenchError(f"text_weight must lie in [0, 1], not {text_weight}")
        return n
