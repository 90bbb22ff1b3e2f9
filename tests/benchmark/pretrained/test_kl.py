import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from benchmark.errors import BenchError
from benchmark.pretrained import hub, kl
from benchmark.pretrained.training import kl as training
from benchmark.pretrained.training.common import held_out

TINY = {**kl.FULL, "block_out_channels": [4, 4, 8, 8], "layers_per_block": 1, "norm_num_groups": 2, "sample_size": 32}


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return kl.build(TINY).eval()


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


def test_the_published_size():
    with torch.device("meta"):
        model = kl.build(kl.FULL)
    assert sum(p.numel() for p in model.parameters()) == 83_653_863


def test_latents_are_the_scaled_mode(tiny, pictures):
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        expected = tiny.encode(x).latent_dist.mean * 0.18215
    found = kl.KLAutoencoder(tiny).encode(pictures, batch=2)
    assert found.shape == (3, 4, 4, 4)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_decoding_undoes_the_scale(tiny):
    z = np.random.default_rng(1).standard_normal((3, 4, 4, 4)).astype(np.float32)
    with torch.no_grad():
        x = tiny.decode(torch.from_numpy(z) / 0.18215).sample
    expected = ((x + 1) * 127.5).round().clamp(0, 255).permute(0, 2, 3, 1).numpy()
    found = kl.KLAutoencoder(tiny).decode(z, batch=2)
    assert found.dtype == np.uint8
    assert np.abs(found - expected).max() <= 1


def test_no_picture_gives_none(tiny):
    model = kl.KLAutoencoder(tiny)
    assert model.encode(np.zeros((0, 32, 32, 3), np.uint8)).shape == (0, 4, 4, 4)
    assert model.decode(np.zeros((0, 4, 4, 4), np.float32)).shape == (0, 32, 32, 3)


@pytest.mark.parametrize(
    "images",
    [np.zeros((1, 32, 32, 3)), np.zeros((1, 32, 32), np.uint8), np.zeros((1, 32, 30, 3), np.uint8)],
)
def test_wrong_pictures_are_one_sentence(tiny, images):
    with pytest.raises(BenchError, match=r"pictures|multiples of 8"):
        kl.KLAutoencoder(tiny).encode(images)


def test_wrong_latents_are_one_sentence(tiny):
    with pytest.raises(BenchError, match="latents must be"):
        kl.KLAutoencoder(tiny).decode(np.zeros((1, 3, 4, 4), np.float32))
    with pytest.raises(BenchError, match="NaN"):
        kl.KLAutoencoder(tiny).decode(np.full((1, 4, 4, 4), np.nan, np.float32))


@pytest.mark.parametrize("old", [False, True])
def test_the_published_layout_loads(tiny, pictures, tmp_path, old):
    """Also with the attention's names, and 1 x 1 convolutions, that the published file was written with."""
    folder = tmp_path / "stable-diffusion-v1-5" / "vae"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKL", **TINY}))
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"} if old else {}
    tensors = {}
    for name, value in tiny.state_dict().items():
        for new, former in names.items():
            if f".attentions.0.{new}." in name:
                name = name.replace(f".{new}.", f".{former}.")
                value = value[:, :, None, None] if value.ndim == 2 else value
        tensors[name] = value.contiguous()
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors")
    loaded = hub.load("kl", "full", tmp_path)
    np.testing.assert_array_equal(loaded.encode(pictures), kl.KLAutoencoder(tiny).encode(pictures))


def test_the_untrained_mini_model_is_pooling_and_bilinear_upsampling():
    torch.manual_seed(0)
    model = training.build(training.config()).model.eval()
    _, images = held_out(8)
    x = training.pixels(images)
    with torch.no_grad():
        y = model.decode(model.encode(x).latent_dist.mean).sample
    pooled = torch.nn.functional.avg_pool2d(x, 4)
    smooth = torch.nn.functional.interpolate(pooled, scale_factor=4, mode="bilinear")
    assert training.pixel_correlation(y, smooth) > 0.95


def test_mini_reconstructs_held_out_scenes():
    _, images = held_out(200, seed=31337)
    model = hub.load("kl", "mini")
    latents = model.encode(images)
    assert latents.shape == (200, *model.latent_shape) == (200, 4, 16, 16)
    np.testing.assert_allclose(latents.std((0, 2, 3)), 1, atol=0.15)
    np.testing.assert_allclose(latents.mean((0, 2, 3)), 0, atol=0.2)
    decoded = model.decode(latents)
    correlation = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(images, decoded, strict=True)]
    assert np.mean(correlation) >= 0.96
