"""Brain2Word: the loss in its right form, batches, network, schedule, early stopping, heads."""

import csv
import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_post_hook

from benchmark.api import Responses
from benchmark.errors import BenchError
from methods import _brain2word_fit as training
from methods import _brain2word_net as net
from methods.brain2word import Brain2WordBase, Brain2WordParams, inner_split
from tests.methods.made import make_words

SMALL = {"hidden": (64, 32), "epochs": 12}


def fitted(train, tmp_path, preset="default", **overrides):
    method = Brain2WordBase(Brain2WordBase.make_params("full", preset, SMALL | overrides))
    method.train(train, seed=0, device="cpu", workdir=tmp_path)
    return method


def printed(predicted, target, sign=1.0):
    """The formula as printed: own cosine minus the sum (not the mean) of the others, minimised."""
    cosine = F.normalize(target, dim=1) @ F.normalize(predicted, dim=1).T
    return sign * (2 * cosine.diagonal().sum() - cosine.sum())


def test_toy_only_the_right_form_of_the_loss_decodes():
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(20, 16, generator=generator)
    word = torch.arange(20)
    forms = {
        "wrong sign": printed,
        "no factor": lambda p, t: printed(p, t, -1.0),
        "right": lambda p, t: net.mean_distance_loss(p, t, word),
    }
    top1, own = {}, {}
    for name, form in forms.items():  # free predictions, minimised
        predicted = torch.randn(20, 16, generator=generator.manual_seed(1)).requires_grad_()
        optimiser = torch.optim.Adam([predicted], lr=0.05)
        for _ in range(200):
            optimiser.zero_grad()
            form(predicted, target).backward()
            optimiser.step()
        with torch.no_grad():
            cosine = F.normalize(predicted, dim=1) @ F.normalize(target, dim=1).T
        top1[name] = (cosine.argmax(1) == word).float().mean().item()
        own[name] = cosine.diagonal().mean().item()
    assert top1["wrong sign"] == 0
    assert 0.4 <= top1["no factor"] <= 0.9
    assert top1["right"] == 1
    assert own["wrong sign"] < 0 < own["no factor"] < 0.5 < 0.95 < own["right"]


def test_loss_equals_a_naive_loop_with_words_masked():
    p, t = np.random.default_rng(0).standard_normal((2, 7, 5))
    word = [0, 1, 2, 1, 3, 4, 0]

    def c(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    rows = [-c(t[i], p[i]) + np.mean([c(t[i], p[j]) for j in range(7) if word[j] != word[i]]) for i in range(7)]
    given = net.mean_distance_loss(torch.from_numpy(p), torch.from_numpy(t), torch.tensor(word))
    assert given.item() == pytest.approx(np.mean(rows))


def test_perfect_orthonormal_predictions_give_minus_one():
    eye = torch.eye(6)
    assert net.mean_distance_loss(eye, eye, torch.arange(6)).item() == pytest.approx(-1)


def test_loss_of_a_batch_of_one_word_has_no_mismatches():
    a = torch.ones(2, 3)
    assert net.mean_distance_loss(a, a, torch.zeros(2, dtype=torch.int64)).item() == pytest.approx(-1)


@pytest.mark.parametrize(("counts", "size"), [([3, 3, 3, 3], 180), ([3, 1, 2], 180), ([2] * 11, 4), ([1, 5], 2)])
def test_batches_hold_a_word_once_and_every_row_is_used(counts, size):
    word = np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts)), counts))
    batches = training.balanced_batches(word, size, np.random.default_rng(0))
    assert all(len(np.unique(word[rows])) == len(rows) for rows in batches)
    assert all(2 <= len(rows) <= size for rows in batches)
    assert set(np.concatenate(batches)) == set(range(len(word)))
    assert np.bincount(word[np.concatenate(batches)]).tolist() == [max(counts)] * len(counts)


def test_network_of_the_paper_has_its_sizes():
    with torch.device("meta"):
        trunk = net.Trunk(65_730, Brain2WordParams().hidden)
    weights = [p.numel() for name, p in trunk.named_parameters() if p.ndim == 2]
    assert weights == [65_730 * 2000, 2000 * 200]
    norms = [m for m in trunk.modules() if isinstance(m, torch.nn.BatchNorm1d)]
    assert [(m.momentum, m.eps) for m in norms] == [(0.01, 1e-3)] * 2
    slopes = [m.negative_slope for m in trunk.modules() if isinstance(m, torch.nn.LeakyReLU)]
    assert slopes == [0.3] * 2
    assert [m.p for m in trunk.modules() if isinstance(m, torch.nn.Dropout)] == [0.4] * 2


def test_glorot_uniform_and_zero_bias():
    layer = net.dense(300, 200)
    limit = np.sqrt(6 / 500)
    assert layer.bias.abs().max() == 0
    assert 0.95 * limit < layer.weight.abs().max() <= limit


@pytest.mark.parametrize("chained", [False, True])
@pytest.mark.parametrize(
    ("heads", "has"), [("combined", (True, True)), ("classification", (False, True)), ("regression", (True, False))]
)
def test_heads(heads, has, chained):
    network = net.Network(net.Trunk(5, ()), 3, 4, heads, chained).eval()
    out = network(torch.randn(6, 5))
    vector, logits = out.vector, out.logits
    assert (vector is not None, logits is not None) == has
    assert vector is None or vector.shape == (6, 3)
    assert logits is None or logits.shape == (6, 4)
    if heads == "combined":
        network.vector.weight.data.zero_()
        flat = network(torch.randn(6, 5)).logits
        assert bool((flat == flat[0]).all()) == chained


def test_rate_falls_at_epochs_9_19_and_the_best_checkpoint_is_restored():
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    index = torch.arange(8)
    data = training.Data(x, torch.randn(8, 2), index, index)
    network = net.Network(net.Trunk(3, (4,), dropout=0.0), 2, 8, "combined", False)
    rates = []

    def watch(optimiser, *_):
        rates.append(optimiser.param_groups[0]["lr"])

    handle = register_optimizer_step_post_hook(watch)
    try:
        params = Brain2WordParams(epochs=25, patience=100)
        log = training.fit_stages(network, data, data, None, params, np.random.default_rng(0))
    finally:
        handle.remove()
    losses = [row[2] for row in log]
    np.testing.assert_allclose(rates, [1e-3] * 9 + [3e-4] * 10 + [9e-5] * 6, rtol=1e-6)
    with torch.no_grad():
        found, _ = training.losses(network.eval(), data, ("vector",))
    assert found["vector"].item() == pytest.approx(min(losses))


def test_early_stopping_waits_for_patience(tmp_path):
    train, _, _ = make_words(noise=30.0)
    fitted(train, tmp_path, epochs=100, patience=3, lr=0.05)
    with open(tmp_path / "train_log.csv") as file:
        losses = [float(row["val_loss"]) for row in csv.DictReader(file)]
    assert len(losses) < 100
    assert np.argmin(losses) == len(losses) - 4


@pytest.mark.parametrize("preset", ["default", "classification", "regression", "small"])
def test_it_decodes_an_unseen_subject(preset, tmp_path):
    train, test, word = make_words(n_voxels=80, d=20, noise=3.0)
    changes = {"epochs": 60} | ({} if preset != "small" else {"hidden": (64,)})
    p = fitted(train, tmp_path, preset, **changes).predict(test)
    if preset == "regression":
        assert p.class_scores is None
    else:
        probability = p.intermediates.get("class_probability", p.class_scores)
        np.testing.assert_allclose(probability.sum(1), 1, rtol=1e-5)
        assert (p.class_ids[p.class_scores.argmax(1)] == train.stimuli.words[word]).mean() > 0.25
    assert ("expected_vector" in p.intermediates) == (preset == "classification")
    if preset == "classification":
        np.testing.assert_allclose(
            p.embeddings["glove"], p.class_scores @ train.stimuli.embeddings["glove"], rtol=1e-4, atol=1e-5
        )
    r = np.corrcoef(train.stimuli.embeddings["glove"], p.embeddings["glove"])[:20, 20:]
    assert (r.argmax(0) == word).mean() > 0.25


def test_held_out_subject_is_not_fitted(tmp_path):
    train, test, _ = make_words()
    _, held = inner_split(train, 0.1, 0)
    assert len(np.unique(train.fmri.subject[held])) == 1
    expected = fitted(train, tmp_path, patience=100, epochs=1).predict(test).embeddings["glove"]
    data = train.fmri.data.copy()
    data[held] *= -3
    changed = dataclasses.replace(train, fmri=Responses(data, train.fmri.subject))
    again = fitted(changed, tmp_path, patience=100, epochs=1).predict(test).embeddings["glove"]
    np.testing.assert_array_equal(again, expected)


def test_inner_split_of_one_subject_keeps_every_word():
    train, _, _ = make_words(n_subjects=1)
    fit, held = inner_split(train, 0.1, 0)
    assert sorted(train.stimulus[held]) == list(range(20))
    assert set(train.stimulus[fit]) == set(range(20))
    assert sorted([*fit, *held]) == list(range(60))
    single, _, _ = make_words(n_subjects=1, n_scans=1)
    fit, held = inner_split(single, 0.1, 0)
    assert (len(fit), len(held)) == (18, 2)


def test_leave_words_out_gives_vectors_only_and_refuses_classes_alone(tmp_path):
    train, test, _ = make_words(unit="stimulus", n_subjects=1)
    p = fitted(train, tmp_path).predict(test)
    assert p.class_scores is None
    assert p.embeddings["glove"].shape == (60, 12)
    with pytest.raises(BenchError, match="cannot name words"):
        fitted(train, tmp_path, "classification")
