"""A small training loss is no evidence: one target for all trials, and noise instead of responses."""

import csv
import dataclasses

import numpy as np
import pytest

from benchmark.api import Responses
from benchmark.leaderboard import UNRANKED_TAGS
from methods.cosine_mlp import CosineMLP
from tests.methods.made import make_scenes


def trained(train, folder, preset="default", **changes):
    method = CosineMLP(CosineMLP.make_params("full", preset, changes))
    method.train(train, seed=0, device="cpu", workdir=folder)
    with open(folder / "train_log.csv", newline="") as file:
        rows = list(csv.reader(file))[1:]
    return method, np.array(rows, float)


def noise(n, seed, n_voxels=50):
    rng = np.random.default_rng(seed)
    return Responses(rng.standard_normal((n, n_voxels), dtype=np.float32), np.full(n, "s"))


def test_one_target_for_all_trials_is_learnt_from_noise_and_tagged(tmp_path):
    train = make_scenes(n_train=370)[0]
    one = np.random.default_rng(1).standard_normal((1, 512)).astype(np.float32)
    stimuli = dataclasses.replace(train.stimuli, embeddings={"description": np.repeat(one, 370, axis=0)})
    train = dataclasses.replace(train, fmri=noise(370, 0), stimuli=stimuli)
    method, log = trained(train, tmp_path, "allow-degenerate", batch=370, lr=1e-2, hidden=256)
    assert log[0, 1] == pytest.approx(1, abs=0.1)
    assert log[-1, 0] == 20
    assert log[-1, 1] <= 0.1
    unseen = method.predict(noise(100, 2)).embeddings["description"]
    cosine = unseen @ one[0] / np.linalg.norm(unseen, axis=1) / np.linalg.norm(one)
    assert (1 - cosine).mean() <= 0.1  # unseen noise fits as well
    assert method.tags == ("degenerate",)
    assert set(method.tags) <= set(UNRANKED_TAGS)
    assert CosineMLP().tags == ()


def test_noise_with_real_targets_reaches_the_constant_predictor_and_chance(tmp_path):
    train, _, truth = make_scenes(n_train=600, n_test=200)
    train = dataclasses.replace(train, fmri=noise(600, 0))
    method, log = trained(train, tmp_path, lr=3e-4)
    unit = train.target() / np.linalg.norm(train.target(), axis=1, keepdims=True)
    constant = 1 - np.linalg.norm(unit.mean(0))  # the loss of the best constant direction
    assert log[-1, 1] <= 1.05 * constant  # the training loss falls to it, or below by learning the noise by heart
    assert log[:, 2].min() == pytest.approx(constant, rel=0.15)  # held-out rows get no further
    predicted = method.predict(noise(200, 3)).embeddings["description"]
    r = np.corrcoef(truth.embeddings["description"], predicted)[:200, 200:]
    two_way = (r < np.diag(r)).sum(0) / 199
    assert abs(two_way.mean() - 0.5) < 1.96 * np.sqrt(1 / 12 / 200)
