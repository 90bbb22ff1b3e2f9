"""Laws of every metric that compares items: joint order, range, symmetry, and less with more noise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.table import METRICS

VECTORS = {n: m for n, m in METRICS.items() if m.kind == "vectors" and m.features != "judge-read"}
# of the metrics that share a function and their rules, one stands for all
ONE_EACH = list({(m.function, m.centred): m for m in VECTORS.values()}.values())
PICTURES = [m for m in METRICS.values() if m.kind == "images"]
SYMMETRIC = {"pairwise_2v2", "cosine", "cosine_centred", "l1", "correlation_distance", "squared_distance"}
D = 9


def options(metric):
    return {"centre": np.linspace(-1, 1, D)} if metric.centred else {}


def close(metric, found, expected):
    np.testing.assert_allclose(found, expected, atol=2e-6 if metric.kind == "images" else 1e-11)


def drawn(metric, seed, n, levels):
    rng = np.random.default_rng(seed)
    if metric.kind == "images":
        true, predicted = rng.integers(0, levels, (2, n, 12, 13, 3)) * (255 // (levels - 1))
        return true.astype(np.uint8), predicted.astype(np.uint8)
    return tuple(rng.integers(-levels, levels, (2, n, D)).astype(np.float64))


every = pytest.mark.parametrize("metric", [*ONE_EACH, *PICTURES], ids=lambda metric: metric.name)


@every
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 5), levels=st.sampled_from([2, 3, 200]))
def test_joint_order_range_and_symmetry(metric, seed, n, levels):
    true, predicted = drawn(metric, seed, n, levels)
    values = metric.function(true, predicted, **options(metric))
    assert values.shape == (n,)
    assert (values >= metric.lower).all()
    assert (values <= metric.upper).all()
    order = np.random.default_rng(seed).permutation(n)
    close(metric, metric.function(true[order], predicted[order], **options(metric)), values[order])
    if metric.kind == "images" or metric.function.__name__ in SYMMETRIC:
        close(metric, metric.function(predicted, true, **options(metric)), values)


@every
def test_a_value_is_the_items_own_unless_items_compete(metric):
    true, predicted = drawn(metric, 1, 6, 200)
    values = metric.function(true, predicted, **options(metric))
    competes = metric.function.__name__.startswith(("two_way", "pairwise"))
    alone = metric.function(true[:3], predicted[:3], **options(metric))
    assert np.allclose(alone, values[:3], atol=2e-6) != competes


@every
def test_more_noise_is_never_better_in_the_mean(metric):
    rng = np.random.default_rng(0)
    if metric.kind == "images":
        base = rng.integers(40, 216, (12, 4, 4, 3)).repeat(8, axis=1).repeat(8, axis=2)
        noise = rng.standard_normal(base.shape)
        series = [np.clip(base + s * noise, 0, 255).astype(np.uint8) for s in (0, 10, 40, 100)]
        true = series[0]
    else:
        true, noise = rng.standard_normal((2, 300, D))
        series = [true + s * noise for s in (0, 0.5, 1.5, 5)]
    means = np.array([metric.function(true, x, **options(metric)).mean() for x in series])
    assert (np.diff(means) < 0).all() == metric.higher_is_better
    assert (np.diff(means) > 0).all() != metric.higher_is_better


@pytest.mark.parametrize("metric", [m for m in ONE_EACH if m.kind == "vectors"], ids=lambda metric: metric.name)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.25, 2.0, 64.0]))
def test_correlations_see_neither_scale_nor_shift_of_a_prediction(metric, seed, scale):
    true, predicted = drawn(metric, seed, 5, 200)
    values = metric.function(true, predicted, **options(metric))
    changed = metric.function(true, scale * predicted + 32, **options(metric))
    if metric.function.__name__ in ("two_way", "two_way_strict", "pairwise_2v2", "correlation_distance"):
        close(metric, changed, values)
    else:
        assert not np.allclose(changed, values)
