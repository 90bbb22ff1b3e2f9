"""Training of the low-level network, which MindEye-bagging and MindEye share (imports torch)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmark.errors import BenchError
from methods._mindeye_net import optimiser
from methods._torch import Pace, autocast


@dataclass(frozen=True)
class Plan:
    """How a network is trained.

    Attributes
    ----------
    epochs, batch : int
    max_lr, decay : float
        Of OneCycle over all epochs and of AdamW.
    precision : str
        ``"float32"`` or ``"bf16"`` (CUDA only).
    compile : bool
        Run the training steps through ``torch.compile``.
    """

    epochs: int
    batch: int
    max_lr: float
    decay: float
    precision: str = "float32"
    compile: bool = False


@dataclass(frozen=True)
class Fitted:
    """What training gave: curve of (epoch, training loss, validation loss), the best epoch and its loss, the pace."""

    curve: list[tuple[int, float, float]]
    epoch: int
    validation: float
    pace: Pace


def fit(
    net: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    target: torch.Tensor,
    rows: np.ndarray,
    held: np.ndarray,
    plan: Plan,
    rng: np.random.Generator,
    after: Callable[[int, nn.Module], None] = lambda epoch, net: None,
) -> Fitted:
    """Train by the mean absolute error; leave the weights of the epoch with the least validation loss in the network.

    Everything a step reads is on the device already.

    Parameters
    ----------
    net : Module
    x : Tensor of shape (n_rows, n_voxels)
    y : Tensor of shape (n_stimuli, ...)
    target : Tensor of shape (n_rows,), int
        Row of ``y`` that belongs to each row of ``x``.
    rows, held : ndarray of int
        Rows to train on and to validate on.
    plan : Plan
    rng : Generator
        Of the order of the rows.
    after : callable
        Called with every epoch's number and the network.

    Raises
    ------
    BenchError
        Nothing to validate on, or no epoch with a finite validation loss.
    """
    if not len(held):
        raise BenchError("the low-level network: nothing to validate on, expected at least two training stimuli.")
    device, n_steps = x.device, -(-len(rows) // plan.batch)
    adam, cycle = optimiser([net], plan.max_lr, plan.decay, plan.epochs * n_steps, plan.epochs)
    step = torch.compile(net) if plan.compile else net
    rows_held = torch.from_numpy(held).to(device)
    curve, best, chosen, state, pace = [], np.inf, 0, {}, Pace()
    for epoch in range(1, plan.epochs + 1):
        net.train()
        total = torch.zeros((), device=device)
        with pace(n_steps):
            for batch in torch.from_numpy(rng.permutation(rows)).to(device).split(plan.batch):
                with autocast(device, plan.precision):
                    loss = F.l1_loss(step(x[batch]), y[target[batch]])
                adam.zero_grad(set_to_none=True)
                loss.backward()
                adam.step()
                cycle.step()
                total += loss.detach() * len(batch)
            trained = total.item() / len(rows)
        value = error(net, x, y, target, rows_held)
        curve.append((epoch, trained, value))
        if value < best:
            best, chosen = value, epoch
            state = {name: values.detach().to("cpu", copy=True) for name, values in net.state_dict().items()}
        after(epoch, net)
    if not state:
        raise BenchError("the low-level network: no epoch has a finite validation loss, expected a lower max_lr.")
    net.load_state_dict(state)
    net.eval()
    return Fitted(curve, chosen, best, pace)


@torch.no_grad()
def error(net: nn.Module, x, y, target, rows, batch: int = 256) -> float:
    """Return the mean absolute error of rows, dropout off."""
    net.eval()
    parts = [(net(x[some]) - y[target[some]]).abs().mean((1, 2, 3)) for some in rows.split(batch)]
    return torch.cat(parts).mean().item()


@torch.no_grad()
def predicted(net: nn.Module, x: torch.Tensor, state: dict | None = None, batch: int = 256) -> np.ndarray:
    """Return the outputs of rows, with other weights where they are given."""
    net.eval()
    parts = [torch.func.functional_call(net, state or {}, (some,)).float().cpu() for some in x.split(batch)]
    return torch.cat(parts).numpy()
