"""The gallery of a report: of every test item the stimulus, and what each method predicted for it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from benchmark import scoring
from benchmark.api import Predictions, Stimuli
from benchmark.data.files import read_array
from benchmark.data.prepare import TestItems
from benchmark.errors import BenchError
from benchmark.frozen import Source, with_space
from benchmark.leaderboard import Table
from benchmark.suites import Track
from benchmark.worker import restore

N_RETRIEVED = 5
LARGEST = 128  # pixels
SMALL = 32  # pixels; up to this size a picture's every pixel counts, and PNG costs little
COLUMNS = 10  # tiles in a row of a sheet
PER_SHEET = COLUMNS * COLUMNS
BLOCK = 8  # pixels; JPEG mixes no two blocks of this size, so that no tile shows in its neighbour


@dataclass(frozen=True)
class Place:
    """Whose test items a gallery shows."""

    suite: str
    dataset: str
    split: str
    subject: str
    seed: int

    @property
    def title(self) -> str:
        return f"{self.dataset}, {self.split}, {self.subject}, seed {self.seed}"


@dataclass(frozen=True)
class Entry:
    """One run of a gallery, and what boards call its method."""

    label: str
    control: bool
    tags: tuple[str, ...]
    record: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Truth:
    """What the test items of a place are.

    Attributes
    ----------
    note : str
        Why the stimuli are not there; empty where they are.
    folds : mapping of str to (TestItems, Stimuli)
        By fold, the stimuli row for row; empty where they are not there.
    facts : mapping
        ``dataset_fingerprint`` and ``split_checksum``: those of another run are other items.
    tracks : mapping of str to Track
    cache : Path
    """

    note: str = ""
    folds: Mapping[str, tuple[TestItems, Stimuli]] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    tracks: Mapping[str, Track] = field(default_factory=dict)
    cache: Path = Path()


def truth_of(registry, place: Place, data: Path | None, cache: Path) -> Truth:
    """Load the stimuli of a place's test items; where that fails, the truth says why."""
    from benchmark.data import prepare
    from benchmark.plan import Request, choose_suite, load_task

    # a folder dataset has a suite of its own, found by its name
    named = {"suite": place.suite} if place.suite in registry.names("suite") else {"split": place.split}
    request = Request(dataset=place.dataset, data=data, cache=cache, **named)
    try:
        tasks = choose_suite(registry, request).tasks
        task = next((t for t in tasks if (t.dataset, t.split) == (place.dataset, place.split)), None)
        if task is None:
            raise BenchError(f"suite {place.suite} has no split {place.split} of {place.dataset} any more")
        dataset, split = load_task(registry, request, task)
        folds = prepare.folds(dataset, split, place.subject)
        found = {fold.name: (prepare.test_items(fold), prepare.truth(fold)) for fold in folds}
    except BenchError as error:
        return Truth(f"Stimuli are not available: {error}")
    facts = {"dataset_fingerprint": dataset.fingerprint, "split_checksum": split.checksum}
    return Truth("", found, facts, task.tracks, cache)


def places(tables: Sequence[Table], everything: bool = False) -> list[tuple[Place, list[Entry]]]:
    """Return the galleries of a suite's tables: what they show of which runs, controls last.

    Parameters
    ----------
    tables : sequence of Table
    everything : bool
        Every subject and seed; else the first run of every method.
    """
    found: dict[Place, dict[str, Entry]] = {}
    for t in sorted(tables, key=lambda t: (t.dataset, t.split, t.track != "reconstruction")):
        for row in t.rows:
            runs = sorted((r for r in row.records if r["status"] == "ok"), key=lambda r: (r["subject"], r["seed"]))
            label = row.label if row.profile == "mini" else f"{row.label} ({row.profile})"
            for r in runs if everything else runs[:1]:
                place = Place(t.suite, t.dataset, t.split, r["subject"], r["seed"])
                entry = Entry(label, row.control, row.tags, r)
                found.setdefault(place, {}).setdefault(r["run_id"], entry)
    ordered = sorted(found, key=lambda p: (p.dataset, p.split, p.subject, p.seed))
    return [(place, sorted(found[place].values(), key=lambda e: e.control)) for place in ordered]


def gallery(
    place: Place, entries: Sequence[Entry], store: Path, truth: Truth, root: Path, pictures: str
) -> dict[str, Any]:
    """Write the pictures of a gallery and return the rest of it.

    Parameters
    ----------
    place : Place
    entries : sequence of Entry
    store : Path
    truth : Truth
    root : Path
        Folder of the report.
    pictures : str
        Where in it the pictures go.

    Returns
    -------
    dict
        ``items``, ``stimuli`` (a sheet or None), ``runs``, ``directions`` of the metrics by track, ``ranked`` by track,
        and ``notes``: what is not shown, and why.
    """
    notes = [truth.note] if truth.note else []
    loaded: list[tuple[Entry, dict[str, Predictions], list[str]]] = []
    for entry in entries:
        try:
            loaded.append((entry, *_predictions(store, entry.record)))
        except BenchError as error:
            notes.append(f"{entry.label} is not shown: {error}")
    if truth.folds and not any(_same(e.record, truth) for e, _, _ in loaded):
        truth = Truth("other data")
        notes.append("Stimuli are not available: the data or the split are not those of these runs.")
    if truth.folds:
        ids = [i for items, _ in truth.folds.values() for i in items.ids.tolist()]
    else:
        newest = max(loaded, key=lambda found: found[0].record["date"], default=None)
        ids = newest[2] if newest else []
    directions: dict[str, dict[str, bool | None]] = {}
    ranked, runs = {}, []
    for entry, folds, own in loaded:
        if own != ids or (truth.folds and not _same(entry.record, truth)):
            notes.append(f"{entry.label} is not shown: it was made from other data or another split.")
            continue
        try:
            runs.append(_run(entry, folds, ids, truth, store, (root, f"{pictures}/{len(runs)}")))
        except BenchError as error:
            notes.append(f"{entry.label} is not shown: {error}")
            continue
        for track in sorted(entry.record["tracks"]):
            scores = entry.record["scores"].get(track, {})
            stated = (entry.record.get("columns") or {}).get(track, {"metrics": scores})
            known = directions.setdefault(track, {})
            known |= {name: scores[name]["higher_is_better"] for name in stated["metrics"] if name in scores}
            if "ranked" in stated:
                ranked[track] = stated["ranked"]
    shown = [stimuli.images for _, stimuli in truth.folds.values() if stimuli.images is not None]
    return {
        "title": place.title,
        "items": _items(ids, truth),
        "stimuli": _sheet(root, f"{pictures}/stimuli", shown) if shown else None,
        "runs": runs,
        "directions": directions,
        "ranked": ranked,
        "notes": notes,
    }


def _same(record: Mapping[str, Any], truth: Truth) -> bool:
    return all(record[name] == truth.facts[name] for name in ("dataset_fingerprint", "split_checksum"))


def _predictions(store: Path, record: Mapping[str, Any]) -> tuple[dict[str, Predictions], list[str]]:
    """Return a run's predictions by fold, memory-mapped, and the ids of its test items."""
    folder = _folder(store, record) / "predictions"
    found, ids = {}, []
    for path in sorted(folder.glob("*/items.json")):
        try:
            found[path.parent.name] = restore(path.parent)
            ids += json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise BenchError(f"{path.parent} cannot be read ({error})") from None
    if not found:
        raise BenchError(f"{folder} holds no predictions")
    return found, ids


def _folder(store: Path, record: Mapping[str, Any]) -> Path:
    return store.joinpath(*(record[name] for name in ("suite", "dataset", "method", "run_id")))


def _items(ids: Sequence[str], truth: Truth) -> list[dict[str, Any]]:
    if not truth.folds:
        return [{"id": i, "name": i.partition("/")[2] or i} for i in ids]
    items = []
    for fold, (rows, stimuli) in truth.folds.items():
        for k, item in enumerate(rows.ids.tolist()):
            found = {"id": item, "name": item.removeprefix(f"{fold}/"), "stimulus": str(stimuli.ids[k])}
            if stimuli.words is not None:
                found["word"] = str(stimuli.words[k])
            if stimuli.captions is not None:
                found["captions"] = [str(text) for text in stimuli.captions[k]]
            items.append(found)
    return items


def _run(entry: Entry, folds: Mapping[str, Predictions], ids, truth: Truth, store: Path, place) -> dict[str, Any]:
    """Return what a gallery shows of one run; its pictures are written."""
    folder, (root, prefix) = _folder(store, entry.record), place
    stages = {"": [p.images for p in folds.values()]}
    first = next(iter(folds.values()))
    for name, value in first.intermediates.items():
        if value.ndim == 4 and value.dtype == np.uint8:
            stages[name] = [p.intermediates.get(name) for p in folds.values()]
    if permuted := [path for fold in folds if (path := folder / "ladder" / fold / "images.npy").is_file()]:
        stages["permuted training"] = [read_array(path.parent, path.name) for path in permuted]
    # first what may fail, so that no picture is left of a run that is not shown
    scores = _scores(folder / "scores.parquet", entry.record["tracks"], ids)
    retrieved, why = _retrieved(entry.record, folds, truth)
    sheets = [
        {"name": name} | _sheet(root, f"{prefix}-{number}", tables)
        for number, (name, tables) in enumerate(stages.items())
        if len(tables) == len(folds) and all(table is not None for table in tables)
    ]
    captions = [text for p in folds.values() for text in p.captions or ()]
    return {
        "label": entry.label,
        "control": entry.control,
        "tags": entry.tags,
        "run_id": entry.record["run_id"],
        "pictures": sheets,
        "captions": captions if len(captions) == len(ids) else None,
        "retrieved": retrieved,
        "why": why,
        "scores": scores,
    }


def _scores(path: Path, tracks: Sequence[str], ids: Sequence[str]) -> dict[str, dict[str, list[float | None]]]:
    """Return the values of the test items by track and metric, to four digits; None where an item has none."""
    import pandas

    try:
        frame = pandas.read_parquet(path, columns=["track", "metric", "item", "value"])
    except (OSError, ValueError, KeyError) as error:  # pyarrow's own errors are these
        raise BenchError(f"{path} cannot be read ({error})") from None
    frame = frame[frame["track"].isin(list(tracks)) & frame["item"].isin(ids)]
    found: dict[str, dict[str, list[float | None]]] = {}
    for (track, metric), rows in frame.groupby(["track", "metric"], observed=True, sort=True):
        values = rows.groupby("item", observed=True)["value"].mean().reindex(ids)
        found.setdefault(track, {})[metric] = [float(f"{v:.4g}") if np.isfinite(v) else None for v in values]
    return found


def _retrieved(record: Mapping[str, Any], folds: Mapping[str, Predictions], truth: Truth) -> tuple[dict, str]:
    """Return, by track that ranks candidates, the best ones of every item as rows of the items, and why there are none.

    ``rank`` is that of the item's own stimulus, ``of`` the number of candidates.
    """
    tracks = {n: t for n, t in truth.tracks.items() if n in record["tracks"] and n != "reconstruction"}
    found: dict[str, dict[str, list]] = {}
    models = Source(record["profile"], truth.cache)
    for name, track in tracks.items():
        best, ranks, counts, start = [], [], [], 0
        try:
            for fold, (items, stimuli) in truth.folds.items():
                part = scoring.Part(fold, items, with_space(stimuli, track.space, models), folds[fold])
                rank, n, scores, candidates, _ = scoring.rankings([part], {name: track})[name]
                order = np.argsort(-scores, axis=1, kind="stable")[:, :N_RETRIEVED]
                best += (candidates[order] + start).tolist()
                ranks += rank.tolist()
                counts += [int(n)] * len(rank)
                start += len(rank)
        except (BenchError, ValueError, KeyError) as error:
            return found, f"no ranking of candidates ({error})"
        found[name] = {"best": best, "rank": ranks, "of": counts}
    return found, ""


def _sheet(root: Path, name: str, tables: Sequence[np.ndarray]) -> dict[str, Any]:
    """Write pictures as sheets of tiles.

    Parameters
    ----------
    root : Path
    name : str
        Start of the files' paths below ``root``.
    tables : sequence of ndarray of shape (n, height, width, channels), uint8
        Taken as one table.

    Returns
    -------
    dict
        ``files``, as addresses; ``size`` of a picture and ``pitch`` from one to the next, (width, height) in pixels;
        ``margin`` around each; ``columns`` and ``per``, the pictures of a full sheet.
    """
    from PIL import Image

    small = np.concatenate([_small(table) for table in tables])
    n, height, width, channels = small.shape
    exact = max(height, width) <= SMALL
    margin = 0 if exact else BLOCK // 2  # browsers blend neighbouring pixels when they enlarge
    ends = (margin, margin) if exact else (margin + -height % BLOCK, margin + -width % BLOCK)
    small = np.pad(small, ((0, 0), (margin, ends[0]), (margin, ends[1]), (0, 0)), mode="edge")
    kind, options = ("png", {"optimize": True}) if exact else ("jpg", {"quality": 88, "subsampling": 0})
    pitch, files = small.shape[2:0:-1], []
    for start in range(0, n, PER_SHEET):
        tiles = small[start : start + PER_SHEET]
        lines = -(-len(tiles) // COLUMNS)
        blank = np.zeros((lines * COLUMNS - len(tiles), *tiles.shape[1:]), np.uint8)
        grid = np.concatenate([tiles, blank]).reshape(lines, COLUMNS, *tiles.shape[1:]).swapaxes(1, 2)
        grid = grid.reshape(lines * pitch[1], COLUMNS * pitch[0], channels)
        path = root / f"{name}-{len(files)}.{kind}"
        files.append(quote(str(path.relative_to(root))))
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(grid if channels == 3 else grid[..., 0]).save(path, **options)
    more = {"margin": margin, "columns": COLUMNS, "per": PER_SHEET}
    return {"files": files, "size": [width, height], "pitch": pitch, **more}


def _small(pictures: np.ndarray) -> np.ndarray:
    """Return pictures of at most `LARGEST` pixels a side, read one by one."""
    from PIL import Image

    n, height, width, channels = pictures.shape
    scale = LARGEST / max(height, width)
    if scale >= 1:
        return np.asarray(pictures)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.empty((n, size[1], size[0], channels), np.uint8)
    for row in range(n):
        picture = Image.fromarray(pictures[row] if channels == 3 else pictures[row, ..., 0])
        small[row] = np.asarray(picture.resize(size, Image.Resampling.LANCZOS)).reshape(small[row].shape)
    return small
