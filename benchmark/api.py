"""What an adapter sees: responses, stimuli, the training set, predictions, the base class."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

TRACKS = ("words", "embedding", "reconstruction")


@dataclass(frozen=True)
class Responses:
    """fMRI responses, one row per item.

    Attributes
    ----------
    data : ndarray of shape (n_rows, n_voxels), float32
        Betas in the dataset's own units. Finite: the shared preparation has dropped or filled NaN.
    subject : ndarray of shape (n_rows,), str
        Subject id of every row.
    rois : mapping of str to ndarray of shape (n_voxels,), bool
        ROI masks by name. An ROI may be empty; ROIs may overlap.
    """

    data: np.ndarray
    subject: np.ndarray
    rois: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.data)

    def take(self, rows: np.ndarray) -> Responses:
        """Return the given rows (integer indices or a boolean mask)."""
        return Responses(self.data[rows], self.subject[rows], self.rois)


@dataclass(frozen=True)
class Stimuli:
    """A table of stimuli; every column is optional but ``ids``.

    Attributes
    ----------
    ids : ndarray of shape (n,), str
    images : ndarray of shape (n, height, width, channels), uint8, or None
        Channels is 1 (grey) or 3 (RGB). May be a memory map.
    captions : sequence of n tuples of str, or None
    words : ndarray of shape (n,), str, or None
    embeddings : mapping of str to ndarray of shape (n, d), float32
        Target spaces by name (for example ``"glove"``).
    attributes : mapping of str to ndarray of shape (n, ...)
        The true description of generated stimuli; only metrics ever read it.
    """

    ids: np.ndarray
    images: np.ndarray | None = None
    captions: Sequence[tuple[str, ...]] | None = None
    words: np.ndarray | None = None
    embeddings: Mapping[str, np.ndarray] = field(default_factory=dict)
    attributes: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: np.ndarray) -> Stimuli:
        """Return the given rows (integer indices or a boolean mask)."""
        rows = np.flatnonzero(rows) if np.asarray(rows).dtype == bool else np.asarray(rows)
        return Stimuli(
            ids=self.ids[rows],
            images=None if self.images is None else self.images[rows],
            captions=None if self.captions is None else [self.captions[i] for i in rows],
            words=None if self.words is None else self.words[rows],
            embeddings={k: v[rows] for k, v in self.embeddings.items()},
            attributes={k: v[rows] for k, v in self.attributes.items()},
        )


class Models(Protocol):
    """The frozen pretrained models of a run, in its profile and on its device."""

    def extract(self, model: str, output: str, items: Any, **options: Any) -> np.ndarray:
        """Return one output of a model for every stimulus, float32, from the cache where it is there.

        Parameters
        ----------
        model, output : str
            For example ``"clip"`` and ``"image_tokens"``: a method of the model that maps stimuli to an
            array of one row each.
        items : ndarray of pictures, sequence of str, or sequence of tuples of str
            Of several texts the mean is taken.
        **options
            Passed to the method.
        """

    def load(self, model: str) -> Any:
        """Return a loaded model, for what is computed from predictions."""


@dataclass(frozen=True)
class TrainSet:
    """The training side of a split; nothing of the test side is reachable from here.

    Attributes
    ----------
    fmri : Responses
        One row per training item (repeats already averaged where the split says so).
    stimulus : ndarray of shape (n_rows,), int
        Row of ``stimuli`` that each response belongs to.
    stimuli : Stimuli
        The training stimuli, each once.
    condition : ndarray of shape (n_rows,), str
        Presentation condition (for example the paradigm); empty strings where there is none.
    tracks : frozenset of str
        Outputs that are asked for: any of ``words``, ``embedding``, ``reconstruction``.
    space : str or None
        Name of the target embedding space of the ``words`` or ``embedding`` track.
    unit : str
        What the split holds out: ``"stimulus"``, ``"subject"`` or ``"run"``.
    repeats : Responses or None
        The single trials behind the averaged rows, where rows were averaged.
    repeat_row : ndarray of shape (n_trials,), int, or None
        Row of ``fmri`` that each single trial belongs to.
    unlabelled : Responses or None
        Responses of the training subjects to something else than the stimuli (sentences of the same
        experiment), for pre-training; same voxels.
    models : Models or None
        Frozen pretrained models; the harness always sets it.
    """

    fmri: Responses
    stimulus: np.ndarray
    stimuli: Stimuli
    condition: np.ndarray
    tracks: frozenset[str]
    space: str | None = None
    unit: str = "stimulus"
    repeats: Responses | None = None
    repeat_row: np.ndarray | None = None
    unlabelled: Responses | None = None
    models: Models | None = None

    def __len__(self) -> int:
        return len(self.fmri)

    def target(self, space: str | None = None) -> np.ndarray:
        """Return the target vector of every row, shape (n_rows, d), float32."""
        table = self.stimuli.embeddings[space or self.space]
        return np.asarray(table, np.float32)[self.stimulus]

    def pixels(self) -> np.ndarray:
        """Return the image of every row as values in [0, 1], shape (n_rows, h * w * c), float32."""
        images = self._pixel_table
        return images[self.stimulus]

    @cached_property
    def _pixel_table(self) -> np.ndarray:
        images = np.asarray(self.stimuli.images, np.float32)
        return images.reshape(len(images), -1) / np.float32(255)

    def holdout(self, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Split the training rows into rows to fit and rows to validate on.

        Whole units are held out, as the split itself does: training subjects where the split is
        over subjects (at least one), training stimuli otherwise.

        Parameters
        ----------
        fraction : float
            Share of the units that goes to validation; at least one, at most all but one.
        seed : int

        Returns
        -------
        fit, validation : ndarray of int
            Row indices. ``validation`` is empty where there is only one unit.
        """
        units = self.fmri.subject if self.unit == "subject" else self.stimulus
        values = np.unique(units)
        n = min(max(1, round(fraction * len(values))), len(values) - 1)
        chosen = np.random.default_rng(seed).permutation(values)[:n]
        held = np.isin(units, chosen)
        return np.flatnonzero(~held), np.flatnonzero(held)


@dataclass(frozen=True)
class Predictions:
    """What a method says about the test responses; every field is optional.

    Attributes
    ----------
    embeddings : mapping of str to ndarray of shape (n, d)
        Predicted vectors by target space.
    images : ndarray of shape (n, height, width, channels), uint8, or None
    class_scores : ndarray of shape (n, n_classes), or None
        Higher is more likely.
    class_ids : ndarray of shape (n_classes,), str, or None
        Stimulus id of every column of ``class_scores``.
    captions : sequence of n str, or None
    intermediates : mapping of str to ndarray of shape (n, ...)
        Named extra outputs. Those that are pictures (uint8, four axes), such as a low-level image, are
        scored too.
    features : mapping of str to ndarray of shape (n, ...)
        What a ``Reconstructor`` made its pictures from; the ladder compares it with the true features.
    notes : mapping of str to float or str
        What a reader of the row should know, such as how many votes were ties.
    """

    embeddings: Mapping[str, np.ndarray] = field(default_factory=dict)
    images: np.ndarray | None = None
    class_scores: np.ndarray | None = None
    class_ids: np.ndarray | None = None
    captions: Sequence[str] | None = None
    intermediates: Mapping[str, np.ndarray] = field(default_factory=dict)
    features: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: Mapping[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True)
class DatasetInfo:
    """What ``Method.supports`` may decide on, known before anything is loaded."""

    name: str
    tracks: frozenset[str]
    unit: str
    n_subjects: int
    spaces: tuple[str, ...] = ()
    rois: tuple[str, ...] = ()
    has_images: bool = False
    has_captions: bool = False
    has_words: bool = False


@dataclass(frozen=True)
class NoParams:
    """Parameters of a method that has none."""


class Method:
    """Base class of the adapters; a plain object with the same names also works.

    Attributes
    ----------
    name : str
        Id on the command line.
    tracks : frozenset of str
        Tracks the method can stand in.
    control : bool
        True for control methods, listed apart from the methods proper.
    oracle : bool
        True where ``predict`` is given ``truth=``; tagged, never ranked.
    Params : type
        Frozen dataclass of parameters; the defaults are the paper's.
    presets : mapping of str to mapping
        Named parameter changes, ``method:preset`` on the command line.
    profiles : mapping of str to mapping
        Parameter changes of a profile (``mini``), applied before the preset's.
    paper, licence : str
    reported : mapping
        Numbers the paper reports, for the documentation only.
    pretrained : tuple of str
        Frozen models it uses; they are checked before the run and are part of its identity.
    resources : mapping
        Rough needs at the paper's size, such as ``{"gpus": 0, "memory_gb": 4, "minutes": 5}``.
    tags : tuple of str
        What every row of the method carries, such as ``"leaky selection"`` (never ranked); a property
        where it depends on the parameters.
    """

    name: ClassVar[str] = ""
    tracks: ClassVar[frozenset[str]] = frozenset(TRACKS)
    control: ClassVar[bool] = False
    oracle: ClassVar[bool] = False
    Params: ClassVar[type] = NoParams
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    paper: ClassVar[str] = ""
    licence: ClassVar[str] = ""
    reported: ClassVar[Mapping[str, Any]] = {}
    pretrained: ClassVar[tuple[str, ...]] = ()
    resources: ClassVar[Mapping[str, float]] = {}
    tags: tuple[str, ...] = ()

    def __init__(self, params: Any = None) -> None:
        self.params = self.Params() if params is None else params

    @classmethod
    def make_params(cls, profile: str, preset: str, overrides: Mapping[str, Any] | None = None) -> Any:
        """Return the parameters of a profile and preset; ``default`` is the preset without changes."""
        changes = dict(cls.profiles.get(profile, {}))
        if preset != "default":
            changes |= cls.presets[preset]
        return dataclasses.replace(cls.Params(), **changes | dict(overrides or {}))

    def supports(self, dataset: DatasetInfo) -> str | None:
        """Return why the method, with its parameters, cannot run on the dataset, or None.

        It may also be a static or class method where the parameters do not matter.
        """
        return None

    def train(self, train: TrainSet, *, seed: int, device: str, workdir: Path) -> None:
        """Fit on the training side only.

        Parameters
        ----------
        train : TrainSet
        seed : int
            Every random draw comes from this seed.
        device : str
            ``"cpu"``, ``"cuda"`` or ``"mps"``.
        workdir : Path
            Folder of the run; ``train_log.csv`` (columns epoch, then losses) and pictures go here.
        """
        raise NotImplementedError

    def predict(self, fmri: Responses) -> Predictions:
        """Predict from test responses and nothing else."""
        raise NotImplementedError


class Reconstructor(Method):
    """A reconstruction method in two steps: responses to features, features to pictures.

    The harness then gives the ladder: ``generate`` from the true features of the test pictures (what
    the generator can do at most), from predicted ones (the method), and the latter against other
    pictures' truth. ``stimulus_features`` and ``generate`` must not depend on training.
    """

    tracks: ClassVar[frozenset[str]] = frozenset({"reconstruction"})

    def stimulus_features(self, stimuli: Stimuli, models: Models) -> dict[str, np.ndarray]:
        """Return the true features of stimuli by name, each (n, ...): the targets of training."""
        raise NotImplementedError

    def predict_features(self, fmri: Responses) -> dict[str, np.ndarray]:
        """Predict what ``stimulus_features`` gives."""
        raise NotImplementedError

    def generate(self, features: Mapping[str, np.ndarray], seeds: Sequence[int], models: Models) -> Predictions:
        """Make pictures, and intermediates, from features; a picture depends on its own seed only."""
        raise NotImplementedError

    def predict(self, fmri: Responses) -> Predictions:
        """Predict features and make pictures of them; ``train`` must have set ``seed`` and ``models``."""
        features = self.predict_features(fmri)
        made = self.generate(features, item_seeds(self.seed, len(fmri)), self.models)
        return dataclasses.replace(made, features=features)


def item_seeds(seed: int, n: int) -> list[int]:
    """Return one seed for each of n items, so that a picture does not depend on those before it."""
    return [int(s) for s in np.random.SeedSequence(seed).generate_state(n)]
