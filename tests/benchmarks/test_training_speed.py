"""Our training loop of the low-level network beside a bare PyTorch loop of the same network, in one run.

    pytest tests/benchmarks/test_training_speed.py --benchmark-only -s

On a CPU the network of the mini profile; on CUDA the published one (39,548 responses, 4 x 64 x 64 latents), with bf16
and ``torch.compile`` besides. The two loops take turns. The steps alone are compared by the wall clock, all of our loop
(with its validation and the copy of the best weights, which the bare one lacks) by it and by the processor's.
"""

import time

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from methods._mindeye_fit import Plan, fit
from methods._mindeye_net import LowLevel
from methods.mindeye_bagging import MindEyeBagging

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
N_VOXELS, LATENT, ROWS, HELD, BATCH = (
    (39_548, (4, 64, 64), 8000, 800, 16) if CUDA else (2420, (4, 16, 16), 1088, 112, 32)
)
TURNS = 3


def clock():
    """Return the time by the wall clock and the processor's."""
    if CUDA:
        torch.cuda.synchronize()
    return np.array([time.perf_counter(), time.process_time()])


def network():
    p = MindEyeBagging.make_params("full" if CUDA else "mini", "default")
    torch.manual_seed(0)
    return LowLevel(N_VOXELS, LATENT, p.hidden, p.map_channels, p.blocks).to(DEVICE)


def bare(net, x, y):
    """Return seconds a step of an epoch that does nothing else: no schedule, no validation, no order of its own."""
    adam = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=CUDA)
    net.train()
    began = clock()
    for start in range(0, ROWS, BATCH):
        loss = F.l1_loss(net(x[start : start + BATCH]), y[start : start + BATCH])
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
    return (clock() - began) / (ROWS // BATCH)


def ours(net, x, y, options):
    """Return seconds a step of an epoch of our loop: all of it by both clocks, and the steps alone."""
    target = torch.arange(len(x), device=DEVICE)
    plan = Plan(1, BATCH, 1e-4, 1e-2, **options)
    began = clock()
    done = fit(net, x, y, target, np.arange(ROWS), np.arange(ROWS, len(x)), plan, np.random.default_rng(0))
    return [*(clock() - began) / done.pace.steps, done.pace.seconds / done.pace.steps]


KINDS = ({}, {"precision": "bf16"}, {"precision": "bf16", "compile": True}) if CUDA else ({},)


@pytest.mark.parametrize("options", KINDS, ids=lambda options: "-".join(map(str, options.values())) or "float32")
def test_steps_a_second(benchmark, options):
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS + HELD, N_VOXELS, generator=generator).to(DEVICE)
    y = torch.randn(ROWS + HELD, *LATENT, generator=generator).to(DEVICE)
    plain, own = network(), network()
    bare(plain, x, y)
    ours(own, x, y, options)
    turns = np.array([[*bare(plain, x, y), *ours(own, x, y, options)] for _ in range(TURNS)])
    bare_wall, bare_cpu, wall, cpu, steps = np.median(turns, axis=0)
    found = {
        "bare_steps_per_second": 1 / bare_wall,
        "our_steps_per_second": 1 / steps,
        "ratio_of_steps": np.median(turns[:, 0] / turns[:, 4]),
        "ratio_with_validation": bare_wall / wall,
        "ratio_with_validation_cpu": bare_cpu / cpu,
    }
    found = {name: round(float(value), 3) for name, value in found.items()}
    print(f"\n{DEVICE}: {found}")
    benchmark.extra_info.update(found)
    benchmark.pedantic(bare, (plain, x, y), rounds=1)
    assert np.isfinite(turns).all()
