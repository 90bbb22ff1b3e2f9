"""What the adapters that train a network share."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from benchmark.errors import BenchError

PRECISIONS = ("float32", "bf16")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch inside the block and give back the generators' state after it."""
    import torch

    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def autocast(device: str, precision: str) -> AbstractContextManager:
    """Return the context a network runs in; bf16 is for CUDA, other devices stay at float32."""
    import torch

    if precision not in PRECISIONS:
        raise BenchError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}.")
    on = precision == "bf16" and torch.device(device).type == "cuda"
    return torch.autocast("cuda", torch.bfloat16) if on else nullcontext()


@dataclass
class Pace:
    """Steps of training and the wall-clock seconds they took, validation left out."""

    steps: int = 0
    seconds: float = 0.0

    @contextmanager
    def __call__(self, steps: int) -> Iterator[None]:
        """Time a block of steps; it must end with a number read from the device, which waits for the work."""
        began = time.perf_counter()
        yield
        self.steps, self.seconds = self.steps + steps, self.seconds + time.perf_counter() - began

    def facts(self, device: str, precision: str, compiled: bool) -> dict[str, float | str | bool]:
        """Return what the run's provenance says of the training."""
        cuda = str(device).startswith("cuda")
        return {
            "steps": self.steps,
            "seconds": round(self.seconds, 3),
            "steps_per_second": round(self.steps / max(self.seconds, 1e-9), 2),
            "precision": precision if cuda else "float32",
            "compiled": compiled,
        }


def write_log(workdir: Path, rows: Iterable[tuple[int, float, float | None]]) -> None:
    """Write ``train_log.csv``: epoch, train_loss, val_loss (empty where nothing was held out)."""
    with open(workdir / "train_log.csv", "w", newline="") as file:
        csv.writer(file).writerows([("epoch", "train_loss", "val_loss"), *rows])


def write_curves(workdir: Path, curves: Mapping[str, list[tuple[int, float, float]]]) -> None:
    """Write ``train_log.csv`` of several networks side by side: curves of (epoch, train loss, validation loss)."""
    names = [f"{name} {side}_loss" for name in curves for side in ("train", "val")]
    epochs = max(len(curve) for curve in curves.values())
    rows = [
        [i + 1, *(v for c in curves.values() for v in (c[i][1:] if i < len(c) else ("", "")))] for i in range(epochs)
    ]
    with open(workdir / "train_log.csv", "w", newline="") as file:
        csv.writer(file).writerows([["epoch", *names], *rows])
