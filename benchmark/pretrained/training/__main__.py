"""``python -m benchmark.pretrained.training NAME --out DIR [--steps N] [--resume] [--threads N]``."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

NAMES = ("clip", "judge", "captioner", "kl", "vdvae", "versatile", "img2img")


def main(arguments: list[str] | None = None) -> int:
    """Train one ``mini`` model; see :func:`benchmark.pretrained.training.common.train`."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.pretrained.training")
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)

    import torch

    from benchmark.errors import BenchError
    from benchmark.pretrained.training.common import train

    torch.set_num_threads(options.threads)
    task = importlib.import_module(f"benchmark.pretrained.training.{options.name}")
    try:
        train(task, options.name, options.out, options.steps, options.resume)
    except BenchError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
