"""Folds, averaging, the voxel preparation, the preflight, and the wall between the two sides."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.api import Stimuli, TrainSet
from benchmark.data import folder, prepare, scan
from benchmark.data.base import Dataset, SubjectData
from benchmark.data.splits import FoldIds, Split
from benchmark.errors import BenchError
from tests.helpers.make_folder import edit_array, make_folder


def dataset_of(subjects, stimuli, nan_voxels="error"):
    """Return a dataset in memory; ``subjects`` maps names to (responses, stimulus, condition, run)."""
    data = {
        name: SubjectData(
            responses=np.asarray(responses),
            stimulus=np.asarray(stimulus),
            run=np.asarray(run, str),
            session=np.full(len(stimulus), ""),
            condition=np.asarray(condition, str),
            rois={"all": np.ones(np.shape(responses)[1], bool), "first": np.arange(np.shape(responses)[1]) < 1},
        )
        for name, (responses, stimulus, condition, run) in subjects.items()
    }
    return Dataset("memory", "1", "f" * 64, tuple(data), stimuli, data.__getitem__, nan_voxels=nan_voxels)


def one(responses, stimulus, *, nan_voxels="error", condition=None, average=("subject", "stimulus"), n_test=2):
    """Return the one fold of subject S whose last stimuli are tested."""
    n = len(stimulus)
    ids = np.array([f"s{i}" for i in range(max(stimulus) + 1)])
    dataset = dataset_of({"S": (responses, stimulus, condition or [""] * n, ["r"] * n)}, Stimuli(ids), nan_voxels)
    folds = {"*": (FoldIds("fold0", tuple(ids[:-n_test]), tuple(ids[-n_test:])),)}
    (fold,) = prepare.folds(dataset, Split("s", "stimulus", average, folds, "c"), "S")
    return fold


def loaded(tmp_path, **options):
    root = make_folder(tmp_path / "d", **options)
    return root, folder.load(root, tmp_path / "cache"), folder.read_splits(root)["main"]


# ------------------------------------------------------------------------------------------ rows of each side


def test_stimulus_split(tmp_path):
    root, dataset, split = loaded(tmp_path)
    (fold,) = prepare.folds(dataset, split, "S2")
    train, test = prepare.train_set(fold, {"words"}, "latent"), prepare.test_responses(fold)
    items, truth = prepare.test_items(fold), prepare.truth(fold)
    assert len(train) == 8
    assert len(test) == len(items) == len(truth) == 4
    assert train.stimuli.ids.tolist() == [f"stim{i:03d}" for i in range(8)]
    assert set(truth.ids) == {f"stim{i:03d}" for i in range(8, 12)}
    assert train.unit == "stimulus"
    assert train.tracks == {"words"}
    assert train.space == "latent"
    assert set(train.fmri.subject) == set(test.subject) == {"S2"}
    assert items.ids.tolist() == [f"fold0/{name}" for name in truth.ids]
    np.testing.assert_array_equal(dataset.stimuli.ids[items.stimulus], truth.ids)
    np.testing.assert_array_equal(train.target(), np.load(root / "latent.npy")[:8][train.stimulus])
    np.testing.assert_array_equal(train.stimuli.images, np.load(root / "images.npy")[:8])
    assert train.stimuli.words.tolist() == [f"word{i}" for i in range(8)]
    assert len(train.stimuli.captions) == 8


def test_subject_split(tmp_path):
    root, dataset, split = loaded(tmp_path, unit="subject", average=[], subjects=("A", "B", "C"))
    (fold,) = prepare.folds(dataset, split, "B")
    train, test = prepare.train_set(fold, {"words"}), prepare.test_responses(fold)
    assert fold.name == "B"
    assert train.fmri.subject.tolist() == ["A"] * 24 + ["C"] * 24
    assert test.subject.tolist() == ["B"] * 24
    np.testing.assert_array_equal(train.fmri.data[24:], np.load(root / "C" / "responses.npy"))
    np.testing.assert_array_equal(test.data, np.load(root / "B" / "responses.npy"))
    assert train.repeats is None
    assert train.repeat_row is None


def test_run_split(tmp_path):
    _, dataset, split = loaded(tmp_path, unit="run", repeats=3)
    folds = prepare.folds(dataset, split, "S1")
    data = dataset.load_subject("S1")
    assert [fold.name for fold in folds] == ["fold0", "fold1"]
    np.testing.assert_array_equal(folds[1].test_rows["S1"], np.flatnonzero(data.run == "run2"))
    assert set(data.run[folds[1].train_rows["S1"]]) == {"run1", "run3"}
    ids = np.concatenate([prepare.test_items(fold).ids for fold in folds])
    assert len(set(ids)) == len(ids) == 24


def test_conditions_are_blocks(tmp_path):
    _, dataset, split = loaded(tmp_path, conditions=("pic", "word"), average=("subject", "stimulus", "condition"))
    (fold,) = prepare.folds(dataset, split, "S1")
    items, train = prepare.test_items(fold), prepare.train_set(fold, set())
    assert sorted(set(items.block)) == ["fold0/pic", "fold0/word"]
    assert len(set(items.ids)) == 8
    assert sorted(set(train.condition)) == ["pic", "word"]
    assert len(train) == 16
    assert "fold0/stim009/word" in items.ids


def test_averaging_over_conditions_leaves_no_condition():
    fold = one(np.eye(6, 3), [0, 1, 2, 0, 1, 2], condition=["a", "a", "a", "b", "b", "a"], n_test=1)
    assert prepare.train_set(fold, set()).condition.tolist() == ["", ""]
    assert prepare.test_items(fold).condition.tolist() == ["a"]


def test_single_trials_are_numbered():
    fold = one(np.arange(18.0).reshape(6, 3), [0, 2, 1, 2, 0, 2], average=())
    assert prepare.test_items(fold).ids.tolist() == ["fold0/s2", "fold0/s1", "fold0/s2#2", "fold0/s2#3"]
    assert prepare.test_responses(fold).data.dtype == np.float32


def test_unknown_subject_and_empty_side(tmp_path):
    _, dataset, split = loaded(tmp_path)
    with pytest.raises(BenchError, match="unknown subject 'S3' of dataset tiny, expected one of S1, S2"):
        prepare.folds(dataset, split, "S3")
    for side in ("train", "test"):
        ids = {"train": ("stim001",), "test": ("stim002",)} | {side: ("nobody",)}
        empty = dataclasses.replace(split, folds={"*": (FoldIds("f", ids["train"], ids["test"]),)})
        with pytest.raises(BenchError, match=f"dataset tiny, split main, fold f: no {side} trial of subject 'S1'"):
            prepare.folds(dataset, empty, "S1")


# -------------------------------------------------------------------------------------------------- averaging


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 6), st.integers(1, 5), st.sampled_from(["", "a", "ab"]))
def test_averaging_equals_a_loop(seed, n_stimuli, repeats, conditions):
    rng = np.random.default_rng(seed)
    stimulus = rng.permutation(np.repeat(np.arange(n_stimuli), rng.integers(1, repeats + 1, n_stimuli)))
    condition = rng.choice(list(conditions) or [""], len(stimulus)).tolist()
    responses = rng.standard_normal((len(stimulus), 4)).astype(np.float32)
    keys = ("subject", "stimulus", "condition") if conditions == "ab" else ("subject", "stimulus")
    train = prepare.train_set(one(responses, stimulus, condition=condition, average=keys, n_test=1), set())
    if train.repeats is None and len(train) < 2:
        return
    groups = {}
    for row, pair in enumerate(zip(stimulus, condition, strict=True)):
        if pair[0] < n_stimuli - 1:
            groups.setdefault(pair if conditions == "ab" else pair[0], []).append(row)
    expected = np.array([responses[rows].mean(axis=0) for rows in groups.values()])  # in order of appearance
    np.testing.assert_allclose(train.fmri.data, expected, rtol=1e-5, atol=1e-6)
    assert train.fmri.data.dtype == np.float32
    if len(groups) < (stimulus < n_stimuli - 1).sum():
        np.testing.assert_array_equal(train.repeats.data, responses[stimulus < n_stimuli - 1])
        for row, rows in enumerate(groups.values()):
            assert np.flatnonzero(train.repeat_row == row).tolist() == [
                np.flatnonzero(np.flatnonzero(stimulus < n_stimuli - 1) == r)[0] for r in rows
            ]
    else:
        assert train.repeats is None


def test_nothing_is_averaged_across_the_sides(tmp_path):
    _, dataset, split = loaded(tmp_path, unit="run", repeats=2)
    fold = prepare.folds(dataset, split, "S1")[0]
    assert len(prepare.train_set(fold, set())) == len(prepare.test_responses(fold)) == 12


# ------------------------------------------------------------------------------------- the wall between sides


def reachable(value, seen):
    """Yield every array and text that can be reached from a value, bases of views included."""
    if id(value) in seen:
        return
    seen[id(value)] = value
    if isinstance(value, np.ndarray):
        yield value
        yield from reachable(value.base, seen)
    elif isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for pair in value.items():
            for part in pair:
                yield from reachable(part, seen)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for part in value:
            yield from reachable(part, seen)
    elif hasattr(value, "__dict__"):
        yield from reachable(vars(value), seen)


@pytest.mark.parametrize("images", ["array", "folder"])
@pytest.mark.parametrize("average", [("subject", "stimulus"), ()])
def test_no_test_target_is_reachable_from_a_train_set(tmp_path, images, average):
    _, dataset, split = loaded(tmp_path, images=images, average=average)
    attributes = {"hue": np.arange(12.0)}
    dataset = dataclasses.replace(dataset, stimuli=dataclasses.replace(dataset.stimuli, attributes=attributes))
    (fold,) = prepare.folds(dataset, split, "S1")
    train, truth = prepare.train_set(fold, {"reconstruction"}, "latent"), prepare.truth(fold)
    train.pixels(), train.target()
    found = list(reachable(train, {}))
    texts = {text for text in found if isinstance(text, str)}
    arrays = [array for array in found if isinstance(array, np.ndarray)]
    for array in arrays:
        if array.dtype.kind == "U":
            texts |= set(array.ravel().tolist())
    assert "stim001" in texts
    assert "thing 1" in texts
    assert "word1" in texts
    secret = {*truth.ids, *truth.words, *(text for texts in truth.captions for text in texts)}
    assert not texts & secret
    targets = [dataset.stimuli.images, dataset.stimuli.embeddings["latent"], attributes["hue"]]
    assert len(arrays) > 5
    assert not any(np.shares_memory(a, t) for a in arrays for t in targets)
    assert isinstance(train, TrainSet)
    assert train.stimuli.attributes == {}


def test_test_items_carry_no_target(tmp_path):
    _, dataset, split = loaded(tmp_path)
    items = prepare.test_items(prepare.folds(dataset, split, "S1")[0])
    assert {f.name for f in dataclasses.fields(items)} == {"ids", "stimulus", "subject", "condition", "block"}


def test_test_trials_do_not_move_the_training_side():
    rng = np.random.default_rng(0)
    responses, stimulus = rng.standard_normal((12, 5)).astype(np.float32), np.tile(np.arange(6), 2)
    responses[0, 1] = np.nan
    changed = responses.copy()
    changed[stimulus >= 4] = 100 + rng.standard_normal((4, 5))
    changed[4, 2] = np.nan
    one_way, other = (
        prepare.train_set(one(r, stimulus, nan_voxels="drop"), set()).fmri.data for r in (responses, changed)
    )
    np.testing.assert_array_equal(one_way, other)


# -------------------------------------------------------------------------------------- the voxel preparation


def test_sound_rows_are_copied_so_that_no_other_trial_is_in_reach(tmp_path):
    root, _, _ = loaded(tmp_path, unit="run", average=())
    dataset, split = folder.load(root, tmp_path / "cache"), folder.read_splits(root)["main"]
    fold = prepare.folds(dataset, split, "S1")[0]
    data = fold.data["S1"].responses
    for found, rows in (
        (prepare.train_set(fold, set()).fmri.data, fold.train_rows["S1"]),
        (prepare.test_responses(fold).data, fold.test_rows["S1"]),
    ):
        assert not np.shares_memory(found, data)
        assert found.flags.writeable
        np.testing.assert_array_equal(found, data[rows])


def test_dropping_and_filling():
    rng = np.random.default_rng(0)
    responses = rng.standard_normal((8, 6)).astype(np.float32)
    stimulus = np.arange(8)  # s6 and s7 are tested
    responses[:6, 0] = np.nan  # NaN in all of train
    responses[:6, 1] = 3.0  # constant in train
    responses[2, 2] = np.nan  # one hole in train
    responses[7, 3] = np.nan  # one hole in test
    responses[:5, 4] = np.nan
    responses[5, 4] = 1.0  # one number in train: constant
    fold = one(responses, stimulus, nan_voxels="drop")
    assert fold.report == prepare.PreparationReport(n_voxels=6, n_dropped_nan=1, n_dropped_constant=2, n_filled=2)
    assert fold.report.n_kept == 3
    train, test = prepare.train_set(fold, set()).fmri, prepare.test_responses(fold)
    assert train.data.shape == (6, 3)
    assert test.data.shape == (2, 3)
    assert train.data[2, 0] == pytest.approx(np.nanmean(responses[:6, 2]), rel=1e-6)
    assert test.data[1, 1] == pytest.approx(responses[:6, 3].mean(), rel=1e-6)
    np.testing.assert_array_equal(train.data[:, 2], responses[:6, 5])
    assert np.isfinite(train.data).all()
    assert np.isfinite(test.data).all()
    assert train.rois["all"].tolist() == [True] * 3
    assert train.rois["first"].tolist() == [False] * 3
    assert {name: mask.tolist() for name, mask in test.rois.items()} == {
        name: mask.tolist() for name, mask in train.rois.items()
    }


def test_holes_are_filled_before_averaging():
    responses = np.array([[1, 2], [4, 6], [np.nan, 4], [0, 1], [0, 3]], np.float32)
    train = prepare.train_set(one(responses, [0, 1, 0, 2, 3], nan_voxels="drop"), set())
    np.testing.assert_allclose(train.fmri.data, [[(1 + 2.5) / 2, 3], [4, 6]])


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_any_float_becomes_float32(dtype, order):
    responses = np.asarray(np.arange(24.0).reshape(8, 3), dtype, order=order)
    train = prepare.train_set(one(responses, np.arange(8)), set()).fmri.data
    assert train.dtype == np.float32
    assert train.dtype.isnative
    np.testing.assert_array_equal(train, np.arange(18).reshape(6, 3))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 7), st.integers(1, 64))
def test_scan_equals_whole_matrix_functions(seed, n_voxels, block):
    rng = np.random.default_rng(seed)
    data = rng.standard_normal((11, n_voxels)).astype(np.float32)
    data[rng.random(data.shape) < 0.2] = np.nan
    data[rng.random(data.shape) < 0.03] = np.inf
    rows = np.flatnonzero(rng.random(11) < 0.7)
    before, scan.BLOCK_BYTES = scan.BLOCK_BYTES, block
    try:
        found = scan.scan(data, rows)
    finally:
        scan.BLOCK_BYTES = before
    part = data[rows]
    np.testing.assert_array_equal(found.n_nan, np.isnan(part).sum(axis=0))
    np.testing.assert_array_equal(found.empty_rows, np.flatnonzero(np.isnan(part).all(axis=1)))
    np.testing.assert_array_equal(found.infinite_rows, np.flatnonzero(np.isinf(part).any(axis=1)))
    np.testing.assert_array_equal(found.low, np.nanmin(np.vstack([part, np.full(n_voxels, np.inf)]), axis=0))
    np.testing.assert_array_equal(found.high, np.nanmax(np.vstack([part, np.full(n_voxels, -np.inf)]), axis=0))


def test_preparation_does_not_depend_on_the_block_size(monkeypatch):
    rng = np.random.default_rng(3)
    responses, stimulus = rng.standard_normal((60, 9)).astype(np.float32), np.tile(np.arange(20), 3)
    responses[rng.random(responses.shape) < 0.1] = np.nan
    responses[:, 4] = np.nan

    def run():
        fold = one(responses, stimulus, nan_voxels="drop")
        return prepare.train_set(fold, set()).fmri.data, prepare.test_responses(fold).data, fold.report

    whole = run()
    monkeypatch.setattr(scan, "BLOCK_BYTES", 100)
    small = run()
    for left, right in zip(whole[:2], small[:2], strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-6)
    assert whole[2] == small[2]
    assert whole[2].n_dropped_nan == 1


NAN_FAULTS = {
    "all-NaN train trial": ((2, slice(None)), "trial 2 is all NaN"),
    "all-NaN test trial": ((7, slice(None)), "trial 7 is all NaN"),
    "infinity": ((3, 1), "trial 3 holds an infinity"),
    "no voxel left": ((slice(0, 6), slice(None)), "is all NaN"),
}


@pytest.mark.parametrize("case", NAN_FAULTS)
def test_what_cannot_be_prepared(case):
    where, sentence = NAN_FAULTS[case]
    responses = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    responses[where] = np.inf if case == "infinity" else np.nan
    with pytest.raises(BenchError, match=f"responses of subject S in dataset memory: .*{sentence}"):
        _ = one(responses, np.arange(8), nan_voxels="drop").preparation


def test_no_voxel_left():
    with pytest.raises(BenchError, match="split s, fold fold0: no voxel left, all 3 are NaN or constant"):
        _ = one(np.ones((8, 3)), np.arange(8)).preparation


def test_undeclared_nan_names_the_file(tmp_path):
    root, dataset, split = loaded(tmp_path)
    edit_array(root / "S1" / "responses.npy", lambda x: x.__setitem__((0, 0), np.nan))
    (fold,) = prepare.folds(dataset, split, "S1")
    with pytest.raises(
        BenchError, match=r'S1/responses\.npy: 1 of 20 voxels hold NaN, expected none unless "nan_voxels"'
    ):
        prepare.train_set(fold, set())


def test_a_trial_with_numbers_in_dropped_voxels_only():
    responses = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
    responses[:, 0] = 1
    responses[6, 1:] = np.nan
    with pytest.raises(BenchError, match="trial 6 is NaN in every voxel left"):
        _ = one(responses, np.arange(8), nan_voxels="drop").preparation


def test_subjects_with_different_voxels():
    rng = np.random.default_rng(0)
    table = {s: (rng.standard_normal((4, n)), np.arange(4), [""] * 4, ["r"] * 4) for s, n in (("A", 3), ("B", 5))}
    dataset = dataset_of(table, Stimuli(np.array(list("wxyz"))))
    split = Split("s", "subject", (), {"*": (FoldIds("B", ("A",), ("B",)),)}, "c")
    with pytest.raises(BenchError, match=r"subjects differ in voxels \(A 3, B 5\), expected a common set of voxels"):
        _ = prepare.folds(dataset, split, "B")[0].preparation


def test_only_shared_masks_survive_a_subject_split(tmp_path):
    root, dataset, split = loaded(tmp_path, unit="subject", average=())
    np.savez(root / "S2" / "rois.npz", early=np.arange(20) < 10, late=np.arange(20) < 3)
    (fold,) = prepare.folds(dataset, split, "S1")
    assert set(prepare.train_set(fold, set()).fmri.rois) == set(prepare.test_responses(fold).rois) == {"early"}


# -------------------------------------------------------------------------------------------------- preflight


def test_preflight_is_remembered(tmp_path, monkeypatch):
    _, dataset, split = loaded(tmp_path, unit="run")
    cache = tmp_path / "cache"
    first = prepare.preflight(dataset, split, "S1", cache)
    assert first.tags == ("seen stimuli",)
    assert first.reports["fold1"].n_voxels == 20
    monkeypatch.setattr(prepare, "folds", lambda *_: pytest.fail("checked again"))
    assert prepare.preflight(dataset, split, "S1", cache) == first
    for change in (
        (dataclasses.replace(dataset, fingerprint="other"), split, "S1"),
        (dataset, dataclasses.replace(split, checksum="other"), "S1"),
        (dataset, split, "S2"),
    ):
        with pytest.raises(pytest.fail.Exception):
            prepare.preflight(*change, cache)
    monkeypatch.setattr(prepare, "PREPARE_VERSION", -1)
    with pytest.raises(pytest.fail.Exception):
        prepare.preflight(dataset, split, "S1", cache)


def test_preflight_survives_a_damaged_cache(tmp_path):
    _, dataset, split = loaded(tmp_path)
    first = prepare.preflight(dataset, split, "S1", tmp_path / "cache")
    (path,) = (tmp_path / "cache" / "preflight").iterdir()
    for content in ("", "{}", '{"tags": [], "reports": {"fold0": {"n": 1}}}', "[]"):
        path.write_text(content)
        assert prepare.preflight(dataset, split, "S1", tmp_path / "cache") == first
    assert prepare.preflight(dataset, split, "S1") == first


PREFLIGHT_FAULTS = {
    "all-NaN trial": ("S1/responses.npy", (3, slice(None)), np.nan, "trial 3 is all NaN"),
    "undeclared NaN": ("S1/responses.npy", (3, 2), np.nan, "1 of 20 voxels hold NaN"),
    "no voxel left": ("S1/responses.npy", slice(None), 0, "no voxel left"),
    "target NaN": ("latent.npy", (3, 2), np.nan, "embedding 'latent' of stimulus 'stim003' holds NaN"),
    "picture on both sides": ("images.npy", slice(None), 0, "whose images are identical"),
}


@pytest.mark.parametrize("case", PREFLIGHT_FAULTS)
def test_preflight_stops_before_any_run(tmp_path, case):
    name, index, value, sentence = PREFLIGHT_FAULTS[case]
    root, _, split = loaded(tmp_path)
    edit_array(root / name, lambda data: data.__setitem__(index, value))
    dataset = folder.load(root, tmp_path / "cache")
    with pytest.raises(BenchError, match=sentence):
        prepare.preflight(dataset, split, "S1", tmp_path / "cache")
    assert not (tmp_path / "cache" / "preflight").exists()
    with pytest.raises(BenchError, match="unknown subject 'S9'"):
        prepare.preflight(dataset, split, "S9", tmp_path / "cache")
