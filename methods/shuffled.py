"""Control: ridge trained on permuted training pairs."""

from __future__ import annotations

import dataclasses

import numpy as np

from methods.ridge import Ridge


class Shuffled(Ridge):
    """What the regression reaches when responses and stimuli no longer belong together."""

    name = "shuffled"
    control = True
    paper = ""

    def train(self, train, *, seed, device, workdir):
        stimulus = np.random.default_rng(seed).permutation(train.stimulus)
        train = dataclasses.replace(train, stimulus=stimulus)
        super().train(train, seed=seed, device=device, workdir=workdir)
