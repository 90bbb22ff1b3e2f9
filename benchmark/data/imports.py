"""Importers: from files as others publish them to a folder dataset, which appears whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.data import folder
from benchmark.data.files import write_folder_once
from benchmark.data.splits import split_checksum
from benchmark.errors import BenchError
from benchmark.registry import Registry, resolve

# Adding a kind is a line here and a function ``read(sources, **options) -> Content``.
KINDS = {
    "cognival": {
        "target": "benchmark.data.cognival:read",
        "summary": "words: Pereira et al. 2018 as the CogniVal collection has it, with word vectors",
    },
}


@dataclass(frozen=True)
class Content:
    """A folder dataset that is not written yet.

    Attributes
    ----------
    stimuli : mapping of str to sequence of str
        Columns of the stimulus table.
    embeddings : mapping of str to ndarray of shape (n, d), float32
    subjects : mapping of str to (responses, columns)
        Responses (n_trials, n_voxels), float32, and the columns of the trial table.
    tracks : mapping
        As in the header.
    splits : sequence of mapping
        Split files without their checksum.
    """

    stimuli: Mapping[str, Sequence[str]]
    embeddings: Mapping[str, np.ndarray]
    subjects: Mapping[str, tuple[np.ndarray, Mapping[str, Sequence[str]]]]
    tracks: Mapping[str, Mapping[str, str]]
    splits: Sequence[Mapping[str, Any]]
    tags: Sequence[str] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    version: str = "1.0"


def import_folder(kind: str, sources: Sequence[Path], out: Path, options: Mapping[str, Any]) -> Content:
    """Read files of a kind and write them as a folder dataset, named after its folder.

    Parameters
    ----------
    kind : str
        One of ``KINDS``.
    sources : sequence of Path
    out : Path
        Must not exist yet.
    options : mapping
        What the kind's ``read`` takes besides the sources.

    Raises
    ------
    BenchError
        At the first fault of the input; nothing is written then.
    """
    out = Path(os.path.abspath(out))
    if os.path.lexists(out):
        raise BenchError(f"--out {out}: already there, expected a folder that does not exist yet")
    registry = Registry()
    if out.name in (*registry.names("dataset"), *registry.names("suite"), "leaderboards"):
        raise BenchError(f"--out {out}: {out.name!r} is a name of bench's own, expected another")
    content = resolve(KINDS[kind]["target"])(sources, **options)

    def write(root: Path) -> None:
        _write(root, out.name, content)
        for fault in folder.check(root):
            raise BenchError(fault.replace(str(root), str(out)))

    write_folder_once(out, write)
    return content


def _write(root: Path, name: str, content: Content) -> None:
    header: dict[str, Any] = {
        "format": "fmri-bench-folder",
        "format_version": 1,
        "name": name,
        "version": content.version,
        "tags": list(content.tags),
        "provenance": dict(content.provenance),
        "stimuli": {"table": "stimuli.csv", "embeddings": {}},
        "subjects": {},
        "tracks": content.tracks,
        "splits": [],
    }
    _table(root / "stimuli.csv", content.stimuli)
    for space, vectors in content.embeddings.items():
        header["stimuli"]["embeddings"][space] = f"{space}.npy"
        np.save(root / f"{space}.npy", vectors)
    for subject, (responses, columns) in content.subjects.items():
        (root / subject).mkdir()
        np.save(root / subject / "responses.npy", responses)
        _table(root / subject / "trials.csv", columns)
        header["subjects"][subject] = {"responses": f"{subject}/responses.npy", "trials": f"{subject}/trials.csv"}
    (root / "splits").mkdir()
    for split in content.splits:
        header["splits"].append(f"splits/{split['name']}.json")
        _json(root / header["splits"][-1], dict(split) | {"sha256": split_checksum(split)})
    _json(root / folder.HEADER, header)


def _table(path: Path, columns: Mapping[str, Sequence[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([list(columns), *zip(*columns.values(), strict=True)])
    path.write_bytes(text.getvalue().encode())


def _json(path: Path, value: Any) -> None:
    path.write_bytes((json.dumps(value, indent=1) + "\n").encode())
