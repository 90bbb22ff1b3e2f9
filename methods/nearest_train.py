"""Control: the target of the training item whose response correlates most."""

from __future__ import annotations

import numpy as np

from benchmark.api import Method
from methods._outputs import needs_outputs, predictions, targets


class NearestTrain(Method):
    """One nearest neighbour by Pearson correlation over voxels."""

    name = "nearest-train"
    control = True
    licence = "MIT"

    supports = staticmethod(needs_outputs)

    def train(self, train, *, seed, device, workdir):
        self.train_set, self.targets = train, targets(train)
        self.responses = _unit(train.fmri.data)

    def predict(self, fmri):
        rows = np.argmax(_unit(fmri.data) @ self.responses.T, axis=1)
        return predictions({name: y[rows] for name, y in self.targets.items()}, self.train_set)


def _unit(data):
    data = data - data.mean(1, keepdims=True)
    norm = np.linalg.norm(data, axis=1, keepdims=True)
    return data / np.where(norm == 0, 1, norm)  # a flat response correlates with nothing
