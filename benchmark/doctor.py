"""Upper bounds of the frozen models: what each one does from true features of scenes it never saw."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmark.data import scenes as worlds
from benchmark.registry import resolve

SEED = 4711
N_SCENES, N_PICTURES = 300, 120
STEPS, GUIDANCE, TEXT_WEIGHT = 50, 3.0, 0.4


@dataclass(frozen=True)
class Check:
    """One figure and what it should at least be; None where it is only shown."""

    model: str
    what: str
    value: float
    aim: float | None = None

    @property
    def passed(self) -> bool:
        return self.aim is None or self.value >= self.aim


@dataclass(frozen=True)
class Scenes:
    """Scenes of the pool that no model is trained on, with their pictures, captions and attributes."""

    scenes: worlds.Scenes
    images: np.ndarray
    captions: list[tuple[str, ...]]
    attributes: dict[str, np.ndarray]


def draw(n: int) -> Scenes:
    """Return n scenes of the test pool, each with a key of its own."""
    scenes = worlds.sample(np.random.default_rng(SEED), n, pool="test", distinct=True)
    return Scenes(scenes, worlds.render(scenes), worlds.captions(scenes, SEED), worlds.attributes(scenes))


def check_models(load: Callable[[str], Any], names: tuple[str, ...]) -> Iterator[Check]:
    """Yield the figures of the named ``mini`` models.

    Parameters
    ----------
    load : callable
        Returns a loaded model by name.
    names : tuple of str
        Of ``clip``, ``judge``, ``captioner``, ``kl``, ``vdvae``, ``versatile``, ``img2img``.
    """
    world = draw(N_SCENES)
    for name in names:
        yield from _CHECKS[name](load, world)


def _clip(load, world: Scenes) -> Iterator[Check]:
    from benchmark.pretrained.training.clip import retrieval

    model, captions = load("clip"), [c[0] for c in world.captions]
    found = retrieval(model.encode_image(world.images), model.encode_text(captions), captions)
    yield Check("clip", "picture to caption, top-1 among 300", found["caption_top1_of_300"], 0.75)
    yield Check("clip", "picture to caption, two-way", found["two_way"], 0.99)


def _judge(load, world: Scenes) -> Iterator[Check]:
    right = load("judge").attribute_accuracy(world.images, world.attributes).mean()
    yield Check("judge", "attributes of clean scenes", float(right), 0.95)


def _captioner(load, world: Scenes) -> Iterator[Check]:
    from benchmark.pretrained.training.captioner import plain_captions, words_right

    found = load("captioner").caption(world.images)
    yield Check(
        "captioner", "object, colour and background words", words_right(found, plain_captions(world.scenes)), 0.85
    )


def _kl(load, world: Scenes) -> Iterator[Check]:
    model = load("kl")
    yield Check(
        "kl", "PixCorr of its reconstruction", _pixcorr(world.images, model.decode(model.encode(world.images))), 0.96
    )


def _vdvae(load, world: Scenes) -> Iterator[Check]:
    model, seeds = load("vdvae"), range(N_PICTURES)
    images = world.images[:N_PICTURES]
    latents = model.encode(images)
    prefix = latents[:, : model.n_latents(model.config.prefix)]
    yield Check("vdvae", "PixCorr from all layers", _pixcorr(images, model.decode(latents, seeds)), 0.96)
    what = "PixCorr from the layers up to 8 x 8, the rest at its mean"
    yield Check("vdvae", what, _pixcorr(images, model.decode(prefix, seeds, temperature=0)), 0.78)
    yield Check("vdvae", "the same, the rest drawn", _pixcorr(images, model.decode(prefix, seeds)))


def _versatile(load, world: Scenes) -> Iterator[Check]:
    model, clip, judge, vdvae = (load(name) for name in ("versatile", "clip", "judge", "vdvae"))
    images, seeds = world.images[:N_PICTURES], range(N_PICTURES)
    start = vdvae.decode(vdvae.encode(images, vdvae.config.prefix), seeds, temperature=0)
    image_tokens = clip.image_tokens(images)
    text_tokens = np.stack([clip.text_tokens(c).mean(0) for c in world.captions[:N_PICTURES]])
    common = {"steps": STEPS, "guidance": GUIDANCE, "text_weight": TEXT_WEIGHT}
    pictures = model.generate(image_tokens, text_tokens, seeds, start, **common)
    yield from _pictures("versatile", "true features, true low level", pictures, images, world, clip, judge, aims=True)
    other = np.roll(np.arange(N_PICTURES), 1)
    for strength in (0.75, 1.0):
        mixed = model.generate(
            image_tokens[other], text_tokens[other], seeds, start if strength < 1 else None, strength=strength, **common
        )
        attributes = [{k: v[rows] for k, v in world.attributes.items()} for rows in (seeds, other)]
        own, others = (judge.attribute_accuracy(mixed, table) for table in attributes)
        share = float(((others > own) + 0.5 * (others == own)).mean())
        what = f"features of B on the low level of A, judged closer to B (strength {strength:g})"
        yield Check("versatile", what, share, 0.8 if strength < 1 else None)


def _img2img(load, world: Scenes) -> Iterator[Check]:
    model, clip, judge, vdvae = (load(name) for name in ("img2img", "clip", "judge", "vdvae"))
    images, seeds = world.images[:N_PICTURES], range(N_PICTURES)
    start = vdvae.decode(vdvae.encode(images, vdvae.config.prefix), seeds, temperature=0)
    pictures = model.generate([c[0] for c in world.captions[:N_PICTURES]], start, seeds)
    yield from _pictures("img2img", "true caption, true low level", pictures, images, world, clip, judge, aims=False)


def _pictures(name: str, what: str, pictures, images, world: Scenes, clip, judge, aims: bool) -> Iterator[Check]:
    two_way = resolve("metrics.identification:two_way")
    attributes = {k: v[: len(images)] for k, v in world.attributes.items()}
    read = judge.scores(pictures, attributes)
    figures = {
        "CLIP two-way": (two_way(clip.encode_image(images), clip.encode_image(pictures)).mean(), 0.95),
        "judge two-way": (two_way(judge.features(images), judge.features(pictures)).mean(), None),
        "PixCorr": (_pixcorr(images, pictures), None),
        "background": (read["background"], 0.95),
        "colour F1": (read["colour_f1"], 0.85),
        "shape F1": (read["shape_f1"], 0.60),
    }
    for label, (value, aim) in figures.items():
        yield Check(name, f"{what}: {label}", float(value), aim if aims else None)


def _pixcorr(true: np.ndarray, predicted: np.ndarray) -> float:
    return float(resolve("metrics.images:pixcorr")(np.ascontiguousarray(true), predicted).mean())


_CHECKS = {
    "clip": _clip,
    "judge": _judge,
    "captioner": _captioner,
    "kl": _kl,
    "vdvae": _vdvae,
    "versatile": _versatile,
    "img2img": _img2img,
}
MODELS = tuple(_CHECKS)
