"""A tiny BOLD5000 release 2.0 in the published layout: 84 pictures, runs of 37, four subjects."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.data.bold5000_files import BETAS, ROIS

SHAPE = (6, 7, 5)
GRID = 4  # a picture is a grid of shades
# images shown several times: 4 COCO, 3 ImageNet, 2 scenes; and those shown once
REPEATED = (
    *(f"COCO_train2014_{1000 + k:012d}.jpg" for k in range(4)),
    *(f"n0193011{k}_1956.JPEG" for k in range(3)),
    "canyon.jpg",
    "beach1.jpeg",
)
SINGLE = (
    *(f"COCO_train2014_{2000 + k:012d}.jpg" for k in range(30)),
    *(f"n020065{k:02d}_77.JPEG" for k in range(30)),
    *(f"cabinIndoors{k}.jpg" for k in range(15)),
)
RUNS = {"CSI1": (2, 1), "CSI2": (2, 1), "CSI3": (1, 1, 1), "CSI4": (2,)}  # runs by session
OUTSIDE, CONSTANT = (0, 0, 0), (1, 1, 1)  # a voxel of LHEarlyVis outside the brain, one of LHPPA that never changes


def names(subject: str) -> list[str]:
    """Image by trial: nine images four times and 75 once; CSI4 sees eight of the nine, some once."""
    counts = (3, 3, 2, 2, 1, 1, 1, 1, 0) if subject == "CSI4" else (4,) * 9
    single = SINGLE[:60] if subject == "CSI4" else SINGLE
    shown = [name for name, n in zip(REPEATED, counts, strict=True) for _ in range(n)] + list(single)
    order = np.random.default_rng(int(subject[-1])).permutation(len(shown))
    return [shown[k] for k in order]


def masks(subject: str) -> dict[str, np.ndarray]:
    """Ten ROIs of eight voxels; one voxel is in LHLOC and in LHOPA; CSI2 has shares of voxels, as upstream."""
    places = np.random.default_rng(10 + int(subject[-1])).permutation(np.arange(1, np.prod(SHAPE)))
    out = {}
    for k, roi in enumerate(ROIS):
        mask = np.zeros(SHAPE, np.uint8)
        mask.ravel()[places[8 * k : 8 * k + 8]] = 1
        mask[OUTSIDE] = mask[CONSTANT] = 0
        out[roi] = mask
    out["LHOPA"][tuple(np.argwhere(out["LHLOC"])[0])] = 1
    out["LHEarlyVis"][OUTSIDE] = out["LHPPA"][CONSTANT] = 1
    if subject == "CSI2":
        out["LHLOC"] = out["LHLOC"] * np.float32(0.125)
    return out


def picture(name: str) -> np.ndarray:
    """A grid of shades of one colour, (GRID, GRID, 3) uint8; the small CLIP tells the colour."""
    rng = np.random.default_rng(sum(ord(c) * 31**k for k, c in enumerate(name)) % 2**32)
    grid = 0.7 * rng.integers(0, 256, 3) + 0.3 * rng.integers(0, 256, (GRID, GRID, 3))
    return grid.astype(np.uint8)


def betas(subject: str, noise: float = 0.5) -> np.ndarray:
    """Betas (x, y, z, n_trials), float32: a linear image of the picture plus noise, NaN outside the brain."""
    rng = np.random.default_rng(20 + int(subject[-1]))
    features = np.stack([picture(name) for name in names(subject)]).reshape(-1, GRID * GRID * 3) / 255 - 0.5
    weight = rng.normal(size=(features.shape[1], int(np.prod(SHAPE)))) / np.sqrt(features.shape[1])
    rows = features @ weight + noise * 0.3 * rng.normal(size=(len(features), weight.shape[1]))
    out = np.ascontiguousarray(rows.T.reshape(*SHAPE, -1), np.float32)
    out[OUTSIDE], out[CONSTANT] = np.nan, 0.25
    return out


def make_bold5000(
    root: Path,
    subjects: Sequence[str] = ("CSI1", "CSI2", "CSI3", "CSI4"),
    *,
    route: str = "sessions",
    lists: str = "names",
    suffix: str = ".nii.gz",
    captions: bool = True,
) -> Path:
    """Write the files and return the folder.

    Parameters
    ----------
    root : Path
    subjects : sequence of str
    route : str
        ``"sessions"``: NIfTI betas and ROI masks; ``"release"``: the ROI release's arrays.
    lists : str
        ``"names"``: one ``CSI{n}_imgnames.txt``; ``"runs"``: a list per run, with the prefix ``rep_``.
    suffix : str
        Of the NIfTI files.
    captions : bool
        Write COCO's captions, two of every image.
    """
    for name in (*REPEATED, *SINGLE):
        write_picture(root, name)
    for subject in subjects:
        write_list(root, subject, lists)
        if route == "sessions":
            write_sessions(root, subject, suffix)
        else:
            write_release(root, subject)
    if captions:
        write_captions(root / "annotations" / "captions_train2014.json")
    return root


def write_picture(root: Path, name: str) -> None:
    """Write one picture where the stimuli are; one is grey, one is wider than high."""
    kind = "COCO" if name.startswith("COCO") else "ImageNet" if name.endswith("JPEG") else "Scene"
    folder = root / "BOLD5000_Stimuli" / "Scene_Stimuli" / "Presented_Stimuli" / kind
    folder.mkdir(parents=True, exist_ok=True)
    size = (48, 32) if name == SINGLE[0] else (32, 32)
    image = Image.fromarray(picture(name)).resize(size, Image.Resampling.NEAREST)
    (image.convert("L") if name == SINGLE[1] else image).save(folder / name, format="JPEG", quality=95)


def write_list(root: Path, subject: str, lists: str = "names") -> None:
    """Write the list of what a subject saw."""
    shown = names(subject)
    if lists == "names":
        root.mkdir(parents=True, exist_ok=True)
        (root / f"{subject}_imgnames.txt").write_text("\n".join(shown) + "\n")
        return
    start, seen = 0, set()
    for s, n_runs in enumerate(RUNS[subject], 1):
        folder = root / "BOLD5000_Stimuli" / "Stimuli_Presentation_Lists" / subject / f"{subject}_sess{s:02d}"
        folder.mkdir(parents=True)
        for r in range(1, n_runs + 1):
            lines = [f"rep_{name}" if name in seen else name for name in shown[start : start + 37]]
            seen |= set(shown[start : start + 37])
            (folder / f"{subject}_sess{s:02d}_run{r:02d}.txt").write_text("\n".join(lines))
            start += 37


def write_sessions(root: Path, subject: str, suffix: str = ".nii.gz") -> None:
    """Write one NIfTI file per session, and the ROI masks; CSI2's and CSI3's have upstream's wrong names."""
    import nibabel

    data, start = betas(subject), 0
    folder = root / f"{subject}_betas"
    folder.mkdir(parents=True, exist_ok=True)
    for s, n_runs in enumerate(RUNS[subject], 1):
        trials = data[..., start : start + 37 * n_runs]
        start += 37 * n_runs
        nibabel.save(nibabel.Nifti1Image(trials, np.eye(4)), folder / f"{subject}_{BETAS}_ses-{s:02d}{suffix}")
    wrong = {"LHLOC": "LHLO", "RHLOC": "RHLO"} | ({"RHRSC": "RHRRSC"} if subject == "CSI2" else {})
    folder = root / "ds001499" / "derivatives" / "spm" / f"sub-{subject}"
    folder.mkdir(parents=True, exist_ok=True)
    for roi, mask in masks(subject).items():
        name = wrong.get(roi, roi) if subject in ("CSI2", "CSI3") else roi
        nibabel.save(nibabel.Nifti1Image(mask, np.eye(4)), folder / f"sub-{subject}_mask-{name}.nii.gz")


def write_release(root: Path, subject: str) -> None:
    """Write the ROI release: an array (n_trials, n_voxels) per ROI."""
    data = betas(subject)
    folder = root / "BOLD5000_GLMsingle_ROI_betas" / "py"
    folder.mkdir(parents=True, exist_ok=True)
    for roi, mask in masks(subject).items():
        np.save(folder / f"{subject}_{BETAS}_allses_{roi}.npy", data[mask > 0].T)


def write_captions(path: Path) -> None:
    """Write a file like COCO's: it also holds images that were not shown."""
    coco = [name for name in (*REPEATED, *SINGLE) if name.startswith("COCO")]
    images = [{"id": int(name[-16:-4]), "file_name": name} for name in (*coco, f"COCO_train2014_{7:012d}.jpg")]
    notes = [
        {"image_id": image["id"], "id": 10 * k + c, "caption": f"Caption {c} of {image['id']}. "}
        for k, image in enumerate(images)
        for c in range(2)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"info": {}, "images": images, "licenses": [], "annotations": notes}))
