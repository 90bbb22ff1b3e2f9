"""Every record of the table: it is complete, its best end is reached, its range holds, its chance is right."""

import subprocess
import sys

import numpy as np
import pytest

from metrics.base import KINDS
from metrics.table import METRICS

A = {"top1", "top5", "top10", "pairwise_2v2", "two_way", "rank_median", "rank_accuracy", "rank_accuracy_all", "mrr"}
A |= {"cosine", "cosine_centred", "r2", "l1", "pearson_dim", "collapse", "pixcorr", "ssim"}
NO_CLOSED_FORM = {"rank_accuracy_all", "cosine", "cosine_centred", "r2", "l1", "pearson_dim", "collapse"}
NO_CLOSED_FORM |= {"hubness", "bleu1", "bleu4", "rouge_l", "meteor", "cider"}
NO_CLOSED_FORM |= {"top1[published-all]", "top5[published-all]", "rank_median[published-all]"}
NO_CLOSED_FORM |= {"pixcorr", "ssim", "attribute_accuracy", "clip_similarity", "clip_similarity_centred", "lpips"}
PUBLISHED = ("brain-diffuser", "mindeye")
NO_CLOSED_FORM |= {f"{name}[{protocol}]" for name in ("pixcorr", "ssim", "effnet_b", "swav") for protocol in PUBLISHED}
NO_CLOSED_FORM |= {"effnet_b", "swav"}


def metrics_where(condition):
    chosen = [metric for metric in METRICS.values() if metric.kind != "captions" and condition(metric)]
    return pytest.mark.parametrize("metric", chosen, ids=lambda metric: metric.name)


every_metric = metrics_where(lambda metric: True)
directed = metrics_where(lambda metric: metric.higher_is_better is not None)
# chance of captions is that of a first one among several: test_retrieval.py
with_chance = metrics_where(lambda metric: metric.chance is not None and metric.kind != "texts")
with_rule = metrics_where(lambda metric: metric.degenerate is not None)


def call(metric, rng, n=30, signal=0.0, n_candidates=40):
    """Return the values of a metric for random truth, with a share of it in the prediction."""
    if metric.kind in ("scores", "categories", "texts", "hubs"):
        target = rng.integers(0, n_candidates, n)
        truth = target[:, None] == np.arange(n_candidates)
        scores = (1 - signal) * rng.standard_normal(truth.shape) + signal * truth
        return metric.function(scores) if metric.kind == "hubs" else metric.function(scores, target)
    if metric.kind == "images":
        n = n if metric.protocol == "bench-1" else min(n, 8)  # published protocols enlarge to 425 x 425
        true, noise = rng.integers(0, 256, (2, n, 16, 16, 3))
        predicted = np.rint(signal * true + (1 - signal) * noise)
        return metric.function(true.astype(np.uint8), predicted.astype(np.uint8))
    if metric.features == "judge-read":
        true, noise = rng.integers(-1, 4, (2, n, 25))
        return metric.function(true, np.where(rng.random(true.shape) < signal, true, noise))
    true, noise = rng.standard_normal((2, n, 25))
    predicted = signal * true + (1 - signal) * noise
    if metric.kind == "pools":
        return metric.function(predicted, true, np.arange(n))
    if metric.kind == "set":
        return metric.function(predicted)
    centre = {"centre": np.full(25, 0.1)} if metric.centred else {}
    return metric.function(true, predicted, **centre)


def summary(metric, values):
    return np.median(values) if metric.aggregate == "median" else values.mean()


def test_table_holds_every_metric_under_its_own_name():
    assert set(METRICS) >= A
    assert all(name == metric.name for name, metric in METRICS.items())


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_record_is_complete(metric):
    assert metric.kind in KINDS
    assert metric.version >= 1
    assert metric.lower < metric.upper
    assert metric.aggregate in ("mean", "median")
    assert metric.definition.endswith(".")
    assert metric.source
    assert metric.ties
    assert (metric.chance is None) == (metric.name in NO_CLOSED_FORM)
    assert metric.higher_is_better is not None or metric.kind in ("set", "hubs")
    assert metric.gallery == "test" or metric.name.endswith((f"[{metric.gallery}]", "_all"))
    assert metric.name.partition("[")[2].rstrip("]") == ("" if metric.protocol == "bench-1" else metric.protocol)
    assert metric.function.__doc__


@directed
def test_perfect_prediction_reaches_the_best_end(metric):
    values = call(metric, np.random.default_rng(0), signal=1.0)
    best = metric.upper if metric.higher_is_better else metric.lower
    np.testing.assert_allclose(values, best, atol=1e-6)


@every_metric
@pytest.mark.parametrize("signal", [0.0, 0.5, 1.0])
def test_values_are_one_per_item_finite_and_within_the_range(metric, signal):
    values = call(metric, np.random.default_rng(1), signal=signal)
    n = 8 if metric.kind == "images" and metric.protocol != "bench-1" else 30
    assert values.shape == {"dimensions": (25,), "set": (1,), "hubs": (1,)}.get(metric.kind, (n,))
    assert values.dtype == np.float64
    assert np.isfinite(values).all()
    assert (values >= metric.lower).all()
    assert (values <= metric.upper).all()


@directed
def test_one_step_of_signal_moves_towards_the_better_end(metric):
    weak, strong = (summary(metric, call(metric, np.random.default_rng(2), 200, s)) for s in (0.1, 0.7))
    assert (strong > weak) == metric.higher_is_better


@with_chance
@pytest.mark.parametrize("n_candidates", [3, 20])
def test_stated_chance_is_what_random_predictions_get(metric, n_candidates):
    rng = np.random.default_rng(3)
    n, repeats = (400, 30) if metric.kind == "scores" else (n_candidates, 400)
    draws = [summary(metric, call(metric, rng, n, 0.0, n_candidates)) for _ in range(repeats)]
    tolerance = 4 * np.std(draws) / np.sqrt(repeats) + 1e-12
    assert np.mean(draws) == pytest.approx(metric.chance(n_candidates), abs=tolerance)


def test_chance_of_180_words_and_of_a_fold_with_fewer_candidates_than_k():
    assert METRICS["top1"].chance(180) == pytest.approx(0.00556, abs=5e-6)
    assert METRICS["top5"].chance(180) == pytest.approx(0.02778, abs=5e-6)
    assert METRICS["top10"].chance(180) == pytest.approx(0.05556, abs=5e-6)
    assert METRICS["top10"].chance(4) == 1
    assert METRICS["mrr"].chance(2) == 0.75
    assert METRICS["rank_median"].chance(180) == 90.5


@with_rule
def test_items_decided_by_a_rule_are_found(metric):
    rng = np.random.default_rng(0)
    if metric.kind == "images":
        true, predicted = rng.integers(0, 256, (2, 6, 12, 12, 3), dtype=np.uint8)
        predicted[4] = 9
        assert np.flatnonzero(metric.degenerate(true, predicted)).tolist() == [4]
        return
    true, predicted = rng.standard_normal((2, 6, 8))
    if metric.kind == "dimensions":
        true[:, 4] = 3
        assert np.flatnonzero(metric.degenerate(true, predicted)).tolist() == [4]
        return
    predicted[4] = 0
    arguments = (predicted,) if metric.kind == "set" else (true, predicted)
    if metric.centred:
        predicted[4] = centre = np.arange(8.0)
        arguments += (centre,)
    assert np.flatnonzero(metric.degenerate(*arguments)).tolist() == [4]


def test_listing_imports_nothing_heavy():
    heavy = "{'torch', 'skimage', 'scipy', 'sklearn', 'torchmetrics', 'benchmark', 'methods'}"
    code = f"import sys, metrics.table; print(sorted({heavy} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_bench_info_says_everything_that_a_number_needs(bench, metric):
    code, out, _ = bench("info", "metric", metric.name)
    assert code == 0
    said = dict(line.strip().split(": ", 1) for line in out.splitlines()[1:])
    assert {"definition", "protocol", "version", "range", "aggregate", "chance", "ties", "source"} <= set(said)
    assert said["definition"] == metric.definition
    assert said["protocol"] == metric.protocol
    assert said["source"] == metric.source
    assert said["ties"] == metric.ties
    assert said["range"].startswith(f"{metric.lower:g} to {metric.upper:g}, ")
    assert ("no closed form" in said["chance"]) == (metric.chance is None)
    assert said.get("note", "") == metric.note
