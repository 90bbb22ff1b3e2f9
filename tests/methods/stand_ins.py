"""Tiny deterministic stand-ins of the frozen models, so that adapters can be tried without them."""

from types import SimpleNamespace

import numpy as np

from benchmark.api import Responses, Stimuli, TrainSet

N_IMAGE, N_TEXT, WIDTH, SIZE = 5, 3, 6, 8
LATENT = (4, 8, 8)
_RNG = np.random.default_rng(99)
_FROM_PIXELS = {
    name: _RNG.standard_normal((SIZE * SIZE * 3, n)).astype(np.float32)
    for name, n in (("tokens", N_IMAGE * WIDTH), ("vdvae", 40), ("latent", int(np.prod(LATENT))))
}
WORDS = ("red", "blue", "sky", "sea", "cat", "dog")
_WORD_VECTORS = _RNG.standard_normal((len(WORDS), N_TEXT * WIDTH)).astype(np.float32)


def _unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def _project(images, name):
    return np.asarray(images, np.float32).reshape(len(images), -1) / 255 @ _FROM_PIXELS[name]


def _draw(features, seeds, scale=3.0):
    """Pictures that depend on the features and on each item's own seed."""
    flat = np.asarray(features, np.float32).reshape(len(features), -1)
    mix = np.resize(np.sin(np.arange(1, flat.shape[1] * 7 + 1)), (flat.shape[1], SIZE * SIZE * 3)).astype(np.float32)
    noise = np.stack([np.random.default_rng(int(s)).standard_normal(SIZE * SIZE * 3) for s in seeds])
    pixels = 127.5 + 20 * (flat @ mix) / np.sqrt(flat.shape[1]) + scale * noise
    return pixels.clip(0, 255).astype(np.uint8).reshape(-1, SIZE, SIZE, 3)


class Clip:
    image_token_count = N_IMAGE

    def image_tokens(self, images):
        tokens = _project(images, "tokens").reshape(-1, N_IMAGE, WIDTH)
        return tokens / np.linalg.norm(tokens[:, :1], axis=-1, keepdims=True)

    def encode_image(self, images):
        return _unit(self.image_tokens(images)[:, 0])

    def text_tokens(self, texts):
        rows = [
            np.mean([_WORD_VECTORS[WORDS.index(w)] for w in t.split()] or [np.zeros(N_TEXT * WIDTH)], 0) for t in texts
        ]
        return np.asarray(rows, np.float32).reshape(-1, N_TEXT, WIDTH)

    def encode_text(self, texts):
        return _unit(self.text_tokens(texts)[:, 0] + 1e-6)


class VDVAE:
    config = SimpleNamespace(prefix=4)

    def encode(self, images, n_layers=4):
        return _project(images, "vdvae")[:, : 10 * n_layers]

    def decode(self, latents, seeds, temperature=1.0, draw_pixels=False):
        return _draw(latents, seeds, scale=3.0 * temperature)


class Versatile:
    def unconditional(self):
        return np.zeros((1, N_IMAGE, WIDTH), np.float32), np.zeros((1, N_TEXT, WIDTH), np.float32)

    def generate(
        self, image_tokens, text_tokens, seeds, start=None, strength=0.75, steps=50, guidance=7.5, text_weight=0.4
    ):
        parts = [
            (1 - text_weight) * image_tokens.reshape(len(seeds), -1),
            text_weight * text_tokens.reshape(len(seeds), -1),
        ]
        return _draw(np.concatenate(parts, axis=1), seeds)


class KL:
    def encode(self, images, resized=False):
        return _project(images, "latent").reshape(-1, *LATENT) / 8

    def decode(self, latents):
        return _draw(latents, np.zeros(len(latents), int))


class Captioner:
    def caption(self, images):
        return [f"blurry {WORDS[int(x) % 2]} {WORDS[2 + int(x) % 4]}" for x in images.mean((1, 2, 3))]


class Img2Img:
    def generate(self, captions, start, seeds, strength=0.75, steps=50, guidance=6.0):
        assert not any("blurry" in text for text in captions)
        return _draw(start.astype(np.float32) / 255, seeds)


class Models:
    """What adapters get as ``train.models``; it counts what was extracted."""

    def __init__(self):
        classes = {"clip": Clip, "vdvae": VDVAE, "versatile": Versatile, "kl": KL}
        self.loaded = {name: cls() for name, cls in classes.items()}
        self.loaded |= {"captioner": Captioner(), "img2img": Img2Img()}

    def load(self, model):
        return self.loaded[model]

    def extract(self, model, output, items, **options):
        function = getattr(self.load(model), output)
        if isinstance(items, np.ndarray) or isinstance(items[0], str):
            return function(items, **options)
        return np.stack([function([t for t in several if t] or [""], **options).mean(0) for several in items])


def make_pictures(n_train=60, n_test=7, n_voxels=50, captions=True, tracks=("embedding", "reconstruction"), seed=0):
    """Return (train, test responses, test stimuli) of responses that hold the pictures' features linearly."""
    rng = np.random.default_rng(seed)
    n = n_train + n_test
    factors = rng.standard_normal((n, 10))
    pixels = 127 + 30 * factors @ rng.standard_normal((10, SIZE * SIZE * 3))
    words = rng.integers(0, len(WORDS), (n, 2))
    images = pixels.clip(0, 255).astype(np.uint8).reshape(n, SIZE, SIZE, 3)
    texts = [(" ".join(WORDS[i] for i in row), WORDS[row[0]], "") for row in words]
    table = {"clip": Clip().encode_image(images)}
    ids = np.array([f"i{i:03d}" for i in range(n)])
    stimuli = Stimuli(ids=ids, images=images, captions=texts if captions else None, embeddings=table)
    one_hot = np.zeros((n, len(WORDS)))
    np.add.at(one_hot, (np.arange(n)[:, None], words), 1)
    latent = np.concatenate([factors, one_hot], axis=1)
    data = latent @ rng.standard_normal((latent.shape[1], n_voxels)) + 0.3 * rng.standard_normal((n, n_voxels))
    column = np.arange(n_voxels)
    rois = {"early": column < 20, "V1v": column < 9, "ventral": (column >= 20) & (column < 45), "PPA": column > 60}
    fmri = Responses(data.astype(np.float32), np.full(n, "s0"), rois)
    first, rest = np.arange(n_train), np.arange(n_train, n)
    train = TrainSet(
        fmri.take(first), first, stimuli.take(first), np.full(n_train, ""), frozenset(tracks),
        "clip" if "embedding" in tracks else None, models=Models(),
    )  # fmt: skip
    return train, fmri.take(rest), stimuli.take(rest)
