"""PixCorr and SSIM against scikit-image, torchmetrics, numpy and closed forms."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from skimage.color import rgb2gray
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure

from metrics import images
from metrics.images import constant_pictures, pixcorr, ssim, ssim_columns

SIZES = [(11, 11, 1), (28, 28, 1), (11, 40, 3), (37, 26, 3), (64, 64, 3), (90, 75, 3)]


def pictures(n, height, width, channels, seed=0):
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.standard_normal((n, height, width, channels)), (0, 2, 2, 0))
    true = 255 * (smooth - smooth.min()) / np.ptp(smooth)
    predicted = np.clip(0.7 * true + 20 + 15 * rng.standard_normal(true.shape), 0, 255)
    return true.astype(np.uint8), predicted.astype(np.uint8)


def grey(picture):
    picture = picture / 255.0
    return rgb2gray(picture) if picture.shape[-1] == 3 else picture[..., 0]


def naive_ssim(true, predicted):
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
    return [structural_similarity(grey(t), grey(p), **options) for t, p in zip(true, predicted, strict=True)]


@pytest.mark.parametrize("size", SIZES)
def test_ssim_equals_scikit_image(size):
    true, predicted = pictures(6, *size)
    predicted[1] = 255 - true[1]
    predicted[2] = predicted[2] // 64  # dark and nearly flat
    true[3] = predicted[3] = 255
    predicted[3, :3] = 254  # bright and nearly flat: the hardest case for float32
    true[4], predicted[4] = 0, 255
    np.testing.assert_allclose(ssim(true, predicted), naive_ssim(true, predicted), atol=2e-6)


def test_ssim_equals_torchmetrics():
    true, predicted = pictures(5, 40, 52, 1)
    tensors = (torch.tensor(x[..., 0] / 255.0)[:, None] for x in (predicted, true))
    _, full = structural_similarity_index_measure(*tensors, sigma=1.5, data_range=1.0, return_full_image=True)
    # torchmetrics also averages the border, where its window sees padding
    expected = full[..., 5:-5, 5:-5].mean(dim=(1, 2, 3)).numpy()
    np.testing.assert_allclose(ssim(true, predicted), expected, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_pixcorr_equals_numpy(size):
    true, predicted = pictures(6, *size)
    predicted[1] = 255 - true[1]
    expected = [np.corrcoef(t.ravel(), p.ravel())[0, 1] for t, p in zip(true, predicted, strict=True)]
    np.testing.assert_allclose(pixcorr(true, predicted), expected, atol=1e-12)
    assert pixcorr(true, predicted)[1] == pytest.approx(-1)


@pytest.mark.parametrize("function", [pixcorr, ssim])
def test_blocks_change_nothing(function, monkeypatch):
    true, predicted = pictures(7, 20, 30, 3)
    expected = function(true, predicted)
    monkeypatch.setattr(images, "_BLOCK", 1200)
    np.testing.assert_allclose(function(true, predicted), expected, atol=1e-7)
    monkeypatch.setattr(images, "_TILE", 3)
    np.testing.assert_allclose(function(true, predicted), expected, atol=1e-7)
    assert function(true[:1], predicted[:1])[0] == pytest.approx(expected[0], abs=1e-7)


@pytest.mark.parametrize("size", [(1, 1, 3), (6, 30, 3), *SIZES])
def test_perfect_is_one_and_constant_pictures_follow_the_rule(size):
    true, _ = pictures(4, *size)
    true[:, 0, 0], true[:, -1, -1] = 0, 255
    np.testing.assert_allclose(ssim(true, true), 1, atol=1e-7)
    if true[0].size > 3:
        np.testing.assert_allclose(pixcorr(true, true), 1)
    flat = np.full_like(true, 93)
    assert (pixcorr(true, flat) == 0).all()
    assert (pixcorr(flat, flat) == 0).all()
    assert constant_pictures(true, flat).all()
    np.testing.assert_allclose(ssim(flat, flat), 1, atol=1e-7)


def test_ssim_of_two_flat_pictures_is_the_luminance_term():
    black, grey_level = np.zeros((1, 12, 12, 3), np.uint8), np.full((1, 12, 12, 3), 128, np.uint8)
    level = 128 / 255
    assert ssim(black, grey_level)[0] == pytest.approx(1e-4 / (level**2 + 1e-4), rel=1e-5)


@pytest.mark.parametrize(("size", "times"), [((10, 10, 1), 2), ((5, 40, 3), 4), ((8, 12, 3), 2), ((1, 1, 1), 16)])
def test_ssim_of_pictures_smaller_than_the_window_repeats_pixels(size, times):
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(0, 256, (2, 3, *size), dtype=np.uint8)
    larger = (x.repeat(times, axis=1).repeat(times, axis=2) for x in (true, predicted))
    np.testing.assert_allclose(ssim(true, predicted), naive_ssim(*larger), atol=2e-6)


def test_constant_pictures_are_named():
    true, predicted = pictures(3, 12, 12, 3)
    true[0], predicted[2] = 17, 0
    assert constant_pictures(true, predicted).tolist() == [True, False, True]
    # one constant per channel is not one constant value
    predicted[2] = [0, 10, 20]
    assert constant_pictures(true, predicted).tolist() == [True, False, False]


def test_read_only_and_strided_pictures_are_left_alone():
    true, predicted = pictures(4, 14, 15, 3)
    expected = ssim(true, predicted), pixcorr(true, predicted)
    channels_first = (np.ascontiguousarray(x.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1) for x in (true, predicted))
    strided = list(channels_first)
    for array in strided:
        array.flags.writeable = False
    np.testing.assert_allclose(ssim(*strided), expected[0], atol=1e-7)
    np.testing.assert_allclose(pixcorr(*strided), expected[1], atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 5),
    st.integers(1, 24),
    st.integers(1, 24),
    st.sampled_from([1, 3]),
    st.sampled_from([2, 256]),
)
def test_range_symmetry_and_joint_permutation(seed, n, height, width, channels, levels):
    rng = np.random.default_rng(seed)
    true, predicted = rng.integers(0, levels, (2, n, height, width, channels), dtype=np.uint8) * (255 // (levels - 1))
    true, predicted = true.astype(np.uint8), predicted.astype(np.uint8)
    order = rng.permutation(n)
    for function in (pixcorr, ssim):
        values = function(true, predicted)
        assert values.shape == (n,)
        assert (np.abs(values) <= 1).all()
        np.testing.assert_allclose(function(predicted, true), values, atol=1e-6)
        np.testing.assert_allclose(function(true[order], predicted[order]), values[order], atol=1e-6)


def areas(kind, rng, side=150):
    """A grey picture of the kind whose areas of one value make float32 rounding add up."""
    if kind == "photograph":
        f = np.fft.fftfreq(side)[:, None] ** 2 + np.fft.fftfreq(side) ** 2 + 1e-4
        x = np.fft.ifft2(np.fft.fft2(rng.standard_normal((side, side))) / f**0.55).real
        return np.clip(128 + 50 * x / x.std(), 0, 255).astype(np.uint8)
    if kind == "one value":
        return np.full((side, side), rng.integers(2, 256), np.uint8)
    levels = rng.choice([0, 255] if kind == "black and white" else np.arange(256), (5, 5))
    return levels.repeat(side // 5, axis=0).repeat(side // 5, axis=1).astype(np.uint8)


KINDS = ["photograph", "one value", "black and white", "levels"]


@pytest.mark.parametrize("first", KINDS)
@pytest.mark.parametrize("second", KINDS)
@pytest.mark.parametrize("function", [ssim, ssim_columns])
def test_float32_is_good_to_5e_6_on_areas_of_one_value_too(first, second, function):
    rng = np.random.default_rng(0)
    true, predicted = (np.stack([areas(kind, rng) for _ in range(6)])[..., None] for kind in (first, second))
    exact = function(true / 255, predicted / 255)
    np.testing.assert_allclose(function(true, predicted), exact, atol=3e-6)
    single = (x / np.float32(255) for x in (true, predicted))
    np.testing.assert_allclose(function(*single), exact, atol=3e-6)


@pytest.mark.parametrize("function", [pixcorr, ssim])
def test_falls_with_noise(function):
    rng = np.random.default_rng(0)
    true, _ = pictures(20, 32, 32, 3)
    noise = rng.standard_normal(true.shape)
    noisy = [np.clip(true + s * noise, 0, 255).astype(np.uint8) for s in (0, 10, 40, 120)]
    assert (np.diff([function(true, p).mean() for p in noisy]) < 0).all()
