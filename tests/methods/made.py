"""Small made training sets, one for each kind of task an adapter can meet."""

import numpy as np

from benchmark.api import Responses, Stimuli, TrainSet


def _responses(rng, latent, loadings, noise, subject):
    data = latent @ loadings + noise * rng.standard_normal((len(latent), loadings.shape[1]))
    return Responses(data.astype(np.float32), np.asarray(subject))


def make_words(n_words=20, n_subjects=3, n_scans=3, n_voxels=40, d=12, noise=1.0, unit="subject", seed=0):
    """Return (train, test responses, test stimulus rows): the same words, another subject."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n_words, d)).astype(np.float32)
    words = np.array([f"w{i:02d}" for i in range(n_words)])
    stimuli = Stimuli(ids=words, words=words, embeddings={"glove": vectors})
    loadings = rng.standard_normal((d, n_voxels))
    word = np.tile(np.arange(n_words), n_scans)
    rows = np.tile(word, n_subjects)
    subjects = np.repeat([f"s{i}" for i in range(n_subjects)], len(word))
    fmri = _responses(rng, vectors[rows], loadings, noise, subjects)
    condition = np.tile(np.repeat([f"c{i}" for i in range(n_scans)], n_words), n_subjects)
    train = TrainSet(fmri, rows, stimuli, condition, frozenset({"words"}), "glove", unit)
    return train, _responses(rng, vectors[word], loadings, noise, np.full(len(word), "new")), word


def make_scenes(n_train=40, n_test=9, n_voxels=30, tracks=("embedding", "reconstruction"), shape=(4, 5, 3), seed=0):
    """Return (train, test responses, test stimuli): one subject, other stimuli."""
    rng = np.random.default_rng(seed)
    n = n_train + n_test
    latent = rng.standard_normal((n, 6))
    vectors = (latent @ rng.standard_normal((6, 8)) + 1).astype(np.float32)
    pixels = 1 / (1 + np.exp(-latent @ rng.standard_normal((6, np.prod(shape)))))
    stimuli = Stimuli(
        ids=np.array([f"i{i:03d}" for i in range(n)]),
        images=(255 * pixels).astype(np.uint8).reshape(n, *shape),
        embeddings={"description": vectors, "other": vectors[:, :3]},
    )
    fmri = _responses(rng, latent, rng.standard_normal((6, n_voxels)), 0.5, np.full(n, "s0"))
    first, rest = np.arange(n_train), np.arange(n_train, n)
    space = "description" if "embedding" in tracks else None
    condition = np.full(n_train, "")
    train = TrainSet(fmri.take(first), first, stimuli.take(first), condition, frozenset(tracks), space)
    return train, fmri.take(rest), stimuli.take(rest)
