"""PixCorr and SSIM as published protocols compute them: how both pictures get to one size is part of the number.

Sources: the public evaluation scripts of Brain-Diffuser (Ozcelik & VanRullen 2023) and MindEye (Scotti et al. 2023).
What networks see in these protocols is in ``benchmark.pretrained.perceptual``.

Every metric here takes ``true`` and ``predicted``, shape (n, height, width, channels), uint8 or float in [0, 1], whose
heights and widths may differ. Otherwise parameters, result and errors are those of its namesake in `metrics.images`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from metrics import images, validate, vectors

SIZE = 425  # pixels a side at which both protocols compare
STORED = 256  # pixels a side that MindEye brings both pictures to first
_BLOCK = 2**25  # numbers per block of resized pictures


def pixcorr_brain_diffuser(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """PixCorr of 8-bit pictures of 425 x 425 pixels, brought there by PIL's bicubic resize where they are not.

    Floats are rounded to 8 bits first, as a PNG holds them; float64 is then computed in float64.
    """
    return _at_size("pixcorr[brain-diffuser]", images.correlate, by_pil, true, predicted)


def ssim_brain_diffuser(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """SSIM of pixel columns (`metrics.images.ssim_columns`) of the pictures of `pixcorr_brain_diffuser`."""
    return _at_size("ssim[brain-diffuser]", partial(images.similarity, columns=True), by_pil, true, predicted)


def pixcorr_mindeye(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """PixCorr of float pictures brought to 256 x 256 and then 425 x 425 pixels, bilinear, not antialiased.

    float64 is computed in float64, all else in float32. 0 where either picture is one value before it is resized.
    """
    values = _at_size("pixcorr[mindeye]", images.correlate, by_tensors, true, predicted)
    # a resize in float leaves rounding on a picture of one value, which would be correlated with
    return np.where(images.constant_pictures(true, predicted), 0.0, values)


def ssim_mindeye(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """SSIM (two-dimensional, `metrics.images.ssim`) of the pictures of `pixcorr_mindeye`."""
    return _at_size("ssim[mindeye]", images.similarity, by_tensors, true, predicted)


def by_pil(pictures: np.ndarray) -> np.ndarray:
    """Return 8-bit pictures of 425 x 425 pixels, by PIL's ``resize`` with its default, bicubic.

    Pictures in float64 are float64 again, so that they are compared in it.
    """
    from PIL import Image

    if pictures.dtype != np.uint8:
        resized = by_pil(np.rint(255 * pictures).astype(np.uint8))
        return resized / 255.0 if pictures.dtype == np.float64 else resized
    n, height, width, channels = pictures.shape
    if (height, width) == (SIZE, SIZE):
        return pictures
    result = np.empty((n, SIZE, SIZE, channels), np.uint8)
    for picture, row in zip(pictures, result, strict=True):  # PIL takes one at a time
        grey = picture[..., 0] if channels == 1 else picture
        row[:] = np.asarray(Image.fromarray(grey).resize((SIZE, SIZE), Image.Resampling.BICUBIC)).reshape(row.shape)
    return result


def by_tensors(pictures: np.ndarray) -> np.ndarray:
    """Return pictures as floats of 425 x 425 pixels, by two bilinear resizes without antialiasing, by way of 256."""
    import torch

    values = pictures / np.float32(255) if pictures.dtype == np.uint8 else pictures
    tensor = torch.from_numpy(np.ascontiguousarray(values.transpose(0, 3, 1, 2)))
    for size in (STORED, SIZE):
        if tensor.shape[2:] != (size, size):
            tensor = torch.nn.functional.interpolate(tensor, (size, size), mode="bilinear", antialias=False)
    return tensor.clamp_(0, 1).numpy().transpose(0, 2, 3, 1)  # rounding may step over the ends


def _at_size(
    name: str, function: Callable[..., np.ndarray], resize: Callable[[np.ndarray], np.ndarray], true, predicted
) -> np.ndarray:
    true, predicted = validate.images(name, true, predicted, same_size=False)
    width = SIZE * SIZE * true.shape[-1]
    parts = vectors.blocks(len(true), width, _BLOCK)
    return np.concatenate([function(resize(true[part]), resize(predicted[part])) for part in parts])
