"""From a training set to target matrices, and from predicted matrices back to predictions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from benchmark.api import DatasetInfo, Predictions, TrainSet
from benchmark.errors import BenchError

PIXELS = "pixels"


def targets(train: TrainSet) -> dict[str, np.ndarray]:
    """Return what the tracks ask for, one row per training item: the target space and the pixels."""
    found = {}
    if train.tracks & {"words", "embedding"} and train.space is not None:
        found[train.space] = train.target()
    if "reconstruction" in train.tracks and train.stimuli.images is not None:
        found[PIXELS] = train.pixels()
    if not found:
        raise BenchError("the training set: expected a target space or images to predict, found neither.")
    return found


def predictions(outputs: Mapping[str, np.ndarray], train: TrainSet) -> Predictions:
    """Return matrices named as in ``targets`` as predictions; pixels are clipped and rounded to uint8."""
    embeddings = {name: values for name, values in outputs.items() if name != PIXELS}
    if PIXELS not in outputs:
        return Predictions(embeddings=embeddings)
    pixels = np.rint(np.clip(outputs[PIXELS], 0, 1) * 255).astype(np.uint8)
    return Predictions(embeddings=embeddings, images=pixels.reshape(-1, *train.stimuli.images.shape[1:]))


def needs_vectors(dataset: DatasetInfo) -> str | None:
    """Return why a method that predicts vectors cannot run on the dataset, or None."""
    if not dataset.spaces:
        return f"{dataset.name} has no embedding space to predict"
    if not dataset.tracks & {"words", "embedding"}:
        return f"{dataset.name} asks for neither words nor embeddings"
    return None


def needs_outputs(dataset: DatasetInfo) -> str | None:
    """Return why a method that predicts vectors or pixels cannot run on the dataset, or None."""
    if "reconstruction" in dataset.tracks and dataset.has_images:
        return None
    return needs_vectors(dataset)
