"""Captions of pictures by transformers' BLIP class, greedily decoded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmark.pretrained.clip import OPENAI_MEAN, OPENAI_STD, Stem, WordTokeniser, check_images


class Captioner:
    """A frozen captioner.

    Parameters
    ----------
    model : transformers.BlipForConditionalGeneration
    decode : callable
        Maps token ids (n, length) to n texts.
    max_tokens : int
        Longest caption.
    device : str
    """

    def __init__(
        self, model: torch.nn.Module, decode: Callable[[torch.Tensor], list[str]], max_tokens: int, device: str = "cpu"
    ) -> None:
        self.model = model.eval().requires_grad_(False).to(device)
        self.decode, self.max_tokens, self.device = decode, max_tokens, device
        self.image_size = model.config.vision_config.image_size

    @classmethod
    def from_mini(
        cls, config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], device: str = "cpu"
    ) -> Captioner:
        """Build the ``mini`` model from its json's ``config`` and its tensors."""
        model = build(config)
        model.load_state_dict({k: v.float() for k, v in tensors.items()})
        return cls(model, WordTokeniser(config["words"], config["length"]).decode, config["length"], device)

    @classmethod
    def from_full(cls, files: Mapping[str, Path], device: str = "cpu") -> Captioner:
        """Build the published model from ``config.json``, ``model.safetensors`` and ``vocab.txt`` of one folder."""
        from transformers import BertTokenizer, BlipForConditionalGeneration

        place = {Path(path).name: file for path, file in files.items()}
        folder = place["config.json"].parent
        model = BlipForConditionalGeneration.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        tokeniser = BertTokenizer(str(place["vocab.txt"]))

        def decode(ids: torch.Tensor) -> list[str]:
            return [text.strip() for text in tokeniser.batch_decode(ids, skip_special_tokens=True)]

        longest = min(30, model.config.text_config.max_position_embeddings - 1)
        return cls(model, decode, longest, device)

    @torch.no_grad()
    def caption(self, images: np.ndarray, batch: int = 64) -> list[str]:
        """Return one caption of every picture.

        Parameters
        ----------
        images : ndarray of shape (n, h, w, 3), uint8
            Resized to the model's square (bicubic, antialiased), as BLIP was trained.
        batch : int
        """
        check_images(images)
        captions: list[str] = []
        for start in range(0, len(images), batch):
            x = pixels(images[start : start + batch], self.image_size).to(self.device, self.model.dtype)
            ids = self.model.generate(x, max_new_tokens=self.max_tokens, do_sample=False, num_beams=1)
            captions += self.decode(ids.cpu())
        return captions


def build(config: Mapping[str, Any]) -> torch.nn.Module:
    """Return BLIP at the size of a ``mini`` configuration, with random weights, and with the stem of the mini CLIP."""
    from transformers import BlipConfig, BlipForConditionalGeneration

    end = len(config["words"]) + 2
    tokens = {"bos_token_id": end - 1, "eos_token_id": end, "sep_token_id": end, "pad_token_id": 0}
    text = {"vocab_size": end + 1, "max_position_embeddings": config["length"] + 2, "is_decoder": True} | tokens
    blip = BlipConfig(text_config=dict(config["text"]) | text, vision_config=dict(config["vision"]))
    model = BlipForConditionalGeneration(blip)
    if config["stem"]:
        model.vision_model.embeddings.patch_embedding = Stem(config["stem"], config["vision"]["hidden_size"])
    return model


def pixels(images: np.ndarray, size: int) -> torch.Tensor:
    """Return standardised pixels, shape (n, 3, size, size), float32."""
    from torchvision.transforms.v2 import functional

    x = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)
    if x.shape[2:] != (size, size):
        bicubic = functional.InterpolationMode.BICUBIC
        x = functional.resize(x, [size, size], interpolation=bicubic, antialias=True)
    mean, std = (torch.tensor(v)[:, None, None] for v in (OPENAI_MEAN, OPENAI_STD))
    return (x.float() / 255 - mean) / std
