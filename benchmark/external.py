"""Predictions made elsewhere: read, put in the split's order, and scored as a run like any other."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.api import Method, Predictions
from benchmark.errors import BenchError
from benchmark.spec import digest

TAG, UNSTATED = "external predictions", "training data not stated"
PICTURES = (".png", ".jpg", ".jpeg")
TENSORS = (".npy", ".npz", ".pt", ".pth")
_EXPECTED = "expected a folder of pictures, or .npy, .npz or .pt"


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


@dataclass(frozen=True)
class Files:
    """What was given on the command line.

    Attributes
    ----------
    paths : tuple of Path
        Pictures or vectors, one path per track.
    ids : Path or None
        Ids of the test items in the order of rows.
    in_order : bool
        Whether rows are said to be in the split's order.
    key : str or None
        Which array of a file with several.
    """

    paths: tuple[Path, ...]
    ids: Path | None = None
    in_order: bool = False
    key: str | None = None


@dataclass(frozen=True, eq=False)
class Given:
    """The content of one path: rows, and what says which item each belongs to.

    Attributes
    ----------
    path : Path
    rows : ndarray of shape (n, d), (n, height, width, channels) or (n, channels, height, width)
    names : list of str or None
        Names of picture files.
    ids : list of str or None
        Ids within the file.
    """

    path: Path
    rows: np.ndarray
    names: list[str] | None = None
    ids: list[str] | None = None

    @property
    def pictures(self) -> bool:
        """Whether the rows are pictures, by their number of axes."""
        if self.rows.ndim not in (2, 4):
            raise BenchError(
                f"{self.path}: shape {self.rows.shape}, expected vectors (n, d) or pictures (n, height, width, "
                "channels) or (n, channels, height, width)"
            )
        return self.rows.ndim == 4


def read(path: Path, key: str | None = None) -> Given:
    """Read predictions as other pipelines write them; nothing is unpickled.

    Parameters
    ----------
    path : Path
        Folder of PNG or JPEG pictures, ``.npy``, ``.npz`` (an array ``ids`` in it names the rows), or ``.pt`` with a
        tensor or a dictionary of tensors.
    key : str, optional
        Which array of a file with several.

    Raises
    ------
    BenchError
        A path that is not there, is damaged, or holds something else.
    """
    from benchmark.data.files import Pictures, read_array

    if path.is_dir():
        names = _pictures(path)
        if not names:
            raise BenchError(f"{path}: holds no picture, {_EXPECTED}")
        for name in names:
            _refuse_alpha(path / name)
        pictures = Pictures(path, names)
        first = pictures[0]
        rows = np.empty((len(names), *first.shape), np.uint8)
        for row in range(len(names)):  # files are opened one by one
            rows[row] = pictures[row]
        return Given(path, rows, names=names)
    if not path.is_file() or path.suffix not in TENSORS:
        raise BenchError(f"{path}: {'unknown kind of file' if path.is_file() else 'no such file'}, {_EXPECTED}")
    if path.suffix == ".npy":
        return Given(path, _numbers(path, read_array(path.parent, path.name, "predictions")))
    arrays = _archive(path) if path.suffix == ".npz" else _tensors(path)
    ids = arrays.pop("ids", None)
    name = key or (next(iter(arrays)) if len(arrays) == 1 else None)
    if name not in arrays:
        raise BenchError(f"{path}: holds {', '.join(arrays) or 'no array'}, expected --key to name one of its arrays")
    return Given(path, _numbers(path, arrays[name]), ids=None if ids is None else [str(value) for value in ids])


def read_ids(path: Path) -> list[str]:
    """Return the ids in a JSON list, in lines of text, or in the column ``stimulus_id`` (or the only one) of a CSV."""
    from benchmark.data.files import read_json, read_table

    if path.suffix == ".json":
        values = read_json(path)
        if not isinstance(values, list) or not all(isinstance(v, (str, int)) for v in values):
            raise BenchError(f"{path}: expected a list of stimulus ids in the order of rows")
        return [str(value) for value in values]
    if path.suffix == ".csv":
        columns = read_table(path.parent, path.name).columns
        name = "stimulus_id" if "stimulus_id" in columns else next(iter(columns))
        if name != "stimulus_id" and len(columns) > 1:
            raise BenchError(f"{path}: columns are {', '.join(columns)}, expected one named stimulus_id")
        return columns[name].tolist()
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(f"{path}: cannot be read ({error}), expected stimulus ids, one per line") from None
    return [line.strip() for line in lines if line.strip()]


def row_of_item(given: Given, items: Sequence[str], listed: Sequence[str], files: Files) -> np.ndarray:
    """Return the row of every test item; every way the ids could be wrong is refused.

    Parameters
    ----------
    given : Given
        Numbered pictures in the order of their numbers.
    items : sequence of str
        Id of every test item, each once.
    listed : sequence of str
        The same ids in the split's order.
    files : Files
    """
    path, n = given.path, len(given.rows)
    if n != len(items):
        raise BenchError(f"{path}: {n} predictions, expected {len(items)}, one per test item")
    where = path
    if files.in_order:
        ids = list(listed)
    elif files.ids:
        ids, where = read_ids(files.ids), files.ids
    elif given.names is not None:
        ids = _ids_in_names(path, given.names, items)
    elif given.ids is not None:
        ids = given.ids
    else:
        raise BenchError(
            f"{path}: its rows have no ids, expected --ids FILE with the stimulus id of every row, or --order split to "
            "say that they are in the split's order (bench score --show-ids prints it)"
        )
    if len(ids) != n:
        raise BenchError(f"{where}: {len(ids)} ids, expected {n}, one for every prediction")
    place = {value: row for row, value in enumerate(ids)}
    if len(place) < n:
        twin = next(value for row, value in enumerate(ids) if place[value] != row)
        raise BenchError(f"{where}: id {twin!r} is there twice, expected the id of every test item once")
    known = set(items)
    if strange := [value for value in ids if value not in known]:
        missing = next(value for value in listed if value not in place)
        raise BenchError(
            f"{where}: {len(strange)} of its ids are no test item's, the first is {strange[0]!r}, expected {missing!r} "
            "among them (bench score --show-ids prints all)"
        )
    return np.array([place[value] for value in items])


def as_pictures(path: Path, rows: np.ndarray, channels: int) -> np.ndarray:
    """Return pictures as uint8 (n, height, width, channels).

    Floats must lie in [0, 1] and are rounded to 255 steps; whole numbers must be uint8. Channels may come first; grey
    is repeated for a colour dataset; colour is taken as grey only where all channels are equal.
    """
    last, first = rows.shape[-1] in (1, 3), rows.shape[1] in (1, 3)
    if last == first:
        what = "channels could be the second or the last axis" if last else "no axis of 1 or 3 channels (no alpha)"
        raise BenchError(f"{path}: shape {rows.shape}, {what}, expected (n, height, width, 1 or 3)")
    rows = rows if last else np.moveaxis(rows, 1, -1)
    if rows.dtype.kind == "f":
        low, high = rows.min(), rows.max()
        if low < 0 or high > 1:
            raise BenchError(f"{path}: pixels from {low:g} to {high:g}, expected floats in [0, 1] or uint8")
        rows = np.rint(rows * np.float32(255)).astype(np.uint8)
    elif rows.dtype != np.uint8:
        raise BenchError(f"{path}: pixels of type {rows.dtype}, expected floats in [0, 1] or uint8")
    elif rows.max() <= 1:
        raise BenchError(f"{path}: no pixel is above {rows.max()}, expected uint8 pixels from 0 to 255")
    if rows.shape[-1] < channels:
        rows = rows.repeat(channels, axis=-1)
    elif rows.shape[-1] > channels:
        if (rows != rows[..., :1]).any():
            raise BenchError(f"{path}: coloured pictures, expected grey ones as the dataset's are")
        rows = rows[..., :1]
    return np.ascontiguousarray(rows)


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
    params = {"predictions": _checksum(files), "trained_on": trained_on}
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
    if files.ids or files.in_order:
        contents = {track: _numbered(given) for track, given in contents.items()}
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


def _numbers(path: Path, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "fiu" or values.size == 0:
        raise BenchError(f"{path}: {values.dtype} of shape {values.shape}, expected numbers")
    if values.dtype == np.float16:
        values = values.astype(np.float32)
    if values.dtype.kind == "f" and not (np.isfinite(values.min()) and np.isfinite(values.max())):
        raise BenchError(f"{path}: NaN or infinity, expected numbers")
    return values


def _archive(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # zipfile, zlib and numpy each have their own errors for a damaged archive
        raise BenchError(f"{path}: cannot be read ({type(error).__name__}), expected plain arrays") from None


def _tensors(path: Path) -> dict[str, np.ndarray]:
    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a file that is no archive of tensors makes the reader raise
        raise BenchError(f"{path}: cannot be read as plain tensors ({type(error).__name__}), expected some") from None
    found = found if isinstance(found, dict) else {"": found}
    ids = found.get("ids")
    tensors = {str(k): v.detach() for k, v in found.items() if isinstance(v, torch.Tensor)}
    arrays = {k: (v.float() if v.dtype in (torch.bfloat16, torch.float16) else v).numpy() for k, v in tensors.items()}
    return arrays | ({"ids": list(ids)} if isinstance(ids, (list, tuple)) else {})


def _refuse_alpha(path: Path) -> None:
    """Refuse a picture that is transparent somewhere: what would be seen depends on the ground."""
    from PIL import Image

    try:
        with Image.open(path) as file:
            opaque = "A" not in file.getbands() or file.getchannel("A").getextrema()[0] == 255
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return  # said where it is read
    if not opaque:
        raise BenchError(f"{path}: transparent pixels, expected an opaque picture")


def _ids_in_names(path: Path, names: Sequence[str], expected: Sequence[str]) -> list[str]:
    """Return the test item's id that each file name carries, as a whole word."""
    known = set(expected)
    words = "|".join(re.escape(value) for value in sorted(known, key=len, reverse=True))
    pattern = re.compile(rf"(?<![0-9A-Za-z])(?:{words})(?![0-9A-Za-z])")
    found = []
    for name in names:
        stem = Path(name).stem
        ids = {stem} if stem in known else set(pattern.findall(stem))
        if len(ids) != 1:
            what = f"carries the ids {' and '.join(sorted(ids))}" if ids else "carries no test item's id"
            raise BenchError(
                f"{path / name}: its name {what}, expected one such as {expected[0]!r}, or --ids FILE or --order split "
                "for pictures numbered in that order"
            )
        found.append(ids.pop())
    return found


def _numbered(given: Given) -> Given:
    """Return pictures in the order of the one number in each name."""
    if given.names is None:
        return given
    numbers = [re.findall(r"\d+", Path(name).stem) for name in given.names]
    for name, found in zip(given.names, numbers, strict=True):
        if len(found) != 1:
            raise BenchError(f"{given.path / name}: {len(found)} numbers in its name, expected the one of its place")
    places = np.array([int(found[0]) for found in numbers])
    if len(np.unique(places)) < len(places):
        raise BenchError(f"{given.path}: two pictures have the same number, expected each once")
    order = np.argsort(places)
    return dataclasses.replace(given, rows=given.rows[order], names=[given.names[i] for i in order])


def _checksum(files: Files) -> str:
    """Return the checksum of everything that the predictions come of."""
    from benchmark.data.files import hash_files

    def sums(path: Path) -> list:
        if not path.is_dir():
            return list(hash_files(path.parent, [path.name], None).values())
        return sorted(hash_files(path, _pictures(path), None).items())

    ids = sums(files.ids) if files.ids else None
    return digest([[sums(path) for path in files.paths], ids, files.in_order, files.key], 64)


def _pictures(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.suffix.lower() in PICTURES and not p.name.startswith("."))
