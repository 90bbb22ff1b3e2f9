"""Words read in the scanner, as the CogniVal collection publishes them: one row of scaled voxels per word."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmark.data.imports import Content
from benchmark.data.word_folds import leave_words_out
from benchmark.errors import BenchError

N_FOLDS = 18  # of ten words where there are 180, as Pereira et al. cut them
SPACE = "glove"
PROVENANCE = {
    "source": "Pereira et al. 2018, experiment 1 (180 concepts), randomly chosen voxels, from the CogniVal collection",
    "scaling": "every participant's values were scaled over all words by CogniVal, test words included",
    "licence": "none is stated by CogniVal; the recordings are by the Evlab, MIT (osf.io/crwz7), under their own terms",
    "citation": "Pereira et al. 2018, doi:10.1038/s41467-018-03068-4; Hollenstein et al. 2019 (CogniVal), "
    "arXiv:1909.09001",
}


def read(sources: Sequence[Path], vectors: Path | None = None, words: Path | None = None) -> Content:
    """Read CogniVal's files of Pereira et al. 2018 and the words' vectors.

    Parameters
    ----------
    sources : sequence of Path
        Text files, one per participant (``*_M01.txt``: header ``word v0 v1 ...``, a row per word), ``.npz``
        archives (``words`` and an array (n_words, n_voxels) per participant), or a folder of either;
        in a folder the archives go before the text files.
    vectors : Path
        Word vectors as text, numbers separated by spaces: a word at the start of every line (GloVe's own
        format), or none, with ``words``.
    words : Path or None
        The words of ``vectors``, one per line, in its order.

    Returns
    -------
    Content
        Rows meet words and vectors by name, whatever the order of a file. Participants have different
        voxels, so the only split is leave-words-out within each.

    Raises
    ------
    BenchError
        At the first fault, naming the file.
    """
    if vectors is None:
        raise BenchError("--vectors is missing, expected the file of the words' vectors")
    subjects: dict[str, tuple[np.ndarray, list[str]]] = {}
    files = [file for source in sources for file in _files(source)]
    origin: dict[str, Path] = {}
    for file in files:
        for subject, names, responses in _archive(file) if file.suffix == ".npz" else _text(file):
            if subject in subjects:
                raise BenchError(f"{file}: participant {subject} is also in {origin[subject]}, expected each once")
            _check(file, subject, names, responses)
            subjects[subject], origin[subject] = (responses, names), file
    first, (_, ids) = next(iter(subjects.items()))
    if len(ids) < 2 * N_FOLDS:
        raise BenchError(f"{origin[first]}: {len(ids)} words, expected at least {2 * N_FOLDS} for {N_FOLDS} folds")
    for subject, (_, names) in subjects.items():
        if odd := sorted(set(names) ^ set(ids)):
            raise BenchError(
                f"{origin[subject]}: the words of participant {subject} differ from those of {first} "
                f"(in {odd[0]!r} and {len(odd) - 1} more), expected the same words"
            )
    subjects = dict(sorted(subjects.items()))
    return Content(
        stimuli={"stimulus_id": ids, "word": ids},
        embeddings={SPACE: _vectors(vectors, words, ids)},
        subjects={name: (responses, {"stimulus_id": names}) for name, (responses, names) in subjects.items()},
        tracks={"words": {"space": SPACE, "ranked": "rank_accuracy"}},
        splits=[
            {
                "name": "leave-words-out",
                "unit": "stimulus",
                "average": [],
                "folds": leave_words_out(ids, n_folds=N_FOLDS, seed=0),
            }
        ],
        tags=("transductive scaling",),
        provenance=PROVENANCE | {"files": "; ".join(map(_named, files)), "vectors": _named(vectors)},
    )


def _files(source: Path) -> list[Path]:
    """Return the files that a source stands for."""
    if not source.is_dir():
        if source.suffix not in (".npz", ".txt"):
            raise BenchError(f"{source}: expected a .txt or .npz file of CogniVal's words, or a folder of them")
        return [source]
    found = sorted(source.glob("*.npz")) or sorted(source.glob("*_targets_*.txt"))
    if not found:
        raise BenchError(f"{source}: holds no such file, expected *.npz or *_targets_*.txt")
    return found


def _archive(path: Path) -> Iterator[tuple[str, list[str], np.ndarray]]:
    """Yield name, words and responses of every participant in an ``.npz`` file."""
    expected = "an .npz file with 'words' and an array (n_words, n_voxels) per participant"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise BenchError(f"{path}: no such file, expected {expected}") from None
    except Exception as error:  # zipfile, zlib and numpy each have their own errors for a damaged archive
        raise BenchError(f"{path}: cannot be read ({type(error).__name__}), expected {expected}") from None
    words = arrays.pop("words", None)
    if words is None or words.dtype.kind != "U" or words.ndim != 1 or not arrays:
        raise BenchError(f"{path}: holds {', '.join(arrays) or 'nothing'}, expected {expected}")
    for subject, responses in arrays.items():
        if responses.dtype.kind != "f" or responses.ndim != 2 or len(responses) != len(words):
            found = f"{responses.dtype} array of shape {responses.shape}"
            raise BenchError(
                f"{path}: {subject} is a {found}, expected numbers, one row for each of {len(words)} words"
            )
        yield subject, words.tolist(), responses.astype(np.float32)


def _text(path: Path) -> Iterator[tuple[str, list[str], np.ndarray]]:
    """Yield name, words and responses of the one participant of a text file."""
    rows = [line.split() for line in _lines(path, "a table 'word v0 v1 ...'")]
    if not rows or rows[0][0] != "word" or len(rows[0]) < 2:
        raise BenchError(f"{path}: no header line 'word v0 v1 ...', expected CogniVal's table of one participant")
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(rows[0]):
            raise BenchError(
                f"{path}: {len(row)} cells in line {number}, expected {len(rows[0])} as in the header line"
            )
    table = [_numbers(row[1:], f"{path}: line {number}") for number, row in enumerate(rows[1:], 2)]
    if not table:
        raise BenchError(f"{path}: no row, expected one per word")
    yield path.stem.rpartition("_")[2], [row[0] for row in rows[1:]], np.stack(table)


def _check(file: Path, subject: str, names: Sequence[str], responses: np.ndarray) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", subject, re.ASCII):  # it becomes a folder's name
        raise BenchError(f"{file}: participant {subject!r}, expected a name of letters, digits, dots and dashes")
    twin, n = Counter(names).most_common(1)[0] if names else ("", 0)
    if n != 1:
        raise BenchError(f"{file}: word {twin!r} is there {n} times, expected every word once")
    if not np.isfinite(responses).all():
        row = int((~np.isfinite(responses)).any(axis=1).argmax())
        raise BenchError(f"{file}: {subject} holds NaN or infinity for {names[row]!r}, expected numbers")


def _vectors(path: Path, words: Path | None, ids: Sequence[str]) -> np.ndarray:
    """Return the vector of every id, float32 (n, d); the file is read line by line, since GloVe's has gigabytes."""
    listed = (
        None if words is None else [line.strip() for line in _lines(words, "the words of the vectors, one per line")]
    )
    wanted, found, n = set(ids), {}, 0
    for line in _lines(path, "word vectors as text"):
        word, numbers = line.partition(" ")[::2] if listed is None else (listed[n] if n < len(listed) else "", line)
        n += 1
        if word in wanted:
            if word in found:
                raise BenchError(f"{words or path}: word {word!r} is there twice, expected each once")
            found[word] = _numbers(numbers.split(), f"{path}: the vector of {word!r}")
    if listed is not None and n != len(listed):
        raise BenchError(f"{path}: {n} vectors, expected {len(listed)}, one per line of {words}")
    missing = [word for word in ids if word not in found]
    if missing:
        hint = "; a file without the words themselves needs --words" if listed is None else ""
        raise BenchError(f"{words or path}: lacks {len(missing)} of {len(ids)} words, the first {missing[0]!r}{hint}")
    lengths = {len(vector): word for word, vector in found.items()}
    if len(lengths) > 1 or 0 in lengths:
        raise BenchError(f"{path}: vectors of {' and '.join(map(str, lengths))} numbers, expected one length above 0")
    table = np.stack([found[word] for word in ids])
    if not np.isfinite(table).all():
        raise BenchError(f"{path}: a vector holds NaN or infinity, expected numbers")
    return table


def _lines(path: Path, expected: str) -> Iterator[str]:
    """Yield the lines of a text file that are not blank."""
    try:
        with path.open(encoding="utf-8") as file:
            yield from (line.strip() for line in file if line.strip())
    except FileNotFoundError:
        raise BenchError(f"{path}: no such file, expected {expected}") from None
    except UnicodeDecodeError:
        raise BenchError(f"{path}: not UTF-8 text, expected {expected}") from None
    except OSError as error:
        raise BenchError(f"{path}: cannot be read ({error.strerror}), expected {expected}") from None


def _numbers(cells: Sequence[str], where: str) -> np.ndarray:
    try:
        return np.array(cells, dtype=np.float32)
    except ValueError as error:
        raise BenchError(f"{where} is not numbers ({error}), expected numbers separated by spaces") from None


def _named(path: Path) -> str:
    with path.open("rb") as file:
        return f"{path.name} sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}"
