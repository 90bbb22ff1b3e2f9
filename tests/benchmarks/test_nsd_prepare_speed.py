"""bench data prepare nsd beside merely decompressing and reading the same files (pytest --benchmark-only -s)."""

import gzip
import time
from functools import partial

from benchmark.data.nsd_prepare import Request, prepare
from benchmark.data.source import Source
from tests.helpers.make_nsd import REAL_SHAPE, REAL_VOXELS, make_nsd, write_real_size

ROUNDS = 3


def merely_read(paths):
    for path in paths:
        with gzip.open(path) as file:
            while file.read(1 << 25):
                pass


def timed(function):
    """Return seconds on the clock and of this process."""
    began = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - began[0], time.process_time() - began[1]


def test_prepare_beside_merely_reading(benchmark, tmp_path):
    tree = make_nsd(tmp_path / "tree", n_sessions=0, shape=REAL_SHAPE, n_voxels=REAL_VOXELS, captions=None)
    paths = [write_real_size(tree, "subj01", session) for session in (1, 2)]
    merely_read(paths)  # a warm page cache for both
    rounds = []

    def both():  # side by side, so that a busy machine slows both
        out = tmp_path / f"out{len(rounds)}"
        plain = timed(partial(merely_read, paths))
        rounds.append((plain, timed(partial(prepare, Request("subj01", Source(tree), out, 2)))))

    benchmark.pedantic(both, rounds=ROUNDS)
    ratios = sorted(whole[0] / plain[0] for plain, whole in rounds)
    of_process = sorted(whole[1] / plain[1] for plain, whole in rounds)
    for plain, whole in rounds:
        print(f"\na session: {whole[0] / 2:.2f} s ({whole[1] / 2:.2f} s of the process), ", end="")
        print(f"merely read {plain[0] / 2:.2f} s ({plain[1] / 2:.2f} s)", end="")
    print(f"\nratio {ratios[1]:.2f} on the clock, {of_process[1]:.2f} of the process's time")
    benchmark.extra_info["ratio"] = ratios[1]
    assert ratios[1] <= 1.3
