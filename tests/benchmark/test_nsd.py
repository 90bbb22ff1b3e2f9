"""The nsd loader: lazy, checked, with splits of the sessions they name; and a run from raw files to a board."""

import dataclasses
import json

import numpy as np
import pytest

from benchmark.data import nsd, prepare
from benchmark.data.nsd_prepare import Request
from benchmark.data.nsd_prepare import prepare as make
from benchmark.data.source import Source
from benchmark.data.splits import derived
from benchmark.errors import BenchError
from tests.helpers.make_folder import truncate
from tests.helpers.make_nsd import make_nsd

SUBJECT = "subj01"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A subject with all 40 sessions, prepared; only read."""
    folder = tmp_path_factory.mktemp("nsd")
    tree = make_nsd(folder / "tree", n_sessions=40, n_unshared=60)
    return make(Request(SUBJECT, Source(tree), folder / "out", 40))


@pytest.fixture
def small(tmp_path):
    """Two sessions, prepared, which a test may damage."""
    return make(Request(SUBJECT, Source(make_nsd(tmp_path / "tree")), tmp_path / "small", 2))


def fold_of(root, name, cache):
    dataset = nsd.load(root, cache)
    (fold,) = prepare.folds(dataset, derived(nsd.split(name, root, cache)), SUBJECT)
    return dataset, fold


def test_nothing_large_is_read(whole, tmp_path):
    dataset = nsd.load(whole, tmp_path)
    assert isinstance(dataset.stimuli.images, np.memmap)
    assert isinstance(dataset.load_subject(SUBJECT).responses, np.memmap)
    assert dataset.stimuli.images.dtype == np.uint8
    assert dataset.subjects == (SUBJECT,)
    assert {"V1v", "FFA-1", "mTL-bodies", "early"} <= set(dataset.roi_names)
    assert dataset.info(frozenset(), "stimulus").has_captions
    with pytest.raises(BenchError, match="unknown subject 'subj02' of dataset nsd, did you mean 'subj01'"):
        dataset.load_subject("subj02")


@pytest.mark.parametrize(("name", "sessions"), [("nsd-982", 37), ("nsd-1000", 40)])
def test_a_split_averages_the_trials_of_its_own_sessions(whole, tmp_path, name, sessions):
    dataset, fold = fold_of(whole, name, tmp_path)
    betas, data = np.load(whole / SUBJECT / "betas.npy")[: 750 * sessions], dataset.load_subject(SUBJECT)
    train, test = prepare.train_set(fold, {"reconstruction"}), prepare.test_responses(fold)
    assert len(train), len(test) == (60, 10)
    shown = dataset.stimuli.ids[data.stimulus[: 750 * sessions]]
    ids = {"train": train.stimuli.ids[train.stimulus], "test": dataset.stimuli.ids[prepare.test_items(fold).stimulus]}
    for rows, side in ((train.fmri.data, "train"), (test.data, "test")):
        expected = np.stack([betas[shown == name].mean(axis=0, dtype=float) for name in ids[side]])
        np.testing.assert_allclose(rows, expected, rtol=1e-4, atol=1e-5)
        assert ids[side].tolist() == [name for name in dict.fromkeys(shown.tolist()) if name in set(ids[side])]
    single = fold_of(whole, f"{name}-single", tmp_path)[1]
    one = prepare.train_set(single, set()), prepare.test_responses(single)
    assert one[0].repeats is None
    assert sum(map(len, one)) == 750 * sessions
    np.testing.assert_array_equal(one[1].data, betas[np.isin(shown, ids["test"])])


def test_too_few_sessions_for_a_split_are_said(small, tmp_path):
    with pytest.raises(BenchError, match=r"subj01 is prepared with 2 sessions, split nsd-982 needs 37; bench data"):
        nsd.split("nsd-982", small, tmp_path)


def test_voxels_that_are_nan_or_constant_are_dropped(whole, tmp_path):
    dataset, fold = fold_of(whole, "nsd-982", tmp_path)
    true = dataset.load_subject(SUBJECT)
    betas = np.array(true.responses)
    betas[:, 3], betas[:, 5], betas[7, 9] = np.nan, 0.25, np.nan
    changed = dataclasses.replace(true, responses=betas)
    fold = dataclasses.replace(fold, dataset=dataset, data={SUBJECT: changed})
    report = fold.report
    assert (report.n_dropped_nan, report.n_dropped_constant, report.n_filled) == (1, 1, 1)
    assert np.isfinite(prepare.train_set(fold, set()).fmri.data).all()
    assert np.isfinite(prepare.test_responses(fold).data).all()


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ("images.npy", r"images.npy: truncated .* expected the pictures of all stimuli"),
        (f"{SUBJECT}/betas.npy", r"betas.npy: truncated .* expected the betas of all sessions"),
        ("captions.json", "captions.json: not valid JSON"),
        (f"{SUBJECT}/rois.npz", r"rois.npz: cannot be read"),
        ("nsd.json", "nsd.json: not valid JSON"),
    ],
)
def test_a_truncated_file_is_named(small, tmp_path, file, sentence):
    truncate(small / file)
    with pytest.raises(BenchError, match=sentence):
        nsd.load(small, tmp_path)
    if not file.endswith("npz"):
        (fault,) = nsd.check(small)
        assert file in fault


def test_an_unfinished_preparation_is_named(small, tmp_path):
    images = np.load(small / "images.npy")
    np.save(small / "images.npy", images[:-1])
    with pytest.raises(BenchError, match=r"images.npy: 59 rows, expected 60; where a preparation was interrupted"):
        nsd.load(small, tmp_path)
    np.save(small / "images.npy", images)
    nsd.load(small, tmp_path)
    betas = np.load(small / SUBJECT / "betas.npy")
    np.save(small / SUBJECT / "betas.npy", np.concatenate([betas, betas[:750]]))
    with pytest.raises(BenchError, match=r"betas.npy: 2250 rows, expected 1500"):
        nsd.load(small, tmp_path)


def test_check_reads_every_response(small, bench):
    code, out, _ = bench("data", "check", small)
    assert code == 0
    assert "(nsd): no fault found" in out
    betas = np.load(small / SUBJECT / "betas.npy", mmap_mode="r+")
    betas[4], betas[6, 2] = np.nan, np.inf
    betas.flush()
    code, out, _ = bench("data", "check", small)
    assert code == 2
    assert "betas.npy: 1 trials are all NaN, 1 infinite, expected none" in out
    (small / "nsd.json").write_text('{"format": "other"}')
    assert "not written by this version" in nsd.check(small)[0]


def test_a_fingerprint_changes_with_any_byte(small, tmp_path):
    before = nsd.load(small, tmp_path).fingerprint
    betas = np.load(small / SUBJECT / "betas.npy", mmap_mode="r+")
    betas[0, 0] += 1
    betas.flush()
    assert nsd.load(small, tmp_path).fingerprint != before


def test_from_raw_files_to_a_board(whole, bench, tmp_path):
    code, _, err = bench("run", "--suite", "nsd", "--data", whole, "--method", "ridge,mean", "--json", "out.json")
    assert code == 0, err
    found = {(o["track"], o["method"]): o["metrics"] for o in json.loads((tmp_path / "out.json").read_text())}
    assert {track for track, _ in found} == {"embedding", "reconstruction"}
    assert all(m["two_way"]["n"] == 10 for m in found.values())
    # betas are made from the pictures' mean colours
    assert found["reconstruction", "ridge"]["pixcorr"]["value"] > found["reconstruction", "mean"]["pixcorr"]["value"]
    assert found["reconstruction", "ridge"]["two_way"]["value"] > 0.9
    assert found["embedding", "ridge"]["two_way"]["value"] > 0.7
    assert (tmp_path / "runs/leaderboards/nsd/reconstruction.md").is_file()


def test_a_picture_of_the_data_is_drawn(small, bench, tmp_path):
    code, out, err = bench("data", "show", "nsd", "--data", small)
    assert code == 0, err
    assert (tmp_path / out.strip()).stat().st_size > 1000
