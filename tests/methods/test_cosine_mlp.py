"""The cosine-loss perceptron: loss, presets, refusal of a constant target, log, inner validation."""

import csv
import dataclasses

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cosine

from benchmark.api import Responses
from benchmark.errors import BenchError
from methods.cosine_mlp import CosineMLP, CosineMLPParams, _loss
from tests.methods.made import make_scenes


def fitted(train, tmp_path, preset="default", **overrides):
    method = CosineMLP(CosineMLP.make_params("full", preset, overrides))
    method.train(train, seed=0, device="cpu", workdir=tmp_path)
    return method


def test_defaults_are_the_documented_ones():
    p = CosineMLPParams()
    assert (p.components, p.hidden, p.lr, p.batch, p.epochs, p.loss) == (50, 512, 1e-3, 128, 20, "cosine")


def test_cosine_loss_is_one_minus_cosine():
    a, b = torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = 1 - np.mean(
        [x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(a.numpy(), b.numpy(), strict=True)]
    )
    assert _loss(a, b, torch.arange(9), CosineMLPParams()).item() == pytest.approx(expected)


def test_infonce_equals_a_naive_loop_and_ignores_scans_of_the_same_stimulus():
    a, b = np.random.default_rng(0).standard_normal((2, 6, 4))
    stimulus = np.array([0, 1, 2, 1, 3, 4])
    a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a, b))
    b[3] = b[1]
    total = 0.0
    for i in range(6):
        others = [j for j in range(6) if j == i or stimulus[j] != stimulus[i]]
        for row in ([a[i] @ b[j] / 0.07 for j in others], [b[i] @ a[j] / 0.07 for j in others]):
            total -= a[i] @ b[i] / 0.07 - np.log(np.exp(row).sum())
    given = _loss(*(torch.from_numpy(v) for v in (a, b, stimulus)), CosineMLPParams(loss="infonce"))
    assert given.item() == pytest.approx(total / 12)


def test_unknown_loss_is_refused(scenes, tmp_path):
    with pytest.raises(BenchError, match="'mse'"):
        fitted(scenes[0], tmp_path, loss="mse")


def test_one_vector_for_all_is_refused_unless_asked_for(scenes, tmp_path):
    train = dataclasses.replace(scenes[0], stimulus=np.zeros(40, int))
    with pytest.raises(BenchError, match="same vector") as error:
        fitted(train, tmp_path)
    assert "\n" not in str(error.value)
    # the mistake it guards against: pure noise "learns" such a target, and unseen noise fits it as well
    rng = np.random.default_rng(0)
    noise = [Responses(rng.standard_normal((n, 50), dtype=np.float32), np.full(n, "s")) for n in (370, 100)]
    train = dataclasses.replace(train, fmri=noise[0], stimulus=np.arange(370) % 40, condition=np.full(370, ""))
    table = np.tile(train.stimuli.embeddings["description"][:1], (40, 1))
    train = dataclasses.replace(train, stimuli=dataclasses.replace(train.stimuli, embeddings={"description": table}))
    method = fitted(train, tmp_path, allow_degenerate=True)
    vectors = method.predict(noise[1]).embeddings["description"]
    assert max(cosine(v, table[0]) for v in vectors) < 0.1


@pytest.mark.parametrize("preset", ["default", "contrastive", "centred"])
def test_it_decodes_better_than_the_mean(preset, tmp_path):
    train, test, truth = make_scenes(n_train=300, n_test=60, tracks=("embedding",))
    vectors = fitted(train, tmp_path, preset).predict(test).embeddings["description"]
    r = np.corrcoef(truth.embeddings["description"], vectors)[:60, 60:]
    assert np.mean((r < np.diag(r)).sum(0) / 59) > 0.8


def test_predictions_have_the_length_of_the_targets(tmp_path):
    train, test, _ = make_scenes(n_train=100)
    table = {"description": 7 * train.stimuli.embeddings["description"]}
    scaled = dataclasses.replace(train, stimuli=dataclasses.replace(train.stimuli, embeddings=table))
    one, seven = (fitted(t, tmp_path).predict(test).embeddings["description"] for t in (train, scaled))
    np.testing.assert_allclose(seven, 7 * one, rtol=1e-3, atol=1e-3)
    fit = train.holdout(0.1, 0)[0]
    length = np.linalg.norm(train.target()[fit], axis=1).mean()
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), length, rtol=1e-5)


def test_validation_rows_serve_the_curve_only(scenes, tmp_path):
    train, test, _ = scenes
    held = train.holdout(0.1, 0)[1]
    expected = fitted(train, tmp_path).predict(test).embeddings["description"]
    with open(tmp_path / "train_log.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == [str(i) for i in range(1, 21)]
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    assert all(0 <= float(row["val_loss"]) <= 2 for row in rows)
    data = train.fmri.data.copy()
    data[held] = 50
    changed = dataclasses.replace(train, fmri=Responses(data, train.fmri.subject))
    np.testing.assert_array_equal(fitted(changed, tmp_path).predict(test).embeddings["description"], expected)


def test_components_beyond_the_rank_are_dropped(scenes, tmp_path):
    train, test, _ = scenes
    line = np.outer(np.arange(40), np.arange(1, 31)).astype(np.float32)
    method = fitted(dataclasses.replace(train, fmri=Responses(line, train.fmri.subject)), tmp_path)
    assert method.kept.sum() == 1
    assert np.isfinite(method.predict(test).embeddings["description"]).all()
