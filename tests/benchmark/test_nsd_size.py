"""Memory of bench data prepare nsd at real size, and that it does not grow with sessions; figures are printed (-s)."""

import subprocess
import sys

import numpy as np
import pytest

from tests.helpers.make_nsd import REAL_SHAPE, REAL_VOXELS, make_nsd, write_real_size

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc"),
]
LIMIT = 2.5e9

# A thread of the process polls its RssAnon + RssShmem.
PROGRAM = """
import sys, threading
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
prepare(Request("subj01", Source(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
done.set()
thread.join()
print(peak)
"""


def peak(tree, out, n_sessions):
    """Return the peak memory, in bytes, of preparing in a process of its own."""
    command = [sys.executable, "-c", PROGRAM, tree, out, str(n_sessions)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_two_sessions_of_real_size(tmp_path):
    tree = make_nsd(tmp_path / "tree", n_sessions=0, shape=REAL_SHAPE, n_voxels=REAL_VOXELS, captions=None)
    sizes = [write_real_size(tree, "subj01", session).stat().st_size for session in (1, 2)]
    found = peak(tree, tmp_path / "out", 2)
    assert np.load(tmp_path / "out/subj01/betas.npy", mmap_mode="r").shape == (1500, REAL_VOXELS)
    print(f"\ntwo sessions of {sizes[0] / 1e6:.0f} MB gzipped, 1049 MB unpacked: peak {found / 1e6:.0f} MB")
    assert found <= LIMIT


def test_memory_does_not_grow_with_the_number_of_sessions(tmp_path):
    # 8400 voxels: a session is 25 MB once prepared, so that keeping sessions would show at once
    tree = make_nsd(tmp_path / "tree", n_sessions=20, shape=(35, 30, 20), captions=None)
    few, many = peak(tree, tmp_path / "few", 3), peak(tree, tmp_path / "many", 20)
    n_voxels = np.load(tmp_path / "few/subj01/betas.npy", mmap_mode="r").shape[1]
    added = 17 * 750 * n_voxels * 4
    print(f"\npeak with 3 sessions {few / 1e6:.0f} MB, with 20 {many / 1e6:.0f} MB; 17 more hold {added / 1e6:.0f} MB")
    assert many - few < added / 10
