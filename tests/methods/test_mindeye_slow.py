"""The low-level network at its published size: one step of training, its time and memory (minutes)."""

import multiprocessing
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

pytestmark = pytest.mark.slow


def one_step(batch=16):
    """Train one step on noise; return steps, seconds, peak gigabytes, number of weights, losses."""
    import torch

    from methods._mindeye_fit import Plan, fit
    from methods._mindeye_net import LowLevel

    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = LowLevel(39_548, (4, 64, 64))
    x, y = torch.randn(batch + 4, 39_548), torch.randn(batch + 4, 4, 64, 64)
    before = net.entry[0].weight[0, :5].tolist()
    rows = np.arange(batch + 4)
    began = time.perf_counter()
    plan = Plan(1, batch, 5e-4, 1e-2)
    done = fit(net, x, y, torch.from_numpy(rows), rows[:batch], rows[batch:], plan, np.random.default_rng(0))
    total = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
    changed = before != net.entry[0].weight[0, :5].tolist()
    return (
        done.pace.steps,
        done.pace.seconds,
        total,
        peak,
        sum(p.numel() for p in net.parameters()),
        done.curve,
        changed,
    )


def test_one_step_at_the_published_size():
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        steps, seconds, total, peak, n_weights, curve, changed = pool.submit(one_step).result()
    print(
        f"\n{n_weights:,} weights, batch 16, one thread: {seconds:.1f} s a step, "
        f"{total:.1f} s with validation, {peak:.2f} GB"
    )
    assert (steps, n_weights, changed) == (1, 138_188_228, True)
    assert np.isfinite(curve).all()
    assert peak < 6  # weights, gradients, two moments, one copy of the best: 5 x 0.55 GB, and activations


def test_the_compiled_network_learns_the_same():
    """``compile`` changes the speed, not what is learnt (dropout draws differ, so only roughly)."""
    import torch

    from methods._mindeye_fit import Plan, fit
    from methods._mindeye_net import LowLevel

    rows, losses = np.arange(40), []
    for compiled in (False, True):
        torch.manual_seed(0)
        net = LowLevel(12, (4, 8, 8), 16, 8, (8, 8, 8), dropout=(0.0, 0.0))
        x, y = torch.randn(40, 12), torch.randn(40, 4, 8, 8)
        plan = Plan(3, 16, 1e-3, 0.0, compile=compiled)
        done = fit(net, x, y, torch.from_numpy(rows), rows[8:], rows[:8], plan, np.random.default_rng(0))
        losses.append([row[1:] for row in done.curve])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)
