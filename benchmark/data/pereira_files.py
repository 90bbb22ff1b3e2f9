"""The files of `pereira2018`: where they lie, and what is in them, with every fault named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.data.pereira_layout import Layout, layout
from benchmark.errors import BenchError

PARADIGMS = ("sentence", "picture", "wordcloud")
# who read the sentences, by how many there are
SENTENCES = {
    384: ("P01", "M02", "M04", "M07", "M08", "M09", "M14", "M15"),
    243: ("P01", "M02", "M03", "M04", "M07", "M15"),
}
N_ROIS = 333
ATLAS = "gordon"
GLOVE_TEXT, GLOVE_MAT, WORD_LIST = "vectors_180concepts.GV42B300.txt", "180_concepts.mat", "stimuli_180concepts.txt"
GLOVE_DIMENSIONS = 300
_PREFIXES = ("data", "examples")  # of the release, of older copies
_WORDS_VARIABLE, _SENTENCES_VARIABLE = "examples", "examples_passagesentences"
_MEANING = "expected the released MATLAB 5 file"


@dataclass(frozen=True)
class Recording:
    """One file of one participant.

    Attributes
    ----------
    path : Path
    variable : str
        The variable that holds the responses.
    rows : int
        Stimuli in it.
    """

    path: Path
    variable: str
    rows: int


@dataclass(frozen=True)
class Participant:
    """The files of one participant: the paradigms' in order, then those of the sentences it has."""

    words: tuple[Recording, ...]
    sentences: tuple[Recording, ...] = ()


@dataclass(frozen=True, eq=False)
class Found:
    """What a file says about its voxels.

    Attributes
    ----------
    layout : Layout
    roi_names : tuple of str
    n_voxels : int
    """

    layout: Layout
    roi_names: tuple[str, ...]
    n_voxels: int


@dataclass(frozen=True)
class Survey:
    """The participants of a folder, the word vectors' file, and what is missing."""

    participants: Mapping[str, Participant] = field(default_factory=dict)
    vectors: Path | None = None
    word_list: Path | None = None
    faults: tuple[str, ...] = ()

    def paths(self) -> list[Path]:
        """Return every file that is read."""
        files = [r.path for p in self.participants.values() for r in (*p.words, *p.sentences)]
        return files + [path for path in (self.vectors, self.word_list) if path]


@cache
def words() -> tuple[str, ...]:
    """Return the 180 words in the order of the files' rows, which is the alphabet's."""
    text = resources.files("benchmark.data").joinpath("concepts.json").read_text("utf-8")
    return tuple(sorted(word for branch in json.loads(text).values() for group in branch.values() for word in group))


def survey(root: Path, subjects: tuple[str, ...]) -> Survey:
    """Return which files of the release lie in a folder; nothing is read."""
    participants, faults = {}, []
    for subject in subjects:
        folder = root / subject
        found = [_file(folder, f"180concepts_{paradigm}s") for paradigm in PARADIGMS]
        missing = [paradigm for paradigm, path in zip(PARADIGMS, found, strict=True) if path is None]
        faults += [
            f"{folder / f'data_180concepts_{paradigm}s.mat'}: no such file, expected participant {subject}'s responses"
            for paradigm in (missing if folder.is_dir() else ())
        ]
        if not missing:
            sentences = [(_file(folder, f"{n}sentences"), n) for n in SENTENCES]
            participants[subject] = Participant(
                tuple(Recording(path, _WORDS_VARIABLE, len(words())) for path in found if path),
                tuple(Recording(path, _SENTENCES_VARIABLE, n) for path, n in sentences if path),
            )
    vectors = _beside(root, GLOVE_TEXT) or _beside(root, GLOVE_MAT)
    if vectors is None:
        faults.append(f"{root}: neither {GLOVE_TEXT} nor {GLOVE_MAT} in it or in a folder of it, expected one of them")
    return Survey(participants, vectors, _beside(root, WORD_LIST), tuple(faults))


def read_layout(recording: Recording) -> tuple[Found | None, list[str]]:
    """Return the parcels' voxels of a file, and its faults; the responses are not read.

    Rows of the words must be in the order of ``words()``.
    """
    from scipy.io import whosmat

    path = recording.path
    shapes, fault = _guarded(path, lambda: {name: shape for name, shape, _ in whosmat(path)})
    if fault:
        return None, [fault]
    labelled = recording.variable == _WORDS_VARIABLE
    names = ["meta", *(("keyConcept", "labelsConcept") if labelled else ())]
    missing = [name for name in (recording.variable, *names) if name not in shapes and name != "labelsConcept"]
    if missing:
        return None, [f"{path}: no variable {', '.join(missing)}, expected it in a whole file of the release"]
    shape = shapes[recording.variable]
    faults = []
    if len(shape) != 2 or shape[0] != recording.rows or not shape[1]:
        expected = f"expected {recording.rows} rows, one per {'word' if labelled else 'sentence'}"
        return None, [f"{path}: {recording.variable} is {' x '.join(map(str, shape))}, {expected}"]
    content, fault = _loaded(path, names)
    if fault:
        return None, [fault]
    if labelled and (fault := _word_fault(content)):
        faults.append(f"{path}: {fault}")
    try:
        roi_names, lists, coordinates = _parcels(content["meta"])
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        expected = "expected the atlas gordon with rois, roiColumns and colToCoord"
        return None, [*faults, f"{path}: meta cannot be understood ({type(error).__name__}: {error}), {expected}"]
    more = _voxel_faults(roi_names, lists, coordinates, shape[1])
    if faults or more:
        return None, [*faults, *(f"{path}: {fault}" for fault in more)]
    zero_based = [part.astype(np.int64) - 1 for part in lists]  # MATLAB counts from 1
    return Found(layout(zero_based, coordinates[:, 2].astype(np.int64)), roi_names, shape[1]), []


def read_responses(recording: Recording, found: Found) -> tuple[np.ndarray | None, str | None]:
    """Return the responses (rows, voxels) of a file, or what is wrong with them.

    NaN or infinity is a fault where a parcel needs the voxel; elsewhere it is never looked at.
    """
    path, name = recording.path, recording.variable
    content, fault = _loaded(path, [name])
    if fault:
        return None, fault
    data = content.get(name)
    shape = (recording.rows, found.n_voxels)
    if data is None or data.dtype.kind not in "fiu" or data.shape != shape:
        return None, f"{path}: {name} cannot be read, expected {shape[0]} x {shape[1]} numbers"
    bad = ~np.isfinite(data).all(axis=0)[found.layout.column]
    if bad.any():
        n = len(np.unique(found.layout.column[bad]))
        return None, f"{path}: {name} holds NaN or infinity in {n} voxels of the parcels, expected numbers"
    return data, None


def read_vectors(found: Survey) -> np.ndarray:
    """Return the word vectors, (180, 300) float32, rows as ``words()``.

    Raises
    ------
    BenchError
        Where the file is damaged, or the words it or the list beside it names are others.
    """
    path = found.vectors
    if path is None:
        raise BenchError(found.faults[-1])
    shape = (len(words()), GLOVE_DIMENSIONS)
    named: tuple[Path, list[str]] | None = None
    if path.name == GLOVE_MAT:
        content, fault = _loaded(path, ["words", "data"])
        if fault:
            raise BenchError(fault)
        table = content.get("data", np.empty(0))
        named = path, _texts(content["words"]) if "words" in content else []
    else:
        table = _read_text_table(path)
        if found.word_list:
            named = found.word_list, _read_lines(found.word_list)
    if table.shape != shape or table.dtype.kind not in "fiu" or not np.isfinite(table).all():
        raise BenchError(
            f"{path}: a table of {' x '.join(map(str, table.shape))} {table.dtype} values, expected {shape[0]} x "
            f"{shape[1]} finite numbers, one row per word"
        )
    if named and (fault := _order_fault(named[1])):
        raise BenchError(f"{named[0]}: {fault}")
    return table.astype(np.float32)


def _file(folder: Path, name: str) -> Path | None:
    return next((p for prefix in _PREFIXES if (p := folder / f"{prefix}_{name}.mat").is_file()), None)


def _beside(root: Path, name: str) -> Path | None:
    return next((path for pattern in (name, f"*/{name}") for path in sorted(root.glob(pattern))), None)


def _guarded(path: Path, read) -> tuple[Any, str | None]:
    try:
        return read(), None
    except MemoryError:
        raise
    except Exception as error:  # scipy raises whatever the damaged bytes lead it to
        return {}, f"{path}: cannot be read as MATLAB 5 ({type(error).__name__}: {error}), {_MEANING}, whole"


def _loaded(path: Path, names: list[str]) -> tuple[dict[str, Any], str | None]:
    from scipy.io import loadmat

    return _guarded(path, lambda: loadmat(path, variable_names=names))


def _texts(cell: np.ndarray) -> list[str]:
    """Return the strings of a cell array or of the rows of a character array."""
    parts = [np.asarray(part).ravel() for part in np.asarray(cell).ravel()]
    return [str(part[0]).strip() if len(part) else "" for part in parts]


def _word_fault(content: Mapping[str, np.ndarray]) -> str | None:
    """Return how the words of the rows differ from the ones expected."""
    key = _texts(content["keyConcept"])
    if "labelsConcept" in content:
        label = np.asarray(content["labelsConcept"]).ravel()
        if label.dtype.kind not in "fiu" or not np.isin(label, np.arange(1, len(key) + 1)).all():
            return (
                f"labelsConcept holds values outside 1 to {len(key)}, expected a row of keyConcept for every response"
            )
        key = [key[int(i) - 1] for i in label]
    return _order_fault(key)


def _order_fault(found: list[str]) -> str | None:
    expected = words()
    if len(found) != len(expected):
        return f"{len(found)} words, expected the {len(expected)} of the experiment in alphabetical order"
    row = next((i for i, (a, b) in enumerate(zip(found, expected, strict=True)) if a.lower() != b), None)
    if row is None:
        return None
    return f"word {row + 1} is {found[row]!r}, expected {expected[row]!r} (the 180 words in alphabetical order)"


def _parcels(meta: np.ndarray) -> tuple[tuple[str, ...], list[np.ndarray], np.ndarray]:
    """Return parcel names, column lists as they are in the file (from 1), and the voxels' coordinates."""
    record = meta.ravel()[0]
    fields = record.dtype.names
    if "roiColumnsGordon" in fields:
        names, lists = record["roisGordon"], record["roiColumnsGordon"]
    else:
        atlas = [name.lower() for name in _texts(record["atlases"])].index(ATLAS)
        names, lists = record["rois"].ravel()[atlas], record["roiColumns"].ravel()[atlas]
    return tuple(_texts(names)), [_numbers(part) for part in lists.ravel()], record["colToCoord"]


def _numbers(part: np.ndarray) -> np.ndarray:
    if part.dtype.kind not in "fiu":
        raise TypeError(f"a list of voxels is of type {part.dtype}")
    return part.ravel()


def _voxel_faults(names, lists, coordinates, n_voxels: int) -> list[str]:
    faults = []
    if len(names) != N_ROIS or len(lists) != N_ROIS or len(set(names)) < len(names):
        faults.append(f"{len(set(names))} names and {len(lists)} lists of {ATLAS} parcels, expected {N_ROIS} of each")
    if coordinates.shape != (n_voxels, 3) or coordinates.dtype.kind not in "fiu":
        shape = " x ".join(map(str, coordinates.shape))
        faults.append(f"meta.colToCoord is {shape}, expected {n_voxels} x 3 whole numbers, one row per voxel")
    elif not (np.isfinite(coordinates).all() and np.all(coordinates == np.rint(coordinates))):
        faults.append("meta.colToCoord holds fractions or NaN, expected whole numbers")
    every = np.concatenate([part.astype(np.float64) for part in lists]) if lists else np.empty(0)
    if not every.size:
        faults.append(f"no voxel in any {ATLAS} parcel, expected lists of voxel numbers")
    elif not (every.min() >= 1 and every.max() <= n_voxels and np.all(every == np.rint(every))):
        faults.append(
            f"roiColumns of {ATLAS} run from {every.min():g} to {every.max():g}, expected whole numbers from 1 to "
            f"{n_voxels}, as MATLAB counts"
        )
    return faults


def _read_text_table(path: Path) -> np.ndarray:
    try:
        return np.loadtxt(path, ndmin=2)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise BenchError(f"{path}: cannot be read ({error}), expected rows of numbers") from None


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(f"{path}: cannot be read ({error}), expected one word per line") from None
