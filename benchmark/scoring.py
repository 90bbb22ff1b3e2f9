"""Predictions meet the truth: per-item scores and their summary."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.api import Predictions, Stimuli
from benchmark.board_stats import by_stimulus, stimulus_of
from benchmark.data.prepare import TestItems
from benchmark.errors import BenchError
from benchmark.frozen import Source, of_pictures
from benchmark.registry import resolve
from benchmark.spaces import SPACES
from benchmark.store import write_json
from benchmark.suites import Track

# How candidates are ranked by track: words as Brain2Word correlates, embeddings as retrieval is done.
KIND = {"words": "pearson", "embedding": "cosine"}
ON_BOARDS = ("image_retrieval", "rank_median")  # beside the ranked metric
RANK = "metrics.ranking:mid_rank"
SCORES, OWN_CAPTION = "metrics.retrieval:scores", "metrics.retrieval:own_caption"
# Attributes that say what kind of picture a stimulus is; the first that is there is taken.
CATEGORIES = ("category", "background")


class NotPredicted(ValueError):
    """A metric needs an output that the method does not give."""


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
    gallery : Stimuli or None
        All stimuli of the dataset, for metrics over such a gallery.
    trained : sequence of str or None
        Ids of the training stimuli where the split holds out stimuli: none may be a candidate.
    as_predicted : ndarray or None
        The predicted pictures as the method gave them, where ``predictions`` has them at the stimuli's size.
    """

    fold: str
    items: TestItems
    truth: Stimuli
    predictions: Predictions
    centre: np.ndarray | None = None
    gallery: Stimuli | None = None
    trained: Sequence[str] | None = None
    as_predicted: np.ndarray | None = None

    def pictures(self, protocol: str) -> np.ndarray:
        """Return the predicted pictures that a metric of a protocol is given: published ones resize by themselves."""
        own = protocol == "bench-1" or self.as_predicted is None
        return np.asarray(self.predictions.images if own else self.as_predicted)


def score(parts: Sequence[Part], tracks: Mapping[str, Track], metrics: Mapping[str, Any], source: Source | None = None):
    """Score every metric of every track.

    Metrics on features of pictures get them from ``source``.

    Comparisons between items stay within a block (a fold, and a condition where there is one); the
    candidates of a rank are the test stimuli of the fold, each once, whatever their condition.

    Returns
    -------
    table : dict of str to list
        Columns track, metric, fold, block, item, value: one row per item and metric.
    summary : dict
        ``{track: {metric: {value, n, chance, higher_is_better, version, protocol}}}``; a metric that is
        not defined here has value None and a reason: ``not predicted (...)`` where it is about an
        output that the method does not give, otherwise ``not computed (...)``. ``undefined`` is true
        where no row can be blamed for it: what is not predicted, what the metric itself lacks, and what an optional
        metric lacks here.

    Raises
    ------
    BenchError
        Predictions of a wrong shape, NaN, or a test gallery with training stimuli in it.
    """
    parts = [_at_size(part) for part in parts] if "reconstruction" in tracks else parts
    table: dict[str, list] = {name: [] for name in ("track", "metric", "fold", "block", "item", "value")}
    summary: dict[str, dict] = {}
    for name, track in tracks.items():
        views = {"": [_view(part, name, track, source) for part in parts]}
        summary[name] = {}
        for metric_name in track.metrics:
            metric = metrics[metric_name]
            record = {"n": 0, "chance": None, "higher_is_better": metric.higher_is_better}
            record |= {"version": metric.version, "protocol": metric.protocol, "note": metric.note, "value": None}
            record["range"] = [x if np.isfinite(x) else None for x in (metric.lower, metric.upper)]
            summary[name][metric_name] = record
            if metric.lacks:
                record |= {"undefined": True, "reason": f"not computed ({metric.lacks})"}
                continue
            try:
                if metric.features not in views:
                    # of features that can be as large as the pictures, only the last are kept
                    views = {"": views[""]}
                    views[metric.features] = [_of_features(metric, view, source) for view in views[""]]
                if metric.kind in _NEED_VECTORS and not all(view.predicted.shape[1] for view in views[""]):
                    raise NotPredicted("vectors")
                rows, chances = _KINDS[metric.kind](metric, views[metric.features])
            except NotPredicted as error:
                record |= {"undefined": True, "reason": f"not predicted ({error})"}
                continue
            except ValueError as error:
                record["reason"] = f"not computed ({error})"
                if metric_name in track.optional:
                    record["undefined"] = True
                continue
            values = np.concatenate([value for _, _, _, value in rows]).astype(np.float64)
            if not np.isfinite(values).all():
                raise BenchError(f"{metric_name} is NaN or infinite for {(~np.isfinite(values)).sum()} items")
            record["value"] = _summary(metric, values)
            record["n"] = len(values)
            record["chance"] = float(np.mean(chances)) if chances else None
            if metric.pool:
                record["note"] = _pool_note(metric.pool, views[""])
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


def item_values(table: Mapping[str, Sequence], tracks: Mapping[str, Track]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the values of every stimulus that boards need for intervals and tests.

    Returns
    -------
    dict
        ``{track: {metric: {stimulus: value, or the values of its rows}}}`` of the ranked metric, and of
        ``image_retrieval`` and ``rank_median`` where these are columns; rounded to six digits.
    """
    columns = {name: np.asarray(table[name]) for name in ("track", "metric", "fold", "block", "item", "value")}
    blocks = set(columns["block"].tolist())
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name, track in tracks.items():
        for metric in dict.fromkeys((track.ranked, *(m for m in ON_BOARDS if m in track.metrics))):
            rows = (columns["track"] == name) & (columns["metric"] == metric)
            if rows.any():
                stimuli = stimulus_of(columns["item"][rows].tolist(), columns["fold"][rows].tolist(), blocks)
                values = by_stimulus(stimuli, columns["value"][rows].astype(float).round(6))
                plain = {k: v.tolist() if len(v) > 1 else float(v[0]) for k, v in values.items()}
                found.setdefault(name, {})[metric] = plain
    return found


def rankings(parts: Sequence[Part], tracks: Mapping[str, Track]) -> dict[str, tuple]:
    """Return, by track that ranks candidates, what pictures of a run show.

    Returns
    -------
    dict of str to (ranks, n_candidates, scores, candidates, target)
        Mid-ranks of all test items, and of the first fold the score of every candidate, the row of
        ``truth`` that is each candidate, and each item's own candidate.
    """
    found = {}
    for name, track in tracks.items():
        if name == "reconstruction":
            continue
        views = [_view(part, name, track, None) for part in parts]
        given = [view.candidate_scores for view in views]
        ranks = np.concatenate([resolve(RANK)(*pair) for pair in given])
        candidates = np.unique(parts[0].truth.ids, return_index=True)[1]
        found[name] = ranks, np.mean([scores.shape[1] for scores, _ in given]), given[0][0], candidates, given[0][1]
    return found


def write(folder: Path, table: Mapping[str, list], summary: Mapping[str, Any], score_id: str, **more: Any) -> None:
    """Write ``scores.parquet``, then ``scores.json``, which is what says that scoring is complete."""
    import pyarrow
    import pyarrow.parquet

    columns = {k: pyarrow.array(v).dictionary_encode() if k != "value" else pyarrow.array(v) for k, v in table.items()}
    temporary = folder / ".scores.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns), temporary)
    temporary.replace(folder / "scores.parquet")
    write_json(folder / "scores.json", {"score_id": score_id, "tracks": summary, **more})


def _summary(metric: Any, values: np.ndarray) -> float:
    """Return the number that stands in a column."""
    return float(np.median(values) if metric.aggregate == "median" else values.mean())


def _at_size(part: Part) -> Part:
    """Return the part with its predicted pictures at the size of the stimuli (bicubic, antialiased)."""
    pictures, (n, height, width, channels) = np.asarray(part.predictions.images), part.truth.images.shape
    if pictures.shape == part.truth.images.shape:
        return part
    if len(pictures) != n or pictures.shape[3] != channels:
        raise BenchError(f"images have shape {pictures.shape}, the stimuli {part.truth.images.shape}")
    import torch
    from torchvision.transforms.v2 import functional

    x = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2)
    bicubic = functional.InterpolationMode.BICUBIC
    x = functional.resize(x, [height, width], interpolation=bicubic, antialias=True)
    pictures = x.permute(0, 2, 3, 1).numpy()
    given = part.predictions.images
    return dataclasses.replace(
        part, predictions=dataclasses.replace(part.predictions, images=pictures), as_predicted=given
    )


@dataclass(frozen=True, eq=False)
class _View:
    """A part as one track sees it: matrices of truth and prediction."""

    part: Part
    true: np.ndarray
    predicted: np.ndarray
    similarity: str
    space: str | None = None
    source: Source | None = None

    def blocks(self):
        """Yield the rows of each block."""
        for block in dict.fromkeys(self.part.items.block):
            yield block, np.flatnonzero(self.part.items.block == block)

    @cached_property
    def candidates(self) -> tuple[np.ndarray, np.ndarray]:
        """The gallery, the fold's test stimuli: the first row of each, and each item's own candidate."""
        _, first, target = np.unique(self.part.truth.ids, return_index=True, return_inverse=True)
        trained = () if self.part.trained is None else self.part.trained
        seen = np.intersect1d(self.part.truth.ids, trained)
        if len(seen):
            raise BenchError(
                f"fold {self.part.fold}: {len(seen)} stimuli of the test gallery are training stimuli, the first is "
                f"{str(seen[0])!r}, expected none"
            )
        return first, target

    @cached_property
    def candidate_scores(self) -> tuple[np.ndarray, np.ndarray]:
        """The score of every candidate of the fold, and each item's own candidate."""
        first, target = self.candidates
        given = self.part.predictions.class_scores
        if given is None or self.similarity == "cosine":
            if not self.predicted.shape[1]:
                raise NotPredicted("vectors")
            return resolve(SCORES)(self.predicted, self.true[first], target, kind=self.similarity), target
        column = {stimulus: i for i, stimulus in enumerate(self.part.predictions.class_ids)}
        names = self.part.truth.ids[first]
        missing = [n for n in names if n not in column]
        if missing:
            raise BenchError(
                f"class_scores has no column for {len(missing)} candidates, the first is {str(missing[0])!r}"
            )
        return np.asarray(given)[:, [column[n] for n in names]], target

    @cached_property
    def published_scores(self) -> tuple[np.ndarray, np.ndarray]:
        """As ``candidate_scores``, but among all stimuli of the dataset, training stimuli included."""
        gallery = self.part.gallery
        if gallery is None:
            raise ValueError("no gallery of all stimuli")
        if not self.predicted.shape[1]:
            raise NotPredicted("vectors")
        place = {stimulus: i for i, stimulus in enumerate(gallery.ids)}
        target = np.array([place[stimulus] for stimulus in self.part.truth.ids])
        vectors = np.asarray(gallery.embeddings[self.space], np.float32)
        return resolve(SCORES)(self.predicted, vectors, target, kind=self.similarity), target

    @cached_property
    def caption_scores(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The score of every caption of the gallery, each item's own best one, and how many are its own."""
        first, target = self.candidates
        captions = self.part.truth.captions
        if captions is None:
            raise ValueError("no reference captions")
        if self.source is None or self.space not in SPACES:
            raise ValueError(f"no text model for the space {self.space}")
        owner = np.repeat(np.arange(len(first)), [len(captions[i]) for i in first])
        texts = [text for i in first for text in captions[i]]
        try:
            vectors = self.source.extract(SPACES[self.space][0], "encode_text", texts)
        except BenchError as error:  # texts that the model cannot read
            raise ValueError(error) from error
        if vectors.shape[1] != self.true.shape[1]:
            raise ValueError(f"captions have {vectors.shape[1]} dimensions, the space {self.true.shape[1]}")
        scores = resolve(SCORES)(self.predicted, vectors, np.searchsorted(owner, target), kind="cosine")
        return *resolve(OWN_CAPTION)(scores, owner, target), np.bincount(owner)[target]


def _view(part: Part, name: str, track: Track, source: Source | None) -> _View:
    n = len(part.items.ids)
    if name != "reconstruction":
        true = np.asarray(part.truth.embeddings[track.space], np.float32)
        predicted = part.predictions.embeddings.get(track.space)
        if predicted is None:  # class scores only: an empty vector
            predicted = np.zeros((n, 0), np.float32)
        elif predicted.shape != true.shape:
            raise BenchError(f"embeddings[{track.space}] has shape {predicted.shape}, expected {true.shape}")
        if not (np.isfinite(true).all() and np.isfinite(predicted).all()):
            raise BenchError(f"embeddings[{track.space}]: NaN or infinity in the truth or the prediction")
        return _View(part, true, np.asarray(predicted), KIND[name], track.space, source)
    true, predicted = np.asarray(part.truth.images), np.asarray(part.predictions.images)
    flat = (np.asarray(x.reshape(n, -1), np.float32) / np.float32(255) for x in (true, predicted))
    return _View(part, *flat, "pearson")


def _of_features(metric, view: _View, source: Source | None) -> _View:
    """Return a view whose rows are a frozen model's features of the pictures, and the centre that of the true ones."""
    true, predicted = of_pictures(metric.features, view.part.truth, view.part.pictures(metric.protocol), source)
    part = dataclasses.replace(view.part, centre=true.mean(0, dtype=np.float64))
    return _View(part, true, predicted, view.similarity)


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
        value = metric.function(np.asarray(view.part.truth.images), view.part.pictures(metric.protocol))
        rows.append((view.part.fold, view.part.fold, view.part.items.ids, value))
    return rows, []


def _scores(metric, views):
    rows, chances = [], []
    for view in views:
        scores, target = view.published_scores if metric.gallery == "published-all" else view.candidate_scores
        rows.append((view.part.fold, view.part.fold, view.part.items.ids, metric.function(scores, target)))
        chances += [metric.chance(scores.shape[1])] if metric.chance else []
    return rows, chances


def _categories(metric, views):
    """One value per category: the mean over its items, of all folds."""
    rows, chances = _scores(metric, views)
    names = []
    for view in views:
        attributes = view.part.truth.attributes
        column = next((attributes[name] for name in CATEGORIES if name in attributes), None)
        if column is None or np.ndim(column) != 1:
            raise ValueError("no categories")
        names.append(np.asarray(column).astype(str))
    categories, group = np.unique(np.concatenate(names), return_inverse=True)
    value = np.bincount(group, np.concatenate([row[3] for row in rows])) / np.bincount(group)
    return [("all", "all", [f"category {name}" for name in categories], value)], chances


def _hubs(metric, views):
    values = [metric.function(view.candidate_scores[0]) for view in views]
    return [(view.part.fold, view.part.fold, ["all"], value) for view, value in zip(views, values, strict=True)], []


def _pools(metric, views):
    rows, chances = [], []
    for view in views:
        first, target = view.candidates
        value = metric.function(view.predicted, view.true[first], target)
        rows.append((view.part.fold, view.part.fold, view.part.items.ids, value))
        chances.append(metric.chance(len(first)))
    return rows, chances


def _pool_note(largest: int, views: Sequence[_View]) -> str:
    """Return what the pools of a run were; only pools of the full size are called by it."""
    sizes = sorted({min(largest, len(view.candidates[0])) for view in views})
    if sizes == [largest]:
        return f"{largest}-pool: pools of {largest} test images"
    return f"not the {largest}-pool: one pool of all test images, {' or '.join(map(str, sizes))}"


def _texts(metric, views):
    rows, chances = [], []
    for view in views:
        scores, target, n_own = view.caption_scores
        rows.append((view.part.fold, view.part.fold, view.part.items.ids, metric.function(scores, target)))
        counts, n = np.unique(n_own, return_counts=True)
        chance = [metric.chance(scores.shape[1], int(count)) for count in counts]
        chances.append(float(np.average(chance, weights=n)))
    return rows, chances


def _captions(metric, views):
    """Values of a corpus score: all folds are one corpus."""
    if any(view.part.predictions.captions is None for view in views):
        raise NotPredicted("captions")
    if any(view.part.truth.captions is None for view in views):
        raise ValueError("no reference captions")
    true = [texts for view in views for texts in view.part.truth.captions]
    value = metric.function(true, [text for view in views for text in view.part.predictions.captions])
    ends = np.cumsum([len(view.part.items.ids) for view in views])
    parts = zip(views, np.split(value, ends[:-1]), strict=True)
    return [(view.part.fold, view.part.fold, view.part.items.ids, part) for view, part in parts], []


def _dimensions(metric, views):
    value = metric.function(*(np.concatenate([getattr(v, side) for v in views]) for side in ("true", "predicted")))
    return [("all", "all", [f"dim{i:05d}" for i in range(len(value))], value)], []


def _set(metric, views):
    value = metric.function(np.concatenate([v.predicted for v in views]))
    return [("all", "all", ["all"], value)], []


_KINDS: dict[str, Callable] = {
    "vectors": _vectors,
    "images": _images,
    "scores": _scores,
    "categories": _categories,
    "hubs": _hubs,
    "pools": _pools,
    "texts": _texts,
    "captions": _captions,
    "dimensions": _dimensions,
    "set": _set,
}
_NEED_VECTORS = ("vectors", "dimensions", "set", "pools", "texts")
