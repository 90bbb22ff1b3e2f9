"""Control: ridge on Gaussian noise instead of responses."""

from __future__ import annotations

import dataclasses

import numpy as np

from methods.ridge import Ridge


class NoiseInput(Ridge):
    """What the regression reaches when it sees no response at all, in training or test."""

    name = "noise-input"
    control = True
    paper = ""

    def train(self, train, *, seed, device, workdir):
        self.seed = seed
        train = dataclasses.replace(train, fmri=_noise(train.fmri, [seed, 0]))
        super().train(train, seed=seed, device=device, workdir=workdir)

    def predict(self, fmri):
        return super().predict(_noise(fmri, [self.seed, 1]))


def _noise(fmri, seed):
    data = np.random.default_rng(seed).standard_normal(fmri.data.shape, dtype=np.float32)
    return dataclasses.replace(fmri, data=data)
