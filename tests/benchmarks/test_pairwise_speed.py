"""Pairwise (2v2) identification of 10,000 items: seconds, and the memory of a process that does it.

pytest tests/benchmarks/test_pairwise_speed.py --benchmark-only
"""

import json
import subprocess
import sys

import numpy as np
import pytest

from metrics.identification import pairwise_2v2

N, D = 10_000, 300  # a large test set of word vectors
ALONE = f"""
import json, resource, sys
import numpy as np
from metrics.identification import pairwise_2v2
rng = np.random.default_rng(0)
true = rng.standard_normal(({N}, {D}), dtype=np.float32)
predicted = true + 4 * rng.standard_normal(({N}, {D}), dtype=np.float32)
values = pairwise_2v2(true, predicted)
unit = 1 if sys.platform == "darwin" else 1024
print(json.dumps([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, values.mean()]))
"""


@pytest.mark.parametrize("kind", ["random", "tied"])
def test_pairwise_of_ten_thousand_items(benchmark, kind):
    rng = np.random.default_rng(0)
    true = rng.standard_normal((N, D), dtype=np.float32)
    predicted = true + 4 * rng.standard_normal((N, D), dtype=np.float32)
    if kind == "tied":  # every target and every prediction is there twice
        true[1::2], predicted[1::2] = true[::2], predicted[::2]
    values = benchmark.pedantic(pairwise_2v2, (true, predicted), rounds=3, warmup_rounds=1)
    assert 0.9 < values.mean() < 1
    if kind == "random":
        peak, mean = json.loads(subprocess.run([sys.executable, "-c", ALONE], capture_output=True, check=True).stdout)
        assert mean == values.mean()
        assert peak < 2e9
        benchmark.extra_info["peak_mb"] = round(peak / 1e6)
