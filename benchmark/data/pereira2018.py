"""`pereira2018`: 180 concepts in three paradigms, fifteen subjects (Pereira et al. 2018); see docs/pereira2018.md."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from benchmark.api import Stimuli
from benchmark.data.base import Dataset, SubjectData
from benchmark.data.files import hash_files, nearest, read_array, read_json, write_folder_once
from benchmark.data.pereira_files import (
    N_ROIS,
    PARADIGMS,
    SENTENCES,
    Found,
    Recording,
    Survey,
    read_layout,
    read_responses,
    read_vectors,
    survey,
    words,
)
from benchmark.data.pereira_layout import Template, project, projection, template
from benchmark.errors import BenchError

NAME = "pereira2018"
VERSION = "1.0"
SPACE = "glove"
SOURCE = "the authors' page of Pereira et al. 2018 and OSF project crwz7"
# Those of Brain2Word (Affolter et al. 2020); M01 is left out.
SUBJECTS = (
    *("P01", "M02", "M03", "M04", "M05", "M06", "M07", "M08", "M09", "M10"),
    *("M13", "M14", "M15", "M16", "M17"),
)
# Raise whenever a converted number can change.
LAYOUT_VERSION = 1
_LAYOUT_FILE = "layout.json"


def load(root: Path, cache: Path) -> Dataset:
    """Load the subjects of a folder, converting the files once into ``cache``.

    Parameters
    ----------
    root : Path
        Folder with one folder per participant, and GloVe vectors.
    cache : Path
        Holds the files' hashes and the converted responses: one float32 ``.npy`` per subject.

    Returns
    -------
    Dataset
        540 rows a subject (180 words; paradigms sentence, picture, wordcloud one after the other) over
        common columns, 65,730 with all fifteen subjects; responses memory-mapped.

    Raises
    ------
    BenchError
        With the first fault of the files, how many more there are, and where the files come from.
    """
    root, cache = Path(root), Path(cache)
    found = survey(root, SUBJECTS)
    faults = list(found.faults)
    if not found.participants and not faults:
        faults = [f"{root}: no participant's folder, expected {SUBJECTS[0]} to {SUBJECTS[-1]}"]
    _raise_first(faults, root)
    vectors = read_vectors(found)
    digests = hash_files(root, [str(path.relative_to(root)) for path in found.paths()], cache)
    content = json.dumps([LAYOUT_VERSION, sorted(digests.items())])
    fingerprint = hashlib.sha256(content.encode()).hexdigest()
    # the fingerprint in the name: other files are never taken for these
    folder = cache / f"{NAME}-{VERSION}-{fingerprint[:16]}"
    try:
        write_folder_once(folder, partial(_convert, found, root))
    except OSError as error:
        raise BenchError(
            f"{folder}: cannot be written ({error.strerror}), expected room for the converted responses (3 GB)"
        ) from None
    table = read_json(folder / _LAYOUT_FILE)
    sizes = np.array(table["sizes"])
    column = np.repeat(np.arange(len(sizes)), sizes)
    # one set of masks for all subjects: 333 of them are 22 MB
    rois = {name: column == k for k, name in enumerate(table["rois"])}
    return Dataset(
        name=NAME,
        version=VERSION,
        fingerprint=fingerprint,
        subjects=tuple(found.participants),
        stimuli=Stimuli(ids=np.array(words()), words=np.array(words()), embeddings={SPACE: vectors}),
        load_subject=partial(_load_subject, folder, found, rois),
        roi_names=tuple(rois),
        provenance={
            "source": SOURCE,
            "licence": "as stated by the authors; not redistributed here; GloVe vectors: PDDL 1.0",
            "citation": "Pereira et al. 2018, Nature Communications 9, 963; Pennington et al. 2014, EMNLP",
        },
    )


def check(root: Path) -> list[str]:
    """Return what is missing from or damaged in a folder, one sentence each; every file is read, one at a time."""
    root = Path(root)
    found = survey(root, SUBJECTS)
    absent = [root / subject for subject in SUBJECTS if not (root / subject).is_dir()]
    faults = [f"{folder}: no such folder, expected the files of participant {folder.name}" for folder in absent]
    faults += found.faults
    faults += [
        f"{root / s / f'data_{n}sentences.mat'}: no such file, expected participant {s}'s responses to {n} sentences"
        for s, participant in found.participants.items()
        for n, readers in SENTENCES.items()
        if s in readers and n not in [r.rows for r in participant.sentences]
    ]
    if found.vectors:
        try:
            read_vectors(found)
        except BenchError as error:
            faults.append(str(error))
    layouts, more = _layouts(found)
    faults += more
    faults += [fault for recording, one in layouts.items() if (fault := read_responses(recording, one)[1])]
    return faults


def _raise_first(faults: list[str], root: Path) -> None:
    if faults:
        more = f"; {len(faults) - 1} more: bench data check {root}" if faults[1:] else ""
        raise BenchError(f"{faults[0]}{more} (the files come from {SOURCE})")


def _recordings(found: Survey) -> Iterator[Recording]:
    for participant in found.participants.values():
        yield from (*participant.words, *participant.sentences)


def _layouts(found: Survey) -> tuple[dict[Recording, Found], list[str]]:
    """Return what every file says about its voxels, and the faults."""
    layouts, faults = {}, []
    for recording in _recordings(found):
        one, more = read_layout(recording)
        faults += more
        if one:
            layouts[recording] = one
    names = next((one.roi_names for one in layouts.values()), ())
    faults += [
        f"{recording.path}: other parcels than in {next(iter(layouts)).path}, expected one list of names"
        for recording, one in layouts.items()
        if one.roi_names != names
    ]
    return layouts, faults


def _convert(found: Survey, root: Path, folder: Path) -> None:
    """Write every subject's responses in the common columns; one file of the release is in memory at a time."""
    layouts, faults = _layouts(found)
    _raise_first(faults, root)
    of_words = [layouts[recording].layout for p in found.participants.values() for recording in p.words]
    goal = template(of_words, N_ROIS)
    for subject, participant in found.participants.items():
        _write(folder / f"{subject}.npy", participant.words, layouts, goal, root)
        if participant.sentences:
            _write(folder / f"{subject}_sentences.npy", participant.sentences, layouts, goal, root)
    names = next(iter(layouts.values())).roi_names
    (folder / _LAYOUT_FILE).write_text(json.dumps({"rois": names, "sizes": goal.sizes.tolist()}), "utf-8")


def _write(path: Path, recordings: tuple[Recording, ...], layouts, goal: Template, root: Path) -> None:
    shape = (sum(recording.rows for recording in recordings), int(goal.sizes.sum()))
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    # not a memory map: writing to one on a full disk kills the process
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for recording in recordings:
            found = layouts[recording]
            responses, fault = read_responses(recording, found)
            _raise_first([fault] if fault else [], root)
            block = project(responses, found.layout, projection(found.layout, goal))
            del responses
            file.write(block.astype("<f4", copy=False).data)


def _load_subject(folder: Path, found: Survey, rois: dict[str, np.ndarray], subject: str) -> SubjectData:
    if subject not in found.participants:
        raise BenchError(f"{NAME}: no subject {subject!r}, {nearest(subject, found.participants)}")
    n = len(words())
    empty = np.full(n * len(PARADIGMS), "")
    sentences = found.participants[subject].sentences
    return SubjectData(
        responses=read_array(folder, f"{subject}.npy"),
        stimulus=np.tile(np.arange(n), len(PARADIGMS)),
        run=empty,
        session=empty,
        condition=np.repeat(PARADIGMS, n),
        rois=rois,
        unlabelled=read_array(folder, f"{subject}_sentences.npy") if sentences else None,
    )
