"""CLIP in open_clip's own class: pooled embeddings and token sequences of pictures and captions.

Sources: token sequences as Versatile Diffusion uses them (all tokens after the last layer norm and the projection,
divided by the norm of the projected pooled token); see Xu et al. 2023 and Ozcelik & VanRullen 2023.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmark.errors import BenchError

OPENAI_MEAN, OPENAI_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class Clip:
    """A frozen CLIP.

    Parameters
    ----------
    model : open_clip.model.CLIP
    tokenise : callable
        Maps a list of texts to token ids, shape (n, L), int64.
    image_size : int
    mean, std : tuple of 3 float
        Standardisation of pixels in [0, 1].
    device : str
    """

    def __init__(
        self,
        model: torch.nn.Module,
        tokenise: Callable[[Sequence[str]], torch.Tensor],
        image_size: int,
        mean: Sequence[float] = OPENAI_MEAN,
        std: Sequence[float] = OPENAI_STD,
        device: str = "cpu",
    ) -> None:
        self.model = model.eval().requires_grad_(False).to(device)
        self.tokenise, self.image_size, self.device = tokenise, image_size, device
        self.mean, self.std = mean, std

    @classmethod
    def from_mini(cls, config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], device: str = "cpu") -> Clip:
        """Build the ``mini`` model from its json's ``config`` and its tensors."""
        model = build(config["architecture"], config["stem"])
        model.load_state_dict({k: v.float() for k, v in tensors.items()})
        words = WordTokeniser(config["words"], config["architecture"]["text_cfg"]["context_length"])
        size = config["architecture"]["vision_cfg"]["image_size"]
        return cls(model, words, size, config["mean"], config["std"], device)

    @classmethod
    def from_full(cls, files: Mapping[str, Path], device: str = "cpu", architecture: str = "ViT-L-14") -> Clip:
        """Build a published model from its one file, ``open_clip_model.safetensors``."""
        from open_clip.tokenizer import SimpleTokenizer
        from safetensors.torch import load_file

        (place,) = files.values()
        with torch.device("meta"):
            model = build(full_config(architecture))
        model.load_state_dict({k: v.float() for k, v in load_file(place).items()}, assign=True)
        if model.attn_mask is not None:  # no weight, so the file does not have it
            length = model.context_length
            model.attn_mask = torch.full((length, length), float("-inf")).triu_(1)
        return cls(model, SimpleTokenizer(), model.visual.image_size[0], device=device)

    @property
    def width(self) -> int:
        """Number of columns of embeddings and tokens."""
        return self.model.text_projection.shape[1]

    @property
    def image_token_count(self) -> int:
        """Number of image tokens: the class token, then patches row by row."""
        return self.model.visual.positional_embedding.shape[0]

    @property
    def text_token_count(self) -> int:
        """Number of text tokens, padding included."""
        return self.model.context_length

    def encode_image(self, images: np.ndarray, batch: int = 256) -> np.ndarray:
        """Return pooled image embeddings of unit norm, shape (n, d), float32.

        Parameters
        ----------
        images : ndarray of shape (n, h, w, 3), uint8
            Resized (bicubic, antialiased) and centre-cropped to the model's size.
        batch : int
        """
        return self._over(check_images(images), batch, lambda part: self._image(part)[:, 0], unit=True)

    def image_tokens(self, images: np.ndarray, batch: int = 256) -> np.ndarray:
        """Return image tokens, shape (n, tokens, d), float32, divided by the norm of the first, the class token."""
        return self._over(check_images(images), batch, lambda part: _by_norm_of(self._image(part)))

    def encode_text(self, captions: Sequence[str], batch: int = 256) -> np.ndarray:
        """Return pooled text embeddings of unit norm, shape (n, d), float32."""
        return self._over(check_captions(captions), batch, lambda part: self._text(part)[1], unit=True)

    def text_tokens(self, captions: Sequence[str], batch: int = 256) -> np.ndarray:
        """Return text tokens, shape (n, L, d), float32, divided by the norm of the pooled token (the end of the text).

        A stimulus with several captions is described by the mean of their tokens; taking it is up to the caller.
        """
        return self._over(check_captions(captions), batch, lambda part: _by_norm_of(*self._text(part)))

    @torch.no_grad()
    def _over(self, items, batch: int, function, unit: bool = False) -> np.ndarray:
        n = len(items)
        if not n:  # one pass over something tells the shape of a row
            items = np.zeros((1, 8, 8, 3), np.uint8) if isinstance(items, np.ndarray) else [""]
        parts = [function(items[i : i + batch]).float().cpu() for i in range(0, len(items), batch)]
        result = torch.cat(parts)[:n]
        return (torch.nn.functional.normalize(result, dim=-1) if unit else result).numpy()

    def _image(self, images: np.ndarray) -> torch.Tensor:
        pixels = preprocess(images, self.image_size, self.mean, self.std)
        return image_states(self.model, pixels.to(self.device, self.model.text_projection.dtype))

    def _text(self, captions: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        ids = self.tokenise(list(captions)).to(self.device)
        return text_states(self.model, ids)


class WordTokeniser:
    """One token a word: 0 pads, then the words, begin and end; the end has the highest id, as CLIP's pooling wants.

    Commas are dropped unless ``words`` has the comma.

    Parameters
    ----------
    words : sequence of str
    length : int
        Number of tokens of every text.
    """

    def __init__(self, words: Sequence[str], length: int) -> None:
        self.words, self.length = tuple(words), length
        self.index = {word: i + 1 for i, word in enumerate(self.words)}
        self.begin, self.end = len(self.words) + 1, len(self.words) + 2

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        """Return token ids, shape (n, length), int64."""
        ids = np.zeros((len(texts), self.length), np.int64)
        for row, text in zip(ids, texts, strict=True):
            tokens = text.lower().replace(",", " , " if "," in self.index else " ").replace(".", " ").split()
            unknown = next((word for word in tokens if word not in self.index), None)
            if unknown is not None:
                raise BenchError(f"the mini text models know only the words of the built-in scenes, not {unknown!r}")
            if len(tokens) > self.length - 2:
                raise BenchError(f"a caption has {len(tokens)} words; the mini text models take {self.length - 2}")
            row[: len(tokens) + 2] = [self.begin, *(self.index[word] for word in tokens), self.end]
        return torch.from_numpy(ids)

    def decode(self, ids: torch.Tensor) -> list[str]:
        """Return the texts of token ids (n, length), up to the first end token."""
        texts = []
        for row in ids.tolist():
            row = row[: row.index(self.end)] if self.end in row else row
            words = " ".join(self.words[i - 1] for i in row if 0 < i < self.begin)
            texts.append(words.replace(" ,", ","))
        return texts


def full_config(architecture: str) -> dict[str, Any]:
    """Return open_clip's configuration of a published model; OpenAI's weights were trained with the quick GELU."""
    import open_clip

    config = open_clip.get_model_config(architecture)
    if config is None:
        raise BenchError(f"open_clip has no model called {architecture!r}")
    return config | {"quick_gelu": architecture in ("ViT-L-14", "ViT-B-32")}


def build(config: Mapping[str, Any], stem: Sequence[int] = ()) -> torch.nn.Module:
    """Return open_clip's model of a model configuration, with random weights.

    Parameters
    ----------
    config : mapping
        As open_clip has them: ``embed_dim``, ``vision_cfg``, ``text_cfg``, ``quick_gelu``.
    stem : sequence of int
        Channels of convolutions that halve the picture and take the place of the one that cuts it into patches (Xiao
        et al. 2021). Empty for published models.

    Raises
    ------
    BenchError
        For a configuration with another text or image tower than CLIP's own.
    """
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    config = dict(config)
    vision, text = config.pop("vision_cfg"), config.pop("text_cfg")
    quick_gelu = config.pop("quick_gelu", False)
    if set(config) - {"embed_dim"} or "hf_model_name" in text or "timm_model_name" in vision:
        raise BenchError("a CLIP configuration may name embed_dim, vision_cfg, text_cfg and quick_gelu only")
    model = CLIP(config["embed_dim"], CLIPVisionCfg(**vision), CLIPTextCfg(**text), quick_gelu=quick_gelu)
    if stem:
        model.visual.conv1 = Stem(stem, vision["width"])
    return model


class Stem(torch.nn.Sequential):
    """Convolutions from pixels to patches of ``width`` channels, each half as large as before."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        layers: list[torch.nn.Module] = []
        before = 3
        for after in channels:
            layers += [
                torch.nn.Conv2d(before, after, 3, 2, 1, bias=False),
                torch.nn.BatchNorm2d(after),
                torch.nn.ReLU(),
            ]
            before = after
        layers += [torch.nn.Conv2d(before, before, 3, 1, 1, bias=False), torch.nn.BatchNorm2d(before), torch.nn.ReLU()]
        super().__init__(*layers, torch.nn.Conv2d(before, width, 3, 2, 1))

    @property
    def weight(self) -> torch.Tensor:
        """The last convolution's weights: transformers looks up the number format there."""
        return self[-1].weight


def image_states(model: torch.nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Return all projected image tokens, shape (n, tokens, d), not normalised; differentiable."""
    caught: list[torch.Tensor] = []
    # The class's own output keeps the pooled token only; its last layer norm sees them all.
    hook = model.visual.ln_post.register_forward_hook(lambda _module, _input, output: caught.append(output))
    try:
        model.visual(pixels)
    finally:
        hook.remove()
    return caught[0] @ model.visual.proj


def text_states(model: torch.nn.Module, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return all projected text tokens, shape (n, L, d), and the pooled one, (n, d), not normalised; differentiable."""
    caught: list[torch.Tensor] = []
    hook = model.ln_final.register_forward_hook(lambda _module, _input, output: caught.append(output))
    try:
        pooled = model.encode_text(ids)
    finally:
        hook.remove()
    return caught[0] @ model.text_projection, pooled


def preprocess(images: np.ndarray, size: int, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Return standardised pixels, shape (n, 3, size, size), float32: shorter side to ``size``, centre crop."""
    from torchvision.transforms.v2 import functional

    pixels = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)
    if pixels.shape[2:] != (size, size):
        bicubic = functional.InterpolationMode.BICUBIC
        pixels = functional.resize(pixels, [size], interpolation=bicubic, antialias=True)
        pixels = functional.center_crop(pixels, [size, size])
    shift, scale = (torch.tensor(v, dtype=torch.float32)[:, None, None] for v in (mean, std))
    return (pixels.float() / 255 - shift) / scale


def check_images(images: np.ndarray) -> np.ndarray:
    """Return the pictures; anything but uint8 of shape (n, h, w, 3) is an error.

    Raises
    ------
    BenchError
    """
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        what = f"{images.dtype} of shape {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
        raise BenchError(f"pictures must be an array of uint8 of shape (n, height, width, 3), not {what}")
    if 0 in images.shape[1:]:
        raise BenchError(f"pictures must have pixels, but their shape is {images.shape}")
    return images


def check_captions(captions: Sequence[str]) -> list[str]:
    """Return the captions as a list; a single string is an error, since its letters are not captions.

    Raises
    ------
    BenchError
    """
    if isinstance(captions, str) or not all(isinstance(caption, str) for caption in captions):
        raise BenchError("captions must be a list of texts, one for each item")
    return list(captions)


def _by_norm_of(tokens: torch.Tensor, pooled: torch.Tensor | None = None) -> torch.Tensor:
    pooled = tokens[:, 0] if pooled is None else pooled
    return tokens / pooled.norm(dim=-1, keepdim=True)[:, None]
