"""Brain2Word's variants: stages, ROIs or none, heads, the published selection, what is skipped."""

import csv
import dataclasses

import numpy as np
import pytest
import torch

from benchmark.api import DatasetInfo, Responses
from benchmark.errors import BenchError
from methods import _brain2word_fit as training
from methods import _brain2word_net as net
from methods._blocks import fit_blocks
from methods.brain2word import (
    Brain2WordAutoencoder,
    Brain2WordBase,
    Brain2WordMeanReg,
    Brain2WordRoi,
    code_consistency,
    reciprocal_rank,
)
from tests.methods.made import make_words

VARIANTS = [Brain2WordBase, Brain2WordRoi, Brain2WordAutoencoder, Brain2WordMeanReg]
QUICK = {
    "brain2word-base": {"hidden": (32, 16)},
    "brain2word-roi": {},
    "brain2word-autoencoder": {"hidden": (16,)},
    "brain2word-meanreg": {"hidden": (16,), "rounds": 2, "round_epochs": 2},
}


def with_rois(made, n=4):
    train, test, word = made
    column = np.arange(train.fmri.data.shape[1])
    rois = {f"r{k}": column % n == k for k in range(n)}
    fmri, test = (dataclasses.replace(f, rois=rois) for f in (train.fmri, test))
    return dataclasses.replace(train, fmri=fmri), test, word


def make(cls, preset="default", **overrides):
    return cls(cls.make_params("mini", preset, QUICK[cls.name] | {"epochs": 3} | overrides))


def trained(cls, train, workdir, preset="default", **overrides):
    method = make(cls, preset, **overrides)
    method.train(train, seed=0, device="cpu", workdir=workdir)
    return method


def log_of(workdir):
    with open(workdir / "train_log.csv") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("cls", VARIANTS)
def test_published_settings(cls):
    p = cls.Params()
    assert (p.dropout, p.bn_momentum, p.batch, p.epochs, p.patience, p.lr) == (0.4, 0.01, 180, 100, 10, 1e-3)
    expected = {
        "brain2word-base": (False, (2000, 200), False, 1.0, 1.0, 0.0, 0),
        "brain2word-roi": (True, (), False, 1.8, 1.0, 0.0, 0),
        "brain2word-autoencoder": (True, (200,), True, 1.8, 1.5, 1.0, 0),
        "brain2word-meanreg": (True, (200,), True, 1.8, 1.5, 1.0, 5),
    }
    found = p.roi_layer, p.hidden, p.chained, p.vector_weight, p.class_weight, p.reconstruction_weight, p.rounds
    assert found == expected[cls.name]
    assert (p.concat_weight, p.dense_weight, p.round_epochs, p.class_l2) == (2.2, 2.0, 50, 0.005)


@pytest.mark.parametrize("cls", VARIANTS)
@pytest.mark.parametrize("heads", ["default", "classification", "regression"])
def test_every_variant_decodes_an_unseen_subject_with_every_head(cls, heads, tmp_path):
    train, test, word = with_rois(make_words(n_voxels=80, d=20, noise=3.0))
    method = trained(cls, train, tmp_path, heads, epochs=40, patience=40, voxels_per_unit=2)
    p = method.predict(test)
    r = np.corrcoef(train.stimuli.embeddings["glove"], p.embeddings["glove"])[:20, 20:]
    assert (r.argmax(0) == word).mean() > 0.2  # chance is .05
    assert (p.class_scores is None) == (heads == "regression")
    if heads != "regression":
        assert (p.class_scores.argmax(1) == word).mean() > 0.2
    assert ("expected_vector" in p.intermediates) == (heads == "classification")


def test_voxels_outside_every_roi_do_not_matter_and_overlaps_count_twice(tmp_path):
    train, test, _ = make_words()
    rois = {"a": np.arange(40) < 20, "empty": np.zeros(40, bool), "b": (np.arange(40) >= 15) & (np.arange(40) < 30)}
    train = dataclasses.replace(train, fmri=dataclasses.replace(train.fmri, rois=rois))
    method = trained(Brain2WordRoi, train, tmp_path, voxels_per_unit=5)
    assert method.blocks.columns.tolist() == [*range(20), *range(15, 30)]
    assert method.blocks.rois[1].tolist() == [4, 3]
    expected = method.predict(test).embeddings["glove"]
    changed = Responses(np.where(np.arange(40) < 30, test.data, -9), test.subject, rois)
    np.testing.assert_array_equal(method.predict(changed).embeddings["glove"], expected)
    changed = Responses(np.where(np.arange(40) != 29, test.data, -9), test.subject, rois)
    assert (method.predict(changed).embeddings["glove"] != expected).any()


def test_without_rois_the_brain_is_one_block_and_the_roi_network_is_skipped(tmp_path):
    train, _, _ = make_words()
    for cls in (Brain2WordAutoencoder, Brain2WordMeanReg):
        method = trained(cls, train, tmp_path, voxels_per_unit=20)
        assert [values.tolist() for values in method.blocks.rois] == [[40], [2]]
    with pytest.raises(BenchError, match="brain2word-roi: expected at least one ROI"):
        trained(Brain2WordRoi, train, tmp_path)


def info(unit="subject", rois=("a",)):
    return DatasetInfo("d", frozenset({"words"}), unit, 2, spaces=("glove",), rois=rois, has_words=True)


@pytest.mark.parametrize("cls", VARIANTS)
def test_supports(cls):
    assert make(cls).supports(info()) is None
    assert make(cls).supports(info("stimulus")) is None
    assert make(cls, "regression").supports(info("stimulus")) is None
    assert make(cls, "classification").supports(info()) is None
    assert "cannot name words it was not trained on" in make(cls, "classification").supports(info("stimulus"))
    assert "words it was trained on" in make(cls, "published-leaky").supports(info("stimulus"))
    without = make(cls).supports(info(rois=()))
    assert ("no ROIs" in without) if cls is Brain2WordRoi else (without is None)


# --- stages ----------------------------------------------------------------------------------------------------------


def tiny_network(n=6, sizes=(4, 3), seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        trunk = net.Trunk(sum(sizes), (5,), (np.array(sizes), np.array([2, 1])))
        return net.Network(trunk, 3, n, "combined", True, True)


def tiny_data(n_words=6, n_scans=4, width=7, noise=0.3):
    generator = torch.Generator().manual_seed(0)
    word = torch.arange(n_words).repeat(n_scans)
    x = torch.randn(n_words, width, generator=generator)[word]
    x = x + noise * torch.randn(x.shape, generator=generator)
    return training.Data(x, torch.randn(n_words, 3, generator=generator)[word], word, word)


def params(**changes):
    return Brain2WordMeanReg.Params(**{"epochs": 3, "round_epochs": 2, "rounds": 0} | changes)


def test_pretraining_leaves_the_heads_alone_and_stops_by_reconstruction():
    network, data = tiny_network(), tiny_data()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    scans = training.Data(data.x[:16]), training.Data(data.x[16:])
    log = training.fit_stages(network, data, None, scans, params(epochs=4, rounds=0), np.random.default_rng(0))
    assert [row[2] is None for row in log] == [False] * 4 + [True] * 4
    network = tiny_network()
    best = training.Best()
    stage = training.Stage({"reconstruction": 1.0}, "reconstruction", 4)
    log = training.fit(network, *scans, params(), np.random.default_rng(0), stage, best)
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert not any(name.startswith(("vector", "link", "classes")) for name in changed)
    assert {"trunk.dense.0.weight", "decoder.bias", "trunk.roi.bias"} <= changed
    training.load_best(network, best)
    with torch.no_grad():
        network.eval()
        code = network(scans[1].x).code
        assert net.reconstruction_loss(network.reconstruct(code), scans[1].x).item() == pytest.approx(best.score)
    assert best.score == pytest.approx(min(row[2] for row in log))


def test_sentences_of_held_out_subjects_stop_pretraining(tmp_path):
    train, _, _ = with_rois(make_words())
    subject = np.repeat(["s0", "s1", "s2"], 10)
    data = np.random.default_rng(0).standard_normal((30, 40), np.float32)
    train = dataclasses.replace(train, unlabelled=Responses(data, subject))
    for held, expected in (("s1", subject == "s1"), ("s9", np.arange(30) % 10 == 0)):
        method, fit = make(Brain2WordAutoencoder), np.flatnonzero(train.fmri.subject != held)
        method.device = "cpu"
        method.blocks, _ = fit_blocks(train.fmri.data, fit, train.fmri.rois)
        there, rest = method._scans(train, fit)
        scaled = method.blocks(data)
        np.testing.assert_array_equal(rest.x.numpy(), scaled[expected])
        np.testing.assert_array_equal(there.x.numpy(), scaled[~expected])
        assert there.word is None
    assert make(Brain2WordRoi)._scans(train, fit) is None  # nothing to reconstruct


def test_pretraining_runs_first_and_is_part_of_the_log(tmp_path):
    train, test, _ = with_rois(make_words())
    plain = trained(Brain2WordAutoencoder, train, tmp_path, patience=9).predict(test).embeddings["glove"]
    assert len(log_of(tmp_path)) == 3
    more = Responses(np.random.default_rng(0).standard_normal((50, 40), np.float32), np.repeat(["s0", "s1"], 25))
    train = dataclasses.replace(train, unlabelled=more)
    after = trained(Brain2WordAutoencoder, train, tmp_path, patience=9).predict(test).embeddings["glove"]
    log = log_of(tmp_path)
    assert [row["epoch"] for row in log] == list("123456")
    assert all(float(row["val_loss"]) < 0.2 for row in log[:3])  # a cosine of noise, not the loss of a head
    assert np.isfinite(after).all()
    assert (after != plain).any()


def test_targets_of_mean_regularisation_are_running_means_of_word_means(monkeypatch):
    network, data = tiny_network(), tiny_data()
    seen, real = [], training.fit

    def fit(network, data, held, params, rng, stage, best):
        seen.append((stage, training.word_means(network, data, 6)))
        return real(network, data, held, params, rng, stage, best)

    monkeypatch.setattr(training, "fit", fit)
    training.fit_stages(network, data, data, None, params(rounds=3), np.random.default_rng(0))
    assert [dict(stage.weights) for stage, _ in seen] == [
        {"vector": 1.8, "class": 1.5, "reconstruction": 1.0},
        *[{"vector": 1.8, "class": 1.5, "reconstruction": 1.0, "concat": 2.2, "dense": 2.0}] * 3,
    ]
    for name in ("concat", "dense"):
        expected = seen[1][1][name]
        for stage, now in seen[1:]:
            expected = (expected + now[name]) / 2
            torch.testing.assert_close(stage.means[name], expected)
    assert not torch.equal(seen[1][0].means["dense"], seen[3][0].means["dense"])


def test_word_means_equal_a_loop():
    network, data = tiny_network(), tiny_data()
    data = data.take(np.r_[0:9, 12:20])
    means = training.word_means(network, data, 7, batch=5)
    with torch.no_grad():
        out = network.eval()(data.x)
    for name, values in {"code": out.code, **out.hidden}.items():
        for word in range(6):
            torch.testing.assert_close(means[name][word], values[data.word == word].mean(0), rtol=1e-5, atol=1e-6)
        assert (means[name][6] == 0).all()


def test_the_best_checkpoint_of_all_rounds_counts():
    network, data = tiny_network(), tiny_data()
    held = data.take(np.arange(0, 24, 2))
    log = training.fit_stages(network, data, held, None, params(rounds=3, lr=0.05), np.random.default_rng(0))
    found, _ = training.losses(network.eval(), held, ("vector",))
    assert found["vector"].item() == pytest.approx(min(row[2] for row in log[3:]))
    assert [row[0] for row in log] == list(range(1, 10))


def test_mean_regularisation_draws_the_scans_of_a_word_together():
    """As many steps with its two losses as without them; the spread within words is the share left of all variance."""
    spread = {0.0: 0.0, 2.0: 0.0}
    common = {"rounds": 2, "round_epochs": 10, "epochs": 10, "dropout": 0.0, "lr": 1e-2, "bn_momentum": 0.3}
    for seed in range(3):
        for weight in spread:
            network, data = tiny_network(seed=seed), tiny_data()
            settings = params(**common, concat_weight=weight, dense_weight=weight)
            training.fit_stages(network, data, None, None, settings, np.random.default_rng(0))
            with torch.no_grad():
                code = network.eval()(data.x).hidden["dense"].numpy()
            means = training.word_means(network, data, 6)["dense"].numpy()
            spread[weight] += np.square(code - means[data.word]).mean() / np.var(code)
    assert spread[2.0] < 0.85 * spread[0.0]


# --- ranking and consistency -----------------------------------------------------------------------------------------


def test_mixed_ranking_takes_the_share_that_ranks_the_validation_rows_best(tmp_path):
    train, _, _ = make_words()
    method = trained(Brain2WordBase, train, tmp_path)
    rng = np.random.default_rng(0)
    word = np.arange(20)
    noise, right = rng.standard_normal((20, 20)), np.eye(20) + 0.01
    vectors = np.asarray(train.stimuli.embeddings["glove"])
    held = training.Data(None, word=torch.from_numpy(word))
    for vector, probability, best in ((vectors, np.exp(noise), 0.0), (rng.permutation(vectors), right, 1.0)):
        method._outputs = lambda x, v=vector, q=probability: (None, v, q / q.sum(1, keepdims=True))
        found = method._choose_share(held)
        assert abs(found - best) <= 0.5
        given = {s: reciprocal_rank(method._mixed(vector, probability, s), word) for s in (0.0, 0.25, 0.5, 0.75, 1.0)}
        assert given[found] == max(given.values())
    method.closed = False
    assert method._choose_share(held) == 1.0


def test_published_ranking_is_the_class_heads(tmp_path):
    train, test, _ = make_words()
    p = trained(Brain2WordBase, train, tmp_path, ranking="classes").predict(test)
    np.testing.assert_allclose(p.class_scores.sum(1), 1, rtol=1e-5)
    mixed = trained(Brain2WordBase, train, tmp_path).predict(test)
    if "class_probability" in mixed.intermediates:
        np.testing.assert_array_equal(mixed.intermediates["class_probability"], p.class_scores)


def test_reciprocal_rank_counts_ties_against_the_word():
    assert reciprocal_rank(np.array([[3.0, 1, 2], [1, 1, 0], [0, 0, 0]]), np.array([2, 0, 1])) == pytest.approx(
        (1 / 2 + 1 / 2 + 1 / 3) / 3
    )


def test_code_consistency_equals_a_loop():
    r = np.random.default_rng(0).uniform(-1, 1, (5, 4))
    word = np.array([0, 3, 1, 1, 2])
    expected = [r[i, w] - np.mean([r[i, k] for k in range(4) if k != w]) for i, w in enumerate(word)]
    np.testing.assert_allclose(code_consistency(r, word), expected)


def test_codes_and_their_similarity_to_the_training_subjects_are_kept(tmp_path):
    train, test, _ = with_rois(make_words())
    method = trained(Brain2WordAutoencoder, train, tmp_path)
    p = method.predict(test)
    assert p.intermediates["code"].shape == (60, 16)
    assert p.intermediates["word_code_r"].shape == (60, 20)
    expected = np.corrcoef(p.intermediates["code"][7], method.word_codes[3])[0, 1]
    assert p.intermediates["word_code_r"][7, 3] == pytest.approx(expected, abs=1e-5)


# --- the published selection -----------------------------------------------------------------------------------------


def test_published_selection_stops_by_the_test_subject_and_says_so(tmp_path):
    train, test, word = with_rois(make_words())
    truth = train.stimuli.take(word)
    assert (make(Brain2WordRoi).oracle, make(Brain2WordRoi).tags) == (False, ())
    method = trained(Brain2WordRoi, train, tmp_path, "published-leaky", patience=9)
    assert (method.oracle, method.tags) == (True, ("leaky selection",))
    assert not (tmp_path / "train_log.csv").exists()
    p = method.predict(test, truth=truth)
    with torch.no_grad():
        found, _ = training.losses(method.net.eval(), method._data(method.blocks(test.data), word), ("vector",))
    log = [float(row["val_loss"]) for row in log_of(tmp_path)]
    assert found["vector"].item() == pytest.approx(min(log), abs=1e-5)
    np.testing.assert_allclose(
        method.blocks.mean, train.fmri.data.mean(0)[method.blocks.columns], rtol=1e-4, atol=1e-5
    )  # every training row fits
    assert p.embeddings["glove"].shape == (60, 12)
    with pytest.raises(BenchError, match="needs the truth"):
        trained(Brain2WordRoi, train, tmp_path, "published-leaky").predict(test)
    with pytest.raises(BenchError, match="cannot judge by new"):
        method.predict(test, truth=dataclasses.replace(truth, ids=np.full(60, "new")))


@pytest.mark.parametrize("option", ["heads", "ranking", "selection"])
def test_unknown_options_are_refused_when_the_method_is_made(option):
    with pytest.raises(BenchError, match=f"{option} must be one of .*'other'"):
        make(Brain2WordBase, **{option: "other"})


# --- hard inputs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", VARIANTS)
@pytest.mark.parametrize("kind", ["constant voxels", "constant everything", "one paradigm", "two words", "one subject"])
def test_hard_inputs_give_finite_numbers(cls, kind, tmp_path):
    changes = {
        "one paradigm": {"n_scans": 1},
        "two words": {"n_words": 2},
        "one subject": {"n_subjects": 1},
    }
    train, test, _ = with_rois(make_words(**changes.get(kind, {})))
    if kind.startswith("constant"):
        data = train.fmri.data.copy()
        data[:, :: 4 if kind == "constant voxels" else 1] = 7.0
        train = dataclasses.replace(train, fmri=dataclasses.replace(train.fmri, data=data))
    p = trained(cls, train, tmp_path).predict(test)
    for values in (*p.embeddings.values(), p.class_scores, *p.intermediates.values()):
        assert np.isfinite(values).all()
