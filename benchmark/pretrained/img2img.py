"""Stable Diffusion image to image: latent diffusion guided by a caption, started from a low-level picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmark.errors import BenchError
from benchmark.pretrained import diffusion
from benchmark.pretrained.clip import Clip, text_states
from benchmark.pretrained.kl import KLAutoencoder

__all__ = ["FULL", "Img2Img", "build", "text_flow"]

# The UNet of Stable Diffusion 1.
FULL: dict[str, Any] = {"sample_size": 64, "cross_attention_dim": 768}


def build(config: Mapping[str, Any]) -> torch.nn.Module:
    """Return diffusers' UNet of a configuration, with random weights."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(**config)


def text_flow(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the text-only UNet inside a dual-guided one (its stream 1): what text weight 1 computes.

    Token positions, where there are any, stay as they are: those of the text come first.
    """
    return {
        name.replace(".transformers.1.", "."): value
        for name, value in tensors.items()
        if ".transformers.0." not in name
    }


class Img2Img:
    """A frozen text-guided latent diffusion that starts from pictures.

    Parameters
    ----------
    unet : diffusers.UNet2DConditionModel
    clip : Clip
        Its text tower is the text encoder (Stable Diffusion 1 took OpenAI's ViT-L/14 as it is).
    kl : KLAutoencoder
    prediction_type : {"epsilon", "v_prediction"}
    positions : Tensor of shape (tokens, width), optional
        With positions (mini) the UNet attends to projected, normalised tokens, see :func:`diffusion.prepare_tokens`;
        without (published) to the text tower's last states.
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
        self.clip, self.kl, self.device = clip, kl, device
        self.positions = None if positions is None else positions.detach().to(device)
        self.scheduler = diffusion.noise_schedule(prediction_type)

    @classmethod
    def from_mini(
        cls, config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], device: str = "cpu", *, clip, kl
    ) -> Img2Img:
        """Build the ``mini`` model from its json's ``config`` and its tensors."""
        unet = build(config["unet"])
        tensors = {name: value.float() for name, value in tensors.items()}
        positions = tensors.pop("token_positions")
        unet.load_state_dict(tensors)
        return cls(unet, clip, kl, config["prediction_type"], positions, device)

    @classmethod
    def from_full(cls, files: Mapping[str, Path], device: str = "cpu", *, clip, kl) -> Img2Img:
        """Build the published model from its UNet's files."""
        from safetensors.torch import load_file

        config = json.loads(files["unet/config.json"].read_text("utf-8"))
        with torch.device("meta"):
            unet = build({k: v for k, v in config.items() if not k.startswith("_")})
        dtype = torch.float16 if str(device).startswith("cuda") else torch.float32
        tensors = load_file(files["unet/diffusion_pytorch_model.safetensors"])
        unet.load_state_dict({k: v.to(dtype) for k, v in tensors.items()}, assign=True)
        return cls(unet, clip, kl, "epsilon", device=device)

    @torch.no_grad()
    def tokens(self, captions: Sequence[str]) -> torch.Tensor:
        """Return what the UNet attends to for each caption, shape (n, tokens, width)."""
        if self.positions is not None:
            tokens = torch.from_numpy(self.clip.text_tokens(captions)).to(self.device)
            return diffusion.prepare_tokens(tokens, self.positions)
        ids = pad_with_end(self.clip.tokenise(list(captions))).to(self.clip.device)
        # Before the projection: the states that the last layer norm gives.
        caught: list[torch.Tensor] = []
        hook = self.clip.model.ln_final.register_forward_hook(lambda _module, _input, output: caught.append(output))
        try:
            text_states(self.clip.model, ids)
        finally:
            hook.remove()
        return caught[0]

    @torch.no_grad()
    def generate(
        self,
        captions: Sequence[str],
        start: np.ndarray,
        seeds: Sequence[int],
        strength: float = 0.75,
        steps: int = 50,
        guidance: float = 6.0,
        batch: int = 32,
    ) -> np.ndarray:
        """Draw pictures.

        Parameters
        ----------
        captions : sequence of str
        start : ndarray of shape (n, h, w, 3), uint8
            Low-level pictures.
        seeds : sequence of int
            One per picture; a picture depends on its own seed only.
        strength : float
            Share of the steps that are run.
        steps : int
        guidance : float
            u + guidance * (c - u) of the outputs with the caption (c) and with the empty one (u).
        batch : int
            Does not change the result.

        Returns
        -------
        ndarray of shape (n, size, size, 3), uint8
        """
        n = len(seeds)
        if len(captions) != n or len(start) != n:
            raise BenchError(f"{len(captions)} captions and {len(start)} start pictures for {n} seeds")
        size = self.kl.image_size
        empty = self._tensor(self.tokens([""]))
        parts = [np.zeros((0, size, size, 3), np.uint8)]
        for first in range(0, n, batch):
            rows = slice(first, first + batch)
            tokens = self._tensor(self.tokens(captions[rows]))
            noise = self._tensor(diffusion.seeded_noise(seeds[rows], self.kl.latent_shape))
            begin = self._tensor(self.kl.encode(diffusion.resize(start[rows], size)))
            predict = diffusion.guided(self.unet, tokens, empty, guidance)
            latents = diffusion.sample(predict, noise, begin, self.scheduler, strength, steps)
            parts.append(self.kl.decode(latents.float()))
        return np.concatenate(parts)

    def _tensor(self, values) -> torch.Tensor:
        return torch.as_tensor(values).to(self.device, self.unet.dtype)


def pad_with_end(ids: torch.Tensor) -> torch.Tensor:
    """Replace the padding behind each text's end by the end's own token, as Stable Diffusion's tokeniser pads.

    open_clip pads with 0 instead; with the causal mask this changes nothing but the states of the padding, to which
    the UNet attends.
    """
    end = ids.argmax(dim=1, keepdim=True)
    behind = torch.arange(ids.shape[1]) > end
    return torch.where(behind, ids.gather(1, end), ids)
