"""The NSD experiment's design: which of the 73,000 pictures each subject saw on each trial, and its splits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.data.files import nearest
from benchmark.data.matlab import read_mat5
from benchmark.errors import BenchError

# the prepared folder
HEADER, DESIGN = "nsd.json", "nsd_expdesign.mat"
FORMAT = {"format": "fmri-bench-nsd", "format_version": 1, "name": "nsd"}

# sessions that each subject completed
SESSIONS = dict(zip([f"subj{i:02d}" for i in range(1, 9)], (40, 40, 32, 30, 40, 32, 40, 30), strict=True))
N_PICTURES, N_CONDITIONS, N_SHARED = 73000, 10000, 1000
TRIALS_PER_SESSION = 750
_RUN = np.repeat(np.arange(1, 13), np.tile([63, 62], 6))  # task runs of a session; those at rest are not counted

# name: sessions used, columns that trials are averaged over
SPLITS = {
    "nsd-982": (37, ["subject", "stimulus"]),
    "nsd-982-single": (37, []),
    "nsd-1000": (40, ["subject", "stimulus"]),
    "nsd-1000-single": (40, []),
}
_LAYOUT = {
    "masterordering": (1, max(SESSIONS.values()) * TRIALS_PER_SESSION),
    "subjectim": (len(SESSIONS), N_CONDITIONS),
    "sharedix": (1, N_SHARED),
}


@dataclass(frozen=True, eq=False)
class Design:
    """The design; everything counts from 0.

    Attributes
    ----------
    order : ndarray of shape (30000,), int
        Condition shown on each trial, the same for every subject; the first 1000 conditions are shared.
    pictures : ndarray of shape (8, 10000), int
        Picture of each subject's conditions.
    """

    order: np.ndarray
    pictures: np.ndarray

    def trials(self, subject: str, sessions: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the picture of every trial of a subject's first sessions, and whether it is a shared one."""
        condition = self.order[: min(sessions, SESSIONS[subject]) * TRIALS_PER_SESSION]
        return self.pictures[list(SESSIONS).index(subject), condition], condition < N_SHARED

    def split(self, name: str) -> dict[str, Any]:
        """Return the content of a split: shared pictures are tested, a fold per subject.

        Ids are in order of first presentation. A subject who completed fewer sessions has those.
        """
        if name not in SPLITS:
            raise BenchError(f"unknown split {name!r} of dataset nsd, {nearest(name, SPLITS)}")
        sessions, average = SPLITS[name]
        folds = {}
        for subject in SESSIONS:
            picture, shared = self.trials(subject, sessions)
            sides = {side: stimulus_ids(distinct(picture[shared == (side == "test")])) for side in ("train", "test")}
            folds[subject] = [{"name": "shared", **{side: ids.tolist() for side, ids in sides.items()}}]
        return {
            "name": name,
            "unit": "stimulus",
            "average": average,
            "sessions": [session_id(number) for number in range(1, sessions + 1)],
            "folds": folds,
        }


def read_design(path: Path) -> Design:
    """Read ``nsd_expdesign.mat``; a damaged file, or one that contradicts itself, is a ``BenchError``."""
    arrays, faults = read_mat5(path, _LAYOUT)
    if faults:
        raise BenchError(faults[0])
    order, pictures = arrays["masterordering"].ravel().astype(int) - 1, arrays["subjectim"].astype(int) - 1
    shared = np.sort(arrays["sharedix"].ravel().astype(int) - 1)
    if order.min() < 0 or order.max() >= N_CONDITIONS:
        raise BenchError(f"{path}: masterordering holds numbers outside 1 to {N_CONDITIONS}, expected conditions")
    if (np.sort(pictures[:, :N_SHARED], axis=1) != shared).any():
        raise BenchError(f"{path}: the first {N_SHARED} columns of subjectim are not sharedix, expected so of everyone")
    design = Design(order, pictures)
    for subject, sessions in SESSIONS.items():
        shown = np.unique(design.trials(subject, sessions)[0])
        if shown[0] < 0 or shown[-1] >= N_PICTURES:
            raise BenchError(f"{path}: subjectim of {subject} holds numbers outside 1 to {N_PICTURES}")
    return design


def distinct(values: np.ndarray) -> np.ndarray:
    """Return the distinct values in order of first appearance."""
    _, first = np.unique(values, return_index=True)
    return values[np.sort(first)]


def stimulus_ids(pictures: np.ndarray) -> np.ndarray:
    """Return stimulus ids such as ``nsd00012``: rows of the 73,000 pictures, from 0."""
    return np.char.mod("nsd%05d", pictures)


def session_id(number: int) -> str:
    """Return a session's id; sessions count from 1."""
    return f"ses{number:02d}"


def trial_table(design: Design, subject: str, sessions: int) -> dict[str, np.ndarray]:
    """Return stimulus, session and run of every trial, as texts."""
    picture, _ = design.trials(subject, sessions)
    session = np.repeat([session_id(n) for n in range(1, sessions + 1)], TRIALS_PER_SESSION)
    run = np.char.add(np.char.add(session, "-run"), np.tile(np.char.mod("%02d", _RUN), sessions))
    return {"stimulus_id": stimulus_ids(picture), "session": session, "run": run}
