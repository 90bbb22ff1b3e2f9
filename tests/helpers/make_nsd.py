"""Small files in NSD's own layout, and a local server for them."""

from __future__ import annotations

import gzip
import http.server
import io
import json
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import h5py
import nibabel
import numpy as np
from scipy.io import savemat

SHAPE = (7, 6, 5)
REAL_SHAPE, REAL_VOXELS = (81, 104, 83), 15724  # subj01
BETAS = "nsddata_betas/ppdata/{}/func1pt8mm/betas_fithrf_GLMdenoise_RR"
ROI = "nsddata/ppdata/{}/func1pt8mm/roi"
BRICK = "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"


def make_nsd(
    root: Path,
    *,
    subjects: Sequence[str] = ("subj01",),
    n_sessions: int = 2,
    form: str = ".nii.gz",
    shape: tuple[int, int, int] = SHAPE,
    n_voxels: int | None = None,
    n_shared: int = 10,
    n_unshared: int = 50,
    side: int = 16,
    captions: str | None = "curated",
    seed: int = 0,
) -> Path:
    """Write the tree of a small NSD and return its folder.

    The design has its full size but shows ``n_shared + n_unshared`` pictures again and again. Betas are
    a linear function of a picture's mean colours, plus noise.
    """
    rng = np.random.default_rng(seed)
    pictures = rng.permutation(73000)  # 1000 shared ones and 9000 for each of eight subjects are all of them
    shared = np.sort(pictures[:1000])
    images = np.stack([np.concatenate([shared, own]) for own in pictures[1000:].reshape(8, 9000)])
    shown = np.concatenate([np.arange(n_shared), 1000 + np.arange(n_unshared)])
    order = np.concatenate([rng.permutation(shown) for _ in range(-(-30000 // len(shown)))])[:30000]
    design = {"masterordering": order[None] + 1, "subjectim": images + 1, "sharedix": shared[None] + 1}
    (root / "nsddata/experiments/nsd").mkdir(parents=True)
    savemat(root / "nsddata/experiments/nsd/nsd_expdesign.mat", {k: v.astype(float) for k, v in design.items()})
    numbers = [int(s[4:]) - 1 for s in subjects]
    used = np.unique(images[numbers][:, shown])
    colours = np.zeros((73000, 3), np.uint8)
    colours[used] = rng.integers(20, 236, (len(used), 3))
    _pictures(root / BRICK, used, colours, side, rng)
    _captions(root, captions, used)
    for number, subject in zip(numbers, subjects, strict=True):
        _volumes(root, subject, shape, n_voxels, rng)
        weights = rng.standard_normal((3, int(np.prod(shape))))
        for session in range(n_sessions):
            seen = images[number, order[session * 750 : (session + 1) * 750]]
            betas = (colours[seen] / 128.0 - 1) @ weights + 0.3 * rng.standard_normal((750, int(np.prod(shape))))
            stored = np.rint(300 * betas).astype(np.int16).reshape(750, *shape[::-1])
            write_session(root, subject, session + 1, stored, form)
    return root


def write_session(root: Path, subject: str, session: int, betas: np.ndarray, form: str, **options) -> Path:
    """Write betas (trials, z, y, x) of a session in NSD's NIfTI or HDF5 form."""
    path = root / BETAS.format(subject) / f"betas_session{session:02d}{form}"
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == ".hdf5":
        with h5py.File(path, "w") as file:
            file.create_dataset("betas", data=betas, **options)
    else:
        nibabel.Nifti1Image(betas.transpose(3, 2, 1, 0), np.diag([1.8, 1.8, 1.8, 1])).to_filename(path)
    return path


def write_real_size(root: Path, subject: str, session: int) -> Path:
    """Write a gzipped session of real size: 750 trials of 81 x 104 x 83 int16, zero outside a brain of two fifths.

    Twenty-five trials are compressed once and repeated, a gzip file of several members, so that it is made fast.
    """
    rng = np.random.default_rng(session)
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((*REAL_SHAPE, 750))
    header["magic"], header["vox_offset"] = b"n+1", 352
    volumes = np.zeros((25, int(np.prod(REAL_SHAPE))), np.int16)
    brain = slice(0, volumes.shape[1] * 2 // 5)
    volumes[:, brain] = 400 * rng.standard_normal(volumes[:, brain].shape, np.float32)
    path = root / BETAS.format(subject) / f"betas_session{session:02d}.nii.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(gzip.compress(header.binaryblock + bytes(4)))
        member = gzip.compress(volumes.tobytes(), 1)
        for _ in range(30):
            file.write(member)
    return path


def _volumes(root: Path, subject: str, shape: tuple[int, int, int], n_voxels: int | None, rng) -> None:
    general = rng.choice([-1, 0, 1], size=shape, p=[0.3, 0.3, 0.4])
    if n_voxels is not None:  # together, as a cortex is
        general = np.where(np.arange(general.size).reshape(shape, order="F") < n_voxels, 1, -1)
    codes = {"prf-visualrois": 7, "floc-faces": 5, "floc-bodies": 3, "floc-places": 3, "floc-words": 5, "streams": 7}
    volumes = {"nsdgeneral": general} | {name: rng.integers(-1, n + 1, shape) for name, n in codes.items()}
    for name, volume in volumes.items():
        save_volume(root / ROI.format(subject) / f"{name}.nii.gz", volume.astype(np.int16))
    save_volume(root / BETAS.format(subject) / "ncsnr.nii.gz", rng.random(shape).astype(np.float32))


def save_volume(path: Path, volume: np.ndarray) -> None:
    """Write a volume as NIfTI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(volume, np.diag([1.8, 1.8, 1.8, 1])).to_filename(path)


def _pictures(path: Path, used: np.ndarray, colours: np.ndarray, side: int, rng: np.random.Generator) -> None:
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        brick = file.create_dataset("imgBrick", (73000, side, side, 3), np.uint8, chunks=(1, side, side, 3))
        for row in used:
            brick[row] = colours[row] + rng.integers(-20, 20, (side, side, 3))


def _captions(root: Path, kind: str | None, used: np.ndarray) -> None:
    texts = np.full((73000, 5), "", "U32")
    for row in used:
        texts[row] = f"picture {row}", "", f"a thing of number {row}", "  ", f"number {row}"
    if kind == "curated":
        np.save(root / "COCO_73k_annots_curated.npy", texts)
    elif kind == "coco":
        lines = [f"{row},{500000 + row},train2017,{row}" for row in range(73000)]
        table = "\n".join([",cocoId,cocoSplit,nsdId", *lines])
        (root / "nsddata/experiments/nsd/nsd_stim_info_merged.csv").write_text(table)
        (root / "nsddata_stimuli/stimuli/nsd/annotations").mkdir(parents=True)
        for part, name in enumerate(("train", "val")):
            items = [
                {"image_id": 500000 + row, "id": k, "caption": text}
                for row in used[part::2].tolist()
                for k, text in enumerate(texts[row].tolist())
            ]
            path = root / f"nsddata_stimuli/stimuli/nsd/annotations/captions_{name}2017.json"
            path.write_text(json.dumps({"annotations": items}))


class _Ranges(http.server.SimpleHTTPRequestHandler):
    """Serves files, and parts of them, and remembers what was asked for."""

    def __init__(self, *arguments, asked: list[str], **options) -> None:
        self.asked = asked
        super().__init__(*arguments, **options)

    def send_head(self):
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return None
        size = path.stat().st_size
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first, last = (int(span[1]), min(int(span[2] or size - 1), size - 1)) if span else (0, size - 1)
        self.asked.append(f"{self.command} {path.name} {last + 1 - first}")
        self.send_response(206 if span else 200)
        self.send_header("Content-Length", str(last + 1 - first))
        self.send_header("Accept-Ranges", "bytes")
        if span:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.end_headers()
        with path.open("rb") as file:
            file.seek(first)
            return io.BytesIO(file.read(last + 1 - first))

    def log_message(self, *arguments) -> None:
        pass


@contextmanager
def served(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve a folder on this machine; yields its URL and a growing list of what was asked for."""
    asked: list[str] = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Ranges, directory=root, asked=asked))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
