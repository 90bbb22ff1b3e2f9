"""The ladder: rungs, derangements, and verdicts that name the broken stage."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark import ladder, scoring
from benchmark.api import Predictions, Stimuli, item_seeds
from benchmark.data import prepare, splits, synthetic_scenes
from benchmark.frozen import Source
from benchmark.registry import Registry
from benchmark.suites import RECONSTRUCTION, SCENES

REGISTRY = Registry()


def metrics(track):
    return {name: REGISTRY.get("metric", name).load() for name in track.metrics}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=2, max_size=40), st.integers(0, 5))
def test_a_derangement_gives_no_item_its_own_stimulus(stimuli, seed):
    ids = np.array([f"s{i}" for i in stimuli])
    rows = ladder.derangement(ids, seed)
    assert sorted(rows) == list(range(len(ids)))
    if max(Counter(stimuli).values()) <= len(ids) // 2:
        assert (ids[rows] != ids).all()


def noisy(mean, n=120, seed=0):
    return np.clip(np.random.default_rng(seed).normal(mean, 0.2, n), 0, 1)


CHANCE = noisy(0.5, seed=9)


@pytest.mark.parametrize(
    ("true", "predicted", "features", "stage", "named"),
    [
        (1.0, 0.7, {"low": 0.8, "text": 0.8}, "regression", "between responses and features"),
        (0.8, 0.75, {"low": 0.9}, "generator", "between features and pictures"),
        (0.55, 0.5, {"low": 0.9}, "generator", "even true features"),
        (0.99, 0.5, {"low": 0.5, "text": 0.49}, "alignment", "do not belong together"),
        (0.99, 0.8, {"low": 0.9, "text": 0.5}, "alignment", "text at chance"),
        (1.0, 0.51, {"low": 0.8}, "regression", "too poorly"),
    ],
)
def test_verdicts(true, predicted, features, stage, named):
    found = {k: noisy(v, seed=i) for i, (k, v) in enumerate(features.items(), 3)}
    got, sentence = ladder.verdict(noisy(true, seed=1), noisy(predicted, seed=2), CHANCE, found)
    assert got == stage
    assert named in sentence


def test_nothing_lost():
    ones = np.ones(30)
    assert ladder.verdict(ones, ones, noisy(0.5, 30), {"all": ones})[0] == "none"


class Copier:
    """Features are the pixels; stage 1 is half as large."""

    def stimulus_features(self, stimuli, models):
        assert not stimuli.attributes
        return {"pixels": np.asarray(stimuli.images, np.float32)}

    def generate(self, features, seeds, models):
        images = features["pixels"].clip(0, 255).astype(np.uint8)
        assert len(set(seeds)) == len(images)
        return Predictions(images=images, intermediates={"small": images[:, ::2, ::2], "code": features["pixels"]})


def part(images, features):
    n = len(images)
    ids = np.array([f"i{k}" for k in range(n)])
    items = prepare.TestItems(ids, np.arange(n), np.full(n, "s"), np.full(n, ""), np.full(n, "f"))
    truth = Stimuli(ids=ids, images=images, attributes={"secret": np.arange(n)})
    made = dataclasses.replace(Copier().generate(features, item_seeds(0, n), None), features=features)
    return scoring.Part("f", items, truth, made)


def test_every_stage_is_a_rung():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (24, 16, 16, 3), np.uint8)
    noise = rng.normal(0, 60, images.shape)
    given = part(images, {"pixels": (images + noise).astype(np.float32)})
    found = ladder.rungs([given], Copier(), 0, None, [given.predictions])
    stages = {"true features, small", "predicted, small"}
    assert set(found) == {"true features", "predicted", "derangement", "permuted training"} | stages
    scale = metrics(RECONSTRUCTION)
    table, _ = scoring.score([given], {"reconstruction": RECONSTRUCTION}, scale)
    n_rows = len(table["track"])
    result = ladder.climb(found, table, RECONSTRUCTION, scale, None)
    assert result["rungs"]["true features"]["two_way"]["value"] == 1
    assert result["rungs"]["true features"]["l1"]["value"] == 0
    assert 0.3 < result["rungs"]["derangement"]["two_way"]["value"] < 0.7
    assert result["features"]["pixels"] > 0.95
    assert "predicted" not in result["rungs"]  # those are the run's own scores
    assert len(table["track"]) == n_rows * 6
    assert "reconstruction: derangement" in table["track"]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    dataset = synthetic_scenes.load(None, cache)
    fold = prepare.folds(dataset, splits.builtin("synthetic-scenes-v1"), "subj01")[0]
    models = Source("mini", cache)
    train = prepare.train_set(fold, frozenset({"reconstruction"}))
    return fold, dataclasses.replace(train, models=models), models


def run(scenes, tmp_path, *, change=lambda train: train, broken=lambda models: models, n=48, misaligned=False):
    """Return the ladder of Brain-Diffuser on the first test items, with a fault planted."""
    fold, train, models = scenes
    cls = REGISTRY.get("method", "brain-diffuser").load()
    test, items, truth = prepare.test_responses(fold), prepare.test_items(fold), prepare.truth(fold)
    rows = np.arange(n)
    items = prepare.TestItems(*(getattr(items, f.name)[rows] for f in dataclasses.fields(items)))
    truth = truth.take(rows)
    if misaligned:
        truth = dataclasses.replace(truth, captions=[*truth.captions[1:], truth.captions[0]])
    models = broken(models)
    params = cls.make_params("mini", "default", {"steps": 12})
    method = cls(params)
    method.train(dataclasses.replace(change(train), models=models), seed=0, device="cpu", workdir=tmp_path)
    parts = [scoring.Part(fold.name, items, truth, method.predict(test.take(rows)))]
    used = metrics(SCENES)
    table, _ = scoring.score(parts, {"reconstruction": SCENES}, used, scenes[2])
    found = ladder.rungs(parts, cls(params), 0, models)
    return ladder.climb(found, table, SCENES, used, scenes[2])


@pytest.mark.slow
def test_a_healthy_chain_loses_most_in_the_regression(scenes, tmp_path):
    result = run(scenes, tmp_path)
    print(result["verdict"], result["features"])
    assert result["stage"] == "regression"
    assert result["rungs"]["true features"]["judge_two_way"]["value"] >= 0.95


@pytest.mark.slow
def test_permuted_responses_are_named(scenes, tmp_path):
    def permuted(train):
        return dataclasses.replace(train, stimulus=np.random.default_rng(5).permutation(train.stimulus))

    result = run(scenes, tmp_path, change=permuted)
    print(result["verdict"], result["features"])
    assert result["stage"] == "alignment"
    assert "responses and stimuli do not belong together" in result["verdict"]


@pytest.mark.slow
def test_shuffled_weights_of_the_generator_are_named(scenes, tmp_path):
    import torch

    class Broken(Source):
        def load(self, model):
            loaded = super().load(model)
            if model != "versatile":
                return loaded
            generator = torch.Generator().manual_seed(0)
            for p in loaded.unet.parameters():
                p.data = p.data.flatten()[torch.randperm(p.numel(), generator=generator)].reshape(p.shape)
            return loaded

    result = run(scenes, tmp_path, broken=lambda models: Broken(models.profile, models.cache))
    print(result["verdict"], result["features"])
    assert result["stage"] == "generator"
    assert "even true features" in result["verdict"]


@pytest.mark.slow
def test_captions_misaligned_by_one_are_named(scenes, tmp_path):
    def shifted(train):
        captions = train.stimuli.captions
        stimuli = dataclasses.replace(train.stimuli, captions=[*captions[1:], captions[0]])
        return dataclasses.replace(train, stimuli=stimuli)

    result = run(scenes, tmp_path, change=shifted, misaligned=True)
    print(result["verdict"], result["features"])
    assert result["stage"] == "alignment"
    assert "text_tokens at chance" in result["verdict"]
