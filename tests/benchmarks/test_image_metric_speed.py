"""SSIM and PixCorr of 982 pairs of 425 x 425 x 3 against a loop over pictures, both from the same uint8.

pytest tests/benchmarks/test_image_metric_speed.py --benchmark-only
"""

import time

import numpy as np
import pytest
from skimage.color import rgb2gray
from skimage.metrics import structural_similarity

from metrics.images import pixcorr, ssim

N, SIDE = 982, 425
OPTIONS = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
_seconds = {}


def photographs(rng, n=20):
    """Pictures with the spectrum of photographs, uint8."""
    f = np.fft.fftfreq(SIDE)[:, None] ** 2 + np.fft.fftfreq(SIDE) ** 2 + 1e-5
    grey = np.fft.ifft2(np.fft.fft2(rng.standard_normal((n, SIDE, SIDE))) / f**0.55).real
    colours = grey[..., None] + 0.3 * np.roll(grey, 1, axis=0)[..., None] * [1, 0, -1]
    return np.clip(128 + 50 * colours / colours.std(), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    base = photographs(rng)
    true = np.empty((N, SIDE, SIDE, 3), np.uint8)
    for i, picture in enumerate(true):
        picture[:] = np.roll(base[i % len(base)], 31 * i, axis=(0, 1))
    return true, (true // 2 + np.roll(true, 7, axis=1) // 2)


def both(true, predicted):
    return pixcorr(true, predicted), ssim(true, predicted)


def loop(true, predicted):
    values = []
    for t, p in zip(true, predicted, strict=True):
        t, p = t / 255.0, p / 255.0
        similarity = structural_similarity(rgb2gray(t), rgb2gray(p), **OPTIONS)
        values.append([np.corrcoef(t.reshape(1, -1), p.reshape(1, -1))[0, 1], similarity])
    return np.transpose(values)


def timed(benchmark, function, pair, rounds, warmup_rounds=0):
    def call(*arguments):
        began, busy = time.perf_counter(), time.process_time()
        values = function(*arguments)
        seconds.append(time.perf_counter() - began)
        cpu.append(time.process_time() - busy)
        return values

    seconds, cpu = [], []
    values = benchmark.pedantic(call, pair, rounds=rounds, warmup_rounds=warmup_rounds)
    benchmark.extra_info["cpu_seconds"] = round(min(cpu), 2)  # on a busy machine this says more
    return values, min(seconds)


@pytest.mark.benchmark(group="SSIM and PixCorr, 982 pairs of 425 x 425 x 3")
def test_loop_over_pictures(benchmark, pair):
    _seconds["expected"], _seconds["loop"] = timed(benchmark, loop, pair, rounds=1)
    print(_seconds["loop"], benchmark.extra_info)


@pytest.mark.benchmark(group="SSIM and PixCorr, 982 pairs of 425 x 425 x 3")
def test_whole_matrix(benchmark, pair):
    _compare(benchmark, pair)


@pytest.mark.benchmark(group="SSIM and PixCorr, 982 pairs of 425 x 425 x 3")
def test_whole_matrix_of_pictures_with_areas_of_one_value(benchmark, pair):
    """The slow case: all is filtered in float64."""
    pair[0][:, :120], pair[1][:, :120] = 255, 255
    _seconds.pop("expected", None)
    _compare(benchmark, pair)


def _compare(benchmark, pair):
    values, seconds = timed(benchmark, both, pair, rounds=3, warmup_rounds=1)
    target = np.empty_like(pair[0])
    copies = []
    for _ in range(3):
        began = time.perf_counter()
        np.copyto(target, pair[0])
        copies.append(time.perf_counter() - began)
    bandwidth = 2 * target.nbytes / min(copies)  # one core reads and writes
    read = 2 * sum(x.nbytes for x in pair)  # each of the two metrics reads both sides
    benchmark.extra_info["GB_per_s_of_input"] = round(read / seconds / 1e9, 2)
    benchmark.extra_info["GB_per_s_of_a_copy"] = round(bandwidth / 1e9, 2)
    benchmark.extra_info["share_of_bandwidth"] = round(read / seconds / bandwidth, 3)
    if "loop" in _seconds:
        if "expected" in _seconds:
            np.testing.assert_allclose(values, _seconds["expected"], atol=5e-6)
        benchmark.extra_info["times_faster_than_the_loop"] = round(_seconds["loop"] / seconds, 2)
    print(seconds, benchmark.extra_info)
