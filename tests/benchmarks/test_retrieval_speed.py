"""Retrieval of 10,000 items at 768 dimensions: `pytest tests/benchmarks --benchmark-only`."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from metrics import ranking, retrieval
from metrics.table import METRICS

N, D = 10_000, 768
RANKS = ("top1", "top5", "top10", "rank_median", "rank_accuracy", "mrr")


def made(n=N):
    """Predictions and targets with a common part as in CLIP (mean cosine about .7)."""
    rng = np.random.default_rng(0)
    true = rng.standard_normal((n, D), np.float32) + 1.5 * rng.standard_normal(D, np.float32)
    return true + 6 * rng.standard_normal((n, D), np.float32), true


@pytest.fixture(scope="module")
def vectors():
    return made()


def ranks(predicted, true):
    target = np.arange(len(true))
    scores = retrieval.scores(predicted, true, target)
    return [METRICS[name].function(scores, target) for name in RANKS]


@pytest.mark.benchmark(group="retrieval 10,000 x 768")
def test_ranks(benchmark, vectors):
    assert len(benchmark.pedantic(ranks, vectors, rounds=3)) == len(RANKS)


@pytest.mark.benchmark(group="retrieval 10,000 x 768")
def test_ranks_in_float64_throughout(benchmark, vectors):
    def plain(predicted, true):
        scores = ranking.similarity(predicted, true)
        return [METRICS[name].function(scores, np.arange(N)) for name in RANKS]

    benchmark.pedantic(plain, vectors, rounds=1)


@pytest.mark.benchmark(group="retrieval 10,000 x 768")
@pytest.mark.parametrize("name", ["image_retrieval", "brain_retrieval"])
def test_pools(benchmark, vectors, name):
    benchmark.pedantic(METRICS[name].function, (*vectors, np.arange(N)), rounds=1)


@pytest.mark.benchmark(group="retrieval 10,000 x 768")
@pytest.mark.parametrize("name", ["top1_csls", "hubness"])
def test_hubs(benchmark, vectors, name):
    scores = retrieval.scores(*vectors, np.arange(N))
    benchmark.pedantic(METRICS[name].function, (scores, np.arange(N))[: 1 + (name != "hubness")], rounds=1)


@pytest.mark.benchmark(group="memory of ranks 10,000 x 768 (in a process of its own)")
def test_memory(benchmark):
    code = (
        "import resource; from tests.benchmarks.test_retrieval_speed import made, ranks; ranks(*made()); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )

    def peak():
        root = Path(__file__).parents[2]
        done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
        return int(done.stdout)

    benchmark.extra_info["peak_mb"] = benchmark.pedantic(peak, rounds=1) / 1024
    assert benchmark.extra_info["peak_mb"] < 2048
