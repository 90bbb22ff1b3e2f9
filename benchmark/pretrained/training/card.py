"""``python -m benchmark.pretrained.training.card NAME [--weights DIR] [--out docs/models]``: model card and strip.

The card is written from the exported json; the strip shows held-out scenes and what the model makes of them. A model of
pictures to pictures has a ``strip(model, images) -> list of (label, pictures)`` in its training module, a model of
pictures to words a ``words(model, images) -> list of str``, and every training module an ``ABOUT``, the card's text.
"""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.pretrained import hub
from benchmark.pretrained.training.__main__ import NAMES
from benchmark.pretrained.training.common import held_out

_N = 8


def main(arguments: list[str] | None = None) -> None:
    """Write the card and the strip of one model."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.pretrained.training.card")
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/models"))
    options = parser.parse_args(arguments)
    task = importlib.import_module(f"benchmark.pretrained.training.{options.name}")
    options.out.mkdir(parents=True, exist_ok=True)
    description = json.loads(hub.files(options.name, "mini", options.weights)[f"{options.name}.json"].read_text())
    (options.out / f"{options.name}.md").write_text(card(options.name, description, task.ABOUT))
    if options.weights and (log := options.weights / f"{options.name}.csv").exists():
        shutil.copy(log, options.out)
    model = hub.load(options.name, "mini", options.weights)
    images = held_out(400)[1][-_N:]
    if hasattr(task, "strip"):
        draw([("scene", images), *task.strip(model, images)], [""] * _N, options.out / f"{options.name}.png")
    else:
        draw([("scene", images)], task.words(model, images), options.out / f"{options.name}.png")


def card(name: str, description: dict[str, Any], about: str) -> str:
    """Return the model card as markdown."""
    quality = [f"| {key} | {value:.4f} |" for key, value in description["held_out"].items()]
    minutes = description["seconds"] / 60
    note = [description["note"], ""] if "note" in description else []
    lines = [
        f"# `{name}`, profile `mini`",
        "",
        about.strip(),
        "",
        f"![Held-out scenes and what {name} makes of them]({name}.png)",
        "",
        "| | |",
        "|---|---|",
        f"| data | {description['data']} (never shown by a built-in dataset), drawn afresh at every step |",
        f"| steps | {description['steps']} of {description['batch']} scenes |",
        f"| time | {minutes:.0f} min (one thread of a shared machine) |",
        f"| seed | {description['seed']} |",
        f"| parameters | {description['parameters']:,} |",
        f"| file | `{name}.safetensors`, {description['bytes']:,} bytes, half precision |",
        f"| sha256 | `{description['sha256']}` |",
        "",
        *note,
        "Held out (other scenes of the same pool):",
        "",
        "| measure | value |",
        "|---|---|",
        *quality,
        "",
        f"Made by `python -m benchmark.pretrained.training {name} --out DIR`; log: [`{name}.csv`]({name}.csv).",
    ]
    return "\n".join(lines) + "\n"


def draw(rows: Sequence[tuple[str, np.ndarray]], words: Sequence[str], path: Path) -> None:
    """Draw rows of pictures, (label, (n, h, w, 3)) each, with a text below each column."""
    from matplotlib.figure import Figure

    n = len(rows[0][1])
    figure = Figure(figsize=(1.5 * n, 1.55 * len(rows) + (1.1 if any(words) else 0.1)), layout="constrained")
    axes = figure.subplots(len(rows), n, squeeze=False)
    for line, (label, pictures) in zip(axes, rows, strict=True):
        line[0].set_ylabel(label)
        for axis, picture in zip(line, pictures, strict=True):
            axis.imshow(picture)
            axis.set(xticks=[], yticks=[])
    for axis, text in zip(axes[-1], words, strict=True):
        axis.set_xlabel(textwrap.fill(text, 22), fontsize=7)
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main()
