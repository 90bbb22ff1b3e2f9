"""Ridge regression from z-scored voxels to the target space and to pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmark import ridge
from benchmark.api import Method
from benchmark.errors import BenchError
from methods._outputs import needs_outputs, predictions, targets
from methods._penalty import by_rank_accuracy

CHOICES = ("rank", "error")


@dataclass(frozen=True)
class RidgeParams:
    """Penalties offered, in units of the kernel's mean diagonal; training data choose among them.

    ``choose`` says how for words that are held out themselves: by the ``rank`` of left-out training words
    or by the least squared ``error``, which is what every other target is chosen by.
    """

    penalties: tuple[float, ...] = ridge.PENALTIES
    choose: str = "rank"


class Ridge(Method):
    """One Gram matrix; each target's penalty is the best on left-out training subjects or stimuli."""

    name = "ridge"
    Params = RidgeParams
    presets = {"least-error": {"choose": "error"}}
    paper = "Hoerl and Kennard 1970, Technometrics 12(1)"
    licence = "MIT"
    resources = {"gpus": 0, "memory_gb": 1, "minutes": 1}

    supports = staticmethod(needs_outputs)

    def train(self, train, *, seed, device, workdir):
        by_subject = train.unit == "subject" and len(np.unique(train.fmri.subject)) > 1
        groups = train.fmri.subject if by_subject else train.stimulus
        self.train_set = train
        wanted, penalties = targets(train), self.params.penalties
        self.models = []
        if self.params.choose not in CHOICES:
            raise BenchError(f"ridge: choose is {self.params.choose!r}, expected one of {', '.join(CHOICES)}")
        if self.params.choose == "rank" and "words" in train.tracks and train.unit == "stimulus":
            best = by_rank_accuracy(train, penalties, seed)
            if best is not None:
                words = {train.space: wanted.pop(train.space)}
                self.models.append(ridge.fit(train.fmri.data, words, (best,), device=device))
        if wanted:
            self.models.append(ridge.fit(train.fmri.data, wanted, penalties, groups=groups, device=device))

    def predict(self, fmri):
        outputs = [model.predict(fmri.data) for model in self.models]
        return predictions({name: y for found in outputs for name, y in found.items()}, self.train_set)
