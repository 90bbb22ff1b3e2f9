"""Predictions meet the truth: per-item scores and their summary."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.api import Predictions, Stimuli
from benchmark.data.prepare import TestItems
from benchmark.errors import BenchError
from benchmark.frozen import Source, of_pictures
from benchmark.registry import resolve
from benchmark.store import write_json
from benchmark.suites import Track

# How candidates are ranked by track: words as Brain2Word correlates, embeddings as retrieval is done.
KIND = {"words": "pearson", "embedding": "cosine"}
SIMILARITY = "metrics.ranking:similarity"


@dataclass(frozen=True)
class Part:
    """One fold's test items, truth and predictions.

    Attributes
    ----------
    fold : str
    items : TestItems
    truth : Stimuli
        One row per item.
    predictions : Predictions
    centre : ndarray of shape (d,) or None
        Mean of the fold's training targets in the target space.
    """

    fold: str
    items: TestItems
    truth: Stimuli
    predictions: Predictions
    centre: np.ndarray | None = None


def score(parts: Sequence[Part], tracks: Mapping[str, Track], metrics: Mapping[str, Any], source: Source | None = None):
    """Score every metric of every track.

    Metrics on features of pictures get them from ``source``.

    Comparisons between items stay within a block (a fold, and a condition where there is one); the
    candidates of a rank are the stimuli of the fold.

    Returns
    -------
    table : dict of str to list
        Columns track, metric, fold, block, item, value: one row per item and metric.
    summary : dict
        ``{track: {metric: {value, n, chance, higher_is_better, version, protocol}}}``; a metric that is
        not computed here has value None and a reason, and ``undefined`` where the kind of prediction has no
        such value.
    """
    table: dict[str, list] = {name: [] for name in ("track", "metric", "fold", "block", "item", "value")}
    summary: dict[str, dict] = {}
    for name, track in tracks.items():
        views = {"": [_view(part, name, track) for part in parts]}
        summary[name] = {}
        for metric_name in track.metrics:
            metric = metrics[metric_name]
            record = {"n": 0, "chance": None, "higher_is_better": metric.higher_is_better}
            record |= {"version": metric.version, "protocol": metric.protocol, "note": metric.note, "value": None}
            summary[name][metric_name] = record
            if metric.kind in _OF_VECTORS and name != "reconstruction" and not all(v.has_vectors for v in views[""]):
                record |= {"undefined": True, "reason": "not predicted (vectors)"}
                continue
            try:
                if metric.features not in views:
                    views[metric.features] = [_of_features(metric.features, view, source) for view in views[""]]
                rows, chances = _KINDS[metric.kind](metric, views[metric.features])
            except ValueError as error:
                record["reason"] = f"not computed ({error})"
                continue
            values = np.concatenate([value for _, _, _, value in rows]).astype(np.float64)
            if not np.isfinite(values).all():
                raise BenchError(f"{metric_name} is NaN or infinite for {(~np.isfinite(values)).sum()} items")
            record["value"] = float(np.median(values) if metric.aggregate == "median" else values.mean())
            record["n"] = len(values)
            record["chance"] = float(np.mean(chances)) if chances else None
            if metric.degenerate and (count := sum(_degenerate(metric, view) for view in views[metric.features])):
                record["n_zero_variance"] = count
            for fold, block, items, value in rows:
                table["track"] += [name] * len(value)
                table["metric"] += [metric_name] * len(value)
                table["fold"] += [fold] * len(value)
                table["block"] += [block] * len(value)
                table["item"] += list(items)
                table["value"] += [float(v) for v in value]
    return table, summary


def write(folder: Path, table: Mapping[str, list], summary: Mapping[str, Any], score_id: str) -> None:
    """Write ``scores.parquet``, then ``scores.json``, which is what says that scoring is complete."""
    import pyarrow
    import pyarrow.parquet

    columns = {k: pyarrow.array(v).dictionary_encode() if k != "value" else pyarrow.array(v) for k, v in table.items()}
    temporary = folder / ".scores.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns), temporary)
    temporary.replace(folder / "scores.parquet")
    write_json(folder / "scores.json", {"score_id": score_id, "tracks": summary})


@dataclass(frozen=True)
class _View:
    """A part as one track sees it: matrices of truth and prediction."""

    part: Part
    true: np.ndarray
    predicted: np.ndarray
    similarity: str

    @property
    def has_vectors(self) -> bool:
        return self.predicted.shape[1] > 0

    def blocks(self):
        """Yield the rows of each block."""
        for block in dict.fromkeys(self.part.items.block):
            yield block, np.flatnonzero(self.part.items.block == block)

    def candidate_scores(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the score of every candidate of the fold, and each item's own candidate."""
        _, first, target = np.unique(self.part.truth.ids, return_index=True, return_inverse=True)
        given = self.part.predictions.class_scores
        if given is None or self.similarity == "cosine":
            return resolve(SIMILARITY)(self.predicted, self.true[first], kind=self.similarity), target
        column = {stimulus: i for i, stimulus in enumerate(self.part.predictions.class_ids)}
        names = self.part.truth.ids[first]
        missing = [n for n in names if n not in column]
        if missing:
            raise BenchError(
                f"class_scores has no column for {len(missing)} candidates, the first is {str(missing[0])!r}"
            )
        return np.asarray(given)[:, [column[n] for n in names]], target


def _view(part: Part, name: str, track: Track) -> _View:
    n = len(part.items.ids)
    if name != "reconstruction":
        true = np.asarray(part.truth.embeddings[track.space], np.float32)
        predicted = part.predictions.embeddings.get(track.space)
        if predicted is None:  # class scores only: an empty vector, which no vector metric accepts
            predicted = np.zeros((n, 0), np.float32)
        elif predicted.shape != true.shape:
            raise BenchError(f"embeddings[{track.space}] has shape {predicted.shape}, expected {true.shape}")
        if not (np.isfinite(true).all() and np.isfinite(predicted).all()):
            raise BenchError(f"embeddings[{track.space}]: NaN or infinity in the truth or the prediction")
        return _View(part, true, np.asarray(predicted), KIND[name])
    true, predicted = np.asarray(part.truth.images), np.asarray(part.predictions.images)
    if predicted.shape != true.shape:
        raise BenchError(f"images have shape {predicted.shape}, the stimuli {true.shape}")
    flat = (np.asarray(x.reshape(n, -1), np.float32) / np.float32(255) for x in (true, predicted))
    return _View(part, *flat, "pearson")


def _of_features(kind: str, view: _View, source: Source | None) -> _View:
    """Return a view whose rows are a frozen model's features of the pictures."""
    true, predicted = of_pictures(kind, view.part.truth, np.asarray(view.part.predictions.images), source)
    return _View(view.part, true, predicted, view.similarity)


def _degenerate(metric, view: _View) -> int:
    """Count the items that a zero-variance rule decided."""
    if metric.kind == "images":
        return int(metric.degenerate(view.part.truth.images, view.part.predictions.images).sum())
    if metric.kind == "set":
        return int(metric.degenerate(view.predicted).sum())
    more = {"centre": view.part.centre} if metric.centred else {}
    return int(metric.degenerate(view.true, view.predicted, **more).sum())


def _vectors(metric, views):
    rows = []
    for view in views:
        more = {"centre": view.part.centre} if metric.centred else {}
        for block, index in view.blocks():
            value = metric.function(view.true[index], view.predicted[index], **more)
            rows.append((view.part.fold, block, view.part.items.ids[index], value))
    return rows, [metric.chance(len(r[3])) for r in rows] if metric.chance else []


def _images(metric, views):
    rows = []
    for view in views:
        true, predicted = (part.images for part in (view.part.truth, view.part.predictions))
        value = metric.function(np.asarray(true), np.asarray(predicted))
        rows.append((view.part.fold, view.part.fold, view.part.items.ids, value))
    return rows, []


def _scores(metric, views):
    rows, chances = [], []
    for view in views:
        scores, target = view.candidate_scores()
        rows.append((view.part.fold, view.part.fold, view.part.items.ids, metric.function(scores, target)))
        chances += [metric.chance(scores.shape[1])] if metric.chance else []
    return rows, chances


def _dimensions(metric, views):
    value = metric.function(*(np.concatenate([getattr(v, side) for v in views]) for side in ("true", "predicted")))
    return [("all", "all", [f"dim{i:05d}" for i in range(len(value))], value)], []


def _set(metric, views):
    value = metric.function(np.concatenate([v.predicted for v in views]))
    return [("all", "all", ["all"], value)], []


_OF_VECTORS = ("vectors", "dimensions", "set")
_KINDS: dict[str, Callable] = {
    "vectors": _vectors,
    "images": _images,
    "scores": _scores,
    "dimensions": _dimensions,
    "set": _set,
}
