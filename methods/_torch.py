"""What the adapters that train a network share."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch inside the block and give back the generators' state after it."""
    import torch

    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


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
