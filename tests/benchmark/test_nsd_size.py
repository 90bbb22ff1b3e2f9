"""bench data prepare nsd at real size: memory, its growth with sessions, and time beside merely reading the files.

Figures are printed (pytest -s).
"""

import gzip
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.helpers.make_nsd import BETAS, make_nsd

REAL = (81, 104, 83)
LIMIT = 2.5e9

# The peak of RssAnon + RssShmem is polled by the process itself; a second thread reads the numbers of the kernel.
PROGRAM = """
import sys, threading, time
from pathlib import Path

def used():
    fields = dict(line.split(":") for line in open("/proc/self/status"))
    return sum(int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssShmem"))

peak, done = 0, threading.Event()

def watch():
    global peak
    while not done.wait(0.01):
        peak = max(peak, used())

thread = threading.Thread(target=watch)
thread.start()
from benchmark.data.nsd_prepare import Request, Source, prepare
began = {}
seconds = {}

def report(label, number, total):
    began.setdefault(label, time.perf_counter())
    seconds[label] = time.perf_counter() - began[label]

prepare(Request("subj01", Source(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])), report)
done.set()
thread.join()
print(peak, seconds["sessions"])
"""


def prepared(tree, out, n_sessions):
    """Prepare in a process of its own; returns its peak memory in bytes and the seconds the sessions took."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tree, out, str(n_sessions)], capture_output=True, text=True, check=True
    )
    peak, seconds = done.stdout.split()
    return int(peak), float(seconds)


def real_size(tree, n_sessions):
    """Replace the sessions by ones of real size: int16, gzipped, of little entropy so that they are made fast."""
    rng = np.random.default_rng(0)
    volume = np.prod(REAL)
    header = None
    for session in range(1, n_sessions + 1):
        path = tree / BETAS.format("subj01") / f"betas_session{session:02d}.nii.gz"
        import nibabel

        if header is None:
            header = nibabel.Nifti1Header()
            header.set_data_dtype(np.int16)
            header.set_data_shape((*REAL, 750))
            header["magic"], header["vox_offset"] = b"n+1", 352
        path.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(path, "wb", compresslevel=1) as file:
            file.write(header.binaryblock + bytes(4))
            for _ in range(750):
                file.write(rng.integers(-128, 128, volume, dtype=np.int8).astype(np.int16).tobytes())


def merely_read(tree, n_sessions):
    """Decompress and read the same files; returns seconds."""
    began = time.perf_counter()
    for session in range(1, n_sessions + 1):
        with gzip.open(tree / BETAS.format("subj01") / f"betas_session{session:02d}.nii.gz") as file:
            while file.read(1 << 25):
                pass
    return time.perf_counter() - began


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_two_sessions_of_real_size(tmp_path):
    tree = make_nsd(tmp_path / "tree", n_sessions=0, shape=REAL, captions=None)
    real_size(tree, 2)
    rounds = []
    for number in range(3):  # side by side, so that a busy machine slows both
        plain = merely_read(tree, 2)
        peak, seconds = prepared(tree, tmp_path / f"out{number}", 2)
        rounds.append((seconds / plain, seconds, plain, peak))
    ratio, seconds, plain, _ = sorted(rounds)[1]
    peak = max(r[3] for r in rounds)
    size = os.path.getsize(tree / BETAS.format("subj01") / "betas_session01.nii.gz")
    print(
        f"\nper session ({size / 1e6:.0f} MB gzipped): {seconds / 2:.1f} s, merely read {plain / 2:.1f} s, "
        f"ratio {ratio:.2f} (rounds {', '.join(f'{r[0]:.2f}' for r in rounds)}), peak {peak / 1e9:.2f} GB"
    )
    assert peak <= LIMIT
    assert ratio <= 1.3


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow_with_the_number_of_sessions(tmp_path):
    # 8400 voxels: a session is 25 MB once prepared, so that keeping sessions would show at once
    tree = make_nsd(tmp_path / "tree", n_sessions=20, shape=(35, 30, 20), captions=None)
    few, many = prepared(tree, tmp_path / "few", 3)[0], prepared(tree, tmp_path / "many", 20)[0]
    n_voxels = np.load(tmp_path / "few/subj01/betas.npy", mmap_mode="r").shape[1]
    added = 17 * 750 * n_voxels * 4
    print(f"\npeak with 3 sessions {few / 1e6:.0f} MB, with 20 {many / 1e6:.0f} MB; 17 more are {added / 1e6:.0f} MB")
    assert many - few < added / 10
