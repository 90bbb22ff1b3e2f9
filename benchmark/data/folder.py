"""Folder datasets: a JSON header, plain arrays and tables, memory-mapped (see docs/folder-dataset.md)."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from benchmark.api import Stimuli
from benchmark.data.base import Dataset, SubjectData
from benchmark.data.files import (
    Pictures,
    Table,
    hash_files,
    mask_names,
    nearest,
    read_array,
    read_json,
    read_masks,
    read_table,
    schema_faults,
    write_atomic,
)
from benchmark.data.scan import embedding_faults, scan
from benchmark.data.splits import (
    EVERY_SUBJECT,
    Split,
    content_faults,
    id_faults,
    image_digests,
    parse,
    read_split,
    twin_image_faults,
)
from benchmark.errors import BenchError
from benchmark.suites import rankable

HEADER = "dataset.json"
CHECK_VERSION = 1  # raise whenever a check that loading makes becomes stricter
TRIAL_COLUMNS = ("run", "session", "condition")
_IMAGE_CACHE_VERSION = 1


def load(root: Path | str, cache: Path) -> Dataset:
    """Load a folder dataset; arrays stay on disk, memory-mapped.

    Parameters
    ----------
    root : Path
        Folder that holds ``dataset.json``.
    cache : Path
        Where file hashes and, for an image folder, the decoded pictures are kept.

    Raises
    ------
    BenchError
        With the first fault that shows without reading every array, and how many more there are.
    """
    root, cache = Path(root), Path(cache)
    try:
        header, table, digests, fingerprint = _read(root, cache)
        checked = cache / "checked" / f"{fingerprint}-{CHECK_VERSION}"
        sound = checked.exists()  # content that passed once is not checked again by every run
    except (BenchError, KeyError, TypeError, AttributeError):
        sound = False
    if not sound:
        faults = _Checker(root, deep=False).run()
        if faults:
            more = f"; {len(faults) - 1} more: bench data check {root}" if faults[1:] else ""
            raise BenchError(faults[0] + more)
        header, table, digests, fingerprint = _read(root, cache)
        write_atomic(cache / "checked" / f"{fingerprint}-{CHECK_VERSION}", b"")
    parts, ids = header["stimuli"], table.columns["stimulus_id"]
    rois = [
        name for files in header["subjects"].values() if "rois" in files for name in mask_names(root, files["rois"])
    ]
    return Dataset(
        name=header["name"],
        version=header["version"],
        fingerprint=fingerprint,
        subjects=tuple(header["subjects"]),
        stimuli=Stimuli(
            ids=ids,
            images=_images(root, parts["images"], table, digests, cache) if "images" in parts else None,
            captions=[tuple(texts) for texts in read_json(root / parts["captions"])] if "captions" in parts else None,
            words=table.columns.get("word"),
            embeddings={name: read_array(root, file) for name, file in parts.get("embeddings", {}).items()},
            attributes={name: read_array(root, file) for name, file in parts.get("attributes", {}).items()},
        ),
        load_subject=partial(load_subject, root, header, ids),
        roi_names=tuple(dict.fromkeys(rois)),
        nan_voxels=header.get("nan_voxels", "error"),
        tags=tuple(header.get("tags", ())),
        provenance=header.get("provenance", {}),
    )


def _read(root: Path, cache: Path) -> tuple[dict[str, Any], Table, dict[str, str], str]:
    """Return header, stimulus table, digests of all files, and the fingerprint made of these."""
    header = read_json(root / HEADER)
    table = read_table(root, header["stimuli"]["table"])
    digests = hash_files(root, _files(header, table), cache)
    return header, table, digests, hashlib.sha256(json.dumps(sorted(digests.items())).encode()).hexdigest()


def check(root: Path | str) -> list[str]:
    """Return every fault of a folder dataset, one sentence each; empty where it is sound."""
    return _Checker(Path(root), deep=True).run()


def read_header(root: Path | str) -> dict[str, Any]:
    """Return ``dataset.json``; a header that departs from the format is a ``BenchError``."""
    path = Path(root) / HEADER
    header = read_json(path)
    for fault, _, _ in schema_faults(header):
        raise BenchError(f"{path}: {fault}")
    return header


def read_splits(root: Path | str) -> dict[str, Split]:
    """Return the splits of a folder dataset by name, in the header's order."""
    splits = [read_split(Path(root) / file) for file in read_header(root)["splits"]]
    return {split.name: split for split in splits}


class _Checker:
    """Collects the faults of a folder; ``deep`` also reads every response, picture and vector."""

    def __init__(self, root: Path, deep: bool) -> None:
        self.root, self.deep, self.faults = root, deep, []
        self.ids: np.ndarray | None = None
        self.digests: dict[str, bytes] = {}
        self.trials: dict[str, Table] = {}

    def run(self) -> list[str]:
        header = self.attempt(read_json, self.root / HEADER)
        if header is None:
            return self.faults
        faults = schema_faults(header)
        for sentence, path, keys in faults:
            self.add(HEADER, sentence)
            _prune(header, path, keys)  # what is left can still be checked
        if isinstance(header, dict):
            self.nan_voxels = header.get("nan_voxels", "error")
            parts = header.get("stimuli") or {}
            table = self.attempt(read_table, self.root, parts["table"]) if "table" in parts else None
            self.stimulus_file = parts.get("table", "")
            self.stimuli(parts, table)
            for name, files in (header.get("subjects") or {}).items():
                self.subject(name, files)
            self.tracks(header, table)
            self.splits(header)
        return list(dict.fromkeys(self.faults))

    def add(self, file: str, sentence: str) -> None:
        self.faults.append(f"{self.root / file}: {sentence}")

    def attempt(self, function: Callable, *arguments: Any, **options: Any) -> Any:
        """Return what a reader returns, or None and a fault."""
        try:
            return function(*arguments, **options)
        except BenchError as error:
            self.faults.append(str(error))
            return None

    def array(self, file: str, expected: str, kinds: str, shape: Sequence[int | None]) -> np.ndarray | None:
        """Return an array of the expected kind and shape (None: any length), or None and a fault."""
        data = self.attempt(read_array, self.root, file, expected)
        if data is None:
            return None
        fits = len(data.shape) == len(shape) and all(
            want in (None, n) for n, want in zip(data.shape, shape, strict=True)
        )
        if data.dtype.kind not in kinds or not fits or (data.dtype.kind == "f" and data.dtype.itemsize < 4):
            self.add(file, f"{data.dtype} array of shape {data.shape}, expected {expected}")
            return None
        return data

    def stimuli(self, parts: Mapping[str, Any], table: Table | None) -> None:
        n = None
        if table is not None:
            n = len(table)
            self.misspelt(parts["table"], table, ("stimulus_id", "word", "image"))
            ids = self.column(parts["table"], table, "stimulus_id")
            if ids is not None:
                self.ids = ids
                self.unique_ids(parts["table"], table, ids)
        rows = f"(n = {n}, one per row of {parts['table']})" if n else "(n = number of stimuli)"
        if "images" in parts:
            self.pictures(parts["images"], table, n, rows)
        captions = self.attempt(read_json, self.root / parts["captions"]) if "captions" in parts else None
        if captions is not None:
            self.captions(parts["captions"], captions, n)
        for name, file in parts.get("embeddings", {}).items():
            data = self.array(file, f"float32 (n, d) {rows}", "f", (n, None))
            if data is not None and self.deep:
                ids = np.arange(len(data)).astype(str) if self.ids is None else self.ids
                for fault in embedding_faults(Stimuli(ids, embeddings={name: data})):
                    self.add(file, fault)
        for file in parts.get("attributes", {}).values():
            data = self.attempt(read_array, self.root, file, "an array")
            if data is not None and n is not None and (not data.ndim or len(data) != n):
                self.add(file, f"{data.dtype} array of shape {data.shape}, expected n rows {rows}")

    def column(self, file: str, table: Table, name: str) -> np.ndarray | None:
        """Return a column that must be there and full, or None and a fault."""
        if name not in table.columns:
            self.add(file, f"columns are {', '.join(table.columns)}, expected one called {name}")
            return None
        empty = table.columns[name] == ""
        if empty.any():
            self.add(file, f"{name} is empty in line {table.lines[empty.argmax()]}, expected a text")
        return table.columns[name]

    def misspelt(self, file: str, table: Table, known: tuple[str, ...]) -> None:
        """Other columns are free, but one that nearly has a known name is surely meant to be it."""
        for column in table.columns:
            near = difflib.get_close_matches(column, known, n=1, cutoff=0.75)
            if near and column != near[0]:
                self.add(file, f"unknown column {column!r}, did you mean {near[0]!r}?")

    def unique_ids(self, file: str, table: Table, ids: np.ndarray) -> None:
        values, counts = np.unique(ids, return_counts=True)
        twins = [
            f"{str(value)!r} in lines {' and '.join(map(str, table.lines[ids == value][:2]))}"
            for value in values[counts > 1][:5]
        ]
        if twins:
            self.add(file, f"{(counts > 1).sum()} stimulus_id given twice ({', '.join(twins)}), expected unique ids")

    def pictures(self, name: str, table: Table | None, n: int | None, rows: str) -> None:
        if name.endswith(".npy"):
            expected = f"uint8 (n, height, width, 1 or 3) {rows}"
            data = self.array(name, expected, "u", (n, None, None, None))
            if data is not None and (data.dtype != np.uint8 or data.shape[3] not in (1, 3)):
                self.add(name, f"{data.dtype} array of shape {data.shape}, expected {expected}")
            elif self.deep:
                self.digest(data)
        elif table is not None and self.column(self.stimulus_file, table, "image") is not None:
            paths = self.attempt(_image_files, name, table)
            if not (self.root / name).is_dir():
                self.add(name, "no such folder, expected the pictures that the stimulus table names")
            elif paths and self.deep:
                self.digest(Pictures(self.root, paths))
            else:
                for file in [file for file in paths or () if not (self.root / file).is_file()]:
                    self.add(file, "no such file, expected the picture that the stimulus table names")

    def digest(self, images: np.ndarray | Pictures | None) -> None:
        """Read every picture once; remember what it is by stimulus id."""
        if images is None or self.ids is None or len(images) != len(self.ids):
            return
        found = [self.attempt(image_digests, images, [row]) for row in range(len(images))]
        self.digests = {key: digest[0] for key, digest in zip(self.ids.tolist(), found, strict=True) if digest}

    def captions(self, file: str, captions: Any, n: int | None) -> None:
        if not isinstance(captions, list):
            self.add(file, f"a JSON {type(captions).__name__}, expected a list with a list of texts per stimulus")
            return
        if n is not None and len(captions) != n:
            self.add(
                file, f"captions of {len(captions)} stimuli, expected {n} (one list per row of the stimulus table)"
            )
        for i, texts in enumerate(captions):
            if not (isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts)):
                self.add(file, f"entry {i} is {json.dumps(texts)[:60]}, expected a list of at least one text")

    def subject(self, name: str, files: Mapping[str, Any]) -> None:
        table = self.attempt(read_table, self.root, files["trials"]) if "trials" in files else None
        if table is not None:
            self.trial_table(name, files["trials"], table)
        if "responses" not in files:
            return
        data = self.array(files["responses"], "float32 (n_trials, n_voxels)", "f", (None, None))
        if data is not None:
            n_trials = len(data)
            if table is not None and n_trials != len(table):
                self.add(
                    files["responses"], f"{n_trials} rows, expected {len(table)}, one per row of {files['trials']}"
                )
            if not data.size:
                self.add(files["responses"], f"shape {data.shape} is empty, expected trials and voxels")
            elif self.deep:
                self.responses(files["responses"], data)
        self.voxels(files, None if data is None else data.shape[1])

    def trial_table(self, name: str, file: str, table: Table) -> None:
        self.misspelt(file, table, ("stimulus_id", *TRIAL_COLUMNS))
        ids = self.column(file, table, "stimulus_id")
        if ids is None:
            return
        self.trials[name] = table
        if self.ids is not None:
            strange, first = np.unique(np.where(np.isin(ids, self.ids), "", ids), return_index=True)
            unknown = [f"{v!r} in line {table.lines[i]}" for v, i in zip(strange.tolist(), first, strict=True) if v]
            if unknown:
                listed = ", ".join(unknown[:5]) + (", ..." if unknown[5:] else "")
                self.add(file, f"{len(unknown)} unknown stimulus_id ({listed}), expected ids of the stimulus table")

    def responses(self, file: str, data: np.ndarray) -> None:
        found = scan(data)
        self.rows(file, found.empty_rows, "all NaN", "responses")
        self.rows(file, found.infinite_rows, "infinite in some voxel", "finite responses")
        n = np.count_nonzero(found.n_nan)
        if n and self.nan_voxels != "drop":
            self.add(file, f'{n} of {data.shape[1]} voxels hold NaN, expected none unless "nan_voxels" is "drop"')
        if not (found.low < found.high).any():
            self.add(file, "no voxel left, all are NaN or constant, expected at least one that varies")

    def rows(self, file: str, rows: np.ndarray, found: str, expected: str) -> None:
        if len(rows):
            listed = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
            self.add(file, f"{len(rows)} trials are {found} (row {listed}, from 0), expected {expected}")

    def voxels(self, files: Mapping[str, Any], n: int | None) -> None:
        text = f"{n} voxels" if n else "n_voxels"
        masks = self.attempt(read_masks, self.root, files["rois"]) if "rois" in files else None
        for roi, mask in (masks or {}).items():
            if mask.dtype != bool or mask.ndim != 1 or n not in (None, len(mask)):
                found = f"{mask.dtype} array of shape {mask.shape}"
                self.add(files["rois"], f"mask {roi!r} is a {found}, expected a boolean mask over {text}")
        if "ncsnr" in files:
            data = self.array(files["ncsnr"], f"float32, one value for each of {text}", "f", (n,))
            if data is not None and self.nan_voxels != "drop" and not np.isfinite(data).all():
                self.add(files["ncsnr"], "holds NaN or infinity, expected numbers")
        if "coords" not in files:
            return
        coords = self.array(files["coords"], f"integers (n, 3), one row for each of {text}", "iu", (n, 3))
        shape = files.get("shape")
        if coords is not None and shape and coords.size and ((coords < 0) | (coords >= shape)).any():
            row = int(((coords < 0) | (coords >= shape)).any(axis=1).argmax())
            self.add(files["coords"], f"row {row} is {coords[row].tolist()}, expected a place within shape {shape}")

    def tracks(self, header: Mapping[str, Any], table: Table | None) -> None:
        parts = header.get("stimuli") or {}
        for name, options in (header.get("tracks") or {}).items():
            space = options.get("space")
            if space is not None and space not in parts.get("embeddings", {}):
                known = ", ".join(parts.get("embeddings", {})) or "none is listed"
                self.add(HEADER, f"tracks.{name}.space is {space!r}, expected one of stimuli.embeddings ({known})")
            ranked = options.get("ranked")
            if ranked is not None and ranked not in (known := rankable(name)):
                self.add(HEADER, f"tracks.{name}.ranked is {ranked!r}, {nearest(ranked, known)}")
            if name == "words" and table is not None:
                self.column(parts["table"], table, "word")
            if name == "reconstruction" and "images" not in parts:
                self.add(HEADER, "key 'stimuli.images' is missing, expected it because of the track reconstruction")

    def splits(self, header: Mapping[str, Any]) -> None:
        names: dict[str, str] = {}
        for file in header.get("splits") or ():
            content = self.attempt(read_json, self.root / file)
            if content is None:
                continue
            faults = content_faults(content)
            for fault in faults:
                self.add(file, fault)
            if schema_faults(content, "split"):
                continue
            split = parse(content)
            if names.setdefault(split.name, file) != file:
                self.add(file, f"name {split.name!r} is also that of {names[split.name]}, expected unique names")
            self.split(file, split, header.get("subjects") or {})
            if split.unit == "stimulus":
                for fold in [fold for folds in split.folds.values() for fold in folds]:
                    for fault in twin_image_faults(fold, self.digests):
                        self.add(file, fault)

    def split(self, file: str, split: Split, subjects: Mapping[str, Any]) -> None:
        unknown = [key for key in split.folds if key != EVERY_SUBJECT and key not in subjects]
        for key in unknown:
            self.add(file, f"folds of subject {key!r}, expected one of {', '.join(subjects)}")
        column = {"stimulus": "stimulus_id", "run": "run"}.get(split.unit)
        seen = {s: np.unique(t.columns.get(column, [""])).tolist() for s, t in self.trials.items()} if column else {}
        if split.unit == "stimulus":
            known = None if self.ids is None else {key: self.ids.tolist() for key in split.folds}
        elif split.unit == "subject":
            known = {key: list(subjects) for key in split.folds}
        else:
            everywhere = [value for values in seen.values() for value in values]
            known = {key: seen.get(key, everywhere) for key in split.folds} if everywhere else None
        if known is not None and not unknown:
            faults = list(id_faults(split, known))
            for fault in faults:
                self.add(file, fault)
            if faults:
                return
        for subject, values in seen.items():
            for fold in split.folds.get(EVERY_SUBJECT) or split.folds.get(subject, ()):
                for side, ids in (("train", fold.train), ("test", fold.test)):
                    if not set(ids) & set(values):
                        self.add(file, f"fold {fold.name!r} has no {side} trial of subject {subject!r}, expected one")


def _prune(header: Any, path: tuple, keys: tuple) -> None:
    """Take the parts at fault out of a header; lists are dropped whole."""
    with suppress(KeyError, IndexError, TypeError):  # an enclosing part is already gone
        for step in path[:-1]:
            header = header[step]
        part = header[path[-1]] if path else header
        if isinstance(part, list):
            del header[path[-1]]
        else:
            for key in keys:
                del part[key]


def _image_files(folder: str, table: Table) -> list[str]:
    """Return the picture of every stimulus, relative to the dataset's folder."""
    for name, line in zip(table.columns["image"].tolist(), table.lines, strict=True):
        if name.startswith("/") or "\\" in name or ":" in name or ".." in name.split("/"):
            raise BenchError(f"image {name!r} in line {line} of the stimulus table, expected a file name in {folder}")
    return [f"{folder.rstrip('/')}/{name}" for name in table.columns["image"].tolist()]


def _images(root: Path, name: str, table: Table, digests: Mapping[str, str], cache: Path) -> np.ndarray:
    """Return the pictures as one memory-mapped array; a folder is decoded once, into the cache."""
    if name.endswith(".npy"):
        return read_array(root, name)
    names = _image_files(name, table)
    key = json.dumps([_IMAGE_CACHE_VERSION, [digests[file] for file in names]])
    store, file = cache / "images", f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npy"
    with suppress(BenchError):
        return read_array(store, file)
    pictures = Pictures(root, names)

    def write(out: IO[bytes]) -> None:
        shape = (len(pictures), *pictures[0].shape)
        np.lib.format.write_array_header_1_0(out, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for row in range(len(pictures)):  # one picture in memory at a time
            out.write(pictures[row].tobytes())

    write_atomic(store / file, write)
    return read_array(store, file)


def load_subject(root: Path, header: Mapping[str, Any], ids: np.ndarray, subject: str) -> SubjectData:
    """Return one subject of a folder dataset, its responses memory-mapped.

    Parameters
    ----------
    root : Path
    header : mapping
        Content of ``dataset.json``.
    ids : ndarray of shape (n,), str
        Ids of the stimulus table, in its order.
    subject : str
    """
    if subject not in header["subjects"]:
        raise BenchError(
            f"unknown subject {subject!r} of dataset {header['name']}, {nearest(subject, header['subjects'])}"
        )
    files = header["subjects"][subject]
    responses, table = read_array(root, files["responses"]), read_table(root, files["trials"])
    if len(responses) != len(table):
        raise BenchError(
            f"{root / files['responses']}: {len(responses)} rows, expected {len(table)} as in {files['trials']}"
        )
    order = np.argsort(ids)
    shown = table.columns["stimulus_id"]
    empty = np.zeros(len(table), "U1")
    space = {"coords": read_array(root, files["coords"])} if "coords" in files else {}
    if "shape" in files:
        space["shape"] = np.array(files["shape"])
    return SubjectData(
        responses=responses,
        stimulus=order[np.searchsorted(ids, shown, sorter=order)],
        rois=read_masks(root, files["rois"]) if "rois" in files else {},
        ncsnr=read_array(root, files["ncsnr"]) if "ncsnr" in files else None,
        space=space,
        **{name: table.columns.get(name, empty) for name in TRIAL_COLUMNS},
    )


def _files(header: Mapping[str, Any], table: Table) -> Iterator[str]:
    """Yield every file of the dataset, the header included."""
    parts = header["stimuli"]
    yield from (HEADER, parts["table"], *header["splits"])
    if "images" in parts:
        yield from [parts["images"]] if parts["images"].endswith(".npy") else _image_files(parts["images"], table)
    yield from [parts["captions"]] if "captions" in parts else []
    yield from (*parts.get("embeddings", {}).values(), *parts.get("attributes", {}).values())
    for files in header["subjects"].values():
        yield from (file for key, file in files.items() if key != "shape")
