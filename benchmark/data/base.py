"""The dataset interface: lazy tables that loaders fill and the harness cuts into train and test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from benchmark.api import DatasetInfo, Stimuli
from benchmark.spaces import SPACES


@dataclass(frozen=True)
class SubjectData:
    """Everything recorded from one subject.

    Attributes
    ----------
    responses : ndarray of shape (n_trials, n_voxels)
        float32 or float64; a memory map where it is large.
    stimulus : ndarray of shape (n_trials,), int
        Row of the dataset's stimulus table shown on each trial.
    run, session : ndarray of shape (n_trials,), str
    condition : ndarray of shape (n_trials,), str
        Presentation condition (paradigm); empty strings where there is none.
    rois : mapping of str to ndarray of shape (n_voxels,), bool
    ncsnr : ndarray of shape (n_voxels,) or None
        Noise-ceiling signal-to-noise ratio of each voxel (signal SD / single-trial noise SD).
    space : mapping
        What ``data show`` needs to draw voxels in place: ``shape`` (3 ints) and ``coords``
        (n_voxels x 3 ints), where known.
    unlabelled : ndarray of shape (n, n_voxels) or None
        Responses to something else than the stimuli (sentences of the same experiment).
    """

    responses: np.ndarray
    stimulus: np.ndarray
    run: np.ndarray
    session: np.ndarray
    condition: np.ndarray
    rois: Mapping[str, np.ndarray] = field(default_factory=dict)
    ncsnr: np.ndarray | None = None
    space: Mapping[str, np.ndarray] = field(default_factory=dict)
    unlabelled: np.ndarray | None = None


@dataclass(frozen=True)
class Dataset:
    """A loaded dataset; responses are read when a subject is asked for.

    Attributes
    ----------
    name, version : str
    fingerprint : str
        Changes whenever any byte that can reach a score changes.
    subjects : tuple of str
    stimuli : Stimuli
    load_subject : callable
        ``load_subject(subject) -> SubjectData``; raises ``BenchError`` on a damaged file.
    nan_voxels : str
        ``"error"`` (NaN is a fault) or ``"drop"`` (NaN is part of the format: voxels that are NaN in
        every training trial are dropped, single NaN filled with the training mean).
    tags : tuple of str
        Carried onto every row, for example ``"transductive scaling"``.
    provenance : mapping
        Source, licence, citation.
    """

    name: str
    version: str
    fingerprint: str
    subjects: tuple[str, ...]
    stimuli: Stimuli
    load_subject: Callable[[str], SubjectData]
    roi_names: tuple[str, ...] = ()
    nan_voxels: str = "error"
    tags: tuple[str, ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)

    def info(self, tracks: frozenset[str], unit: str) -> DatasetInfo:
        """Return what ``Method.supports`` is asked with."""
        s = self.stimuli
        return DatasetInfo(
            name=self.name,
            tracks=tracks,
            unit=unit,
            n_subjects=len(self.subjects),
            spaces=tuple(dict.fromkeys((*s.embeddings, *(SPACES if s.images is not None else ())))),
            rois=self.roi_names,
            has_images=s.images is not None,
            has_captions=s.captions is not None,
            has_words=s.words is not None,
        )
