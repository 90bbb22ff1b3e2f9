"""`miyawaki2008`: two subjects, V1, 10 x 10 shapes and letters (Miyawaki et al. 2008); see docs/miyawaki2008.md."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path

import numpy as np

from benchmark.api import Stimuli
from benchmark.data.base import Dataset, SubjectData
from benchmark.data.files import hash_files
from benchmark.data.matlab import array_fault, read_mat5
from benchmark.errors import BenchError

NAME = "miyawaki2008"
S1_FILE, S2_FILE, S2_KEPT_FILE = "V1_mean_figure.mat", "S2_figureImage.mat", "S2_outlierVoxInd.mat"
SOURCE = "Kamitani Lab's repositories VBCCA (S1) and NeuralCodeConverter (S2)"
# pictures in order of first appearance in S1's file, with their number of lit pixels
PICTURES = {
    "square": 16,
    "small-frame": 12,
    "plus": 28,
    "cross": 40,
    "large-frame": 48,
    "letter-n": 12,
    "letter-e": 15,
    "letter-u": 12,
    "letter-r": 8,
    "letter-o": 14,
}
# names in S2's file
S2_NAMES = {
    "square8x8": "square",
    "smallFrame8x8": "small-frame",
    "largeFrame8x8": "large-frame",
    "plus8x8": "plus",
    "cross8x8": "cross",
}
SIDE, N_RUNS, BLOCKS_PER_RUN, BLOCK_VOLUMES = 10, 4, 10, 6
SHIFT = 2  # volumes of 2 s between a stimulus and its response
FIRST_STIMULUS_LABEL = 2001
VOXEL_MM = 3
_S1_LAYOUT = {"I2": (SIDE * SIDE, 2 * N_RUNS * BLOCKS_PER_RUN), "R2": (None, 2 * N_RUNS * BLOCKS_PER_RUN)}


def load(root: Path, cache: Path) -> Dataset:
    """Load both recordings.

    Parameters
    ----------
    root : Path
        Folder that holds the three files.
    cache : Path
        Where the files' hashes are remembered.

    Returns
    -------
    Dataset
        ``S1`` (80 blocks: shapes and letters) and ``S2`` (40 blocks: the five shapes); ten pictures
        (10, 10, 10, 1) of 0 and 255.

    Raises
    ------
    BenchError
        With the first fault of the files and where to get them.
    """
    root = Path(root)
    s1, s2, faults = _read(root)
    if faults:
        raise BenchError(f"{faults[0]} (the files come from {SOURCE})")
    digests = hash_files(root, [S1_FILE, S2_FILE, S2_KEPT_FILE], cache)
    pictures, s1_stimulus = _pictures(s1["I2"])
    return Dataset(
        name=NAME,
        version="1.0",
        fingerprint=hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest(),
        subjects=("S1", "S2"),
        stimuli=Stimuli(ids=np.array(list(PICTURES)), images=pictures[..., None] * np.uint8(255)),
        load_subject=partial(_load_subject, s1["R2"].T, s1_stimulus, s2),
        roi_names=("V1", *s2["rois"]),
        provenance={
            "source": SOURCE,
            "licence": "S2: Open Data Commons Attribution License; S1: BSD 3-clause (as the repositories state)",
            "citation": "Miyawaki et al. 2008, Neuron 60(5); Fujiwara et al. 2013, Neural Computation 25(4); "
            "Yamada et al. 2015, NeuroImage 113",
        },
    )


def check(root: Path) -> list[str]:
    """Return every fault of the three files, one sentence each; empty where they are sound."""
    return _read(Path(root))[2]


def _read(root: Path) -> tuple[dict, dict, list[str]]:
    s1, faults = read_mat5(root / S1_FILE, _S1_LAYOUT)
    if "I2" in s1:
        faults += [f"{root / S1_FILE}: {fault}" for fault in _picture_faults(s1["I2"])]
    kept, more = read_mat5(root / S2_KEPT_FILE, {"afterOutlierVoxInd": (1, None)})
    s2, s2_faults = _read_s2(root / S2_FILE)
    faults += s2_faults + more
    if kept and "data" in s2:
        index = kept["afterOutlierVoxInd"].ravel()
        n = s2["data"].shape[1]
        if index.min() < 1 or index.max() > n or len(np.unique(index)) < len(index):
            faults.append(f"{root / S2_KEPT_FILE}: afterOutlierVoxInd is not a set of voxel numbers from 1 to {n}")
        else:
            s2["kept"] = np.sort(index.astype(int) - 1)  # MATLAB counts from 1
    return s1, s2, faults


def _read_s2(path: Path) -> tuple[dict, list[str]]:
    """Return S2's time series (volumes, voxels), labels, runs, ROI masks and coordinates, and the faults."""
    import h5py

    if not path.is_file():
        return {}, [f"{path}: no such file, expected a MATLAB 7.3 file"]
    try:
        with h5py.File(path) as file:
            group = file["D"]
            out = {name: group[name][()] for name in ("data", "labels", "inds_runs", "xyz")}
            label_names = _texts(file, group["labels_names"])
            roi_names = _texts(file, group["rois_names"])
            roi_index = [file[ref][()].ravel().astype(int) - 1 for ref in group["rois_inds"][()].ravel()]
    except (OSError, KeyError, ValueError, RuntimeError, AttributeError, TypeError) as error:
        return {}, [f"{path}: cannot be read ({error}), expected a whole MATLAB 7.3 file with the struct D"]
    data = out["data"]
    n_voxels, n_volumes = data.shape if data.ndim == 2 else (None, None)
    layout = {"data": (n_voxels, n_volumes), "labels": (1, n_volumes), "inds_runs": (N_RUNS, 2), "xyz": (n_voxels, 3)}
    faults = [array_fault(out[name], f"D.{name}", shape) for name, shape in layout.items()]
    faults = [f"{path}: {fault}" for fault in faults if fault]
    if faults:
        return {}, faults
    labels, runs = out["labels"].ravel().astype(int), out["inds_runs"].astype(int)
    stimulus = [S2_NAMES.get(name) for name in label_names[2:]]  # the first two names are kinds of rest
    if stimulus != list(S2_NAMES.values()):
        faults.append(f"{path}: D.labels_names are {', '.join(label_names)}, expected two rests, {', '.join(S2_NAMES)}")
    if len(roi_names) != len(roi_index):
        faults.append(f"{path}: D.rois_names has {len(roi_names)} names for {len(roi_index)} lists in D.rois_inds")
    if any(index.size and not (index.min() >= 0 and index.max() < n_voxels) for index in roi_index):
        faults.append(f"{path}: D.rois_inds holds voxel numbers outside 1 to {n_voxels}")
    bounds = np.concatenate([[0], runs[:, 1]])
    if not np.array_equal(runs[:, 0], bounds[:-1] + 1) or bounds[-1] != n_volumes or (np.diff(bounds) < 1).any():
        faults.append(
            f"{path}: D.inds_runs is {runs.tolist()}, expected {N_RUNS} runs that make up {n_volumes} volumes"
        )
    if faults:
        return {}, faults
    run = np.repeat(np.arange(N_RUNS), np.diff(bounds))
    starts = _block_starts(labels, run)
    if starts is None:
        blocks = f"{BLOCKS_PER_RUN} blocks of {BLOCK_VOLUMES} volumes with labels {FIRST_STIMULUS_LABEL} to"
        return {}, [f"{path}: D.labels: expected {blocks} {FIRST_STIMULUS_LABEL + len(S2_NAMES) - 1} in every run"]
    masks = {
        "_".join(name.split("_")[-2:]): np.isin(np.arange(n_voxels), index)
        for name, index in zip(roi_names, roi_index, strict=True)
    }
    grid = np.rint((out["xyz"] - out["xyz"].min(axis=0)) / VOXEL_MM).astype(int)
    shown = np.array([list(PICTURES).index(name) for name in stimulus])[labels[starts] - FIRST_STIMULUS_LABEL]
    return {"data": data.T, "run": run, "starts": starts, "stimulus": shown, "rois": masks, "grid": grid}, []


def _block_starts(labels: np.ndarray, run: np.ndarray) -> np.ndarray | None:
    """Return the first volume of every stimulus block, or None where the design is another one."""
    shown = labels >= FIRST_STIMULUS_LABEL
    starts = np.flatnonzero(shown & np.concatenate([[True], labels[1:] != labels[:-1]]))
    volumes = starts[:, None] + np.arange(BLOCK_VOLUMES + SHIFT)
    if shown.sum() != len(starts) * BLOCK_VOLUMES or volumes.max(initial=0) >= len(labels):
        return None
    inside = labels[volumes[:, :BLOCK_VOLUMES]] == labels[starts, None]
    same_run = run[volumes] == run[starts, None]
    whole = inside.all() and same_run.all() and labels.max() < FIRST_STIMULUS_LABEL + len(S2_NAMES)
    return starts if whole and (np.bincount(run[starts], minlength=N_RUNS) == BLOCKS_PER_RUN).all() else None


def _texts(file, cells) -> list[str]:
    """Return the strings of a MATLAB cell array."""
    return ["".join(map(chr, file[ref][()].ravel())) for ref in cells[()].ravel()]


def _pictures(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct pictures (n, 10, 10) in order of first appearance, and each block's picture."""
    values, first, picture = np.unique(columns.T, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    # stored column by column
    images = values[order].reshape(-1, SIDE, SIDE).transpose(0, 2, 1).astype(np.uint8)
    return images, np.argsort(order)[picture.ravel()]


def _picture_faults(columns: np.ndarray) -> list[str]:
    if not np.isin(columns, (0, 1)).all():
        return ["I2 holds values other than 0 and 1, expected dark and lit pixels"]
    images, picture = _pictures(columns)
    lit = images.sum(axis=(1, 2)).tolist()
    if lit != list(PICTURES.values()):
        return [f"I2 shows pictures of {lit} lit pixels, expected {', '.join(PICTURES)}: {list(PICTURES.values())}"]
    twice = np.sort(picture.reshape(-1, BLOCKS_PER_RUN)) == np.repeat(
        np.arange(len(PICTURES)).reshape(2, -1).repeat(N_RUNS, axis=0), 2, axis=1
    )
    return [] if twice.all() else ["I2: expected four runs of ten blocks with each shape twice, then four with letters"]


def _detrend(series: np.ndarray, run: np.ndarray) -> np.ndarray:
    """Remove every voxel's mean and linear trend within each run."""
    from scipy.signal import detrend

    return detrend(series, axis=0, bp=np.flatnonzero(np.diff(run)) + 1)


def _block_means(series: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Average each block's volumes, shifted by the haemodynamic delay."""
    return series[starts[:, None] + SHIFT + np.arange(BLOCK_VOLUMES)].mean(axis=1)


def _load_subject(s1: np.ndarray, s1_stimulus: np.ndarray, s2: dict, subject: str) -> SubjectData:
    if subject not in ("S1", "S2"):
        raise BenchError(f"{NAME}: no subject {subject!r}, expected S1 or S2")
    if subject == "S1":
        responses, stimulus = s1, s1_stimulus
        rois, space = {}, {}
        # no run variable: the order of the shapes is that of S2's runs, block for block
        session = np.repeat(["figure", "letter"], N_RUNS * BLOCKS_PER_RUN)
        number = np.tile(np.repeat(np.arange(1, N_RUNS + 1), BLOCKS_PER_RUN), 2)
    else:
        kept, starts, stimulus = s2["kept"], s2["starts"], s2["stimulus"]
        responses = _block_means(_detrend(s2["data"], s2["run"]), starts)[:, kept]
        rois = {name: mask[kept] for name, mask in s2["rois"].items()}
        space = {"coords": s2["grid"][kept], "shape": s2["grid"].max(axis=0) + 1}
        session = np.full(len(starts), "figure")
        number = s2["run"][starts] + 1
    return SubjectData(
        responses=np.ascontiguousarray(responses, dtype=np.float32),
        stimulus=stimulus,
        run=np.char.add(np.char.add(session, "-"), number.astype(str)),
        session=session,
        condition=np.full(len(stimulus), ""),
        rois={"V1": np.ones(responses.shape[1], bool), **rois},
        space=space,
    )
