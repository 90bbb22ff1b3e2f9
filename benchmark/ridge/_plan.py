"""What a ridge will need, said before it starts."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from benchmark.errors import BenchError
from benchmark.ridge._kernel import BLOCK, MOMENT_VALUES

PENALTIES = tuple(float(f"{10.0**e:.4g}") for e in np.arange(-2, 3.5, 0.5))
FLOAT64_UP_TO = 2048
TILES = (2048, 1024, 512, 256, 128, 64)  # columns of targets at once
STEPS = (4096, 2048, 1024, 512, 256)  # columns of responses at once
OVERHEAD = 64 * 2**20  # threads, packed blocks of the matrix library, small arrays
LEAST_ROWS = 64


@dataclass(frozen=True)
class Plan:
    """Sizes that stay inside a memory limit.

    Attributes
    ----------
    memory : int
        Peak bytes of anonymous and shared memory that the ridge adds to the process. Pages of mapped files are not in
        it, nor are arrays that the caller holds or is given.
    flops : float
        Floating-point operations of the matrix products, factorisations and solves.
    seconds : float
        ``flops`` at the speed of a matrix product measured now; files come on top. NaN where not measured.
    tile : int
        Columns of the targets at once.
    step : int
        Columns of the responses (primal form: rows) at once.
    rows : int
        Test rows at once; fewer than all means that the targets are read several times.
    keep : bool
        Whether the factors of all penalties stay in memory.
    precision : str
        Of the Gram matrix and its factors.
    """

    memory: int
    flops: float
    seconds: float
    tile: int
    step: int
    rows: int
    keep: bool
    precision: str

    def __str__(self) -> str:
        seconds = f"{self.flops:.2g} operations" + (f" in {self.seconds:.0f} s" if self.seconds >= 0 else "")
        return (
            f"ridge: {self.memory / 1e9:.2f} GB, {seconds} without files, "
            f"{self.tile} target columns at once, {self.precision}"
        )


def plan(
    n: int,
    p: int,
    targets: Mapping[str, int],
    m: int,
    *,
    penalties: int = 1,
    select: str | None = None,
    memory_limit: int | None = None,
    tile: int | None = None,
    precision: str = "auto",
    itemsize: int = 4,
) -> Plan:
    """Say what a fit and its predictions need, with tile sizes that stay inside a memory limit.

    Parameters
    ----------
    n, p : int
        Training rows and voxels.
    targets : mapping of str to int
        Columns by target group.
    m : int
        Test rows.
    penalties : int
        Different penalties that predictions are made with, or that are offered where ``select`` is given.
    select : {None, "leave-out", "gcv"}
        Whether penalties are chosen on the training rows, and how.
    memory_limit : int, optional
        Bytes that may be added to what the process holds; default: no limit.
    tile : int, optional
        Columns of the targets at once, instead of the largest that fits.
    precision : {"auto", "float32", "float64"}
    itemsize : int
        Bytes of a target value.

    Raises
    ------
    BenchError
        Where no sizes fit; it says the least that would.
    """
    found = choose(
        n, p, targets, m, penalties=penalties, select=select, memory_limit=memory_limit, tile=tile,
        precision=precision, itemsize=itemsize,
    )  # fmt: skip
    return replace(found, seconds=found.flops / _speed(found.precision))


def choose(
    n, p, targets, m, *, penalties, select, memory_limit, tile, precision, itemsize,
    work="predict", keeps=(True, False), steps=None,
) -> Plan:  # fmt: skip
    """Choose sizes; the work is to ``predict``, to make ``weights`` or to find out-of-``fold`` statistics."""
    if precision == "auto":
        precision = "float64" if min(n, p) <= FLOAT64_UP_TO else "float32"
    size = 8 if precision == "float64" else 4
    widest = max(1, *targets.values())
    tiles = sorted({min(w, widest) for w in ((tile,) if tile else TILES)}, reverse=True)
    steps = sorted({min(step, max(n, p)) for step in steps or STEPS}, reverse=True)
    rows = [m] if work != "predict" else sorted({max(min(m, LEAST_ROWS), m >> i) for i in range(24)}, reverse=True)
    options = list(product(rows, keeps, tiles, steps))

    def memory(option):
        return _memory(
            n, p, targets, *option, penalties=penalties, select=select, size=size, itemsize=itemsize, work=work
        )

    chosen = next((o for o in options if memory_limit is None or memory(o) <= memory_limit), None)
    if chosen is None:
        least = min(map(memory, options))
        raise BenchError(
            f"ridge: the memory limit leaves {max(memory_limit, 0) / 1e9:.2f} GB for {n} rows and {p} voxels; "
            f"expected at least {math.ceil(least / 1e7) / 100:.2f} GB."
        )
    flops = _flops(n, p, sum(targets.values()), m, penalties, select)
    rows, keep, tile, step = chosen
    return Plan(memory(chosen), flops, float("nan"), tile, step, rows, keep, precision)


def _memory(n, p, targets, rows, keep, tile, step, *, penalties, select, size, itemsize, work) -> int:
    """Peak bytes: every stage of the work in turn, on top of what is held meanwhile."""
    k, primal = min(n, p), p < n
    square = k * k * size
    slab = (p if primal else n) * min(step, n if primal else p) * size
    stages = [3 * 8 * max(MOMENT_VALUES, n), square + slab]
    if select:
        stages.append(square + _selecting(n, p, targets, tile, select, size, itemsize))
    held = square * (1 + (min(penalties, len(targets)) if keep else 1))  # the Gram matrix and factors
    few = max((t for t in targets.values() if t < rows), default=0)  # such targets are solved for themselves
    solving = (n + 3 * k) * (tile if work == "weights" else min(tile, few)) * size + slab
    reading = 2 * n * tile * itemsize
    if work == "weights":
        stages.append(held + reading + solving + (2 * 8 + size) * min(step, p) * tile)
    elif work == "fold":
        stages.append(held + rows * n * (4 * size + itemsize) + slab)
        stages.append(held + rows * n * itemsize + reading + 2 * rows * tile * itemsize)
    else:
        stages.append(held + rows * (2 * k + n) * size + slab)
        stages.append(held + rows * (k * size + n * (size + itemsize)) + reading + 3 * rows * tile * itemsize)
        if few:
            stages.append(held + rows * k * size + reading + solving)
    return int(OVERHEAD + 4 * 8 * p + max(stages))


def _selecting(n, p, targets, tile, select, size, itemsize) -> int:
    """Bytes on top of the Gram matrix while penalties are chosen."""
    k, primal = min(n, p), p < n
    side = n if select == "leave-out" else k
    narrow = max((t for t in targets.values() if t <= side), default=0)
    wide = any(t > side for t in targets.values())
    problems = sum(side * min(t, side) for t in targets.values()) * size
    work = 3 * k * k * size + BLOCK * n * 4 * size + side * (side if wide else narrow) * size
    if primal and select == "leave-out":
        work += 2 * n * p * size + n * (n if wide else narrow) * size
    reading = n * tile * (2 * itemsize + 2 * size) + side * tile * size
    return problems + max(work, reading)


def _flops(n, p, t, m, penalties, select) -> float:
    k = min(n, p)
    total = float(n) * p * k + penalties * k**3 / 3 + 2.0 * m * n * t
    if select:
        total += float(n) * n * t + penalties * 3.0 * k**3
    return total + penalties * 2.0 * k * k * m + 2.0 * m * n * p * (1 if p >= n else penalties)


def _speed(precision: str) -> float:
    """Return the floating-point operations a second of a matrix product on this machine, now."""
    import torch

    a = torch.ones((1024, 1024), dtype=getattr(torch, precision))
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    return 2 * 1024**3 / best
