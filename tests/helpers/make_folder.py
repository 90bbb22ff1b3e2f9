"""A small, valid folder dataset, and tools that plant faults in it."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def make_folder(
    root: Path,
    *,
    n_stimuli: int = 12,
    n_test: int = 4,
    repeats: int = 2,
    n_voxels: int = 20,
    subjects: Sequence[str] = ("S1", "S2"),
    images: str | None = "array",
    captions: bool = True,
    words: bool = True,
    place: bool = True,
    conditions: Sequence[str] = (),
    unit: str = "stimulus",
    average: Sequence[str] = ("subject", "stimulus"),
    nan_voxels: str | None = None,
    image_size: int = 8,
    seed: int = 0,
) -> Path:
    """Write a valid dataset and return its folder.

    Responses are a linear image of each stimulus's embedding plus noise. ``images`` is ``"array"``,
    ``"folder"`` or None; the split ``main`` has one fold per subject for unit ``subject``, two folds
    of runs for unit ``run`` and one fold otherwise. Each repeat is a run; each condition repeats all.
    """
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    ids = [f"stim{i:03d}" for i in range(n_stimuli)]
    header: dict[str, Any] = {
        "format": "fmri-bench-folder",
        "format_version": 1,
        "name": "tiny",
        "version": "1.0",
        "provenance": {"source": "made for a test", "licence": "CC0"},
        "stimuli": {"table": "stimuli.csv", "embeddings": {"latent": "latent.npy"}},
        "subjects": {},
        "tracks": {"embedding": {"space": "latent"}},
        "splits": ["splits/main.json"],
    }
    if nan_voxels:
        header["nan_voxels"] = nan_voxels
    latent = rng.standard_normal((n_stimuli, 5)).astype(np.float32)
    np.save(root / "latent.npy", latent)
    table = {"stimulus_id": ids}
    if words:
        table["word"] = [f"word{i}" for i in range(n_stimuli)]
        header["tracks"]["words"] = {"space": "latent"}
    if images:
        pixels = rng.integers(0, 256, (n_stimuli, image_size, image_size, 3), dtype=np.uint8)
        header["tracks"]["reconstruction"] = {}
        header["stimuli"]["images"] = "images.npy" if images == "array" else "images/"
        if images == "array":
            np.save(root / "images.npy", pixels)
        else:
            (root / "images").mkdir(exist_ok=True)
            table["image"] = [f"{name}.png" for name in ids]
            for name, picture in zip(table["image"], pixels, strict=True):
                Image.fromarray(picture).save(root / "images" / name)
    write_csv(root / "stimuli.csv", table)
    if captions:
        header["stimuli"]["captions"] = "captions.json"
        write_json(root / "captions.json", [[f"a picture of thing {i}", f"thing {i}"] for i in range(n_stimuli)])
    mixing = rng.standard_normal((5, n_voxels)).astype(np.float32)
    for subject in subjects:
        (root / subject).mkdir(exist_ok=True)
        order = np.concatenate([rng.permutation(n_stimuli) for _ in range(repeats * max(1, len(conditions)))])
        noise = rng.standard_normal((len(order), n_voxels)).astype(np.float32)
        np.save(root / subject / "responses.npy", latent[order] @ mixing + noise)
        run = np.repeat(np.arange(len(order) // n_stimuli), n_stimuli)
        trials = {"stimulus_id": [ids[i] for i in order], "run": [f"run{r + 1}" for r in run]}
        if conditions:
            trials["condition"] = [conditions[r % len(conditions)] for r in run]
        write_csv(root / subject / "trials.csv", trials)
        early = np.arange(n_voxels) < n_voxels // 2
        np.savez(root / subject / "rois.npz", early=early, late=~early)
        np.save(root / subject / "ncsnr.npy", np.full(n_voxels, 0.4, np.float32))
        files = {name: f"{subject}/{name}.npy" for name in ("responses", "ncsnr")}
        header["subjects"][subject] = files | {"trials": f"{subject}/trials.csv", "rois": f"{subject}/rois.npz"}
        if place:
            shape = [4, 5, max(3, -(-n_voxels // 10))]
            grid = np.stack(np.unravel_index(np.arange(n_voxels), shape), axis=1)
            np.save(root / subject / "coords.npy", grid.astype(np.int32))
            header["subjects"][subject] |= {"coords": f"{subject}/coords.npy", "shape": shape}
    runs = [f"run{r + 1}" for r in range(repeats * max(1, len(conditions)))]
    folds = {
        "stimulus": [{"name": "fold0", "train": ids[:-n_test], "test": ids[-n_test:]}],
        "subject": [{"name": s, "train": [t for t in subjects if t != s], "test": [s]} for s in subjects],
        "run": [
            {"name": f"fold{k}", "train": [r for r in runs if r != run], "test": [run]}
            for k, run in enumerate(runs[:2])
        ],
    }[unit]
    write_split(root / "splits" / "main.json", {"name": "main", "unit": unit, "average": list(average), "folds": folds})
    write_json(root / "dataset.json", header)
    return root


def write_csv(path: Path, columns: dict[str, Sequence[str]]) -> None:
    """Write columns as a CSV table."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([list(columns), *zip(*columns.values(), strict=True)])


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")


def write_split(path: Path, split: dict[str, Any]) -> None:
    """Write a split file with its checksum (computed here on its own, not by the package)."""
    content = {key: value for key, value in split.items() if key != "sha256"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    write_json(path, content | {"sha256": hashlib.sha256(text.encode()).hexdigest()})


def edit_json(path: Path, change: Callable[[Any], None]) -> None:
    """Change a JSON file in place."""
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    write_json(path, value)


def edit_split(path: Path, change: Callable[[Any], None]) -> None:
    """Change a split file and sign it anew."""
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    write_split(path, value)


def edit_array(path: Path, change: Callable[[np.ndarray], np.ndarray | None]) -> None:
    """Change a ``.npy`` file: in place, or by what the change returns."""
    value = np.load(path)
    changed = change(value)
    np.save(path, value if changed is None else changed)


def truncate(path: Path, n_bytes: int = 30) -> None:
    """Cut bytes from the end of a file."""
    path.write_bytes(path.read_bytes()[:-n_bytes])


def every_file(root: Path) -> list[str]:
    """Return every file of a dataset, as paths below its folder."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
