"""The controls and ridge do what they are named for."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from benchmark.api import Responses
from benchmark.errors import BenchError
from methods.chance import Chance
from methods.mean import Mean
from methods.nearest_train import NearestTrain
from methods.noise_input import NoiseInput
from methods.oracle import Oracle
from methods.ridge import Ridge, RidgeParams
from methods.shuffled import Shuffled
from tests.methods.made import make_scenes, make_words


def predict(cls, train, fmri, seed=0, **more):
    method = cls()
    method.train(train, seed=seed, device="cpu", workdir=None)
    return method.predict(fmri, **more)


def two_way(true, predicted):
    r = np.corrcoef(true, predicted)[: len(true), len(true) :]
    return np.mean((r < np.diag(r)).sum(0) / (len(true) - 1))


def test_chance_returns_training_targets_with_their_own_images(scenes):
    train, test, _ = scenes
    p = predict(Chance, train, test)
    rows = [np.flatnonzero((train.target() == v).all(1))[0] for v in p.embeddings["description"]]
    np.testing.assert_array_equal(p.images, train.stimuli.images[train.stimulus[rows]])
    assert len(set(rows)) > 1


def test_chance_does_not_look_at_the_responses(scenes):
    train, test, _ = scenes
    other = Responses(test.data + 9, test.subject)
    np.testing.assert_array_equal(predict(Chance, train, test).images, predict(Chance, train, other).images)


def test_mean_counts_every_row(scenes):
    train, test, _ = scenes
    twice = dataclasses.replace(train, stimulus=np.zeros_like(train.stimulus))
    p = predict(Mean, twice, test)
    np.testing.assert_allclose(p.embeddings["description"], np.tile(train.target()[:1], (9, 1)), rtol=1e-6)
    np.testing.assert_array_equal(p.images[3], train.stimuli.images[0])


def test_nearest_train_equals_correlation_distance(scenes):
    train, test, _ = scenes
    rows = cdist(test.data, train.fmri.data, "correlation").argmin(1)
    p = predict(NearestTrain, train, test)
    np.testing.assert_array_equal(p.embeddings["description"], train.target()[rows])
    np.testing.assert_array_equal(p.images, train.stimuli.images[rows])


def test_nearest_train_takes_a_flat_response(scenes):
    train, test, _ = scenes
    flat = Responses(np.ones_like(test.data), test.subject)
    assert np.isfinite(predict(NearestTrain, train, flat).embeddings["description"]).all()


def test_oracle_returns_the_truth_that_was_asked_for(scenes):
    train, test, truth = scenes
    p = predict(Oracle, train, test, truth=truth)
    np.testing.assert_array_equal(p.embeddings["description"], truth.embeddings["description"])
    np.testing.assert_array_equal(p.images, truth.images)
    only = dataclasses.replace(train, tracks=frozenset({"embedding"}))
    assert predict(Oracle, only, test, truth=truth).images is None


def test_ridge_decodes_and_its_controls_do_not():
    train, test, truth = make_scenes(n_train=150, n_test=60)
    score = {
        cls.name: two_way(truth.embeddings["description"], predict(cls, train, test).embeddings["description"])
        for cls in (Ridge, Shuffled, NoiseInput)
    }
    assert score["ridge"] > 0.95
    assert abs(score["shuffled"] - 0.5) < 0.15
    assert abs(score["noise-input"] - 0.5) < 0.15


def test_shuffled_is_ridge_on_permuted_pairs(scenes):
    train, test, _ = scenes
    permuted = dataclasses.replace(train, stimulus=np.random.default_rng(3).permutation(train.stimulus))
    expected = predict(Ridge, permuted, test).images
    np.testing.assert_array_equal(predict(Shuffled, train, test, seed=3).images, expected)
    assert (predict(Ridge, train, test).images != expected).any()


def test_noise_input_does_not_look_at_the_responses(scenes):
    train, test, _ = scenes
    other = dataclasses.replace(train, fmri=Responses(-train.fmri.data, train.fmri.subject))
    a = predict(NoiseInput, train, test)
    b = predict(NoiseInput, other, Responses(7 * test.data, test.subject))
    np.testing.assert_array_equal(a.embeddings["description"], b.embeddings["description"])


@pytest.mark.parametrize("unit", ["subject", "stimulus"])
def test_ridge_leaves_out_what_the_split_leaves_out(unit):
    train, _, _ = make_words(unit=unit)
    train = dataclasses.replace(train, tracks=frozenset({"embedding"}))  # held-out words are chosen for by rank
    z = (train.fmri.data - train.fmri.data.mean(0)) / train.fmri.data.std(0)
    groups = train.fmri.subject if unit == "subject" else train.stimulus
    method = Ridge()
    method.train(train, seed=0, device="cpu", workdir=None)
    penalties = np.array(method.params.penalties)[::-1]
    y, best = train.target(), []
    for relative in penalties:
        alpha, total = relative * z.shape[1], 0.0
        for group in np.unique(groups):
            out = groups == group
            x_in, y_in = z[~out] - z[~out].mean(0), y[~out] - y[~out].mean(0)
            w = np.linalg.solve(x_in.T @ x_in + alpha * np.eye(z.shape[1]), x_in.T @ y_in)
            total += (((z[out] - z[~out].mean(0)) @ w + y[~out].mean(0) - y[out]) ** 2).sum()
        best.append(total / y.size)
    np.testing.assert_allclose(method.models[0].errors["glove"], best, rtol=1e-4)
    assert method.models[0].penalties["glove"] == penalties[np.argmin(best)]


def test_ridge_takes_the_penalty_that_ranks_left_out_words_best():
    """Against explicit fits; folds are the same permutation of the words."""
    train, _, _ = make_words(n_words=24, n_subjects=1, noise=6.0, unit="stimulus")
    method = Ridge()
    method.train(train, seed=5, device="cpu", workdir=None)
    (model,) = method.models
    x, y, vectors = train.fmri.data.astype(float), train.target().astype(float), train.stimuli.embeddings["glove"]
    z = (x - x.mean(0)) / x.std(0)
    total = {}
    for penalty in method.params.penalties:
        total[penalty] = 0.0
        for words in np.array_split(np.random.default_rng(5).permutation(24), 5):
            out = np.isin(train.stimulus, words)
            x_in, y_in = z[~out] - z[~out].mean(0), y[~out] - y[~out].mean(0)
            alpha = penalty * (x_in**2).sum() / len(x_in)
            w = np.linalg.solve(x_in.T @ x_in + alpha * np.eye(x.shape[1]), x_in.T @ y_in)
            predicted = (z[out] - z[~out].mean(0)) @ w + y[~out].mean(0)
            for vector, word in zip(predicted, train.stimulus[out], strict=True):
                r = {k: np.corrcoef(vector, vectors[k])[0, 1] for k in words}
                total[penalty] += 1 - sum(r[k] > r[word] for k in words) / (len(words) - 1)
    best = max(total.values())
    assert model.penalties["glove"] == max(p for p, v in total.items() if v > best - 1e-9)
    assert model.penalties["glove"] < max(method.params.penalties)


def test_ridge_by_error_is_a_preset_and_other_tracks_are_left_alone():
    train, _, _ = make_words(unit="stimulus")
    by_error = Ridge(Ridge.make_params("mini", "least-error"))
    by_error.train(train, seed=0, device="cpu", workdir=None)
    assert by_error.models[0].errors["glove"].size
    pixels, images, _ = make_scenes(tracks=("words", "embedding", "reconstruction"))
    pixels = dataclasses.replace(pixels, space="description")
    both = Ridge()
    both.train(pixels, seed=0, device="cpu", workdir=None)
    assert [list(m.penalties) for m in both.models] == [["description"], ["pixels"]]
    found = both.predict(images)
    assert set(found.embeddings) == {"description"}
    assert found.images.shape[0] == len(images)
    with pytest.raises(BenchError, match="expected one of rank, error"):
        Ridge(RidgeParams(choose="luck")).train(train, seed=0, device="cpu", workdir=None)
