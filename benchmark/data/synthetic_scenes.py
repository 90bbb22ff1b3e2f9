"""`synthetic-scenes`: generated responses to rendered scenes; docs/synthetic-scenes.md states the forward model."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from functools import partial
from importlib import resources
from pathlib import Path

import numpy as np

from benchmark.api import Stimuli
from benchmark.data import scenes as sc
from benchmark.data import voxels
from benchmark.data.base import Dataset, SubjectData
from benchmark.data.files import write_folder_once
from benchmark.data.folder import load_subject as read_subject
from benchmark.errors import BenchError

NAME = "synthetic-scenes"
VERSION = "1.0"
SPACE = "description"
SUBJECTS = ("subj01", "subj02", "subj03", "subj04")
N_TRAIN, N_TEST, N_REPEATS = 1200, 120, 3
SPLIT = "synthetic-scenes-v1"
PARAMS = voxels.Params()
_EMPTY = {"subj03": ("mTL-bodies",)}  # some localisers find nothing in some people
_RUNS, _RUNS_PER_SESSION = 60, 6
_ATTRIBUTES = ("background", "n_objects", "shape", "colour", "size", "place")


def load(root: Path | None, cache: Path, seed: int = 0) -> Dataset:
    """Return the dataset; what is asked for is generated once into ``cache``.

    Parameters
    ----------
    root : ignored
        The data are generated.
    cache : Path
        Folder that holds generated data; the dataset lies in a folder of its own there.
    seed : int
        Fixes every byte on one machine.

    Returns
    -------
    Dataset
        1,320 pictures seen three times by each of four subjects; responses memory-mapped.
    """
    fingerprint = _fingerprint(seed)
    # The fingerprint in the name: data of other constants are never taken for these.
    folder = Path(cache) / f"{NAME}-{VERSION}-seed{seed}-{fingerprint[:8]}"
    write_folder_once(folder, partial(_write_stimuli, seed=seed))
    header = json.loads((folder / "dataset.json").read_text("utf-8"))
    files = header["stimuli"]
    stimuli = Stimuli(
        ids=stimulus_ids(),
        images=np.load(folder / files["images"], mmap_mode="r"),
        captions=[tuple(c) for c in json.loads((folder / files["captions"]).read_text("utf-8"))],
        embeddings={k: np.load(folder / v) for k, v in files["embeddings"].items()},
        attributes={k: np.load(folder / v) for k, v in files["attributes"].items()},
    )
    return Dataset(
        name=NAME,
        version=VERSION,
        fingerprint=fingerprint,
        subjects=SUBJECTS,
        stimuli=stimuli,
        load_subject=partial(_load_subject, folder, seed),
        roi_names=voxels.ROI_NAMES,
        provenance=header["provenance"],
    )


def generate(folder: Path, seed: int, subjects: tuple[str, ...] = SUBJECTS) -> None:
    """Write the dataset as a folder dataset, all its subjects at once, into a folder that does not exist yet."""
    folder = Path(folder)
    write_folder_once(folder, partial(_write_stimuli, seed=seed))
    for subject in subjects:
        write_folder_once(folder / subject, partial(_write_subject, folder=folder, subject=subject, seed=seed))


def stimulus_ids() -> np.ndarray:
    """Return the ids of all stimuli, the training stimuli first, shape (1320,), str."""
    return np.array([f"scene-{i:04d}" for i in range(1, N_TRAIN + N_TEST + 1)])


def stimulus_scenes(seed: int) -> sc.Scenes:
    """Return the latent descriptions of all stimuli, in the order of their ids."""
    rng = np.random.default_rng([seed, 0])
    parts = [sc.sample(rng, n, pool, distinct=True) for n, pool in ((N_TRAIN, "train"), (N_TEST, "test"))]
    return sc.concatenate(parts)


# --- writing ---------------------------------------------------------------------------------------------------------


def _write_stimuli(folder: Path, seed: int) -> None:
    scenes = stimulus_scenes(seed)
    ids = stimulus_ids()
    (folder / "stimuli.csv").write_text("stimulus_id\n" + "".join(f"{i}\n" for i in ids))
    with _one_thread():
        np.save(folder / "images.npy", sc.render(scenes))
    captions = [list(c) for c in sc.captions(scenes, np.random.default_rng([seed, 1]))]
    (folder / "captions.json").write_text(json.dumps(captions, indent=0))
    np.save(folder / f"{SPACE}.npy", sc.description(scenes))
    attributes = sc.attributes(scenes)
    for name in _ATTRIBUTES:
        np.save(folder / f"attr_{name}.npy", attributes[name])
    (folder / "splits").mkdir()
    split = resources.files("benchmark.data").joinpath(f"splits/{SPLIT}.json").read_text("utf-8")
    (folder / "splits" / f"{SPLIT}.json").write_text(split)
    files = {"responses": "responses.npy", "trials": "trials.csv", "rois": "rois.npz"}
    files |= {"ncsnr": "ncsnr.npy", "coords": "coords.npy"}
    subjects = {
        s: {key: f"{s}/{name}" for key, name in files.items()} | {"shape": list(voxels.VOLUME)} for s in SUBJECTS
    }
    header = {
        "format": "fmri-bench-folder",
        "format_version": 1,
        "name": NAME,
        "version": VERSION,
        "nan_voxels": "error",
        "tags": [],
        "provenance": {
            "source": f"generated: benchmark.data.synthetic_scenes {VERSION}, seed {seed}",
            "licence": "as the package",
            "citation": "docs/synthetic-scenes.md states the forward model",
        },
        "stimuli": {
            "table": "stimuli.csv",
            "images": "images.npy",
            "captions": "captions.json",
            "embeddings": {SPACE: f"{SPACE}.npy"},
            "attributes": {name: f"attr_{name}.npy" for name in _ATTRIBUTES},
        },
        "subjects": subjects,
        "tracks": {"embedding": {"space": SPACE}, "reconstruction": {}},
        "splits": [f"splits/{SPLIT}.json"],
    }
    (folder / "dataset.json").write_text(json.dumps(header, indent=1))


def _write_subject(target: Path, folder: Path, subject: str, seed: int) -> None:
    rng = np.random.default_rng([seed, 2 + SUBJECTS.index(subject)])
    with _one_thread():
        images, described = np.load(folder / "images.npy"), np.load(folder / f"{SPACE}.npy")
        maps = voxels.early_maps(images, PARAMS)
        area, rois, coords = voxels.layout(rng, PARAMS, _EMPTY.get(subject, ()))
        early, semantic = [], []
        for count, spec in zip(np.bincount(area, minlength=len(voxels.AREAS)), voxels.AREAS.values(), strict=True):
            if spec.field:
                early.append(voxels.early_signal(rng, maps, spec, count, PARAMS))
            else:
                semantic.append(voxels.semantic_signal(rng, described, spec, count, PARAMS))
        parts = [
            voxels.own_signal(rng, np.concatenate(group, axis=1), share)
            for group, share in zip((early, semantic), PARAMS.own, strict=True)
        ]
        stimulus = rng.permutation(np.repeat(np.arange(len(images)), N_REPEATS))
        responses, ncsnr = voxels.trials(rng, np.concatenate(parts, axis=1), stimulus, PARAMS)
    run = np.arange(len(stimulus)) * _RUNS // len(stimulus)
    rows = zip(stimulus_ids()[stimulus], run + 1, run // _RUNS_PER_SESSION + 1, strict=True)
    table = "".join(f"{s},run-{r:02d},ses-{n:02d}\n" for s, r, n in rows)
    np.save(target / "responses.npy", responses)
    (target / "trials.csv").write_text("stimulus_id,run,session\n" + table)
    np.savez(target / "rois.npz", **rois)
    np.save(target / "ncsnr.npy", ncsnr)
    np.save(target / "coords.npy", coords.astype(np.int32))


def _one_thread():
    # The bytes of a BLAS product may depend on the number of threads.
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1)


# --- reading ---------------------------------------------------------------------------------------------------------


def _load_subject(folder: Path, seed: int, subject: str) -> SubjectData:
    if subject not in SUBJECTS:
        raise BenchError(f"{NAME}: no subject {subject!r}; expected one of {', '.join(SUBJECTS)}")
    place = folder / subject
    write_folder_once(place, partial(_write_subject, folder=folder, subject=subject, seed=seed))
    return read_subject(folder, json.loads((folder / "dataset.json").read_text("utf-8")), stimulus_ids(), subject)


def _fingerprint(seed: int) -> str:
    areas = {name: dataclasses.asdict(area) for name, area in voxels.AREAS.items()}
    parts = [NAME, VERSION, sc.VERSION, dataclasses.asdict(PARAMS), areas, seed]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
