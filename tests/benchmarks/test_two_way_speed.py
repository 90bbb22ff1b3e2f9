"""Two-way identification of 982 items by 200,000 features against ``numpy.corrcoef``: time, and memory on top.

Each runs in a process of its own, which says how much its peak is above what the inputs take (1.6 GB).

pytest tests/benchmarks/test_two_way_speed.py --benchmark-only        (needs 8 GB of memory)
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from metrics.identification import two_way

N, D = 982, 200_000
_found = {}


def made(d=D):
    """Features as after a ReLU: common structure, many zeros, predictions with noise."""
    rng = np.random.default_rng(0)
    true = rng.standard_normal((N, d), dtype=np.float32)
    predicted = rng.standard_normal((N, d), dtype=np.float32)
    predicted *= 20
    predicted += true
    for rows in (true, predicted):
        np.maximum(rows, 0, out=rows)
    return true, predicted


def by_corrcoef(true, predicted):
    r = np.corrcoef(true, predicted)[:N, N:]
    own = np.diag(r)
    return ((r < own).sum(0) + 0.5 * ((r == own).sum(0) - 1)) / (N - 1)


def peak(key="VmHWM"):
    """Bytes of this process from the kernel: the peak, or what it holds now (VmRSS)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024


def alone(name, repeats):
    """Print seconds (the best) and memory on top of the inputs of one way, and its values."""
    import time

    true, predicted = made()
    before, seconds = peak("VmRSS"), []
    for _ in range(repeats):
        began = time.perf_counter()
        values = globals()[name](true, predicted)
        seconds.append(time.perf_counter() - began)
    print(json.dumps({"seconds": min(seconds), "extra_gb": (peak() - before) / 1e9, "values": values.tolist()}))


def measured(name, repeats):
    code = f"from tests.benchmarks.test_two_way_speed import alone; alone({name!r}, {repeats})"
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.benchmark(group="two-way of 982 x 200,000 (in a process of its own, inputs included)")
@pytest.mark.parametrize(("name", "repeats"), [("by_corrcoef", 1), ("two_way", 2)])
def test_time_and_memory(benchmark, name, repeats):
    assert callable(globals()[name])
    found = _found[name] = benchmark.pedantic(measured, (name, repeats), rounds=1)
    benchmark.extra_info |= {key: round(found[key], 2) for key in ("seconds", "extra_gb")}
    if name == "two_way" and "by_corrcoef" in _found:
        other = _found["by_corrcoef"]
        np.testing.assert_allclose(found["values"], other["values"], atol=1e-12)
        benchmark.extra_info["times_faster"] = round(other["seconds"] / found["seconds"], 2)
        benchmark.extra_info["share_of_memory"] = round(found["extra_gb"] / other["extra_gb"], 3)
    print(benchmark.extra_info)


def test_the_two_ways_agree_on_few_features(benchmark):
    true, predicted = made(500)
    values = benchmark(two_way, true, predicted)
    np.testing.assert_allclose(values, by_corrcoef(true, predicted), atol=1e-12)
