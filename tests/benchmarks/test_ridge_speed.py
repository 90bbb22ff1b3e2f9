"""The ridge engine beside scikit-learn's and himalaya's, at the size of Brain-Diffuser's regressions.

    pytest tests/benchmarks/test_ridge_speed.py --benchmark-only -s

``BENCH_RIDGE_SCALE`` picks the size: ``small`` (default, seconds), ``eighth`` (all rows and voxels, 1/8 of the target
columns, 1.5 GB on disk) or ``full`` (all 347,680 columns, 14 GB on disk, up to 4 GB of memory); ``BENCH_RIDGE_THREADS``
the threads (1). Everything runs in one process, the bare matrix products too (at ``small`` before and after), and
wall-clock and processor time are both printed: on a shared machine, the ratios of the latter are the steadier ones.
"""

import math
import os
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest

from benchmark.ridge import _tiles, fit, plan
from benchmark.ridge._model import _held

PENALTIES = {"vdvae": 5e4, "vision": 6e4, "text": 1e5}
TOKEN = 768
SIZES = {
    "small": (2215, 3931, 246, {"vdvae": 5698, "vision": 32 * TOKEN, "text": 9 * TOKEN}),
    "eighth": (8859, 15724, 982, {"vdvae": 91_168 // 8, "vision": 32 * TOKEN, "text": 10 * TOKEN}),
    "full": (8859, 15724, 982, {"vdvae": 91_168, "vision": 257 * TOKEN, "text": 77 * TOKEN}),
}


class Clock:
    """Wall-clock and processor seconds by stage."""

    def __init__(self):
        self.wall, self.cpu = {}, {}

    @contextmanager
    def __call__(self, stage):
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall[stage] = self.wall.get(stage, 0) + time.perf_counter() - wall
        self.cpu[stage] = self.cpu.get(stage, 0) + time.process_time() - cpu


@contextmanager
def peak_memory():
    found, stop = [_held()], threading.Event()

    def watch():
        while not stop.wait(0.02):
            found[0] = max(found[0], _held())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield found
    stop.set()
    thread.join()


def make(path, n, t, rng, x=None):
    """Write n x t random numbers, with some signal where responses are given; map them."""
    out = np.lib.format.open_memmap(path, "w+", np.float32, (n, t))
    weights = rng.standard_normal((64, t), dtype=np.float32) if x is not None else None
    for start in range(0, n, 256):
        block = rng.standard_normal((min(256, n - start), t), dtype=np.float32)
        out[start : start + 256] = block if x is None else block + x[start : start + 256, :64] @ weights / 8
    out.flush()
    return np.load(path, mmap_mode="r")


def scored(x, test):
    mean, scale = x.mean(0), x.std(0)
    return (x - mean) / scale, (test - mean) / scale


def bare(clock, x, test, widths, tile):
    """The matrix products that cannot be avoided, on arrays in memory; the Gram matrix in full."""
    import torch

    z, z_test = (torch.from_numpy(a) for a in scored(np.array(x), np.array(test)))
    with clock("gram"):
        gram = z @ z.T
    with clock("cross"):
        cross = z_test @ z.T
    del z
    gram.diagonal().add_(5e4)
    for t in widths.values():
        with clock("cholesky"):
            factor = torch.linalg.cholesky_ex(gram)[0]
        with clock("smoother"):
            smoother = torch.cholesky_solve(cross.T, factor).T.contiguous()
        del factor
        y = torch.randn(len(gram), min(tile, t))
        out = torch.empty(len(smoother), y.shape[1])
        with clock("targets"):
            for _ in range(math.ceil(t / tile)):
                torch.mm(smoother, y, out=out)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    import torch

    scale = os.environ.get("BENCH_RIDGE_SCALE", "small")
    n, p, m, widths = SIZES[scale]
    before = torch.get_num_threads()
    torch.set_num_threads(int(os.environ.get("BENCH_RIDGE_THREADS", "1")))
    folder = tmp_path_factory.mktemp("ridge")
    rng = np.random.default_rng(0)
    x, test = (make(folder / f"{name}.npy", rows, p, rng) for name, rows in (("x", n), ("test", m)))
    targets = {name: make(folder / f"{name}.npy", n, t, rng, x) for name, t in widths.items()}
    yield scale, folder, x, test, targets
    torch.set_num_threads(before)
    for path in folder.rglob("*.npy"):
        path.unlink()


def test_engine(benchmark, made):
    from sklearn.linear_model import Ridge
    from threadpoolctl import threadpool_limits

    scale, folder, x, test, targets = made
    widths = {name: y.shape[1] for name, y in targets.items()}
    found, clock = benchmark.extra_info, Clock()
    print(f"\n{scale}: X {x.shape}, targets {widths}, {len(test)} test rows")
    planned = plan(*x.shape, widths, len(test), penalties=3, memory_limit=int(3.6e9))
    print(planned)

    rounds = 2 if scale == "small" else 1
    bare(clock, x, test, widths, planned.tile)

    def engine():
        options = {"relative": False, "memory_limit": int(4e9)}
        with peak_memory() as peak, clock("engine"):
            model = fit(x, targets, PENALTIES, **options)
            predictions = model.predict(test, folder / "out")
        found["memory_gb"] = peak[0] / 1e9
        return model, predictions

    start = _held()
    model, predictions = benchmark.pedantic(engine, rounds=1)
    if rounds == 2:
        bare(clock, x, test, widths, planned.tile)
    with clock("reading alone"):
        for y in targets.values():
            for _ in _tiles.read(y, model.plan.tile, "cpu", {}):
                pass

    print("engine: " + ", ".join(f"{k} {v:.2f} s" for k, v in model.seconds.items()))
    stages = ("gram", "cross", "cholesky", "smoother", "targets")
    print("bare products: " + ", ".join(f"{k} {clock.wall[k] / rounds:.2f} s" for k in stages))
    print("  processor time: " + ", ".join(f"{k} {clock.cpu[k] / rounds:.2f} s" for k in stages))
    files = model.seconds["waited"] + model.seconds["written"]
    wall, cpu = (sum(times[k] / rounds for k in stages) for times in (clock.wall, clock.cpu))
    found["engine_s"], found["engine_cpu_s"] = clock.wall["engine"], clock.cpu["engine"]
    found["files_s"] = files
    found["reading_alone_s"], found["reading_alone_cpu_s"] = clock.wall["reading alone"], clock.cpu["reading alone"]
    found["bare_s"], found["bare_cpu_s"] = wall, cpu
    found["to_bare"] = (clock.wall["engine"] - files) / wall
    found["to_bare_cpu"] = (clock.cpu["engine"] - clock.cpu["reading alone"]) / cpu
    found["to_bare_cpu_with_files"] = clock.cpu["engine"] / cpu
    found["memory_before_gb"], found["planned_gb"] = start / 1e9, model.plan.memory / 1e9
    del model
    print({key: float(f"{value:.3g}") for key, value in found.items()}, flush=True)

    for dtype in (np.float32, np.float64):
        z, z_test = scored(np.asarray(x, dtype), np.asarray(test, dtype))
        for name, y in targets.items():
            token = np.array(y[:, :TOKEN], dtype)
            with threadpool_limits(int(os.environ.get("BENCH_RIDGE_THREADS", "1"))), clock(f"sklearn {dtype.__name__}"):
                expected = Ridge(alpha=PENALTIES[name]).fit(z, token).predict(z_test)
            if dtype == np.float64:
                error = np.linalg.norm(predictions[name][:, :TOKEN] - expected) / np.linalg.norm(expected)
                found[f"error_{name}"] = float(error)
        del z, z_test
    fits = 1 + sum(math.ceil(t / TOKEN) for name, t in widths.items() if name != "vdvae")
    found["sklearn_fits"] = fits
    for dtype in ("float32", "float64"):
        each = clock.wall[f"sklearn {dtype}"] / 3, clock.cpu[f"sklearn {dtype}"] / 3
        found[f"sklearn_{dtype}_token_s"], found[f"sklearn_{dtype}_token_cpu_s"] = each
        found[f"ratio_{dtype}"] = each[0] * fits / clock.wall["engine"]
        found[f"ratio_{dtype}_cpu"] = each[1] * fits / clock.cpu["engine"]
    print(f"scikit-learn: 3 tokens measured, extrapolated to {fits} fits; all of VDVAE counted as one token's fit")
    for key, value in found.items():
        print(f"{key:28s} {value:.3g}")
    assert max(found[f"error_{name}"] for name in targets) <= 1e-4
    assert found["memory_gb"] <= 4


def test_half_the_memory(benchmark, made):
    scale, folder, x, _, targets = made
    test = np.load(folder / "test.npy", mmap_mode="r")
    limit = {"small": _held() + int(1.6e8)}.get(scale, int(2e9))
    kept = {name: np.load(folder / "out" / f"{name}.npy", mmap_mode="r") for name in targets}

    def engine():
        with peak_memory() as peak:
            model = fit(x, targets, PENALTIES, relative=False, memory_limit=limit)
            predictions = model.predict(test, folder / "half")
        benchmark.extra_info.update(memory_gb=peak[0] / 1e9, limit_gb=limit / 1e9, **model.seconds)
        print(f"\n{model.plan}, factors kept: {model.plan.keep}; {benchmark.extra_info}")
        return predictions

    predictions = benchmark.pedantic(engine, rounds=1)
    for name in targets:
        np.testing.assert_allclose(predictions[name][:, :TOKEN], kept[name][:, :TOKEN], atol=2e-5)
    assert benchmark.extra_info["memory_gb"] <= limit / 1e9


def test_himalaya_one_token(benchmark, made):
    """himalaya's kernel ridge on one vision token, in float32; compare with ``sklearn_float32_token_s``."""
    backend = pytest.importorskip("himalaya.backend")
    from himalaya.kernel_ridge import KernelRidge

    _, folder, x, test, targets = made
    backend.set_backend("torch")
    z, z_test = scored(np.asarray(x), np.asarray(test))
    token = np.array(targets["vision"][:, :TOKEN])
    mean = token.mean(0)

    def one():
        cpu = time.process_time()
        found = KernelRidge(alpha=PENALTIES["vision"], kernel="linear").fit(z, token - mean).predict(z_test)
        benchmark.extra_info["cpu_s"] = time.process_time() - cpu
        return found.numpy() + mean

    found = benchmark.pedantic(one, rounds=1)
    ours = np.load(folder / "out" / "vision.npy", mmap_mode="r")[:, :TOKEN]
    benchmark.extra_info["difference"] = float(np.linalg.norm(found - ours) / np.linalg.norm(ours))
    print(f"\nhimalaya, one token: {benchmark.extra_info}")
    assert benchmark.extra_info["difference"] < 1e-2
