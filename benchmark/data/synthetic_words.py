"""`synthetic-words`: generated responses to 180 concepts; the forward model is stated in docs/synthetic-words.md."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path

import numpy as np

from benchmark.data import folder
from benchmark.data.base import Dataset
from benchmark.data.files import write_folder_once

NAME = "synthetic-words"
VERSION = "1.0"
SPACE = "vectors"
SPLIT = "synthetic-words-v1"
SUBJECTS = ("W01", "W02", "W03", "W04", "W05", "W06")
PARADIGMS = ("sentence", "picture", "wordcloud")


@dataclass(frozen=True)
class Params:
    """Constants of the forward model; all are SD unless said otherwise (see docs/synthetic-words.md)."""

    columns_per_voxel: int = 20  # parcel sizes are the tables' sizes divided by this
    min_parcel: int = 2
    factors: int = 60  # semantic factors the brain responds to
    factor_decay: float = 0.15  # SD of factor k is (k + 1) ** -decay
    levels: tuple[float, ...] = (0.14, 0.18, 0.33, 0.35)  # variance of super-category, category, pair, word
    dimensions: int = 300
    vector_norm: float = 7.2
    vector_norm_sd: float = 0.09  # of the log
    mean_share: float = 0.285  # share of a vector's squared norm that all words have in common
    visible_share: float = 0.75  # share of the rest that the semantic factors explain
    selectivity_shape: float = 0.8  # gamma shape over parcels: few parcels are very semantic
    parcel_share: float = 0.4  # share of tuning variance that a parcel's voxels have in common
    common_share: float = 0.45  # share of tuning variance that subjects have in common
    signal: float = 0.09
    signal_sd: float = 0.15  # of the log, between subjects
    attention_sd: float = 0.9  # of the log, from scan to scan
    paradigm_features: int = 12
    paradigm_tuning: float = 0.5
    paradigm_mean: float = 0.3
    aligned_noise: float = 1.2  # of the semantic factors from scan to scan, in units of a factor's SD
    network_noise: float = 0.45
    networks: int = 10
    global_noise: float = 0.3
    private_noise: float = 1.0
    scale_sd: float = 0.2  # of the log, per subject and again per subject and parcel
    offset: float = 0.2
    missing: tuple[float, float] = (0.0, 0.35)  # range of the share of a parcel's columns a subject lacks


PARAMS = Params()


def load(root: Path | None, cache: Path, seed: int = 0) -> Dataset:
    """Return the dataset, generating it once into ``cache``.

    Parameters
    ----------
    root : ignored
        The data are generated.
    cache : Path
        Folder that holds generated data; the dataset lies in a folder of its own there.
    seed : int
        Fixes every byte on one machine.

    Returns
    -------
    Dataset
        Six subjects of 540 rows (180 words in three paradigms), responses memory-mapped.
    """
    fingerprint = _fingerprint(seed)
    # the fingerprint in the name: data of other constants are never taken for these
    directory = Path(cache) / f"{NAME}-{VERSION}-seed{seed}-{fingerprint[:8]}"
    write_folder_once(directory, partial(generate, seed=seed))
    return dataclasses.replace(folder.load(directory, Path(cache)), fingerprint=fingerprint)


def generate(directory: Path, seed: int, params: Params = PARAMS) -> None:
    """Write the dataset as a folder dataset into an existing, empty folder."""
    rng = np.random.default_rng([seed, 0])
    categories, super_categories = _hierarchy()
    words = np.array(sorted(w for group in categories for w in group))
    factors = _factors(rng, words, categories, super_categories, params)
    shared = _shared(rng, len(words), params)
    (directory / "stimuli.csv").write_text("stimulus_id,word\n" + "".join(f"{w},{w}\n" for w in words))
    np.save(directory / "vectors.npy", _vectors(rng, factors, params))
    category = {w: i for i, group in enumerate(categories) for w in group}
    of_word = np.array([category[w] for w in words])
    np.save(directory / "attr_category.npy", of_word)
    np.save(directory / "attr_super_category.npy", np.array(super_categories)[of_word])
    trials = "stimulus_id,condition\n" + "".join(f"{w},{p}\n" for p in PARADIGMS for w in words)
    rois = dict(zip(roi_names(), _parcel_of_column(params) == np.arange(len(_sizes(params)))[:, None], strict=True))
    subjects = {}
    for index, subject in enumerate(SUBJECTS):
        (directory / subject).mkdir()
        responses = _responses(np.random.default_rng([seed, 1 + index]), factors, shared, index, params)
        np.save(directory / subject / "responses.npy", responses)
        (directory / subject / "trials.csv").write_text(trials)
        np.savez(directory / subject / "rois.npz", **rois)
        names = {"responses": "responses.npy", "trials": "trials.csv", "rois": "rois.npz"}
        subjects[subject] = {key: f"{subject}/{name}" for key, name in names.items()}
    header = {
        "format": "fmri-bench-folder",
        "format_version": 1,
        "name": NAME,
        "version": VERSION,
        "nan_voxels": "error",
        "tags": [],
        "provenance": {
            "source": f"generated, seed {seed}, {json.dumps(dataclasses.asdict(params))}",
            "licence": "MIT",
            "citation": "none; generated, with words of Pereira et al. 2018 and parcel sizes of Affolter et al. 2020",
        },
        "stimuli": {
            "table": "stimuli.csv",
            "embeddings": {SPACE: "vectors.npy"},
            "attributes": {"category": "attr_category.npy", "super_category": "attr_super_category.npy"},
        },
        "subjects": subjects,
        "tracks": {"words": {"space": SPACE}},
        "splits": [f"splits/{SPLIT}.json"],
    }
    (directory / "splits").mkdir()
    (directory / "splits" / f"{SPLIT}.json").write_text(_package_text(f"splits/{SPLIT}.json"))
    (directory / "dataset.json").write_text(json.dumps(header, indent=1))


def roi_names() -> tuple[str, ...]:
    """Return the parcels' names in column order."""
    return tuple(f"parcel{k:03d}" for k in range(1, len(_sizes(PARAMS)) + 1))


# --- forward model ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shared:
    """What all subjects have in common; k factors, p parcels, v columns, m paradigms, f paradigm features."""

    selectivity: np.ndarray  # (p,)
    tuning: np.ndarray  # (k, v), unit variance
    features: np.ndarray  # (m, words, f)
    feature_tuning: np.ndarray  # (m, f, v)
    paradigm_selectivity: np.ndarray  # (m, p)
    paradigm_mean: np.ndarray  # (m, v)
    missing: np.ndarray  # (subjects, v), bool


def _factors(rng, words, categories, super_categories, params):
    """Return the semantic factors of every word, (words, factors): nested categories, then pairs, then words."""
    row = {w: i for i, w in enumerate(words)}
    n_pairs = sum((len(group) + 1) // 2 for group in categories)
    sd = np.sqrt(np.asarray(params.levels))
    upper = sd[0] * _normal(rng, max(super_categories) + 1, params.factors)
    middle = sd[1] * _normal(rng, len(categories), params.factors)
    pair = sd[2] * _normal(rng, n_pairs, params.factors)
    out = sd[3] * _normal(rng, len(words), params.factors)
    k = 0
    for c, group in enumerate(categories):
        for i, word in enumerate(group):
            out[row[word]] += upper[super_categories[c]] + middle[c] + pair[k + i // 2]
        k += (len(group) + 1) // 2
    out -= out.mean(0)
    out /= out.std(0)
    return (out * np.arange(1, params.factors + 1) ** -params.factor_decay).astype(np.float32)


def _vectors(rng, factors, params):
    """Return the word vectors, (words, dimensions): a mean, what the factors explain, and the rest."""
    shape = len(factors), params.dimensions
    seen = _dot(factors, _normal(rng, params.factors, params.dimensions))
    parts = [
        (params.mean_share, _normal(rng, 1, params.dimensions)),
        ((1 - params.mean_share) * params.visible_share, seen),
        ((1 - params.mean_share) * (1 - params.visible_share), _normal(rng, *shape)),
    ]
    vectors = sum(np.sqrt(share / np.mean(np.sum(part**2, axis=1))) * part for share, part in parts)
    norm = params.vector_norm * np.exp(params.vector_norm_sd * _normal(rng, len(factors), 1))
    return (norm * vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def _shared(rng, n_words, params):
    parcel = _parcel_of_column(params)
    n_parcels, n_columns, n_paradigms = parcel[-1] + 1, len(parcel), len(PARADIGMS)
    selectivity = rng.gamma(params.selectivity_shape, size=n_parcels)
    paradigm_selectivity = rng.gamma(params.selectivity_shape, size=(n_paradigms, n_parcels))
    low, high = params.missing
    # every parcel is complete in one subject, as the width of the layout is that of the largest one
    share = rng.uniform(low, high, size=(len(SUBJECTS), n_parcels))
    share[rng.integers(len(SUBJECTS), size=n_parcels), np.arange(n_parcels)] = 0
    missing = rng.random((len(SUBJECTS), n_columns)) < share[:, parcel]
    first = np.searchsorted(parcel, np.arange(n_parcels))
    missing[:, first] = False  # a mean needs at least one voxel
    return _Shared(
        selectivity=_unit_power(selectivity),
        tuning=_tuning(rng, params.factors, parcel, params),
        features=_normal(rng, n_paradigms, n_words, params.paradigm_features),
        feature_tuning=np.stack([_tuning(rng, params.paradigm_features, parcel, params) for _ in range(n_paradigms)]),
        paradigm_selectivity=_unit_power(paradigm_selectivity),
        paradigm_mean=np.stack([_tuning(rng, 1, parcel, params)[0] for _ in range(n_paradigms)]),
        missing=missing,
    )


def _responses(rng, factors, shared, index, params):
    """Return one subject's responses in the common column layout, (paradigms * words, columns), float32."""
    parcel = _parcel_of_column(params)
    n_words, n_columns = len(factors), len(parcel)
    common, own = np.sqrt(params.common_share), np.sqrt(1 - params.common_share)
    tuning = common * shared.tuning + own * _tuning(rng, params.factors, parcel, params)
    # a unit-variance signal in a parcel of average selectivity
    tuning *= shared.selectivity[parcel] / np.sqrt(np.sum(np.var(factors, axis=0)))
    spread = factors.std(0)
    signal = params.signal * np.exp(params.signal_sd * _normal(rng, 1)[0])
    subject_scale = np.exp(params.scale_sd * _normal(rng, 1)[0])
    scale = subject_scale * np.exp(params.scale_sd * _normal(rng, len(shared.selectivity)))[parcel]
    offset = params.offset * _normal(rng, n_columns)
    blocks = []
    for m in range(len(PARADIGMS)):
        wandering = factors + params.aligned_noise * spread * _normal(rng, n_words, params.factors)
        attention = np.exp(params.attention_sd * _normal(rng, n_words, 1))
        block = signal * attention * _dot(wandering, tuning)
        features = common * shared.feature_tuning[m] + own * _tuning(rng, params.paradigm_features, parcel, params)
        features *= shared.paradigm_selectivity[m][parcel] / np.sqrt(params.paradigm_features)
        block += params.signal * params.paradigm_tuning * _dot(shared.features[m], features)
        block += params.paradigm_mean * (common * shared.paradigm_mean[m] + own * _normal(rng, n_columns))
        blocks.append(block)
    out = np.concatenate(blocks)
    loadings = _tuning(rng, params.networks, parcel, params) / np.sqrt(params.networks)
    out += params.network_noise * _dot(_normal(rng, len(out), params.networks), loadings)
    out += params.global_noise * _normal(rng, len(out), 1)
    out += params.private_noise * _normal(rng, len(out), n_columns)
    out = scale * (out + offset)
    return _fill_missing(out, shared.missing[index], parcel)


def _fill_missing(responses, missing, parcel):
    """Fill the columns a subject lacks with the mean of its voxels of that parcel in the same scan."""
    present = np.flatnonzero(~missing)
    starts = np.searchsorted(parcel[present], np.arange(parcel[-1] + 1))
    counts = np.diff(np.append(starts, len(present)))
    means = np.add.reduceat(responses[:, present], starts, axis=1) / counts.astype(np.float32)
    return np.where(missing, means[:, parcel], responses).astype(np.float32)


def _tuning(rng, n, parcel, params):
    """Return unit-variance loadings of n factors on every column, alike within a parcel, (n, columns)."""
    local = _normal(rng, n, len(parcel))
    smooth = _normal(rng, n, parcel[-1] + 1)
    return np.sqrt(1 - params.parcel_share) * local + np.sqrt(params.parcel_share) * smooth[:, parcel]


# --- parts -----------------------------------------------------------------------------------------------------------


def _normal(rng, *shape):
    return rng.standard_normal(shape, dtype=np.float32)


def _dot(a, b):
    """Return a @ b without BLAS, whose bytes depend on the number of threads."""
    return np.einsum("ik,kj->ij", a, b)


def _unit_power(values):
    return (values / np.sqrt(np.mean(values**2, axis=-1, keepdims=True))).astype(np.float32)


def _package_text(name):
    return resources.files("benchmark.data").joinpath(name).read_text("utf-8")


def _json(name):
    return json.loads(_package_text(name))


def _sizes(params):
    table = np.array(_json("parcels.json")["input_sizes"])
    return np.maximum(params.min_parcel, np.rint(table / params.columns_per_voxel).astype(int))


def _parcel_of_column(params):
    sizes = _sizes(params)
    return np.repeat(np.arange(len(sizes)), sizes)


def _hierarchy():
    """Return the words of every category and each category's super-category."""
    tree = _json("concepts.json")
    groups = [(i, words) for i, branch in enumerate(tree.values()) for words in branch.values()]
    return [words for _, words in groups], [i for i, _ in groups]


def _fingerprint(seed: int) -> str:
    parts = [NAME, VERSION, dataclasses.asdict(PARAMS), _json("parcels.json"), _json("concepts.json"), seed]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
