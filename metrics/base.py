"""What a metric is: a pure function with a name, a version and stated rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

KINDS = ("vectors", "images", "scores", "categories", "hubs", "pools", "texts", "captions", "dimensions", "set")


@dataclass(frozen=True)
class Metric:
    """A metric and everything that must be known to read its number.

    Attributes
    ----------
    name : str
    version : int
        Raised whenever a value can change.
    function : callable
        By ``kind``: ``vectors`` f(true (n, d), predicted (n, d)) -> (n,); ``images`` f(true, predicted),
        both uint8, or float in [0, 1], (n, h, w, c), -> (n,); ``scores`` f(scores (n, n_candidates),
        target (n,) int) -> (n,); ``dimensions`` f(true, predicted) -> (d,); ``set`` f(predicted (n, d)) -> (1,);
        ``categories`` as ``scores``, then averaged within each category of the stimuli; ``hubs`` f(scores) -> (1,);
        ``pools`` f(predicted (n, d), candidates (n_candidates, d), target (n,)) -> (n,); ``texts`` as ``scores``, the
        candidates being captions; ``captions`` f(true, n sequences of str, predicted, n str) -> (n,) whose mean is
        the corpus score.
    kind : str
        One of ``KINDS``. ``vectors`` metrics with ``centred=True`` also take ``centre=`` (d,), the
        mean of the training targets.
    lower, upper : float
        Range of a value.
    higher_is_better : bool or None
        None for a diagnostic that has no better end.
    chance : callable or None
        ``chance(n_candidates) -> float``; None where there is no closed form. For ``texts``
        ``chance(n_captions, n_own=5)``, with the number of captions of each image.
    aggregate : str
        ``"mean"`` or ``"median"`` over items.
    ties : str
        The rule for ties and zero variance, in words.
    degenerate : callable or None
        Same arguments as ``function``; a bool array that marks the items (``vectors``, ``images``), dimensions
        (``dimensions``) or predictions (``set``) whose value a zero-variance rule decided, to be counted in the record.
    features : str
        Where the arrays are not the track's own: the features of pictures that the caller makes (``clip``,
        ``judge``, ``alexnet2[mindeye]``...; ``judge-read`` are attributes as integers). The metric itself never sees a
        model. Where ``centred``, the centre is the mean of the true pictures' features.
    pool : int or None
        Where candidates are ranked in pools: the most in one.
    gallery : str
        ``"test"`` (the candidates are the fold's test stimuli) or ``"published-all"`` (all stimuli of the dataset,
        those of the training side included: never ranked).
    lacks : str
        What the metric would need and never has here; it is never computed, and no row is incomplete for it.
    note : str
        A caveat that stands beside the column.
    protocol : str
        ``bench-1`` is the product's own. Of any other, ``images`` metrics take the predicted pictures at the size they
        were predicted at, and bring both sides to the protocol's size themselves.
    definition, source : str
    """

    name: str
    version: int
    function: Callable[..., np.ndarray]
    kind: str
    lower: float
    upper: float
    higher_is_better: bool | None
    definition: str
    source: str
    chance: Callable[[int], float] | None = None
    aggregate: str = "mean"
    ties: str = "none"
    degenerate: Callable[..., np.ndarray] | None = None
    centred: bool = False
    pool: int | None = None
    gallery: str = "test"
    features: str = ""
    lacks: str = ""
    note: str = ""
    protocol: str = "bench-1"
