"""Pretrained models by name and profile: where their files are, whether they are whole, and the loaded model.

``mini`` weights lie in this package (``mini/NAME.safetensors`` and ``mini/NAME.json``); ``full`` weights are the
published checkpoints, from ``--weights DIR`` or the caches of their own tools. With ``--weights DIR`` the files are
looked up as ``DIR/NAME.safetensors`` (mini) or ``DIR/<path>`` (full, the paths of :data:`MODELS`).

A model's class has two constructors::

    from_mini(config, tensors, device="cpu")    config and tensors of the exported files
    from_full(files, device="cpu")              {name in its repository: Path} of every published file

and takes the other models that it stands on (``parts``) as keyword arguments of the same name.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmark.errors import BenchError
from benchmark.spaces import MEASURES

PROFILES = ("mini", "full")
PACKAGE = Path(__file__).parent / "mini"


@dataclass(frozen=True)
class File:
    """A published file.

    Attributes
    ----------
    path : str
        Below ``--weights DIR``.
    size : str
        For people: what is to be downloaded.
    repository, name : str
        Where the hub's cache has it.
    url : str
        Where it is published otherwise.
    sha256 : str
        Published checksum, where there is one, or its first digits.
    package : str
        Package and path in it where the file comes with one that is installed anyway.
    """

    path: str
    size: str = ""
    repository: str = ""
    name: str = ""
    url: str = ""
    sha256: str = ""
    package: tuple[str, str] = ("", "")

    @property
    def source(self) -> str:
        return f"{self.repository}/{self.name}" if self.repository else self.url


@dataclass(frozen=True)
class Model:
    """A row of the table: class, published files, models it stands on, and what else ``from_full`` is told."""

    target: str
    files: tuple[File, ...] = ()
    parts: tuple[str, ...] = ()
    architecture: str = ""


def _hub(folder: str, repository: str, **sizes: str) -> tuple[File, ...]:
    return tuple(File(f"{folder}/{name}", size, repository, name) for name, size in sizes.items())


def _clip(architecture: str, repository: str, size: str) -> Model:
    files = _hub(architecture, repository, **{"open_clip_model.safetensors": size})
    return Model("benchmark.pretrained.clip:Clip", files, architecture=architecture)


_SEEN = "benchmark.pretrained.perceptual"


def _torchvision(architecture: str, name: str, size: str) -> Model:
    digits = name.rpartition("-")[2].partition(".")[0]  # torch names its files by the checksum
    file = File(name, size, url=f"https://download.pytorch.org/models/{name}", sha256=digits)
    return Model(f"{_SEEN}:Network", (file,), architecture=architecture)


_SWAV = "swav_800ep_pretrain.pth.tar"
_LPIPS = File(
    "lpips_alex_v0.1.pth",
    "6 kB",
    url="https://github.com/richzhang/PerceptualSimilarity",
    sha256="df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
    package=("torchmetrics", "functional/image/lpips_models/alex.pth"),
)
_SD = "stable-diffusion-v1-5/stable-diffusion-v1-5"
_VD = "shi-labs/versatile-diffusion"
_BLIP = "Salesforce/blip-image-captioning-large"
_VDVAE = "imagenet64-iter-1600000-model-ema.th"

_CLIP = _clip("ViT-L-14", "timm/vit_large_patch14_clip_224.openai", "1.71 GB")
_ALEXNET = _torchvision("alexnet", "alexnet-owt-7be5be79.pth", "244 MB")

MODELS: dict[str, Model] = {
    "clip": _CLIP,
    "clip-b32": _clip("ViT-B-32", "timm/vit_base_patch32_clip_224.openai", "605 MB"),
    "clip-h14": _clip("ViT-H-14", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "3.94 GB"),
    "clip-g14": _clip("ViT-bigG-14", "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k", "10.2 GB"),
    "vdvae": Model(
        "benchmark.pretrained.vdvae:VDVAE",
        (
            File(
                _VDVAE,
                "500 MB",
                url=f"https://openaipublic.blob.core.windows.net/very-deep-vaes-assets/vdvae-assets/{_VDVAE}",
            ),
        ),
    ),
    "kl": Model(
        "benchmark.pretrained.kl:KLAutoencoder",
        _hub(
            "stable-diffusion-v1-5",
            _SD,
            **{"vae/config.json": "1 kB", "vae/diffusion_pytorch_model.safetensors": "335 MB"},
        ),
    ),
    "versatile": Model(
        "benchmark.pretrained.versatile:Versatile",
        _hub(
            "versatile-diffusion",
            _VD,
            **{
                "image_unet/config.json": "1 kB",
                "image_unet/diffusion_pytorch_model.bin": "3.44 GB",
                "text_unet/config.json": "1 kB",
                "text_unet/diffusion_pytorch_model.bin": "3.44 GB",
            },
        ),
        ("clip", "kl"),
    ),
    "img2img": Model(
        "benchmark.pretrained.img2img:Img2Img",
        _hub(
            "stable-diffusion-v1-5",
            _SD,
            **{
                "unet/config.json": "1 kB",
                "unet/diffusion_pytorch_model.safetensors": "3.44 GB",
            },
        ),
        ("clip", "kl"),
    ),
    "captioner": Model(
        "benchmark.pretrained.captioner:Captioner",
        _hub(
            "blip-image-captioning-large",
            _BLIP,
            **{"config.json": "5 kB", "model.safetensors": "1.88 GB", "vocab.txt": "232 kB"},
        ),
    ),
    "judge": Model("benchmark.pretrained.judge:Judge"),
    # networks that metrics look through
    "alexnet": _ALEXNET,
    "inception": _torchvision("inception", "inception_v3_google-0cc3c7bd.pth", "109 MB"),
    "effnet-b1-v1": _torchvision("effnet-b1", "efficientnet_b1_rwightman-bac287d4.pth", "32 MB"),
    "effnet-b1-v2": _torchvision("effnet-b1", "efficientnet_b1-c27df63c.pth", "32 MB"),
    "swav": Model(
        f"{_SEEN}:Network",
        (File(_SWAV, "108 MB", url=f"https://dl.fbaipublicfiles.com/deepcluster/{_SWAV}"),),
        architecture="swav",
    ),
    "clip-l14": Model(f"{_SEEN}:Network", _CLIP.files, architecture="clip"),
    "lpips": Model(f"{_SEEN}:Lpips", (*_ALEXNET.files, _LPIPS)),
}


def load(name: str, profile: str, weights: str | Path | None = None, device: str = "cpu") -> Any:
    """Return a frozen model, ready to use.

    Parameters
    ----------
    name : str
        A key of :data:`MODELS`.
    profile : {"mini", "full"}
    weights : path, optional
        Folder with the files, instead of the package (mini) or the caches (full).
    device : str

    Raises
    ------
    BenchError
        Where a file is missing, damaged or does not fit the class.
    """
    require([name], profile, weights)
    row = _row(name, profile)
    module, attribute = row.target.split(":")
    kind = getattr(importlib.import_module(module), attribute)
    parts = {part: load(part, profile, weights, device) for part in row.parts}
    paths = files(name, profile, weights)
    try:
        if profile == "full":
            named = {file.name or file.path: paths[file.path] for file in row.files}
            told = {"architecture": row.architecture} if row.architecture else {}
            return kind.from_full(named, device=device, **told, **parts)
        from safetensors.torch import load_file

        config = json.loads(paths[f"{name}.json"].read_text("utf-8"))["config"]
        return kind.from_mini(config, load_file(paths[f"{name}.safetensors"]), device=device, **parts)
    except (RuntimeError, KeyError, ValueError, TypeError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        where = next(iter(paths.values())).parent
        raise BenchError(f"the weights of {name} ({profile}) in {where} do not fit the model: {first}") from error


def files(name: str, profile: str, weights: str | Path | None = None) -> dict[str, Path | None]:
    """Return where a model's files are, by their path in the table; None for one that is nowhere."""
    row = _row(name, profile)
    if profile == "mini":
        root = PACKAGE if weights is None else Path(weights)
        found = {path: root / path for path in (f"{name}.json", f"{name}.safetensors")}
        return {path: place if place.is_file() else None for path, place in found.items()}
    return {file.path: _find(file, weights) for file in row.files}


def require(names: Iterable[str], profile: str, weights: str | Path | None = None) -> None:
    """Check, before any work starts, that all files of all models are there and whole.

    Raises
    ------
    BenchError
        One sentence that names every file that is missing (with its size) or damaged.
    """
    missing, damaged = [], []
    for name in _with_parts(names, profile):
        places = files(name, profile, weights)
        described = {file.path: f" ({file.size}, {file.source})" for file in MODELS[name].files if profile == "full"}
        for path, place in places.items():
            if place is None:
                missing.append(f"{path}{described.get(path, '')}")
            elif problem := _damage(name, profile, path, place):
                damaged.append(f"{place} ({problem})")
    if not missing and not damaged:
        return
    where = Path(weights) if weights is not None else (PACKAGE if profile == "mini" else "the local model caches")
    told = [f"not found in {where}: {', '.join(missing)}"] if missing else []
    told += [f"damaged: {', '.join(damaged)}"] if damaged else []
    advice = "; download what is missing and pass its folder as --weights DIR" if missing and profile == "full" else ""
    raise BenchError(f"weights of profile {profile} {'; '.join(told)}{advice}")


def checksum(name: str, profile: str, weights: str | Path | None = None) -> str:
    """Return the sha256 of a model's weights: of its one file, or of the list of files and theirs."""
    places = {
        path: place for path, place in files(name, profile, weights).items() if place and not path.endswith(".json")
    }
    if not places:
        raise BenchError(f"the weights of {name} ({profile}) are not there, so they have no checksum")
    sums = [f"{path} {_sha256(place)}" for path, place in sorted(places.items())]
    return sums[0].split()[-1] if len(sums) == 1 else hashlib.sha256("\n".join(sums).encode()).hexdigest()


def _row(name: str, profile: str) -> Model:
    if profile not in PROFILES:
        raise BenchError(f"profile must be one of {', '.join(PROFILES)}, not {profile!r}")
    if name not in MODELS:
        raise BenchError(f"no pretrained model is called {name!r}; there are {', '.join(MODELS)}")
    if profile == "full" and not MODELS[name].files:
        raise BenchError(f"{name} has no published checkpoint; it exists in profile mini only")
    if profile == "mini" and name.startswith("clip-"):
        raise BenchError(f"{name} exists in profile full only; the mini model is called clip")
    if profile == "mini" and name in MEASURES:
        raise BenchError(f"{name} exists in profile full only")
    return MODELS[name]


def _with_parts(names: Iterable[str], profile: str) -> list[str]:
    found: dict[str, None] = {}
    for name in names:
        for one in (*_with_parts(_row(name, profile).parts, profile), name):
            found[one] = None
    return list(found)


def _find(file: File, weights: str | Path | None) -> Path | None:
    if weights is not None:
        place = Path(weights) / file.path
    elif file.repository:
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(file.repository, file.name)
        return Path(cached) if isinstance(cached, (str, os.PathLike)) else None
    else:
        import torch

        place = Path(torch.hub.get_dir()) / "checkpoints" / file.path
    if not place.is_file() and file.package[0]:
        package = importlib.util.find_spec(file.package[0])
        place = Path(package.origin).parent / file.package[1] if package else place
    return place if place.is_file() else None


def _damage(name: str, profile: str, path: str, place: Path) -> str:
    """Return what is wrong with a file that exists, or an empty string."""
    if path.endswith(".json"):
        try:
            content = json.loads(place.read_text("utf-8"))
            keys = {"config", "sha256", "bytes"} if profile == "mini" else set()
            return "" if isinstance(content, dict) and keys <= set(content) else "expected a model description"
        except ValueError:
            return "not valid JSON"
    if path.endswith(".safetensors") and (problem := _truncated(place)):
        return problem
    if profile == "mini":
        return _differs(place, place.with_name(f"{name}.json"))
    expected = next(file.sha256 for file in MODELS[name].files if file.path == path)
    if expected and not _sha256(place).startswith(expected):
        return "sha256 differs from the published one"
    return ""


def _differs(place: Path, description: Path) -> str:
    try:
        entry = json.loads(description.read_text("utf-8"))
        size, expected = int(entry["bytes"]), entry["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""  # the description's own problem is told about it
    if place.stat().st_size != size:
        return f"{place.stat().st_size} bytes, expected {size}"
    return "" if _sha256(place) == expected else "its sha256 is not the one in its json"


def _truncated(place: Path) -> str:
    """Compare a safetensors file's length with what its own header promises."""
    size = place.stat().st_size
    with place.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            return "truncated or no safetensors file"
        try:
            header = json.loads(file.read(length))
            end = max((v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"), default=0)
        except (ValueError, KeyError, TypeError, AttributeError):
            return "no safetensors file"
    return "" if size == 8 + length + end else f"{size} bytes, its header promises {8 + length + end}"


def _sha256(place: Path) -> str:
    status = place.stat()
    return _digest(str(place), status.st_size, status.st_mtime_ns)


@cache
def _digest(place: str, size: int, changed: int) -> str:
    with open(place, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
