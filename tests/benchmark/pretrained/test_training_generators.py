"""Training of the picture generators: a short one lowers the loss, its export loads, and what it is fed is right."""

import dataclasses
import types

import numpy as np
import pytest
import torch

from benchmark.data import scenes as worlds
from benchmark.errors import BenchError
from benchmark.pretrained import hub
from benchmark.pretrained.training import common, img2img, kl, vdvae, versatile

UNET = {
    **versatile.config()["unet"],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [8, 16],
    "norm_num_groups": 4,
    "attention_head_dim": 2,
}


def small(task, **changes):
    settings = dataclasses.replace(task.DEFAULTS, **{"batch": 4, "warmup": 5, "checkpoint_every": 1e9} | changes)
    quick = types.SimpleNamespace(**{**vars(task), "DEFAULTS": settings})
    quick.__dict__.pop("evaluate")
    return quick


@pytest.fixture
def few_scenes(monkeypatch, tmp_path):
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(versatile, "_CHUNK", 48)
    monkeypatch.setattr(versatile, "_FIRST", 1)
    monkeypatch.setattr(versatile, "_GROWTH", 0)
    versatile.chunk.cache_clear()
    yield
    versatile.chunk.cache_clear()


def mean_loss(task, module):
    losses = []
    for step in range(4):
        with torch.no_grad():
            losses.append(task.loss(module, common.draw(1, step, 8))[0].item())
    return np.mean(losses)


@pytest.mark.parametrize(("task", "name", "batch", "factor"), [(kl, "kl", 2, 0.97), (vdvae, "vdvae", 1, 0.9)])
def test_fifty_steps_lower_the_loss_and_export_loads(tmp_path, task, name, batch, factor):
    quick = small(task, batch=batch)
    torch.manual_seed(quick.DEFAULTS.seed)
    before = mean_loss(task, task.build(task.config()))
    common.train(quick, name, tmp_path, steps=50)
    module = task.build(task.config())
    module.load_state_dict(torch.load(tmp_path / f"{name}.checkpoint.pt", weights_only=True)["module"])
    assert mean_loss(task, module) < factor * before  # the autoencoder starts well
    model = hub.load(name, "mini", tmp_path)
    _, images = common.held_out(2)
    latents = model.encode(images)
    decoded = model.decode(latents, *([range(2)] if name == "vdvae" else []))
    assert decoded.shape == images.shape


def test_the_first_weights_of_the_vdvae_are_a_pyramid():
    torch.manual_seed(0)
    model = vdvae.build(vdvae.config()).eval()
    _, images = common.held_out(4)
    latents = model.encode(images)
    decoded = model.decode(latents, range(4))
    assert np.abs(decoded.astype(int) - images).mean() < 4
    coarse = model.decode(latents[:, : model.n_latents(model.config.prefix)], range(4), temperature=0)
    pooled = images.reshape(4, 8, 8, 8, 8, 3).mean((2, 4))
    found = coarse.reshape(4, 8, 8, 8, 8, 3).mean((2, 4))
    assert np.abs(found - pooled).mean() < 12


def test_versatile_diffusion_and_its_text_stream_train(tmp_path, few_scenes, monkeypatch):
    quick = small(versatile, batch=8)
    quick.config = lambda: {"unet": UNET, "prediction_type": "v_prediction"}
    torch.manual_seed(quick.DEFAULTS.seed)
    before = mean_loss(versatile, versatile.build(quick.config()))
    common.train(quick, "versatile", tmp_path, steps=50)
    module = versatile.build(quick.config())
    module.load_state_dict(torch.load(tmp_path / "versatile.checkpoint.pt", weights_only=True)["module"])
    assert mean_loss(versatile, module) < 0.95 * before
    for part in ("clip", "kl"):
        for path in hub.files(part, "mini").values():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    model = hub.load("versatile", "mini", tmp_path)
    _, images = common.held_out(2)
    text = model.clip.text_tokens(["a red star on sand", "a blue ring on snow"])
    drawn = model.generate(model.clip.image_tokens(images), text, range(2), images, steps=4)
    assert drawn.shape == images.shape
    # The text stream goes on from there.
    monkeypatch.setattr(hub, "PACKAGE", tmp_path)
    quick = small(img2img)
    quick.config = lambda: {"unet": UNET, "prediction_type": "v_prediction"}
    common.train(quick, "img2img", tmp_path, steps=3)
    model = hub.load("img2img", "mini", tmp_path)
    assert model.generate(["a red star on sand"], images[:1], [0], steps=4).shape == (1, 64, 64, 3)


def test_img2img_needs_versatile_first(tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "PACKAGE", tmp_path)
    with pytest.raises(BenchError, match="versatile"):
        img2img.build(img2img.config())


def test_the_pool_is_of_pretraining_scenes_and_pairs_them_with_their_own_captions(few_scenes, monkeypatch):
    drawn = []
    real = worlds.sample
    monkeypatch.setattr(worlds, "sample", lambda *args, **kwargs: drawn.append(real(*args, **kwargs)) or drawn[-1])
    inputs = versatile.chunk(3)
    assert not worlds.is_reserved(drawn[0]).any()
    clip, model = versatile.parts()
    images = worlds.render(drawn[0])
    np.testing.assert_allclose(inputs.image_tokens[7].float(), clip.image_tokens(images[7:8])[0], atol=2e-3)
    np.testing.assert_allclose(inputs.latents[7].float(), model.encode(images[7:8])[0], atol=1e-2)
    assert inputs.captions.shape[2:] == (clip.text_token_count, clip.width)
    for row in range(48):
        number = inputs.n_captions[row]
        assert (inputs.captions[row, number:] == 0).all()
        assert (inputs.captions[row, :number] != 0).any(2).any(1).all()


def test_a_chunk_is_kept_and_read_back(few_scenes, monkeypatch):
    first = versatile.chunk(1)
    versatile.chunk.cache_clear()
    monkeypatch.setattr(versatile, "_compute_chunk", lambda index: pytest.fail("computed again"))
    second = versatile.chunk(1)
    assert all(torch.equal(a, b) for a, b in zip(vars(first).values(), vars(second).values(), strict=True))


def test_emphasis_lies_on_the_objects():
    scenes, _ = common.held_out(20)
    weights = versatile.emphasis(scenes, 16)
    assert weights.shape == (20, 16, 16)
    for row in range(20):
        for k in range(scenes.n_objects[row]):
            assert weights[row, int(scenes.y[row, k] // 4), int(scenes.x[row, k] // 4)] > 1
    area = (np.pi * scenes.radius**2).sum(1) / 64**2
    assert 1 < ((weights > 1).mean((1, 2)) / area).mean() < 2


def test_captions_are_one_or_the_mean():
    captions = torch.zeros(400, 5, 2, 3)
    captions[:, 0], captions[:, 1] = 1, 4  # two captions each
    found = versatile.pick_captions(captions, np.full(400, 2), np.random.default_rng(0))[:, 0, 0].numpy()
    share = {value: (found == value).mean() for value in (1, 4, 2.5)}
    assert sum(share.values()) == 1
    assert abs(share[2.5] - 1 / 3) < 0.08
    assert abs(share[1] - 1 / 3) < 0.08


def test_first_positions_tell_tokens_apart_and_agree_with_the_coordinates():
    table = versatile.first_positions(26, 65, 96)
    assert table.shape == (91, 96)
    image = table[27:]
    assert torch.cdist(image, image).fill_diagonal_(9).min() > 0.2
    assert (table[26] == 0).all()
    # The cell at row 2, column 5 of an 8 x 8 grid has the same waves as the token of that place.
    from benchmark.pretrained.diffusion import with_coordinates

    cell = with_coordinates(torch.zeros(1, 4, 8, 8), 20)[0, 4:, 2, 5]
    torch.testing.assert_close(2 * cell, image[2 * 8 + 5, :16])


def test_the_divergence_of_two_gaussians():
    from torch.distributions import Normal, kl_divergence

    g = torch.Generator().manual_seed(0)
    mean, log_sigma, prior_mean, prior_log_sigma = torch.randn(4, 3, 2, 4, 4, generator=g)
    expected = kl_divergence(Normal(mean, log_sigma.exp()), Normal(prior_mean, prior_log_sigma.exp()))
    found = vdvae.divergence(mean, log_sigma, prior_mean, prior_log_sigma)
    torch.testing.assert_close(found, expected.flatten(1).sum(1).mean())
