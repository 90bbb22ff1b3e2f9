import json
import os
import subprocess
import sys

import numpy as np
import pytest

from benchmark.data import folder, splits
from benchmark.data import synthetic_words as sw
from benchmark.errors import BenchError


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def dataset(cache):
    return sw.load(None, cache)


@pytest.fixture(scope="module")
def made(cache, dataset):
    """The folder that ``load`` wrote."""
    (folder,) = [p for p in cache.iterdir() if p.name.startswith("synthetic-words")]
    return folder


def _files(directory):
    return {p.relative_to(directory): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def _unit_rows(a):
    a = a - a.mean(1, keepdims=True)
    return a / np.linalg.norm(a, axis=1, keepdims=True)


def test_layout(dataset):
    assert dataset.name == "synthetic-words"
    assert dataset.subjects == sw.SUBJECTS
    assert len(dataset.subjects) == 6
    assert len(set(dataset.stimuli.ids)) == 180
    assert (dataset.stimuli.words == dataset.stimuli.ids).all()
    assert list(dataset.stimuli.ids[[0, 1, 87, 179]]) == ["ability", "accomplished", "jungle", "word"]
    assert dataset.stimuli.embeddings["vectors"].shape == (180, 300)
    for subject in dataset.subjects:
        data = dataset.load_subject(subject)
        assert isinstance(data.responses, np.memmap)
        assert data.responses.dtype == np.float32
        assert data.responses.shape == (540, 3293)
        assert np.isfinite(data.responses).all()
        assert np.array_equal(data.stimulus, np.tile(np.arange(180), 3))
        assert np.array_equal(data.condition, np.repeat(["sentence", "picture", "wordcloud"], 180))
        assert (np.ptp(data.responses, axis=0) > 0).all()


def test_unknown_subject(dataset):
    with pytest.raises(BenchError, match="W09"):
        dataset.load_subject("W09")


def test_parcels_scale_the_published_table(dataset):
    tables = json.loads(sw._package_text("parcels.json"))
    sizes = np.array(tables["input_sizes"])
    assert len(sizes) == 333
    assert sizes.sum() == 65730
    assert (sizes.min(), np.median(sizes), sizes.max()) == (14, 148, 1194)
    assert len(tables["hidden_widths"]) == 333
    assert sum(tables["hidden_widths"]) == 3221
    rois = dataset.load_subject("W01").rois
    assert tuple(rois) == dataset.roi_names
    assert len(rois) == 333
    masks = np.stack(list(rois.values()))
    assert (masks.sum(0) == 1).all()  # parcels tile the columns
    assert (np.diff(masks.argmax(0)) >= 0).all()
    expected = [max(2, round(int(n) / 20)) for n in sizes]
    assert masks.sum(1).tolist() == expected


def test_tables_equal_the_real_ones(test_data):
    real = test_data / "pereira2018_stimuli"
    tables = json.loads(sw._package_text("parcels.json"))
    assert tables["input_sizes"] == np.load(real / "brain2word_sizes.npy").ravel().astype(int).tolist()
    assert tables["hidden_widths"] == np.load(real / "brain2word_reduced_sizes.npy").ravel().astype(int).tolist()
    words = sorted(w for group in sw._hierarchy()[0] for w in group)
    assert words == (real / "stimuli_180concepts.txt").read_text().split()


def test_word_vectors_look_like_published_ones(dataset):
    vectors = dataset.stimuli.embeddings["vectors"]
    norms = np.linalg.norm(vectors, axis=1)
    assert 5 < norms.min() < norms.max() < 11
    off = ~np.eye(180, dtype=bool)
    cosine = vectors @ vectors.T / np.outer(norms, norms)
    assert cosine[off].mean() == pytest.approx(0.289, abs=0.03)
    assert 0.65 < cosine[off].max() < 0.9
    category, above = (dataset.stimuli.attributes[k] for k in ("category", "super_category"))
    same = (category[:, None] == category) & off
    near = (above[:, None] == above) & ~same & off
    far = above[:, None] != above
    assert cosine[same].mean() > cosine[near].mean() + 0.05 > cosine[far].mean() + 0.1


def test_another_seed_is_other_data_of_the_same_layout(tmp_path, made):
    sw.generate(tmp_path, 1)
    first, other = _files(made), _files(tmp_path)
    assert first.keys() == other.keys()
    changed = {p.name for p in first if first[p] != other[p]}
    assert changed == {"dataset.json", "vectors.npy", "responses.npy"}


def test_is_a_sound_folder_dataset(made):
    assert folder.check(made) == []
    assert made.stat().st_mode & 0o077 == 0o055  # others may read a shared cache


def test_fingerprint(tmp_path, dataset, monkeypatch):
    assert len(dataset.fingerprint) == 64
    assert dataset.fingerprint != sw._fingerprint(1)
    monkeypatch.setattr(sw, "PARAMS", sw.Params(signal=0.2))
    assert dataset.fingerprint != sw._fingerprint(0)


def test_second_load_generates_nothing(cache, dataset, monkeypatch):
    monkeypatch.setattr(sw, "generate", lambda *a: pytest.fail("generated again"))
    again = sw.load(None, cache)
    assert again.fingerprint == dataset.fingerprint
    assert np.array_equal(again.stimuli.embeddings["vectors"], dataset.stimuli.embeddings["vectors"])


def test_two_processes_at_once_make_one_folder_of_the_same_bytes(tmp_path, made):
    code = f"import pathlib, benchmark.data.synthetic_words as sw; sw.load(None, pathlib.Path({str(tmp_path)!r}))"
    threads = [os.environ | {"OMP_NUM_THREADS": n} for n in ("1", "2")]
    running = [subprocess.Popen([sys.executable, "-c", code], env=env) for env in threads]
    assert [p.wait() for p in running] == [0, 0]
    (again,) = [p for p in tmp_path.iterdir() if "synthetic" in p.name]
    assert again.name == made.name == f"synthetic-words-1.0-seed0-{sw._fingerprint(0)[:8]}"
    assert _files(again) == _files(made)


def test_missing_voxels_are_filled_with_the_scans_parcel_mean():
    rng = np.random.default_rng(0)
    parcel = np.repeat([0, 1, 2], [4, 1, 3])
    missing = np.array([0, 1, 0, 1, 0, 0, 0, 1], bool)
    x = rng.standard_normal((5, 8)).astype(np.float32)
    expected = x.copy()
    for row in range(5):
        for column in np.flatnonzero(missing):
            expected[row, column] = x[row, (parcel == parcel[column]) & ~missing].mean()
    np.testing.assert_allclose(sw._fill_missing(x, missing, parcel), expected, rtol=1e-6)


def test_every_subject_lacks_some_voxels_and_every_parcel_is_whole_in_one(dataset):
    parcel = sw._parcel_of_column(sw.PARAMS)
    lacking = []
    for subject in dataset.subjects:
        x = np.asarray(dataset.load_subject(subject).responses)
        mean = np.stack([x[:, parcel == p].mean(1) for p in range(333)], axis=1)[:, parcel]
        # a filled column is the mean of the others, so also the mean of all
        lacking.append(np.abs(x - mean).max(0) < 1e-4)
        assert 0.05 < lacking[-1].mean() < 0.3
    whole = np.array([[not row[parcel == p].any() for p in range(333)] for row in lacking])
    sizes = np.bincount(parcel)
    assert whole[:, sizes > 1].any(0).all()
    assert not whole.all(1).any()


def test_dot_is_the_matrix_product():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((7, 3)), rng.standard_normal((3, 5))
    np.testing.assert_allclose(sw._dot(a, b), a @ b)


def test_split_leaves_one_subject_out(dataset):
    split = splits.builtin("synthetic-words-v1")
    assert split.unit == "subject"
    assert split.average == ()
    for subject in dataset.subjects:
        (fold,) = split.for_subject(subject)
        assert fold.name == subject
        assert fold.test == (subject,)
        assert sorted(fold.train) == [s for s in dataset.subjects if s != subject]
        assert splits.guard(split, dataset, subject) == ()


def test_plain_ridge_lands_near_the_published_range_and_permuted_pairs_at_chance(dataset):
    """One fold, dual ridge at the penalty that cross-validation over subjects picks, 3.16 x the voxels."""
    vectors = dataset.stimuli.embeddings["vectors"]
    x = [np.asarray(dataset.load_subject(s).responses) for s in dataset.subjects]
    train = np.concatenate(x[1:])
    mean, sd = train.mean(0), train.std(0)
    train, test = (train - mean) / sd, (x[0] - mean) / sd
    kernel = train @ train.T
    kernel[np.diag_indices_from(kernel)] += 3.16 * train.shape[1]
    weights = np.linalg.solve(kernel, train @ test.T).T
    centre = vectors.mean(0)
    targets = np.tile(vectors - centre, (15, 1))
    permuted = np.random.default_rng(0).permutation(targets)
    scores = {}
    for name, y in (("true", targets), ("permuted", permuted)):
        r = (_unit_rows(weights @ y + centre) @ _unit_rows(vectors).T).reshape(3, 180, 180)
        own = np.diagonal(r, axis1=1, axis2=2)
        greater = (r > own[..., None]).sum(-1)
        right = own[:, :, None] + own[:, None] > r + r.transpose(0, 2, 1)
        scores[name] = (greater < 1).mean(), (greater < 5).mean(), right[:, *np.triu_indices(180, 1)].mean()
    assert 0.02 < scores["true"][0] < 0.08
    assert 0.09 < scores["true"][1] < 0.20
    assert 0.76 < scores["true"][2] < 0.88
    assert scores["permuted"][1] < 0.06
    assert 0.4 < scores["permuted"][2] < 0.6
