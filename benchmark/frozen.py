"""Where frozen models enter a run: target spaces, features of pictures for metrics, checksums.

Methods reach the models themselves through ``benchmark.pretrained``; this module is the harness's side.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.api import Stimuli
from benchmark.errors import BenchError
from benchmark.spaces import FEATURES, MEASURES, SPACES


@dataclass(frozen=True)
class Source:
    """Which frozen models a run uses.

    Attributes
    ----------
    profile : str
        ``"mini"`` or ``"full"``.
    cache : Path
        Folder of all caches.
    weights : Path or None
        Folder of the weight files, instead of the package or the usual caches.
    device : str
    """

    profile: str
    cache: Path
    weights: Path | None = None
    device: str = "cpu"

    def features(self, kind: str, images: np.ndarray) -> np.ndarray:
        """Return the cached features of stimuli, shape (n, d), by the name of a space or of a metric's features."""
        model, output, *options = (SPACES | FEATURES)[kind]
        return self.extract(model, output, images, **dict(*options))

    def extract(self, model: str, output: str, items: Any, **options: Any) -> np.ndarray:
        """Return one cached output of a model for every stimulus, as ``benchmark.api.Models`` says."""
        from benchmark.pretrained.features import features

        profile, weights = _where(model, self.profile, self.weights)
        common = {"profile": profile, "cache": self.cache, "weights": weights, "device": self.device}
        return features(model, output, items, **common, **options)

    def absent(self, model: str) -> tuple[str, ...]:
        """Return the files that a metric's network lacks; empty for other models, which runs check beforehand."""
        return _absent(model, self.profile, self.weights)

    def load(self, model: str):
        """Return a loaded model."""
        from benchmark.pretrained import hub

        return hub.load(model, *_where(model, self.profile, self.weights), self.device)


def with_space(stimuli: Stimuli, space: str | None, source: Source) -> Stimuli:
    """Return the stimuli with the target space among their embeddings, computed where the dataset lacks it."""
    if space is None or space in stimuli.embeddings or space not in SPACES:
        return stimuli
    if stimuli.images is None:
        raise BenchError(f"space {space}: the dataset has no images to compute it from")
    table = np.asarray(source.features(space, stimuli.images), np.float32)
    return dataclasses.replace(stimuli, embeddings={**stimuli.embeddings, space: table})


def of_pictures(kind: str, truth: Stimuli, pictures: np.ndarray, source: Source) -> tuple[np.ndarray, np.ndarray]:
    """Return what a metric compares: rows for the true pictures, and for the predicted ones.

    ``judge-read`` compares the scene's true description with what the judge reads off the prediction:
    background, then shape, colour and size at every place, -1 where there is no object.

    Raises
    ------
    ValueError
        ``weights X``: the files of a metric's network that are not there.
    """
    model, output, options = FEATURES[kind]
    if absent := source.absent(model):
        raise ValueError(f"weights {', '.join(absent)}")
    if output == "read":
        from benchmark.pretrained.judge import by_place

        return _columns(by_place(truth.attributes)), _columns(source.load("judge").read(pictures))
    return source.features(kind, truth.images), getattr(source.load(model), output)(pictures, **options)


def _columns(table: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.column_stack([table[name] for name in ("background", "shape", "colour", "size")])


def checksums(models: Iterable[str], profile: str, weights: Path | None) -> dict[str, str]:
    """Return the checksum of every model by name; missing or damaged files are a ``BenchError``.

    A metric's network that is not there has none: its columns say so, and the run goes on.
    """
    models = [model for model in sorted(set(models)) if not _absent(model, profile, weights)]
    if not models:
        return {}
    from benchmark.pretrained import hub

    for model in models:
        hub.require([model], *_where(model, profile, weights))
    return {model: hub.checksum(model, *_where(model, profile, weights)) for model in models}


def _absent(model: str, profile: str, weights: Path | None) -> tuple[str, ...]:
    if model not in MEASURES:
        return ()
    from benchmark.pretrained import hub

    found = hub.files(model, *_where(model, profile, weights))
    return tuple(path for path, place in found.items() if place is None)


def _where(model: str, profile: str, weights: Path | None) -> tuple[str, Path | None]:
    """Return the profile and folder of a model.

    The judge exists in the package only, and metrics' networks as published only, whatever the profile.
    """
    if model == "judge":
        return "mini", None
    return ("full" if model in MEASURES else profile), weights
