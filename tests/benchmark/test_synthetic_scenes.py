import hashlib
import json
from importlib import resources

import numpy as np
import pytest

from benchmark.data import folder, synthetic_scenes, voxels
from benchmark.data import scenes as sc
from benchmark.errors import BenchError

NAMES = (
    "V1v",
    "V1d",
    "V2v",
    "V2d",
    "V3v",
    "V3d",
    "hV4",
    "EBA",
    "FBA-1",
    "FBA-2",
    "mTL-bodies",
    "OFA",
    "FFA-1",
    "FFA-2",
)
NAMES += ("mTL-faces", "aTL-faces", "OPA", "PPA", "RSC")
STREAMS = ("early", "midventral", "midlateral", "midparietal", "ventral", "lateral", "parietal")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def dataset(cache):
    return synthetic_scenes.load(None, cache)


@pytest.fixture(scope="module")
def subject(dataset):
    return dataset.load_subject("subj01")


def _bytes(root):
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


# ---------------------------------------------------------------- stimuli and split


def test_shapes_of_the_tables(dataset, subject):
    stimuli = dataset.stimuli
    assert dataset.subjects == ("subj01", "subj02", "subj03", "subj04")
    assert stimuli.images.shape == (1320, 64, 64, 3)
    assert stimuli.images.dtype == np.uint8
    assert stimuli.embeddings["description"].shape == (1320, sum(sc.DESCRIPTION_BLOCKS.values()))
    assert {len(c) for c in stimuli.captions} <= {3, 4, 5}
    assert len(subject.responses) == 3960
    assert 2200 < subject.responses.shape[1] < 2800
    assert subject.responses.dtype == np.float32
    assert isinstance(subject.responses, np.memmap)
    assert np.isfinite(subject.responses).all()
    assert np.array_equal(np.bincount(subject.stimulus), np.full(1320, 3))
    assert (len(set(subject.run)), len(set(subject.session))) == (60, 10)


def test_the_split_is_whole_and_its_checksum_right(dataset):
    text = resources.files("benchmark.data").joinpath("splits/synthetic-scenes-v1.json").read_text()
    split = json.loads(text)
    checksum = split.pop("sha256")
    canonical = json.dumps(split, sort_keys=True, separators=(",", ":"))
    assert checksum == hashlib.sha256(canonical.encode()).hexdigest()
    (fold,) = split["folds"]
    assert (split["unit"], split["average"]) == ("stimulus", ["subject", "stimulus"])
    assert [*fold["train"], *fold["test"]] == dataset.stimuli.ids.tolist()
    assert (len(fold["train"]), len(fold["test"])) == (1200, 120)


@pytest.mark.parametrize("seed", [0, 1])
def test_no_key_is_shared_between_train_test_and_pretraining(seed):
    keys = sc.categorical_key(synthetic_scenes.stimulus_scenes(seed))
    assert len(set(keys)) == 1320
    pretrain = sc.sample(np.random.default_rng(seed), 20000)
    assert not set(keys) & set(sc.categorical_key(pretrain))
    assert sc.is_reserved(synthetic_scenes.stimulus_scenes(seed)).all()


def test_stimuli_are_what_the_latents_say(dataset):
    scenes = synthetic_scenes.stimulus_scenes(0)
    assert np.array_equal(dataset.stimuli.images, sc.render(scenes))
    assert np.array_equal(dataset.stimuli.embeddings["description"], sc.description(scenes))
    for name, values in dataset.stimuli.attributes.items():
        assert np.array_equal(values, getattr(scenes, name))


# ---------------------------------------------------------------- cache, bytes, format


def test_a_seed_fixes_every_byte(dataset, subject, cache, tmp_path):
    synthetic_scenes.generate(tmp_path / "again", 0, ("subj01",))
    (generated,) = cache.iterdir()
    again, first = _bytes(tmp_path / "again"), _bytes(generated)
    assert len(again) > 15
    assert again == {name: first[name] for name in again}
    other = synthetic_scenes.load(None, tmp_path / "other", seed=1)
    assert not np.array_equal(other.stimuli.images, dataset.stimuli.images)
    assert other.fingerprint != dataset.fingerprint
    assert dataset.fingerprint == synthetic_scenes.load(None, cache).fingerprint


def test_subjects_are_written_when_asked_for_and_only_once(tmp_path, dataset, monkeypatch):
    monkeypatch.setattr(voxels, "early_maps", _stop)
    fresh = synthetic_scenes.load(None, tmp_path)
    with pytest.raises(KeyboardInterrupt):  # as a kill in the middle
        fresh.load_subject("subj02")
    (root,) = tmp_path.iterdir()
    assert not [p for p in root.iterdir() if p.name.startswith((".subj", "subj"))]
    dataset.load_subject("subj01")  # there already: nothing is computed


def _stop(*_):
    raise KeyboardInterrupt


def test_an_unknown_subject_is_one_clear_sentence(dataset):
    with pytest.raises(BenchError, match="no subject 'subj05'; expected one of subj01"):
        dataset.load_subject("subj05")


def test_the_generated_folder_is_a_sound_folder_dataset(dataset, subject, cache, tmp_path):
    for name in dataset.subjects[1:]:
        dataset.load_subject(name)
    (root,) = cache.iterdir()
    assert folder.check(root) == []
    read = folder.load(root, tmp_path).load_subject("subj01")
    assert np.array_equal(read.responses, subject.responses)
    assert np.array_equal(read.stimulus, subject.stimulus)
    assert not dataset.load_subject("subj03").rois["mTL-bodies"].any()


# ---------------------------------------------------------------- voxels


def test_rois_have_the_usual_names_and_overlap(dataset, subject):
    assert set(NAMES) | set(STREAMS) <= set(subject.rois) == set(dataset.roi_names)
    assert all(mask.any() for mask in subject.rois.values())
    assert np.array_equal(np.sum([subject.rois[name] for name in STREAMS], axis=0), np.ones(len(subject.ncsnr)))
    assert (subject.rois["V1v"] <= subject.rois["early"]).all()
    assert (subject.rois["FBA-1"] & subject.rois["FFA-1"]).any()


def test_voxels_have_cells_of_their_own_in_the_volume(subject):
    coords, shape = subject.space["coords"], subject.space["shape"]
    assert coords.shape == (len(subject.ncsnr), 3)
    assert ((coords >= 0) & (coords < shape)).all()
    assert len(np.unique(coords, axis=0)) == len(coords)
    left = coords[:, 0] < shape[0] / 2
    assert 0.45 < left.mean() < 0.55


def test_gabor_energy_answers_to_orientation_and_frequency():
    params = voxels.Params()
    x, y = np.meshgrid(np.arange(64), np.arange(64))
    gratings = []
    for frequency in params.frequencies:
        for angle in np.arange(params.orientations) * np.pi / params.orientations:
            wave = np.sin(2 * np.pi * frequency * (x * np.cos(angle) + y * np.sin(angle)) / 64)
            gratings.append((127 + wave[..., None] * (100, 90, 80)).astype(np.uint8))
    maps = voxels.early_maps(np.stack(gratings), params)
    energy = maps["energy"].mean(-1)  # (channel, grating)
    assert np.array_equal(energy.argmax(0), np.arange(len(gratings)))


def test_receptive_fields_are_local():
    params = voxels.Params()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (60, 64, 64, 3)).astype(np.uint8)
    changed = images.copy()
    changed[:, 32:] = rng.integers(0, 255, (60, 32, 64, 3))
    signals = {}
    for name, pictures in (("before", images), ("after", changed)):
        maps = voxels.early_maps(pictures, params)
        for area in ("V1v", "V1d"):
            spec = voxels.AREAS[area]
            signals[area, name] = voxels.early_signal(np.random.default_rng(1), maps, spec, 80, params)
    # The signals have zero mean and unit variance over stimuli: the mean product is the correlation.
    same = {a: np.median((signals[a, "before"] * signals[a, "after"]).mean(0)) for a in ("V1v", "V1d")}
    assert same["V1v"] > 0.8 > 0.4 > same["V1d"]


def test_semantic_areas_prefer_what_they_are_tuned_to():
    params = voxels.Params()
    scenes = sc.sample(np.random.default_rng(2), 1500)
    described = sc.description(scenes)
    blocks = {"background": np.eye(8)[scenes.background]}
    preferred = np.array(sc.SHAPES)[:, None] == ("star", "cross", "triangle")
    shapes = sc.attributes(scenes)["shapes"].astype(float)
    blocks |= {"bodies": shapes @ preferred, "others": shapes[:, ~preferred.any(1)][:, :3]}
    shares = {}
    for area in ("EBA", "PPA"):
        signal = voxels.semantic_signal(np.random.default_rng(0), described, voxels.AREAS[area], 200, params)
        for name, block in blocks.items():
            centred = block - block.mean(0)
            basis = np.linalg.svd(centred, full_matrices=False)[0][:, : np.linalg.matrix_rank(centred)]
            shares[area, name] = ((basis.T @ signal) ** 2).sum(0).mean() / len(signal)  # unit variance
    assert shares["PPA", "background"] > 1.5 * shares["EBA", "background"]
    assert shares["EBA", "bodies"] > 3 * shares["EBA", "others"]
    assert shares["EBA", "bodies"] > 3 * shares["PPA", "bodies"]


def test_ncsnr_is_that_of_the_trials():
    rng = np.random.default_rng(0)
    params = voxels.Params()
    signal = rng.standard_normal((200, 300), dtype=np.float32)
    signal = (signal - signal.mean(0)) / signal.std(0)
    responses, ncsnr = voxels.trials(rng, signal, np.repeat(np.arange(200), 12), params)
    trials = responses.reshape(200, 12, 300).astype(float)
    noise = trials.var(1, ddof=1).mean(0)
    total = trials.mean(1).var(0, ddof=1)
    measured = np.sqrt((total - noise / 12).clip(0) / noise)
    assert np.corrcoef(measured, ncsnr)[0, 1] > 0.97
    assert np.median(measured[ncsnr > 0.1] / ncsnr[ncsnr > 0.1]) == pytest.approx(1, abs=0.05)


def test_a_part_of_the_noise_lies_along_the_signal():
    rng = np.random.default_rng(0)
    latent = rng.standard_normal((300, 2)) @ rng.standard_normal((2, 400))
    signal = ((latent - latent.mean(0)) / latent.std(0)).astype(np.float32)
    responses, _ = voxels.trials(rng, signal, np.repeat(np.arange(300), 4), voxels.Params())
    trials = responses.reshape(300, 4, 400)
    noise = (trials - trials.mean(1, keepdims=True)).reshape(-1, 400)
    noise /= noise.std(0)
    _, _, directions = np.linalg.svd(signal, full_matrices=False)
    random = np.linalg.qr(rng.standard_normal((400, 2)))[0]
    assert (noise @ directions[:2].T).var() > 5 * (noise @ random).var()


def test_ncsnr_is_distributed_as_in_real_data(dataset):
    for name in dataset.subjects:
        ncsnr = dataset.load_subject(name).ncsnr
        assert 0.2 < np.median(ncsnr) < 0.5
        assert (ncsnr < 0.05).mean() > 0.03
        assert (ncsnr > 0.5).mean() > 0.05


# ---------------------------------------------------------------- difficulty


def _solve(x, y, test, penalty=1e4):
    mean = y.mean(0)
    weights = np.linalg.solve(x @ x.T + penalty * np.eye(len(x), dtype=np.float32), y - mean)
    return mean + (test @ x.T) @ weights


def _correlations(predicted, true):
    p, t = (a - a.mean(1, keepdims=True) for a in (predicted, true))
    p, t = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (p, t))
    return p @ t.T


def _two_way(c):
    return ((c < np.diag(c)[:, None]).sum(1) / (len(c) - 1)).mean()


@pytest.mark.parametrize("name", synthetic_scenes.SUBJECTS)
def test_a_plain_ridge_is_neither_hopeless_nor_saturated(dataset, name):
    data = dataset.load_subject(name)
    order = np.argsort(data.stimulus, kind="stable")
    mean = np.asarray(data.responses)[order].reshape(1320, 3, -1).mean(1)
    mean = (mean - mean[:1200].mean(0)) / mean[:1200].std(0)
    described = dataset.stimuli.embeddings["description"]
    pixels = np.asarray(dataset.stimuli.images, np.float32)[:, 1::2, 1::2].reshape(1320, -1) / 255
    targets = np.concatenate([described, pixels], axis=1)
    permuted = np.random.default_rng(0).permutation(1200)
    stacked = np.concatenate([targets[:1200], targets[permuted]], axis=1)
    right, null = np.split(_solve(mean[:1200], stacked, mean[1200:]), 2, axis=1)
    d = described.shape[1]
    semantic = _correlations(right[:, :d], described[1200:])
    visual = _correlations(right[:, d:], pixels[1200:])
    assert 0.75 < _two_way(semantic) < 0.95
    assert 0.05 < np.mean(semantic.argmax(1) == np.arange(120)) < 0.5
    assert 0.75 < _two_way(visual) < 0.95
    assert 0.2 < np.diag(visual).mean() < 0.6
    assert 0.38 < _two_way(_correlations(null[:, :d], described[1200:])) < 0.62
