"""The ladder of a reconstruction method: what each stage reaches, and in words where the loss happens.

Rungs are the same scores for pictures made from the true features (what the generator can do at most),
for the predicted ones, for these against other pictures' truth, and for the stages before the last.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.api import Models, Predictions, Responses, Stimuli, TrainSet, item_seeds
from benchmark.registry import resolve
from benchmark.scoring import Part, score
from benchmark.suites import Track

TRUE, PREDICTED, DERANGED, PERMUTED = "true features", "predicted", "derangement", "permuted training"
ORACLE = "best candidate by the target (oracle)"
TWO_WAY = "metrics.identification:two_way"
# Below this, two-way identification from true features means that the generator, not the regression, is at fault.
GENERATOR_WORKS = 0.75


def rungs(
    parts: Sequence[Part], method: Any, seed: int, models: Models, permuted: Sequence[Predictions] = ()
) -> dict[str, list[Part]]:
    """Return the parts to score by rung; the predictions themselves are the rung ``predicted``.

    Parameters
    ----------
    parts : sequence of Part
        Folds with predictions that have ``features``.
    method : Reconstructor
        Untrained: ``stimulus_features`` and ``generate`` do not depend on training.
    seed : int
    models : Models
    permuted : sequence of Predictions
        Of the same method trained on permuted pairs, one a fold; may be empty.
    """
    found: dict[str, list[Part]] = {TRUE: [], PREDICTED: list(parts), DERANGED: []}
    for number, part in enumerate(parts):
        features = method.stimulus_features(_unscored(part.truth), models)
        made = method.generate(features, item_seeds(seed, len(part.items)), models)
        found[TRUE].append(_with(part, dataclasses.replace(made, features=features)))
        found[DERANGED].append(dataclasses.replace(part, truth=part.truth.take(derangement(part.truth.ids, seed))))
        prefix = getattr(method, "candidates", "")
        for kind, source in ((TRUE, made), (PREDICTED, part.predictions)):
            for name, pictures in source.intermediates.items():
                if kind == TRUE and prefix and name.startswith(prefix):  # all the same from true features
                    continue
                if np.ndim(pictures) == 4 and np.asarray(pictures).dtype == np.uint8:
                    stage = _with(part, Predictions(images=np.asarray(pictures)))
                    found.setdefault(f"{kind}, {name}", []).append(stage)
        if prefix:
            best = _best_by_target(part, prefix, models)
            found.setdefault(ORACLE, []).append(_with(part, Predictions(images=best)))
        if permuted:
            found.setdefault(PERMUTED, []).append(_with(part, permuted[number]))
    return found


def climb(
    rungs: Mapping[str, Sequence[Part]],
    table: dict[str, list],
    track: Track,
    metrics: Mapping[str, Any],
    models: Models,
    comparisons: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """Score every rung.

    Parameters
    ----------
    rungs : mapping of str to sequence of Part
    table : dict of str to list
        The run's per-item scores.
    track : Track
    metrics : mapping of str to Metric
    models : Models
    comparisons : sequence of (rung, rung)
        Pairs whose difference in the ranked metric is wanted.

    Returns
    -------
    dict
        ``rungs``: summaries by rung and metric; ``features``: mean two-way identification of predicted
        among true features by name; ``l1``: mean absolute error of features, and of what the method gives
        beside them (``feature@label``); ``comparisons``: paired differences with their 95 % interval;
        ``stage`` and ``verdict``: where the loss happens. The per-item
        scores of the rungs are appended to ``table`` as tracks ``reconstruction: <rung>``.
    """
    result: dict[str, Any] = {"rungs": {}}
    values: dict[str, np.ndarray] = {}
    for name, parts in rungs.items():
        if name == PREDICTED:
            mine = [
                (t, m) == ("reconstruction", track.ranked) for t, m in zip(table["track"], table["metric"], strict=True)
            ]
            values[name] = np.asarray(table["value"])[mine]
            continue
        rows, summary = score(parts, {"reconstruction": track}, metrics, models)
        result["rungs"][name] = summary["reconstruction"]
        mine = np.array(rows["metric"]) == track.ranked
        values[name] = np.asarray(rows["value"], float)[mine]
        rows["track"] = [f"reconstruction: {name}"] * len(rows["track"])
        for column, more in rows.items():
            table[column] += more
    features = _features(rungs[TRUE], rungs[PREDICTED])
    result["features"] = {name: float(found.mean()) for name, found in features.items()}
    result["l1"] = _absolute_errors(rungs[TRUE], rungs[PREDICTED])
    for a, b in comparisons:
        if a in values and b in values:
            difference = values[a] - values[b]
            low, high = _interval(difference)
            found = {"a": a, "b": b, "metric": track.ranked, "difference": float(difference.mean())}
            result.setdefault("comparisons", []).append(found | {"low": low, "high": high, "n": len(difference)})
    result["stage"], result["verdict"] = verdict(values[TRUE], values[PREDICTED], values[DERANGED], features)
    return result


def verdict(
    true: np.ndarray, predicted: np.ndarray, deranged: np.ndarray, features: Mapping[str, np.ndarray]
) -> tuple[str, str]:
    """Say where a method loses most.

    Parameters
    ----------
    true, predicted, deranged : ndarray of shape (n_items,)
        Two-way identification of pictures by rung.
    features : mapping of str to ndarray of shape (n_items,)
        Two-way identification of each predicted feature among the true ones; chance is .5.

    Returns
    -------
    stage : str
        ``"generator"``, ``"alignment"``, ``"regression"`` or ``"none"``.
    sentence : str
    """
    scores = f"pictures reach {true.mean():.3f} from true features, {predicted.mean():.3f} from predicted ones, "
    scores += f"{deranged.mean():.3f} against other pictures"
    if true.mean() < GENERATOR_WORKS or _low(true) <= _high(deranged):
        return "generator", f"generator: even true features do not give recognisable pictures ({scores})"
    at_chance = [name for name, found in features.items() if _low(found) <= 0.5]
    if len(at_chance) == len(features):
        why = "no predicted feature tells the test items apart, so responses and stimuli do not belong together"
        return "alignment", f"alignment: {why}, or there is no signal ({scores})"
    if at_chance:
        names = ", ".join(at_chance)
        why = f"{names} at chance while the other features are decoded, so these targets do not belong to the stimuli"
        return "alignment", f"alignment: {why} ({scores})"
    if _low(predicted) <= _high(deranged):
        decoded = ", ".join(f"{name} {found.mean():.3f}" for name, found in features.items())
        why = f"features are decoded (two-way {decoded}), but too poorly for pictures above chance"
        return "regression", f"regression: {why} ({scores})"
    lost, unmade = true.mean() - predicted.mean(), 1 - true.mean()
    if lost <= 0.01 and unmade <= 0.01:
        return "none", f"nothing is lost: {scores}"
    if lost >= unmade:
        return "regression", f"regression: most is lost between responses and features ({scores})"
    return "generator", f"generator: most is lost between features and pictures ({scores})"


def derangement(ids: np.ndarray, seed: int) -> np.ndarray:
    """Return a permutation that gives no item its own stimulus (one that is there once at least).

    Items are put in random order of stimuli and shifted by the count of the most frequent stimulus.
    """
    _, stimulus, counts = np.unique(ids, return_inverse=True, return_counts=True)
    place = np.random.default_rng(seed).permutation(len(counts))
    order = np.argsort(place[stimulus], kind="stable")
    result = np.empty(len(ids), int)
    result[order] = np.roll(order, -int(counts.max()))
    return result


def train_permuted(method: Any, train: TrainSet, test: Responses, seed: int, device: str, workdir: Path) -> Predictions:
    """Train on pairs that do not belong together: what the generator draws without any signal."""
    folder = workdir / "permuted"
    folder.mkdir()
    stimulus = np.random.default_rng(seed).permutation(train.stimulus)
    method.train(dataclasses.replace(train, stimulus=stimulus), seed=seed, device=device, workdir=folder)
    return method.predict(test)


def _with(part: Part, predictions: Predictions) -> Part:
    return dataclasses.replace(part, predictions=predictions)


def _unscored(truth: Stimuli) -> Stimuli:
    """Return the stimuli as a method may see them: attributes are for metrics only."""
    return dataclasses.replace(truth, attributes={})


def _features(true: Sequence[Part], predicted: Sequence[Part]) -> dict[str, np.ndarray]:
    two_way = resolve(TWO_WAY)
    found: dict[str, list[np.ndarray]] = {}
    for one, other in zip(true, predicted, strict=True):
        n = len(one.items)
        for name, values in other.predictions.features.items():
            pair = (np.asarray(x, np.float32).reshape(n, -1) for x in (one.predictions.features[name], values))
            found.setdefault(name, []).append(two_way(*pair))
    return {name: np.concatenate(values) for name, values in found.items()}


def _absolute_errors(true: Sequence[Part], predicted: Sequence[Part]) -> dict[str, float]:
    """Return mean absolute errors of predicted features, and of intermediates called ``feature@label``."""
    found: dict[str, list[float]] = {}
    for one, other in zip(true, predicted, strict=True):
        guesses = {**other.predictions.features}
        guesses |= {k: v for k, v in other.predictions.intermediates.items() if "@" in k}
        for name, values in guesses.items():
            table = np.asarray(one.predictions.features[name.partition("@")[0]], np.float32)
            found.setdefault(name, []).append(float(np.abs(table - np.asarray(values, np.float32)).mean()))
    return {name: float(np.mean(values)) for name, values in found.items()}


def _best_by_target(part: Part, prefix: str, models: Models) -> np.ndarray:
    """Return, for every item, the stage picture that is most like the stimulus (CLIP): an upper bound, no method."""
    stages = [np.asarray(v) for k, v in part.predictions.intermediates.items() if k.startswith(prefix)]
    if not stages:
        return np.asarray(part.predictions.images)
    clip = models.load("clip")
    true = clip.encode_image(np.asarray(part.truth.images))
    similarity = np.stack([(clip.encode_image(pictures) * true).sum(1) for pictures in stages])
    return np.stack(stages)[similarity.argmax(0), np.arange(len(true))]


def _low(values: np.ndarray) -> float:
    return _interval(values)[0]


def _high(values: np.ndarray) -> float:
    return _interval(values)[1]


def _interval(values: np.ndarray) -> tuple[float, float]:
    """Return the 95 % t interval of a mean over items."""
    from scipy import stats

    mean = float(np.mean(values))
    if len(values) < 2:
        return -np.inf, np.inf
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return mean - half, mean + half
