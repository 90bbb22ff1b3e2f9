"""What happens inside a run's processes: train and predict in one, score in another."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.api import Predictions
from benchmark.data.locate import load
from benchmark.errors import BenchError
from benchmark.frozen import Source, with_space
from benchmark.registry import resolve
from benchmark.spec import RunSpec
from benchmark.store import write_json
from benchmark.suites import Track

Report = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """One run, as its processes need it.

    Attributes
    ----------
    spec : RunSpec
    params : mapping
        Values of the adapter's parameters by name.
    method, dataset : str
        Targets of the adapter and of the dataset's loader.
    split : object
        The split, checked.
    tracks : mapping of str to Track
        Tracks the run stands in.
    metrics : mapping of str to target
        Metrics of these tracks.
    root, cache, scratch : Path
        Dataset's folder (None where generated), cache folder, the run's temporary directory.
    device : str
        ``auto`` or a torch device.
    threads : int
    weights : Path or None
        Folder of pretrained weights.
    oracle : bool
        Whether ``predict`` is given the truth; decided with the tag, before the method runs.
    """

    spec: RunSpec
    params: Mapping[str, Any]
    method: str
    dataset: str
    split: Any
    tracks: Mapping[str, Track]
    metrics: Mapping[str, Any]
    root: Path | None
    cache: Path
    scratch: Path
    device: str = "auto"
    threads: int = 1
    weights: Path | None = None
    oracle: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


def train_and_predict(job: Job, report: Report) -> dict[str, Any]:
    """Train and predict every fold; save the predictions. Test targets are never loaded here.

    Returns
    -------
    dict
        ``seconds`` of training and prediction, the preparation report, device.
    """
    from benchmark import ladder
    from benchmark.data import prepare

    report("load")
    device = use_device(job.device, job.threads)
    seconds = {"features": 0.0, "train": 0.0, "predict": 0.0}
    dataset = load(job.dataset, job.root, job.cache)
    folds = prepare.folds(dataset, job.split, job.spec.subject)
    space = next((t.space for t in job.tracks.values() if t.space), None)
    reports, pace, trained = [], [], 0
    for number, fold in enumerate(folds):
        name = f" {number + 1}/{len(folds)}" if len(folds) > 1 else ""
        report(f"prepare{name}")
        train = prepare.train_set(fold, frozenset(job.tracks), space, job.cache)
        with stopwatch(seconds, "features"):
            models = source(job, device)
            train = replace(train, stimuli=with_space(train.stimuli, space, models), models=models)
        test = prepare.test_responses(fold)
        workdir = job.scratch if len(folds) == 1 else job.scratch / "folds" / fold.name
        workdir.mkdir(parents=True, exist_ok=True)
        method, seed = _made(job), prepare.fold_seed(job.spec.seed, fold)
        report(f"train{name}")
        with stopwatch(seconds, "train"):
            method.train(train, seed=seed, device=device, workdir=workdir)
        report(f"predict{name}")
        more = {}
        if job.oracle:
            more["truth"] = with_space(prepare.truth(fold), space, source(job, device))
        with stopwatch(seconds, "predict"):
            predictions = method.predict(test, **more)
        predictions = validate(predictions, len(test), frozenset(job.tracks), space)
        folder = job.scratch / "predictions" / fold.name
        save(predictions, folder, prepare.test_items(fold).ids)
        if space is not None:  # what centred metrics subtract: a fact of the training side
            np.save(folder / "centre.npy", train.stimuli.embeddings[space].mean(0, dtype=np.float64))
        if job.options.get("ladder") == "full" and predictions.features:
            report(f"permuted training{name}")
            permuted = ladder.train_permuted(_made(job), train, test, seed, device, workdir)
            save(permuted, job.scratch / "ladder" / fold.name, prepare.test_items(fold).ids)
        pace += [method.training] if getattr(method, "training", None) else []
        reports.append(asdict(fold.report))
        trained += len(train)
    facts = {"preparation": reports, "device": device, "n_train": trained, "cpu_seconds": time.process_time()}
    return {"seconds": seconds, **facts, **({"training": pace} if pace else {}), **preloaded()}


def score(job: Job, report: Report) -> dict[str, Any]:
    """Score saved predictions against the truth; write ``scores.parquet`` and ``scores.json``."""
    from benchmark import figures, ladder, scoring
    from benchmark.data import prepare

    report("score")
    device = use_device(job.device, job.threads)
    seconds = {"score": 0.0}
    with stopwatch(seconds, "score"):
        dataset = load(job.dataset, job.root, job.cache)
        folds = prepare.folds(dataset, job.split, job.spec.subject)
        space = next((t.space for t in job.tracks.values() if t.space), None)
        metrics = {name: resolve(target) for name, target in job.metrics.items()}
        published = any(metric.gallery == "published-all" for metric in metrics.values())
        models, parts = source(job, device), []
        for fold in folds:
            items = prepare.test_items(fold)
            folder = job.scratch / "predictions" / fold.name
            predictions = restore(folder)
            saved = json.loads((folder / "items.json").read_text("utf-8"))
            if list(items.ids) != saved:
                raise BenchError(f"{folder}: the predictions are for other test items than the split's")
            truth = with_space(prepare.truth(fold), space, models)
            centre = np.load(folder / "centre.npy", allow_pickle=False) if space is not None else None
            gallery = with_space(dataset.stimuli, space, models) if published else None
            trained = prepare.train_stimuli(fold) if fold.split.unit == "stimulus" else None
            parts.append(scoring.Part(fold.name, items, truth, predictions, centre, gallery, trained))
        table, summary = scoring.score(parts, job.tracks, metrics, models)
        more, rungs = {"items": scoring.item_values(table, job.tracks)}, {}
        climbs = "reconstruction" in job.tracks and job.options.get("ladder") != "off"
        if climbs and any(part.predictions.features for part in parts):
            report("ladder")
            folders = [job.scratch / "ladder" / part.fold for part in parts]
            permuted = [restore(folder) for folder in folders if folder.is_dir()]
            method, track = _made(job), job.tracks["reconstruction"]
            rungs = ladder.rungs(parts, method, job.spec.seed, models, permuted)
            pairs = getattr(method, "comparisons", ())
            more["ladder"] = ladder.climb(rungs, table, track, metrics, models, pairs)
        if job.options.get("figures"):
            report("figures")
            figures.write_test_log(job.scratch, more.get("ladder", {}).get("l1", {}))
            more["figures"] = figures.of_run(job.scratch, parts, scoring.rankings(parts, job.tracks), rungs)
        if notes := {name: value for part in parts for name, value in part.predictions.notes.items()}:
            more["notes"] = notes
        scoring.write(job.scratch, table, summary, job.options["score_id"], **more)
    return {"seconds": seconds, "cpu_seconds": time.process_time()}


def _made(job: Job) -> Any:
    """Return the adapter with its parameters; a plugin is imported here, before they are made."""
    cls = resolve(job.method)
    return cls(cls.Params(**job.params)) if hasattr(cls, "Params") else cls()


def use_device(device: str, threads: int) -> str:
    """Set the number of threads and return the device to use, chosen by capability.

    Linear algebra of numpy and scipy gets as many: with another number it adds in another order, which moves what is
    trained on a PCA in the third digit.
    """
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    threadpool_limits(threads)
    # of libraries that are not loaded yet, as scipy's own
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads)))
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return next(name for name, found in there.items() if found)
    if not there[device.partition(":")[0]]:
        raise BenchError(f"--device {device}: this machine has none")
    return device


def validate(predictions: Predictions, n: int, tracks: frozenset[str], space: str | None) -> Predictions:
    """Refuse predictions of a wrong shape or with NaN, and a track that nothing was predicted for.

    Black pictures, as safety checkers and overflows make them, are counted in the notes.
    """
    if not hasattr(predictions, "embeddings"):
        raise BenchError(f"predict returned {type(predictions).__name__}, expected benchmark.Predictions")
    named = {f"embeddings[{k}]": v for k, v in predictions.embeddings.items()}
    named |= {f"intermediates[{k}]": v for k, v in predictions.intermediates.items()}
    named |= {f"features[{k}]": v for k, v in predictions.features.items()}
    named |= {k: v for k in ("images", "class_scores", "captions") if (v := getattr(predictions, k)) is not None}
    for name, value in named.items():
        if len(value) != n:
            raise BenchError(f"{name} has {len(value)} rows, expected {n}, one per test item")
        if name == "captions":
            continue
        value = np.asarray(value)
        if name == "images" and (value.dtype != np.uint8 or value.ndim != 4 or value.shape[-1] not in (1, 3)):
            raise BenchError(f"images are {value.dtype} {value.shape}, expected uint8 (n, height, width, 1 or 3)")
        if name != "images" and value.ndim < 2:
            raise BenchError(f"{name} has shape {value.shape}, expected one vector per test item")
        if not np.issubdtype(value.dtype, np.number):
            raise BenchError(f"{name} holds {value.dtype}, expected numbers")
        bad = ~np.isfinite(value.reshape(n, -1)).all(axis=1)
        if bad.any():
            raise BenchError(f"{name} holds NaN or infinity in {bad.sum()} of {n} rows")
    if predictions.images is not None and (black := int((np.asarray(predictions.images).max((1, 2, 3)) == 0).sum())):
        predictions = replace(predictions, notes={**predictions.notes, "black pictures": black})
    n_classes = 0 if predictions.class_ids is None else len(predictions.class_ids)
    if predictions.class_scores is not None and np.shape(predictions.class_scores)[1] != n_classes:
        raise BenchError("class_scores needs class_ids, one stimulus id per column")
    have = {
        "words": predictions.class_scores is not None or space in predictions.embeddings,
        "embedding": space in predictions.embeddings,
        "reconstruction": predictions.images is not None,
    }
    for track in sorted(tracks):
        if not have[track]:
            raise BenchError(f"nothing for the {track} track" + (f" (space {space})" if space else ""))
    return predictions


def save(predictions: Predictions, folder: Path, items: np.ndarray) -> None:
    """Write predictions as plain arrays, floats as float32."""
    folder.mkdir(parents=True)
    arrays = {f"embeddings.{k}": v for k, v in predictions.embeddings.items()}
    arrays |= {f"intermediates.{k}": v for k, v in predictions.intermediates.items()}
    arrays |= {f"features.{k}": v for k, v in predictions.features.items()}
    arrays |= {k: getattr(predictions, k) for k in ("images", "class_scores") if getattr(predictions, k) is not None}
    for name, value in arrays.items():
        value = np.asarray(value)
        np.save(folder / f"{name}.npy", value.astype(np.float32) if value.dtype.kind == "f" else value)
    if predictions.notes:
        write_json(folder / "notes.json", dict(predictions.notes))
    for name, value in {"class_ids": predictions.class_ids, "captions": predictions.captions, "items": items}.items():
        if value is not None:
            (folder / f"{name}.json").write_text(json.dumps([str(v) for v in value]), "utf-8")


def restore(folder: Path) -> Predictions:
    """Read what ``save`` wrote, memory-mapped."""
    arrays = {p.name[:-4]: np.load(p, mmap_mode="r", allow_pickle=False) for p in sorted(folder.glob("*.npy"))}
    lists = {p.name[:-5]: json.loads(p.read_text("utf-8")) for p in folder.glob("*.json")}

    def group(prefix: str) -> dict[str, np.ndarray]:
        return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

    return Predictions(
        embeddings=group("embeddings."),
        images=arrays.get("images"),
        class_scores=arrays.get("class_scores"),
        class_ids=np.array(lists["class_ids"]) if "class_ids" in lists else None,
        captions=lists.get("captions"),
        intermediates=group("intermediates."),
        features=group("features."),
        notes=lists.get("notes", {}),
    )


def source(job: Job, device: str) -> Source:
    """Return the frozen models of a run."""
    return Source(job.spec.profile, job.cache, job.weights, device)


@contextmanager
def stopwatch(seconds: dict[str, float], name: str):
    """Add the wall time of a block to ``seconds[name]``."""
    began = time.perf_counter()
    yield
    seconds[name] += time.perf_counter() - began


def preloaded() -> dict[str, bool]:
    """Say whether the process started with the heavy imports done (a failed preload is silent)."""
    import sys

    module = sys.modules.get("benchmark.executors.preload")
    return {"preloaded": bool(getattr(module, "complete", False))}
