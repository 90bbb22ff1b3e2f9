"""Predictions made elsewhere: put in the split's order, and scored as a run like any other."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.api import Method, Predictions
from benchmark.data.overlap import trained_on_fault
from benchmark.errors import BenchError
from benchmark.external_files import Files, Given, as_pictures, checksum, numbered, row_of_item

TAG, UNSTATED = "external predictions", "training data not stated"


class External(Method):
    """Predictions that another pipeline made; nothing is trained here."""

    name = "external"

    @dataclass(frozen=True)
    class Params:
        """Checksum of the files, and what the pipeline is said to have been trained on."""

        predictions: str = ""
        trained_on: str = ""

    @property
    def tags(self) -> tuple[str, ...]:
        """What every row carries."""
        return (TAG,) if self.params.trained_on else (TAG, UNSTATED)


def track_of(given: Given, asked: str | None, tracks: Mapping[str, Any]) -> str:
    """Return the track that predictions stand in: pictures or vectors, and ``--track`` where several take vectors."""
    fit = [name for name in tracks if (name == "reconstruction") == given.pictures]
    if asked in fit:
        return asked
    what = "pictures" if given.pictures else "vectors"
    if asked or len(fit) != 1:
        found = f"--track {asked}: {given.path} holds {what}" if asked else f"{given.path}: holds {what}"
        raise BenchError(f"{found}, expected predictions for {' or '.join(fit or tracks)}")
    return fit[0]


def plan(registry, request, name: str, tracks: Sequence[str], files: Files, trained_on: str):
    """Return the planned run that these predictions become.

    The run id comes of the files, the dataset, the split and what is asked of them.
    """
    from benchmark import plan as planning
    from benchmark.registry import Entry

    if name in registry.names("method"):
        raise BenchError(f"--name {name}: {registry.get('method', name).origin} has a method of that name")
    meta = {"tracks": tuple(tracks), "source": TAG}
    registry.add(Entry("method", name, "benchmark.external:External", "--name", meta=meta))
    params = {"predictions": checksum(files), "trained_on": trained_on}
    runs = planning.plan(registry, dataclasses.replace(request, methods=(name,), overrides=params))
    if len(runs) > 1:
        found = ", ".join(f"{r.spec.dataset} {r.spec.split} {r.spec.subject}" for r in runs)
        raise BenchError(f"predictions are for one test set, found {found}: expected --dataset, --subject and --split")
    return runs[0]


def task_of(registry, request):
    """Return the suite's only task for the dataset and split asked for."""
    from benchmark.plan import choose_suite

    suite = choose_suite(registry, request)
    tasks = [task for task in suite.tasks if request.dataset in (None, task.dataset)]
    if len(tasks) != 1:
        known = ", ".join(f"{task.dataset} ({task.split})" for task in suite.tasks)
        option = "--dataset, and --split instead of --suite" if tasks else "--dataset"
        raise BenchError(f"suite {suite.name} has {known}, expected one of them named with {option}")
    return tasks[0]


def folds_of(job) -> tuple[list, list[str], list[str]]:
    """Return the folds of a run, the id of every test item, and these ids in the split's order.

    An item's id is that of its stimulus where each is shown once. The split's order is then that of its list of test
    stimuli; elsewhere it is the order of the test responses.
    """
    from benchmark.data import prepare
    from benchmark.data.locate import load

    dataset = load(job.dataset, job.root, job.cache)
    folds = prepare.folds(dataset, job.split, job.spec.subject)
    items = [prepare.test_items(fold) for fold in folds]
    stimuli = np.concatenate([dataset.stimuli.ids[i.stimulus] for i in items]).tolist()
    if len(set(stimuli)) < len(stimuli):
        full = np.concatenate([i.ids for i in items]).tolist()
        return folds, full, full
    if job.split.unit != "stimulus":
        return folds, stimuli, stimuli
    shown = set(stimuli)
    return folds, stimuli, [i for fold in job.split.for_subject(job.spec.subject) for i in fold.test if i in shown]


def stage(planned, contents: Mapping[str, Given], files: Files, folder: Path, device: str = "cpu") -> str:
    """Check predictions and write them to ``folder`` as a run's own; returns a sentence on their order, or "".

    Parameters
    ----------
    planned : Planned
    contents : mapping of str to Given
        By track.
    files : Files
    folder : Path
        Where the folds' folders go.
    device : str
        Where a frozen model makes the target vectors.
    """
    from benchmark import worker
    from benchmark.data import prepare
    from benchmark.frozen import Source, with_space

    job = planned.job
    folds, items, listed = folds_of(job)
    stated = job.params["trained_on"]
    if fault := trained_on_fault(stated, f"{job.spec.dataset}/{job.spec.split}", listed):
        raise BenchError(f"--trained-on {stated}: {fault}")
    contents = {track: numbered(given, items, files) for track, given in contents.items()}
    place = {track: row_of_item(given, items, listed, files) for track, given in contents.items()}
    models = Source(job.spec.profile, job.cache, job.weights, device)
    space = next((job.tracks[track].space for track in contents if job.tracks[track].space), None)
    truths = [with_space(prepare.truth(fold), space, models) for fold in folds]
    fields: dict[str, Any] = {}
    for track, given in contents.items():
        if track == "reconstruction":
            fields["images"] = as_pictures(given.path, given.rows, truths[0].images.shape[-1])[place[track]]
        else:
            d = truths[0].embeddings[space].shape[1]
            if given.rows.shape[1] != d:
                raise BenchError(
                    f"{given.path}: vectors of {given.rows.shape[1]} dimensions, the space {space} has {d}"
                )
            with np.errstate(over="ignore"):  # infinity is refused below
                fields["embeddings"] = {space: given.rows[place[track]].astype(np.float32)}
    predictions = worker.validate(Predictions(**fields), len(items), frozenset(contents), space)
    notes = {}
    for track in contents:
        if found := _order_note(track, space, folds, truths, predictions, models, np.argsort(place[track])):
            notes[f"order ({track})"] = found
    end = 0
    for fold in folds:
        ids = prepare.test_items(fold).ids
        part, end = slice(end, end + len(ids)), end + len(ids)
        mine = Predictions(
            images=None if predictions.images is None else predictions.images[part],
            embeddings={k: v[part] for k, v in predictions.embeddings.items()},
            notes={**predictions.notes, **notes},
        )
        worker.save(mine, folder / fold.name, ids)
        if space is not None:
            np.save(folder / fold.name / "centre.npy", centre(fold, space, models))
    return "; ".join(f"{track}: {text}" if len(notes) > 1 else text for track, text in notes.items())


def place(job, report: Callable[[str], None]) -> dict[str, Any]:
    """Put staged predictions into a run's directory, in the place of training and prediction."""
    report("copy")
    shutil.copytree(job.options["staged"], job.scratch / "predictions")
    return {"seconds": {}, "trained_on": job.params["trained_on"] or None}


def _order_note(track: str, space, folds, truths, predictions: Predictions, models, order: np.ndarray) -> str:
    """Return what `alignment.note` finds, in the order that the rows were given in."""
    from benchmark import alignment

    rng, fold = np.random.default_rng(0), folds[0]
    train = _train_rows(fold) if len(folds) == 1 and fold.split.unit == "stimulus" else np.arange(0)
    train = np.sort(rng.permutation(train)[: 4 * len(order)])  # more would not make the comparison finer
    if track != "reconstruction":
        true = np.concatenate([truth.embeddings[space] for truth in truths])
        predicted = predictions.embeddings[space]
        spare = _targets(fold, space, models, train) if len(train) else None
    else:
        size = truths[0].images.shape[1:3]
        true = np.concatenate([alignment.small(truth.images, *size) for truth in truths])
        predicted = alignment.small(predictions.images, *size)
        spare = alignment.small(fold.dataset.stimuli.images[train], *size) if len(train) else None
    return alignment.note(true[order], predicted[order], spare, rng)


def centre(fold, space: str, models) -> np.ndarray:
    """Return what centred metrics subtract: the mean target of the training stimuli, shape (d,)."""
    return _targets(fold, space, models, _train_rows(fold)).mean(0, dtype=np.float64)


def _train_rows(fold) -> np.ndarray:
    from benchmark.data import prepare

    return np.flatnonzero(np.isin(fold.dataset.stimuli.ids, prepare.train_stimuli(fold)))


def _targets(fold, space: str, models, rows: np.ndarray) -> np.ndarray:
    """Return target vectors of stimuli, made in blocks where a frozen model makes them."""
    stimuli = fold.dataset.stimuli
    if space in stimuli.embeddings:
        return np.asarray(stimuli.embeddings[space])[rows].astype(np.float32, copy=False)
    blocks = np.array_split(rows, -(-len(rows) // 512))
    return np.concatenate([models.features(space, stimuli.images[block]) for block in blocks])
