"""10,000 bootstrap draws of every metric at once, 982 items: the bar is 5 seconds."""

import numpy as np
import pytest

from benchmark.bootstrap import bootstrap_counts, corpus_interval
from benchmark.stats import item_intervals, sign_flip

N, METRICS, DRAWS = 982, 30, 10_000


@pytest.fixture
def values():
    return np.random.default_rng(0).random((N, METRICS)).astype(np.float32)


def test_means_of_30_metrics(benchmark, values):
    means = benchmark(lambda: bootstrap_counts(N, DRAWS, np.random.default_rng(0)) @ values / N)
    assert means.shape == (DRAWS, METRICS)
    assert np.abs(means.std(axis=0) * np.sqrt(N) - values.std(axis=0)).max() < 0.02


def test_a_corpus_score(benchmark, values):
    low, high = benchmark(lambda: corpus_interval(values[:, :10], lambda s: s[:, 0] / s.sum(axis=1), draws=DRAWS))
    assert low < high


def test_closed_form_intervals_of_30_metrics(benchmark, values):
    assert not np.isnan(benchmark(lambda: item_intervals(values.T))).any()


def test_sign_flips_of_45_pairs(benchmark, values):
    differences = np.repeat(values[:, :15], 3, axis=1).T - 0.5
    assert benchmark(lambda: sign_flip(differences, DRAWS)).shape == (45,)
