"""The training loop of every ``mini`` model: seeds, average of weights, checkpoints, log and export.

A task is a module of this package with

* ``DEFAULTS``: a :class:`Settings`;
* ``config() -> dict``: what the model's class needs to build it again, kept in the exported json;
* ``build(config) -> torch.nn.Module``: the module to train, possibly with helpers that are not exported;
* ``loss(module, batch) -> (Tensor, dict of float)``: loss of one step and columns for the log;
* ``export(module) -> dict of Tensor``: the tensors to ship;
* ``evaluate(module, rng) -> dict of float`` (optional): held-out quality, logged at every checkpoint.
"""

from __future__ import annotations

import copy
import csv
import hashlib
import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from benchmark.data import scenes as worlds
from benchmark.errors import BenchError


@dataclass(frozen=True)
class Settings:
    """How a model is trained: AdamW, linear warm-up, cosine decay to 2 % of the rate, exponential average of weights.

    ``data`` names what it is trained on, for the exported json.
    """

    steps: int
    batch: int
    rate: float
    seed: int
    warmup: int = 100
    weight_decay: float = 0.02
    average: float = 0.998
    clip_norm: float = 1.0
    betas: tuple[float, float] = (0.9, 0.98)
    checkpoint_every: float = 120.0  # seconds
    data: str = "benchmark.data.scenes, pool pretrain"


@dataclass(frozen=True)
class Batch:
    """One step's input: scenes of the pretrain pool, their pictures and the step's own random numbers.

    Attributes
    ----------
    scenes : benchmark.data.scenes.Scenes
    images : ndarray of shape (n, 64, 64, 3), uint8
    rng : numpy.random.Generator
    generator : torch.Generator
        On the CPU.
    progress : float
        Share of the training that is done, in [0, 1).
    """

    scenes: worlds.Scenes
    images: np.ndarray
    rng: np.random.Generator
    generator: torch.Generator
    progress: float


def draw(seed: int, step: int, size: int, progress: float = 0.0) -> Batch:
    """Draw a step's batch; it depends on seed and step alone, so a resumed training sees what it would have seen."""
    rng = np.random.default_rng([seed, step])
    scenes = worlds.sample(rng, size, pool="pretrain")
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    return Batch(scenes, worlds.render(scenes), rng, generator, progress)


def held_out(n: int, seed: int = 990_000) -> tuple[worlds.Scenes, np.ndarray]:
    """Return scenes and pictures for measuring a model: the pretrain pool, from a seed that no training uses."""
    scenes = worlds.sample(np.random.default_rng([seed, 7, 7]), n, pool="pretrain")
    return scenes, worlds.render(scenes)


def train(
    task: ModuleType,
    name: str,
    out: Path,
    steps: int | None = None,
    resume: bool = False,
    stop_after: int | None = None,
) -> dict[str, Any]:
    """Train a model and write ``NAME.safetensors``, ``NAME.json`` and ``NAME.csv`` to ``out``.

    Parameters
    ----------
    task : module
        See the module's docstring.
    name : str
    out : Path
    steps : int, optional
        Length of the schedule; the task's own by default.
    resume : bool
        Whether to go on from the checkpoint in ``out``.
    stop_after : int, optional
        Stop after this step as if killed just after a checkpoint (for tests).

    Returns
    -------
    dict
        The exported json.
    """
    settings: Settings = task.DEFAULTS
    steps = settings.steps if steps is None else steps
    if steps < 1:
        raise BenchError(f"--steps must be at least 1, not {steps}")
    out.mkdir(parents=True, exist_ok=True)
    checkpoint, log = out / f"{name}.checkpoint.pt", out / f"{name}.csv"
    torch.manual_seed(settings.seed)  # the start of the weights
    config = task.config()
    module = task.build(config)
    optimiser = torch.optim.AdamW(_groups(module, settings.weight_decay), lr=settings.rate, betas=settings.betas)
    average = copy.deepcopy(module).requires_grad_(False)
    done, seconds = 0, 0.0
    if resume and checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        module.load_state_dict(state["module"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        done, seconds = state["step"], state["seconds"]
        _cut(log, done)
    elif log.exists():
        log.unlink()
    description: dict[str, Any] = {}
    start = saved = time.monotonic()
    totals: dict[str, list[float]] = {}
    module.train()
    for step in range(done, steps):
        batch = draw(settings.seed, step, settings.batch, step / steps)
        torch.manual_seed(int(batch.rng.integers(2**62)))  # dropout and the like
        for group in optimiser.param_groups:
            group["lr"] = settings.rate * _schedule(step, steps, settings.warmup)
        loss, values = task.loss(module, batch)
        if not torch.isfinite(loss):
            raise BenchError(f"the loss of {name} is not finite at step {step}")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), settings.clip_norm)
        optimiser.step()
        _average(average, module, min(settings.average, (1 + step) / (10 + step)))
        for key, value in {"loss": loss.item(), **values}.items():
            totals.setdefault(key, []).append(float(value))
        last = step + 1 in (steps, stop_after)
        if last or (step + 1) % 50 == 0:
            elapsed = seconds + time.monotonic() - start
            _write(log, {"step": step + 1, "seconds": round(elapsed, 1)} | {k: np.mean(v) for k, v in totals.items()})
            totals = {}
        if last or time.monotonic() - saved > settings.checkpoint_every:
            elapsed = seconds + time.monotonic() - start
            state = {"module": module.state_dict(), "average": average.state_dict(), "step": step + 1}
            state |= {"optimiser": optimiser.state_dict(), "seconds": elapsed}
            _replace(checkpoint, lambda path, state=state: torch.save(state, path))
            quality = {}
            if hasattr(task, "evaluate"):
                quality = task.evaluate(average.eval(), np.random.default_rng(settings.seed + 1))
            description = {
                "config": config,
                "data": settings.data,
                "seed": settings.seed,
                "steps": step + 1,
                "planned_steps": steps,
                "batch": settings.batch,
                "seconds": round(elapsed),
                "held_out": quality,
            }
            save(out, name, task.export(average), description)
            print(f"{name} step {step + 1}/{steps} {elapsed:.0f} s {quality}", flush=True)
            saved = time.monotonic()
        if step + 1 == stop_after:
            break
    return description


def save(out: Path, name: str, tensors: Mapping[str, torch.Tensor], description: Mapping[str, Any]) -> None:
    """Write ``NAME.safetensors`` (half precision) and ``NAME.json`` with its size and sha256, each at once."""
    from safetensors.torch import save as serialise

    content = serialise({k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in tensors.items()})
    _replace(out / f"{name}.safetensors", lambda path: path.write_bytes(content))
    count = sum(v.numel() for v in tensors.values())
    entry = {"name": name, "parameters": count, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    text = json.dumps(entry | dict(description), indent=1) + "\n"
    _replace(out / f"{name}.json", lambda path: path.write_text(text))


def _replace(path: Path, write) -> None:
    part = path.with_name(path.name + ".part")
    write(part)
    os.replace(part, path)


def _groups(module: torch.nn.Module, weight_decay: float) -> list[dict]:
    """Separate matrices, which decay, from biases and gains, which do not."""
    trained = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]


def _schedule(step: int, steps: int, warmup: int) -> float:
    rise = min(1.0, (step + 1) / warmup)
    return rise * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))


@torch.no_grad()
def _average(average: torch.nn.Module, module: torch.nn.Module, decay: float) -> None:
    pairs = [(a, b) for a, b in zip(average.state_dict().values(), module.state_dict().values(), strict=True)]
    floating = [(a, b) for a, b in pairs if a.is_floating_point()]
    torch._foreach_lerp_([a for a, _ in floating], [b for _, b in floating], 1 - decay)
    for a, b in pairs:
        if not a.is_floating_point():
            a.copy_(b)


def _write(log: Path, row: dict[str, float]) -> None:
    new = not log.exists()
    with log.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(row)
        writer.writerow([v if isinstance(v, int) else f"{v:.6g}" for v in row.values()])


def _cut(log: Path, step: int) -> None:
    """Drop the log's rows that a kill left behind the checkpoint."""
    if not log.exists():
        return
    with log.open(newline="") as file:
        head, *rows = list(csv.reader(file))
    with log.open("w", newline="") as file:
        csv.writer(file).writerows([head, *(row for row in rows if int(row[0]) <= step)])
