"""The published protocols against naive references written from their definitions, and their way through scoring."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.distance import correlation
from skimage.color import rgb2gray
from skimage.metrics import structural_similarity
from torchvision.transforms import InterpolationMode, Resize

from benchmark.api import Predictions, Stimuli
from benchmark.data.prepare import TestItems
from benchmark.frozen import Source
from benchmark.pretrained import hub
from benchmark.pretrained.perceptual import build
from benchmark.scoring import Part, score
from benchmark.suites import NATURAL, Track
from metrics.identification import two_way, two_way_strict
from metrics.images import ssim, ssim_columns
from metrics.table import METRICS
from metrics.vectors import correlation_distance, squared_distance

PUBLISHED = ("brain-diffuser", "mindeye")
OPTIONS = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}


def pictures(n, side, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (n, 9, 9, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(x).resize((side, side), Image.Resampling.BICUBIC)) for x in coarse])


def pair(n=3, true_side=425, predicted_side=512):
    true = pictures(n, true_side)
    noise = pictures(n, predicted_side, seed=1)
    near = [np.asarray(Image.fromarray(x).resize((predicted_side, predicted_side))) for x in true]
    predicted = (0.6 * np.stack(near) + 0.4 * noise).astype(np.uint8)
    predicted[0] = noise[0]
    return true, predicted


def columns_ssim(x, y):
    """One-dimensional SSIM of every column of two grey pictures, one after the other."""
    values = []
    for a, b in zip(x.T, y.T, strict=True):
        u, v, uu, vv, uv = (
            gaussian_filter1d(z, 1.5, truncate=3.5, mode="reflect") for z in (a, b, a * a, b * b, a * b)
        )
        c1, c2 = 0.01**2, 0.03**2
        s = (2 * u * v + c1) * (2 * (uv - u * v) + c2) / ((u * u + v * v + c1) * (uu - u * u + vv - v * v + c2))
        values.append(s[5:-5].mean())
    return np.mean(values)


def naive(protocol, name, true, predicted):
    """One picture at a time in float64, as the public scripts do it."""
    values = []
    for t, p in zip(true, predicted, strict=True):
        if protocol == "brain-diffuser":
            t, p = (np.array(Image.fromarray(x).resize((425, 425))) / 255.0 for x in (t, p))
        else:
            x = [torch.from_numpy(x).permute(2, 0, 1).double() / 255 for x in (t, p)]
            for side in (256, 425):
                x = [Resize((side, side), InterpolationMode.BILINEAR, antialias=False)(z) for z in x]
            t, p = (z.permute(1, 2, 0).numpy() for z in x)
        if name == "pixcorr":
            values.append(np.corrcoef(t.reshape(1, -1), p.reshape(1, -1))[0, 1])
        elif protocol == "brain-diffuser":
            values.append(columns_ssim(rgb2gray(p), rgb2gray(t)))
        else:
            values.append(structural_similarity(rgb2gray(p), rgb2gray(t), **OPTIONS))
    return np.array(values)


@pytest.mark.parametrize("protocol", PUBLISHED)
@pytest.mark.parametrize("name", ["pixcorr", "ssim"])
@pytest.mark.parametrize("sides", [(425, 512), (128, 64)])
def test_pixel_metrics_equal_the_naive_reference(protocol, name, sides):
    true, predicted = pair(3, *sides)
    function = METRICS[f"{name}[{protocol}]"].function
    expected = naive(protocol, name, true, predicted)
    np.testing.assert_allclose(function(true, predicted), expected, atol=5e-6)
    double = (x.astype(np.float64) / 255 for x in (true, predicted))
    np.testing.assert_allclose(function(*double), expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_both_kinds_of_ssim_equal_scikit_image(dtype):
    true, predicted = pair(3, 60, 60)
    true[2], predicted[2] = 250, 251
    grey = [[rgb2gray(z / 255.0) for z in x] for x in (true, predicted)]
    given = [x if dtype == np.uint8 else (x / 255.0).astype(dtype) for x in (true, predicted)]
    atol = 1e-6 if dtype == np.float64 else 5e-6
    two = [structural_similarity(a, b, **OPTIONS) for a, b in zip(*grey, strict=True)]
    one = [structural_similarity(a, b, channel_axis=-1, **OPTIONS) for a, b in zip(*grey, strict=True)]
    np.testing.assert_allclose(ssim(*given), two, atol=atol)
    np.testing.assert_allclose(ssim_columns(*given), one, atol=atol)
    assert np.abs(np.subtract(one, two)).max() > 0.01  # the two are not the same metric


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_strict_two_way_counts_as_the_published_loop(dtype):
    rng = np.random.default_rng(0)
    true = rng.integers(-2, 3, (12, 40)).astype(dtype)
    predicted = true + rng.integers(-2, 3, (12, 40)).astype(dtype)
    true[5], true[9], predicted[7] = true[4], 3, 0.5  # duplicates and constants
    predicted[8] = predicted[6]
    with np.errstate(invalid="ignore"):
        r = np.nan_to_num(np.corrcoef(true.astype(np.float64), predicted.astype(np.float64))[:12, 12:])
    r = r.round(13)
    expected = [np.mean([r[i, j] < r[j, j] for i in range(12) if i != j]) for j in range(12)]
    np.testing.assert_allclose(two_way_strict(true, predicted), expected, atol=1e-12)
    ties = [np.mean([r[i, j] == r[j, j] for i in range(12) if i != j]) for j in range(12)]
    np.testing.assert_allclose(two_way(true, predicted), np.add(expected, np.array(ties) / 2), atol=1e-12)
    assert (two_way_strict(true, np.ones_like(true)) == 0).all()
    assert max(ties) > 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_distances_equal_scipy(dtype):
    rng = np.random.default_rng(0)
    true, predicted = rng.standard_normal((2, 9, 50)).astype(dtype)
    pairs = list(zip(true.astype(np.float64), predicted.astype(np.float64), strict=True))
    np.testing.assert_allclose(correlation_distance(true, predicted), [correlation(*p) for p in pairs], atol=1e-12)
    np.testing.assert_allclose(squared_distance(true, predicted), [((a - b) ** 2).sum() for a, b in pairs])
    assert correlation_distance(true, np.ones_like(true)).tolist() == [1.0] * 9


def part(true, predicted):
    n = len(true)
    ids = np.array([f"i{k}" for k in range(n)])
    items = TestItems(ids, np.arange(n), *np.repeat([["S1"], ["all"], ["all"]], n, axis=1))
    return Part("fold", items, Stimuli(ids=ids, images=true), Predictions(images=predicted))


def test_published_protocols_get_pictures_as_predicted_and_bench_1_at_the_stimulus_size():
    true, predicted = pair(4, 64, 96)
    names = ("pixcorr", "ssim", "pixcorr[brain-diffuser]", "ssim[mindeye]")
    _, found = score([part(true, predicted)], {"reconstruction": Track(names, "pixcorr")}, METRICS)
    for name in names[2:]:
        record = found["reconstruction"][name]
        assert record["value"] == METRICS[name].function(true, predicted).mean()
        assert record["protocol"] == METRICS[name].protocol != "bench-1"
    assert found["reconstruction"]["pixcorr"]["value"] != found["reconstruction"]["pixcorr[brain-diffuser]"]["value"]


def test_missing_weights_are_said_and_only_a_required_column_makes_a_row_incomplete(tmp_path):
    true, predicted = pair(3, 64, 64)
    source = Source("mini", tmp_path / "cache", tmp_path)
    names = ("pixcorr", "alexnet2_two_way", "clip_two_way[mindeye]", "swav")
    track = Track(names, "pixcorr", optional=names[1:3])
    _, found = score([part(true, predicted)], {"reconstruction": track}, METRICS, source)
    records = found["reconstruction"]
    assert records["alexnet2_two_way"]["reason"] == "not computed (weights alexnet-owt-7be5be79.pth)"
    assert "open_clip_model.safetensors" in records["clip_two_way[mindeye]"]["reason"]
    assert records["swav"]["reason"] == "not computed (weights swav_800ep_pretrain.pth.tar)"
    assert [records[name].get("undefined", False) for name in names] == [False, True, True, False]
    assert all(records[name]["value"] is None for name in names[1:])


def test_columns_are_filled_where_the_weights_are(tmp_path, monkeypatch):
    torch.manual_seed(0)
    (file,) = hub.MODELS["alexnet"].files
    torch.save(build("alexnet").state_dict(), tmp_path / file.path)
    unchecked = dataclasses.replace(hub.MODELS["alexnet"], files=(dataclasses.replace(file, sha256=""),))
    monkeypatch.setitem(hub.MODELS, "alexnet", unchecked)
    true, predicted = pair(4, 64, 96)
    names = ("alexnet2_two_way", "alexnet2_two_way[brain-diffuser]", "alexnet5_two_way[mindeye]")
    source = Source("mini", tmp_path / "cache", tmp_path)
    _, found = score([part(true, predicted)], {"reconstruction": Track(names, names[0])}, METRICS, source)
    model = hub.load("alexnet", "full", tmp_path)
    rows = [model.features(x, "features.4", "brain-diffuser") for x in (true, predicted)]
    r = np.corrcoef(*rows)[:4, 4:]
    expected = ((r < np.diag(r)).sum(0) / 3).mean()
    assert found["reconstruction"][names[1]]["value"] == pytest.approx(expected)
    assert all(found["reconstruction"][name]["n"] == 4 for name in names)


def test_natural_pictures_have_both_protocols_and_are_not_ranked_by_them():
    assert set(NATURAL.optional) < set(NATURAL.metrics)
    assert NATURAL.ranked not in NATURAL.optional
    for protocol in PUBLISHED:
        mine = {name for name in NATURAL.metrics if name.endswith(f"[{protocol}]")}
        assert mine == {name for name, metric in METRICS.items() if metric.protocol == protocol}
        assert len(mine) == 8
    assert len(set(NATURAL.metrics)) == len(NATURAL.metrics)


@pytest.mark.parametrize("name", NATURAL.metrics)
def test_info_says_what_a_number_means(bench, name):
    code, out, _ = bench("info", "metric", name)
    assert code == 0
    for what in ("definition", "protocol", "version", "range", "chance", "source"):
        assert f"\n  {what}: " in out
    assert f"protocol: {METRICS[name].protocol}" in out
