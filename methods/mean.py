"""Control: the mean of the training targets."""

from __future__ import annotations

import numpy as np

from benchmark.api import Method
from methods._outputs import needs_outputs, predictions, targets


class Mean(Method):
    """Predict the same mean vector and mean picture for every test row."""

    name = "mean"
    control = True
    licence = "MIT"

    supports = staticmethod(needs_outputs)

    def train(self, train, *, seed, device, workdir):
        self.train_set = train
        self.means = {name: y.mean(0, dtype=np.float64).astype(np.float32) for name, y in targets(train).items()}

    def predict(self, fmri):
        return predictions({name: np.tile(m, (len(fmri), 1)) for name, m in self.means.items()}, self.train_set)
