"""Control: the target of a random training item."""

from __future__ import annotations

import numpy as np

from benchmark.api import Method
from methods._outputs import needs_outputs, predictions, targets


class Chance(Method):
    """Draw a training row for every test row, from the seed alone."""

    name = "chance"
    control = True
    licence = "MIT"

    supports = staticmethod(needs_outputs)

    def train(self, train, *, seed, device, workdir):
        self.train_set, self.seed = train, seed
        self.targets = targets(train)

    def predict(self, fmri):
        rows = np.random.default_rng(self.seed).integers(len(self.train_set), size=len(fmri))
        return predictions({name: y[rows] for name, y in self.targets.items()}, self.train_set)
