"""`digits69`: one subject, V1-V3, 100 handwritten sixes and nines (van Gerven et al. 2010)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from benchmark.api import Stimuli
from benchmark.data.base import Dataset, SubjectData
from benchmark.data.files import hash_files
from benchmark.data.matlab import read_mat5
from benchmark.errors import BenchError

NAME = "digits69"
FILE = "digit69_28x28.mat"
SOURCE = "Donders Repository, collection DSC_2018.00112_485, under its data use agreement"
SUBJECT = "S1"
DIGIT = {1: 6, 2: 9}  # label in the file -> digit
N_TRAIN, N_TEST, SIDE = 90, 10, 28
_LAYOUT = {
    "fmriTrn": (N_TRAIN, None),
    "fmriTest": (N_TEST, None),
    "stimTrn": (N_TRAIN, SIDE * SIDE),
    "stimTest": (N_TEST, SIDE * SIDE),
    "labelTrn": (N_TRAIN, 1),
    "labelTest": (N_TEST, 1),
}


def load(root: Path, cache: Path) -> Dataset:
    """Load the recording.

    Parameters
    ----------
    root : Path
        Folder that holds ``digit69_28x28.mat``.
    cache : Path
        Where the file's hash is remembered.

    Returns
    -------
    Dataset
        One subject, one response per picture; pictures (100, 28, 28, 1), training ones first.

    Raises
    ------
    BenchError
        With the first fault of the file and where to get it.
    """
    arrays, faults = _read(Path(root))
    if faults:
        raise BenchError(f"{faults[0]} (the file comes from the {SOURCE})")
    ids = [f"train-{i:02d}" for i in range(N_TRAIN)] + [f"test-{i:02d}" for i in range(N_TEST)]
    pixels = np.concatenate([arrays["stimTrn"], arrays["stimTest"]]).astype(np.uint8)
    labels = np.concatenate([arrays["labelTrn"], arrays["labelTest"]]).ravel()
    return Dataset(
        name=NAME,
        version="1.0",
        fingerprint=hash_files(Path(root), [FILE], cache)[FILE],
        subjects=(SUBJECT,),
        stimuli=Stimuli(
            ids=np.array(ids),
            # stored column by column
            images=np.ascontiguousarray(pixels.reshape(-1, SIDE, SIDE).transpose(0, 2, 1))[..., None],
            attributes={"digit": np.where(labels == 1, DIGIT[1], DIGIT[2])},
        ),
        load_subject=partial(_load_subject, np.concatenate([arrays["fmriTrn"], arrays["fmriTest"]])),
        provenance={
            "source": SOURCE,
            "licence": "data use agreement of the Donders Repository; not redistributed here",
            "citation": "van Gerven, de Lange and Heskes 2010, Neural Computation 22(12); data were provided (in part) "
            "by the Donders Institute for Brain, Cognition and Behaviour",
        },
    )


def check(root: Path) -> list[str]:
    """Return every fault of the file, one sentence each; empty where it is sound."""
    return _read(Path(root))[1]


def _read(root: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    path = root / FILE
    arrays, faults = read_mat5(path, _LAYOUT)
    voxels = [arrays[name].shape[1] for name in ("fmriTrn", "fmriTest") if name in arrays]
    if len(set(voxels)) > 1:
        faults.append(f"{path}: fmriTrn has {voxels[0]} voxels and fmriTest {voxels[1]}, expected the same number")
    for name, array in arrays.items():
        if name.startswith("stim") and not (np.all((array >= 0) & (array <= 255)) and np.all(array == np.rint(array))):
            faults.append(f"{path}: {name} holds values other than whole grey levels, expected 0 to 255")
        if name.startswith("label") and not np.isin(array, list(DIGIT)).all():
            faults.append(f"{path}: {name} holds labels other than 1 and 2, expected 1 for a six and 2 for a nine")
    return arrays, faults


def _load_subject(responses: np.ndarray, subject: str) -> SubjectData:
    if subject != SUBJECT:
        raise BenchError(f"{NAME}: no subject {subject!r}, expected {SUBJECT}")
    empty = np.full(len(responses), "")
    return SubjectData(
        responses=responses.astype(np.float32),
        stimulus=np.arange(len(responses)),
        run=empty,
        session=empty,
        condition=empty,
    )
