"""All checks of one subject, one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmark.checkup._recording import Finding, Recording, filled
from benchmark.checkup._responses import differences_between_sides, scaling, trials, voxels
from benchmark.checkup._signal import alignment, repeats
from benchmark.checkup._stimuli import captions, pictures, targets
from benchmark.data import prepare, splits
from benchmark.data.base import Dataset


@dataclass(frozen=True, eq=False)
class Checkup:
    """All findings about one subject of a dataset, and what their picture is drawn from."""

    dataset: str
    subject: str
    split: str
    findings: tuple[Finding, ...]
    drawn: Mapping[str, Any] = field(default_factory=dict)

    def count(self, verdict: str) -> int:
        """Return how many findings have a verdict."""
        return sum(found.verdict == verdict for found in self.findings)


def check_dataset(dataset: Dataset, split: splits.Split, subject: str, clip: Any = None, seed: int = 0) -> Checkup:
    """Check a subject's recording for the faults that make every method's score wrong.

    Parameters
    ----------
    dataset : Dataset
    split : Split
        Its first fold that tests the subject says which rows are trained on. Where it holds out subjects, the
        subject's own rows are checked: other folds train on them.
    subject : str
    clip : model with ``encode_image`` and ``encode_text``, optional
        Reads pictures and captions; without one that check is left out.
    seed : int
        Of every sample and permutation.

    Returns
    -------
    Checkup

    Raises
    ------
    BenchError
        For an unknown subject or a side without trials.
    """
    fold = prepare.folds(dataset, split, subject)[0]
    drawn: dict[str, Any] = {}
    rows = [fold.train_rows.get(subject, np.empty(0, int)), fold.test_rows[subject]]
    if split.unit == "subject":
        known = any(subject in f.train for f in split.folds[splits.EVERY_SUBJECT])
        rows = [rows[1] if known else rows[0], rows[1]]
    findings, columns = voxels(fold, subject, rows)
    if len(columns):
        data = fold.data[subject]
        x = filled(data.responses, columns)
        recording = Recording(dataset, fold, data, columns, x, *rows, np.random.default_rng(seed))
        for check in (trials, alignment, repeats, scaling, differences_between_sides, pictures):
            findings += check(recording, drawn)
        findings += targets(recording)
        findings += captions(recording, clip)
    return Checkup(dataset.name, subject, f"{split.name}/{fold.name}", tuple(findings), drawn)
