import numpy as np
import pytest
import torch

from benchmark.errors import BenchError
from benchmark.pretrained import hub, vdvae
from benchmark.pretrained.training.common import held_out
from benchmark.pretrained.vdvae import FULL, VDVAE, VDVAEConfig

TINY = VDVAEConfig("8x1,8d2,4x1,4d4,1x1", "1x1,4m1,4x1,8m4", 8, 2, 0.5, 3, 8, 120.0, 70.0, 2)


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    model = VDVAE(TINY).eval()
    with torch.no_grad():  # a prior that is not the standard normal
        for block in model.decoder.dec_blocks:
            block.prior.c4.weight.normal_(0, 0.1)
    return model


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def full():
    with torch.device("meta"):
        return VDVAE(FULL)


def test_the_published_checkpoint_has_these_parameters(full):
    shapes = {name: tuple(value.shape) for name, value in full.state_dict().items()}
    assert len(shapes) == 2482
    assert sum(np.prod(shape, dtype=int) for shape in shapes.values()) == 125_005_860
    assert len(full.encoder.enc_blocks) == 65
    assert len(full.decoder.dec_blocks) == 75
    assert shapes["encoder.in_conv.weight"] == (512, 3, 3, 3)
    assert shapes["encoder.enc_blocks.0.c2.weight"] == (128, 128, 3, 3)
    assert shapes["encoder.enc_blocks.64.c2.weight"] == (128, 128, 1, 1)  # 1 x 1 where there is one pixel
    assert shapes["decoder.dec_blocks.0.enc.c1.weight"] == (128, 1024, 1, 1)
    assert shapes["decoder.dec_blocks.0.prior.c4.weight"] == (2 * 16 + 512, 128, 1, 1)
    assert shapes["decoder.dec_blocks.74.z_proj.weight"] == (512, 16, 1, 1)
    assert [shapes[f"decoder.bias_xs.{i}"][2] for i in range(6)] == [1, 4, 8, 16, 32, 64]
    assert shapes["decoder.gain"] == shapes["decoder.bias"] == (1, 512, 1, 1)
    assert shapes["decoder.out_net.out_conv.weight"] == (100, 512, 1, 1)


@pytest.mark.parametrize(("layers", "latents"), [(1, 16), (3, 288), (10, 5152), (31, 91168), (None, 1_451_040)])
def test_number_of_latents_of_the_published_model(full, layers, latents):
    assert full.n_latents(layers) == latents


@pytest.mark.parametrize("text", ["64", "64x", "x3", "64q2", "64x2,,8x1", "64x2.5"])
def test_a_wrong_block_string_is_one_sentence(text):
    with pytest.raises(BenchError, match="block string"):
        vdvae.parse_blocks(text)


def test_latents_of_a_layer_are_flattened_by_channel_row_column(tiny):
    vector = torch.arange(tiny.n_latents(), dtype=torch.float32)[None]
    layers = tiny.split(vector)
    assert [tuple(layer.shape[1:]) for layer in layers] == [(2, 1, 1), (2, 4, 4), (2, 4, 4), (2, 8, 8)]
    start = 2 + 2 * 16  # the third layer
    assert layers[2][0, 1, 2, 3] == start + 1 * 16 + 2 * 4 + 3


def test_the_mean_of_every_layer_is_what_the_blocks_compute(tiny, pictures):
    """The same numbers from the modules themselves, layer by layer."""
    x = (torch.from_numpy(pictures).permute(0, 3, 1, 2).float() - 120) / 70
    with torch.no_grad():
        acts = tiny.encoder(x)
        states = {r: b.expand(5, -1, -1, -1) for r, b in zip((1, 4, 8), tiny.decoder.bias_xs, strict=True)}
        expected = []
        for block, mixin in zip(tiny.decoder.dec_blocks, (None, 1, None, 4), strict=True):
            h = states[block.resolution]
            if mixin:
                h = h + states[mixin].repeat_interleave(block.resolution // mixin, 2).repeat_interleave(
                    block.resolution // mixin, 3
                )
            z = block.enc(torch.cat([h, acts[block.resolution]], 1))[:, :2]
            states[block.resolution] = block.resnet(h + block.prior(h)[:, 4:] + block.z_proj(z))
            expected.append(z.reshape(5, -1))
    np.testing.assert_allclose(tiny.encode(pictures), torch.cat(expected, 1).numpy(), atol=1e-5)


def test_a_prefix_is_the_start_of_the_whole(tiny, pictures):
    whole, prefix = tiny.encode(pictures), tiny.encode(pictures, n_layers=2)
    np.testing.assert_allclose(prefix, whole[:, : tiny.n_latents(2)], atol=1e-6)


def test_pictures_do_not_depend_on_each_other_nor_on_the_batch(tiny, pictures):
    seeds = [3, 1, 4, 1, 5]
    drawn = tiny.encode(pictures, 2, seeds=seeds)
    together = tiny.decode(drawn, seeds, draw_pixels=True)
    for i in range(5):
        np.testing.assert_allclose(
            tiny.encode(pictures[i : i + 1], 2, seeds=seeds[i : i + 1]), drawn[i : i + 1], atol=1e-5
        )
        alone = tiny.decode(drawn[i : i + 1], seeds[i : i + 1], draw_pixels=True)
        assert np.abs(alone.astype(int) - together[i : i + 1]).max() <= 1
    assert (tiny.decode(drawn[:1], [8], draw_pixels=True) != together[:1]).any()


def test_posterior_samples_spread_about_the_mean_as_the_network_says(tiny, pictures):
    mean = tiny.encode(pictures[:1], n_layers=1)
    many = tiny.encode(np.repeat(pictures[:1], 400, axis=0), n_layers=1, seeds=range(400))
    with torch.no_grad():
        activation = tiny.encoder(tiny.prepare(pictures[:1]))[1]
        log_sigma = tiny.decoder.dec_blocks[0].enc(torch.cat([tiny.decoder.bias_xs[0], activation], 1))[0, 2:, 0, 0]
    sigma = log_sigma.exp().numpy()
    np.testing.assert_allclose(many.mean(0), mean[0], atol=4 * sigma.max() / 20)
    np.testing.assert_allclose(many.std(0), sigma, rtol=0.2)


def test_all_layers_given_leave_nothing_to_chance(tiny, pictures):
    latents = tiny.encode(pictures)
    np.testing.assert_array_equal(tiny.decode(latents, range(5)), tiny.decode(latents, range(10, 15)))


def test_temperature_zero_takes_the_mean_of_the_prior(tiny, pictures):
    latents = tiny.encode(pictures, n_layers=1)
    np.testing.assert_array_equal(tiny.decode(latents, range(5), 0.0), tiny.decode(latents, range(10, 15), 0.0))
    assert (tiny.decode(latents, range(5)) != tiny.decode(latents, range(10, 15))).any()


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 8, 8, 3), np.float32),
        np.zeros((1, 0, 8, 3), np.uint8),
        np.zeros((8, 8, 3), np.uint8),
        np.zeros((1, 3, 8, 8), np.uint8),
    ],
)
def test_wrong_pictures_are_one_sentence(tiny, images):
    with pytest.raises(BenchError, match="uint8 pictures"):
        tiny.encode(images)


def test_pictures_of_another_size_are_resized_bilinearly(tiny):
    from PIL import Image

    large = np.random.default_rng(0).integers(0, 256, (3, 21, 21, 3), np.uint8)
    small = np.stack([np.asarray(Image.fromarray(x).resize((8, 8), Image.Resampling.BILINEAR)) for x in large])
    assert np.abs(tiny.prepare(large) - tiny.prepare(small)).max() <= 1.01 / tiny.config.scale  # a grey value


def test_decoding_in_batches_changes_nothing(tiny):
    latents = np.random.default_rng(0).standard_normal((5, tiny.n_latents(2))).astype(np.float32)
    whole = tiny.decode(latents, range(5))
    parts = tiny.decode(latents, range(5), batch=2)
    assert np.abs(whole.astype(int) - parts).max() <= 1


def test_a_vector_that_ends_inside_a_layer_is_one_sentence(tiny):
    with pytest.raises(BenchError, match="ends inside a layer"):
        tiny.decode(np.zeros((1, 3), np.float32), [0])


def test_one_seed_per_picture(tiny):
    with pytest.raises(BenchError, match="one per picture"):
        tiny.decode(np.zeros((2, 2), np.float32), [0])


def test_layers_out_of_range(tiny, pictures):
    with pytest.raises(BenchError, match="between 1 and 4"):
        tiny.encode(pictures, n_layers=5)


def test_nan_latents_are_an_error(tiny):
    with pytest.raises(BenchError, match="NaN"):
        tiny.decode(np.full((1, tiny.n_latents()), np.nan, np.float32), [0])


def _mixture(n_mixtures, seed=0, size=2):
    g = torch.Generator().manual_seed(seed)
    return torch.randn((1, 10 * n_mixtures, size, size), generator=g) * 0.5


def test_the_mixture_is_a_distribution_over_256_levels():
    """Probabilities of all levels of red add up to one (green and blue integrate out)."""
    mixture = _mixture(2, size=1)
    levels = torch.linspace(-1, 1, 256)
    logits, means, log_scales, _ = (a.double() for a in vdvae.mixture_parameters(mixture))
    # Independent: each component's mass between the level's edges, the outer ones open.
    edges = torch.cat([torch.tensor([-torch.inf]), (levels[1:] + levels[:-1]) / 2, torch.tensor([torch.inf])]).double()
    mean, scale = means[0, :, :, 0, 0], log_scales[0, :, :, 0, 0].exp()
    cdf = torch.sigmoid((edges[None, None] - mean[..., None]) / scale[..., None]).nan_to_num()
    mass = cdf.diff(dim=-1)
    np.testing.assert_allclose(mass.sum(-1).numpy(), 1, atol=1e-6)
    # With no leaning of colours the loss is the sum of the channels' log masses.
    mixture[:, 2:].reshape(1, 3, 6, 1, 1)[:, :, 4:] = 0
    pick = [10, 200, 255]
    x = levels[pick][None, :, None, None]
    weights = logits[0, :, 0, 0].softmax(0)
    joint = (weights * torch.stack([mass[c, :, pick[c]] for c in range(3)]).prod(0)).sum()
    np.testing.assert_allclose(vdvae.mixture_loss(mixture, x).item(), -joint.log().item() / 3, rtol=1e-3)


def test_drawn_pixels_average_to_the_mean_of_the_mixture():
    mixture = _mixture(3)
    mixture[:, 3:].reshape(1, 3, 9, 2, 2)[:, :, 3:6] = -4  # narrow, so that nothing is clipped
    mixture[:, 3:].reshape(1, 3, 9, 2, 2)[:, :, :3] *= 0.3
    many = vdvae.mixture_sample(mixture.expand(3000, -1, -1, -1), vdvae._Noise(range(3000), 3000))
    np.testing.assert_allclose(many.mean(0).numpy(), vdvae.mixture_mean(mixture)[0].numpy(), atol=0.03)


def test_a_published_layout_loads(tmp_path, monkeypatch, pictures):
    """A small file of the exact layout, the prefix of data-parallel training included."""
    monkeypatch.setattr(vdvae, "FULL", TINY)
    torch.manual_seed(1)
    model = VDVAE(TINY)
    path = tmp_path / "imagenet64-iter-1600000-model-ema.th"
    torch.save({f"module.{name}": value for name, value in model.state_dict().items()}, path)
    loaded = VDVAE.from_full({path.name: path})
    np.testing.assert_allclose(loaded.encode(pictures), model.encode(pictures), atol=1e-6)


def test_a_checkpoint_of_another_layout_is_one_sentence(tmp_path):
    name = "imagenet64-iter-1600000-model-ema.th"
    torch.save({"encoder.in_conv.weight": torch.zeros(3)}, tmp_path / name)
    with pytest.raises(BenchError, match="do not fit the model"):
        hub.load("vdvae", "full", tmp_path)


@pytest.mark.slow
def test_the_published_size_runs_once():
    torch.manual_seed(0)
    model = VDVAE(FULL).eval()
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    latents = model.encode(image, n_layers=31)
    assert latents.shape == (1, 91168)
    assert model.decode(latents, [0], draw_pixels=True).shape == (1, 64, 64, 3)


def test_mini_holds_held_out_scenes_in_all_layers_and_most_of_them_in_the_coarse_ones():
    _, images = held_out(200, seed=31337)
    model = hub.load("vdvae", "mini")
    latents = model.encode(images)
    decoded = {
        "all": model.decode(latents, range(200)),
        "prefix": model.decode(latents[:, : model.n_latents(model.config.prefix)], range(200), temperature=0),
    }
    found = {
        name: np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(images, pictures, strict=True)])
        for name, pictures in decoded.items()
    }
    assert found["all"] >= 0.96
    assert found["prefix"] >= 0.78
    assert model.decoder.dec_blocks[model.config.prefix - 1].resolution == 8
    assert model.decoder.dec_blocks[model.config.prefix].resolution > 8
