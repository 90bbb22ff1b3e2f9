"""What the latent diffusion models share: seeds per picture, the start from a picture, guided DDIM denoising."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from benchmark.errors import BenchError

__all__ = ["centres", "guided", "noise_schedule", "position_waves", "prepare_tokens", "resize", "sample"]
__all__ += ["seeded_noise", "with_coordinates"]


def noise_schedule(prediction_type: str = "epsilon"):
    """Return diffusers' DDIM scheduler with the noise schedule of latent diffusion: 1000 steps, scaled linear."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction_type,
    )


def seeded_noise(seeds: Sequence[int], shape: tuple[int, ...]) -> torch.Tensor:
    """Return standard normal noise (n, *shape), each row from its own seed, drawn on the CPU whatever the device."""
    rows = [torch.randn(shape, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds]
    return torch.stack(rows) if rows else torch.zeros((0, *shape))


def position_waves(places: torch.Tensor) -> torch.Tensor:
    """Return sines and cosines of places (n, axes) in [0, 1] at wavelengths 1/2, 1, 2 and 4, shape (n, 8 axes)."""
    phase = 2 * torch.pi * places[:, :, None] * torch.tensor([2.0, 1.0, 0.5, 0.25], device=places.device)
    return torch.cat([phase.sin(), phase.cos()], dim=2).flatten(1)


def with_coordinates(latents: torch.Tensor, channels: int) -> torch.Tensor:
    """Append the waves of every cell's row and column where the network takes that many channels more (mini)."""
    extra = channels - latents.shape[1]
    if extra == 0:
        return latents
    n, _, rows, columns = latents.shape
    waves = position_waves(centres(rows, columns)).T.reshape(-1, rows, columns).to(latents)
    if extra != len(waves):
        raise BenchError(f"a network of {channels} input channels does not fit latents of {latents.shape[1]}")
    return torch.cat([latents, waves.expand(n, -1, -1, -1)], dim=1)


def centres(rows: int, columns: int) -> torch.Tensor:
    """Return row and column of the cells' centres, in picture heights and widths, shape (rows * columns, 2)."""
    y, x = ((torch.arange(k) + 0.5) / k for k in (rows, columns))
    return torch.cartesian_prod(y, x)


def resize(images: np.ndarray, size: int, interpolation: str = "bicubic") -> np.ndarray:
    """Return uint8 pictures (n, size, size, 3), antialiased where the size differs."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise BenchError(f"start pictures must be uint8 (n, h, w, 3), not {images.dtype} {images.shape}")
    if images.shape[1:3] == (size, size):
        return images
    from torchvision.transforms.v2 import functional

    x = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)
    mode = functional.InterpolationMode(interpolation)
    x = functional.resize(x, [size, size], interpolation=mode, antialias=True)
    return x.permute(0, 2, 3, 1).numpy()


def prepare_tokens(tokens: torch.Tensor, positions: torch.Tensor | None) -> torch.Tensor:
    """Return what the UNet attends to: the tokens (n, l, d) themselves, as published, or with positions (l, d) added.

    The mini CLIP's tokens hardly say where in the picture they come from; the mini UNet learns a vector per token for
    it. Tokens of unit norm are brought to unit variance first.
    """
    return tokens if positions is None else tokens * tokens.shape[-1] ** 0.5 + positions


def guided(unet: torch.nn.Module, tokens: torch.Tensor, empty: torch.Tensor, guidance: float):
    """Return classifier-free guidance of a UNet, u + guidance (c - u); tokens (n, l, d), empty ones (1, l, d)."""

    def predict(x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        x = with_coordinates(x, unet.config.in_channels)
        if guidance == 1:
            return unet(x, timestep, tokens).sample
        both = torch.cat([empty.expand_as(tokens), tokens])
        without, conditioned = unet(torch.cat([x, x]), timestep, both).sample.chunk(2)
        return without + guidance * (conditioned - without)

    return predict


@torch.no_grad()
def sample(
    predict: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    noise: torch.Tensor,
    start: torch.Tensor | None,
    scheduler,
    strength: float,
    steps: int,
) -> torch.Tensor:
    """Denoise latents, from a noised picture or from noise alone (DDIM, eta 0).

    Parameters
    ----------
    predict : callable
        Maps latents (n, c, h, w) and a scalar timestep to the guided output of the network.
    noise : Tensor of shape (n, c, h, w)
    start : Tensor of shape (n, c, h, w) or None
        Latents of the start picture: noised to the first of the last ``int(strength * steps)`` timesteps. None starts
        from noise alone and runs all steps.
    scheduler : diffusers.DDIMScheduler
    strength : float
        In (0, 1].
    steps : int
        Number of timesteps of the whole schedule.

    Returns
    -------
    Tensor of shape (n, c, h, w)
    """
    if not 0 < strength <= 1:
        raise BenchError(f"strength must lie in (0, 1], not {strength}")
    taken = steps if start is None else int(strength * steps)
    if not 1 <= taken <= 1000:
        raise BenchError(f"strength {strength} of {steps} steps leaves {taken} steps; 1 to 1000 are needed")
    scheduler.set_timesteps(steps, device=noise.device)
    timesteps = scheduler.timesteps[steps - taken :]
    x = noise * scheduler.init_noise_sigma if start is None else scheduler.add_noise(start, noise, timesteps[:1])
    for timestep in timesteps:
        x = scheduler.step(predict(x, timestep), timestep, x, eta=0.0).prev_sample
    if not torch.isfinite(x).all():
        raise BenchError("denoising gave NaN or infinite latents")
    return x
