"""Ridge regression from z-scored voxels to the target space and to pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmark import ridge
from benchmark.api import Method
from methods._outputs import needs_outputs, predictions, targets


@dataclass(frozen=True)
class RidgeParams:
    """Penalties offered, in units of the kernel's mean diagonal; training data choose among them."""

    penalties: tuple[float, ...] = ridge.PENALTIES


class Ridge(Method):
    """One Gram matrix; each target's penalty has the least error on left-out training subjects or stimuli."""

    name = "ridge"
    Params = RidgeParams
    paper = "Hoerl and Kennard 1970, Technometrics 12(1)"
    licence = "MIT"
    resources = {"gpus": 0, "memory_gb": 1, "minutes": 1}

    supports = staticmethod(needs_outputs)

    def train(self, train, *, seed, device, workdir):
        by_subject = train.unit == "subject" and len(np.unique(train.fmri.subject)) > 1
        groups = train.fmri.subject if by_subject else train.stimulus
        self.train_set = train
        self.model = ridge.fit(train.fmri.data, targets(train), self.params.penalties, groups=groups, device=device)

    def predict(self, fmri):
        return predictions(self.model.predict(fmri.data), self.train_set)
