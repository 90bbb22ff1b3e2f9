import numpy as np
import pytest
import torch

from benchmark.errors import BenchError
from benchmark.pretrained import diffusion


def _alpha_bar():
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    return np.cumprod(1 - betas)


def test_thirty_seven_of_fifty_steps_start_at_timestep_721():
    seen = []

    def predict(x, timestep):
        seen.append(int(timestep))
        return torch.zeros_like(x)

    noise = torch.zeros(1, 4, 2, 2)
    diffusion.sample(predict, noise, noise, diffusion.noise_schedule(), strength=0.75, steps=50)
    assert seen == list(range(721, 0, -20))
    assert len(seen) == 37


def test_the_start_is_noised_to_the_first_timestep():
    seen = []

    def predict(x, timestep):
        seen.append(x.clone())
        return torch.zeros_like(x)

    start, noise = torch.full((1, 4, 2, 2), 2.0), torch.full((1, 4, 2, 2), -1.0)
    diffusion.sample(predict, noise, start, diffusion.noise_schedule(), strength=0.75, steps=50)
    a = _alpha_bar()[721]
    np.testing.assert_allclose(seen[0].numpy(), 2 * a**0.5 - (1 - a) ** 0.5, rtol=1e-5)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_a_perfect_network_returns_to_the_start(prediction_type):
    """DDIM with the true noise is exact, up to the last step that the schedule leaves."""
    g = torch.Generator().manual_seed(0)
    start, noise = torch.randn(2, 4, 3, 3, generator=g), torch.randn(2, 4, 3, 3, generator=g)
    alphas = torch.from_numpy(_alpha_bar()).float()

    def predict(x, timestep):
        a = alphas[timestep]
        return noise if prediction_type == "epsilon" else a.sqrt() * noise - (1 - a).sqrt() * start

    found = diffusion.sample(predict, noise, start, diffusion.noise_schedule(prediction_type), 0.5, 50)
    left = alphas[0]
    np.testing.assert_allclose(found, left.sqrt() * start + (1 - left).sqrt() * noise, atol=2e-5)


def test_without_a_start_all_steps_run_from_the_noise():
    seen = []

    def predict(x, timestep):
        seen.append((int(timestep), x.clone()))
        return torch.zeros_like(x)

    noise = torch.randn(1, 4, 2, 2)
    diffusion.sample(predict, noise, None, diffusion.noise_schedule(), strength=0.1, steps=10)
    assert [t for t, _ in seen] == list(range(901, 0, -100))
    torch.testing.assert_close(seen[0][1], noise)


@pytest.mark.parametrize(("strength", "steps"), [(0, 50), (1.1, 50), (0.01, 50), (0.5, 1), (float("nan"), 50)])
def test_strengths_that_leave_nothing_are_one_sentence(strength, steps):
    zeros = torch.zeros(1, 4, 2, 2)
    with pytest.raises(BenchError, match="strength"):
        diffusion.sample(lambda x, t: x, zeros, zeros, diffusion.noise_schedule(), strength, steps)


def test_nan_latents_are_an_error():
    zeros = torch.zeros(1, 4, 2, 2)
    with pytest.raises(BenchError, match="NaN"):
        diffusion.sample(lambda x, t: x * float("nan"), zeros, None, diffusion.noise_schedule(), 1, 5)


def test_noise_of_a_row_depends_on_its_seed_alone():
    together = diffusion.seeded_noise([5, 6, 5], (4, 2, 2))
    torch.testing.assert_close(together[:1], diffusion.seeded_noise([5], (4, 2, 2)))
    torch.testing.assert_close(together[0], together[2])
    assert not torch.equal(together[0], together[1])
    assert diffusion.seeded_noise([], (4, 2, 2)).shape == (0, 4, 2, 2)


def test_guidance_is_linear_in_the_outputs():
    class Unet(torch.nn.Module):
        config = type("Config", (), {"in_channels": 4})

        def forward(self, x, timestep, tokens):
            return type("Output", (), {"sample": x + tokens.mean((1, 2))[:, None, None, None]})

    tokens, empty = torch.full((3, 2, 5), 4.0), torch.full((1, 2, 5), 1.0)
    x = torch.zeros(3, 4, 2, 2)
    assert (diffusion.guided(Unet(), tokens, empty, 2.5)(x, 0) == 1 + 2.5 * 3).all()
    assert (diffusion.guided(Unet(), tokens, empty, 1)(x, 0) == 4).all()


def test_coordinates_tell_rows_from_columns():
    x = diffusion.with_coordinates(torch.zeros(2, 4, 4, 8), 20)
    assert x.shape == (2, 20, 4, 8)
    assert (x[:, :4] == 0).all()
    rows, columns = x[0, 4:12], x[0, 12:]
    torch.testing.assert_close(rows, rows[:, :, :1].expand_as(rows))
    torch.testing.assert_close(columns, columns[:, :1].expand_as(columns))
    places = x[0, 4:].flatten(1).T
    assert torch.cdist(places, places).fill_diagonal_(9).min() > 0.1
    assert diffusion.with_coordinates(x, 20) is x
    with pytest.raises(BenchError, match="does not fit"):
        diffusion.with_coordinates(torch.zeros(2, 4, 4, 4), 7)


def test_resizing_leaves_the_right_size_alone():
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    assert diffusion.resize(images, 8) is images
    assert diffusion.resize(np.full((1, 8, 8, 3), 77, np.uint8), 16).tolist() == np.full((1, 16, 16, 3), 77).tolist()
    with pytest.raises(BenchError, match="uint8"):
        diffusion.resize(images.astype(np.float32), 16)
