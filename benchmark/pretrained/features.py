"""Features of pretrained models, from the cache where it has them; the model is loaded only for those it lacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache as once
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.errors import BenchError
from benchmark.pretrained import hub
from benchmark.pretrained.cache import Label, extract

# Raise a model's number whenever what happens between stimulus and network changes.
PREPROCESSING = dict.fromkeys(hub.MODELS, "1")


def features(
    name: str,
    output: str,
    items: Sequence[Any],
    *,
    profile: str,
    cache: Path,
    weights: str | Path | None = None,
    device: str = "cpu",
    stored: str = "float32",
    batch: int = 64,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> np.ndarray:
    """Return one output of a frozen model for every stimulus.

    Parameters
    ----------
    name : str
        A model of :data:`benchmark.pretrained.hub.MODELS`.
    output : str
        A method of its class that maps stimuli to an array with one row each, for example ``"image_tokens"``.
    items : ndarray or sequence
        Pictures, texts, or a tuple of texts for each stimulus: the mean over its texts is taken (empty texts are left
        out).
    profile, weights, device
        As in :func:`benchmark.pretrained.hub.load`.
    cache : Path
        Folder of all caches.
    stored, batch, progress
        As in :func:`benchmark.pretrained.cache.extract`.
    **options
        Passed to the method; they are part of what the rows are known by.

    Returns
    -------
    ndarray of shape (n, ...), float32
    """
    told = "".join(f",{key}={options[key]}" for key in sorted(options))
    label = Label(f"{name}-{profile}", output + told, hub.checksum(name, profile, weights), PREPROCESSING[name], stored)

    @once
    def method() -> Callable[..., np.ndarray]:
        model = hub.load(name, profile, weights, device)
        if not hasattr(model, output):
            raise BenchError(f"{name} has no output {output!r}")
        return getattr(model, output)

    def function(some: Any) -> np.ndarray:
        if isinstance(some, np.ndarray) or isinstance(some[0], str):
            return method()(some, **options)
        return _mean_over_texts(lambda texts: method()(texts, **options), some)

    return extract(cache, label, items, function, batch, progress)


def _mean_over_texts(function: Callable[[list[str]], np.ndarray], items: Sequence[Sequence[str]]) -> np.ndarray:
    several = [[text for text in texts if text.strip()] or [""] for texts in items]
    rows = function([text for texts in several for text in texts])
    counts = np.array([len(texts) for texts in several])
    starts = np.cumsum(counts) - counts
    return np.add.reduceat(rows, starts, axis=0) / counts.reshape(-1, *[1] * (rows.ndim - 1))
