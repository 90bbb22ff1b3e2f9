"""Responses without a target (sentences) on their way to a method: ``SubjectData`` to ``TrainSet.unlabelled``."""

import numpy as np
import pytest

from benchmark.api import Stimuli
from benchmark.data import prepare
from benchmark.data.base import Dataset, SubjectData
from benchmark.data.splits import FoldIds, Split
from benchmark.errors import BenchError

N_VOXELS = 6


def subject(rng, unlabelled, n_voxels=N_VOXELS):
    n = 8
    return SubjectData(
        responses=rng.standard_normal((n, n_voxels)).astype(np.float32),
        stimulus=np.arange(n) % 4,
        run=np.full(n, ""),
        session=np.full(n, ""),
        condition=np.full(n, ""),
        rois={"first": np.arange(n_voxels) < 2},
        unlabelled=unlabelled,
    )


def made(tables, nan_voxels="error", change=None):
    """Return the folds, by tested subject, of a leave-one-subject-out split of A, B, C."""
    rng = np.random.default_rng(0)
    data = {name: subject(rng, table) for name, table in tables.items()}
    if change:
        change(data)
    stimuli = Stimuli(np.array([f"s{i}" for i in range(4)]))
    dataset = Dataset("memory", "1", "f" * 64, tuple(data), stimuli, data.__getitem__, nan_voxels=nan_voxels)
    folds = tuple(FoldIds(name, tuple(s for s in data if s != name), (name,)) for name in data)
    split = Split("s", "subject", (), {"*": folds}, "c")
    return {name: prepare.folds(dataset, split, name)[0] for name in data}, data


def unlabelled(fold):
    return prepare.train_set(fold, {"words"}).unlabelled


def table(n, seed, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal((n, N_VOXELS)).astype(dtype)


def test_those_of_the_tested_subject_are_left_out():
    tables = {"A": table(5, 1), "B": None, "C": table(3, 2, np.float64)}
    folds, _ = made(tables)
    np.testing.assert_array_equal(unlabelled(folds["A"]).data, tables["C"].astype(np.float32))
    assert unlabelled(folds["A"]).subject.tolist() == ["C"] * 3
    both = unlabelled(folds["B"])
    assert both.subject.tolist() == ["A"] * 5 + ["C"] * 3
    np.testing.assert_array_equal(both.data, np.concatenate([tables["A"], tables["C"]]).astype(np.float32))
    assert both.data.dtype == np.float32
    assert both.rois["first"].tolist() == [True, True, False, False, False, False]


def test_none_where_no_training_subject_has_any():
    folds, _ = made({"A": table(5, 1), "B": None, "C": np.empty((0, N_VOXELS), np.float32)})
    assert unlabelled(folds["A"]) is None
    assert unlabelled(folds["B"]) is not None


def test_none_within_a_subject():
    folds, _ = made({"A": table(5, 1), "B": table(5, 2)})
    ids = folds["A"].dataset.stimuli.ids
    split = Split("w", "stimulus", (), {"*": (FoldIds("f", tuple(ids[:3]), tuple(ids[3:])),)}, "c")
    (fold,) = prepare.folds(folds["A"].dataset, split, "A")
    assert unlabelled(fold) is None
    assert len(prepare.train_set(fold, set())) == 6


def test_it_is_a_copy_that_leads_nowhere():
    tables = {"A": table(5, 1), "B": None, "C": None}
    folds, _ = made(tables)
    found = unlabelled(folds["B"]).data
    assert found.base is None
    found[:] = 0
    assert tables["A"].any()


def test_dropped_voxels_and_nan():
    tables = {"A": table(6, 1), "B": None, "C": None}

    def change(data):
        for one in data.values():
            one.responses[:, 1] = 7  # constant: dropped
        data["A"].responses[:, 2] = data["C"].responses[:, 2] = np.nan  # NaN in all of B's training trials: dropped
        data["C"].responses[3, 4] = np.nan
        tables["A"][2, 4] = tables["A"][0, 5] = np.nan  # one with, one without a hole in the training trials
        tables["A"][4, 1] = np.nan  # in a dropped voxel

    folds, data = made(tables, "drop", change)
    found = unlabelled(folds["B"]).data
    columns = [0, 3, 4, 5]
    train = np.concatenate([data["A"].responses, data["C"].responses])
    expected = tables["A"][:, columns].copy()
    expected[2, 2], expected[0, 3] = np.nanmean(train[:, 4]), train[:, 5].mean()
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("value", "nan_voxels", "sentence"),
    [
        (np.nan, "error", 'hold NaN, expected none unless "nan_voxels" is "drop"'),
        (np.inf, "error", "hold an infinity"),
        (-np.inf, "drop", "hold an infinity"),
    ],
)
def test_refused_values(value, nan_voxels, sentence):
    tables = {"A": table(6, 1), "B": None}
    tables["A"][3, 3] = value
    folds, _ = made(tables, nan_voxels)
    with pytest.raises(BenchError, match=f"unlabelled responses of subject A {sentence}"):
        unlabelled(folds["B"])
    assert unlabelled(folds["A"]) is None  # never looked at where it is not used


def test_other_voxels_are_refused():
    folds, _ = made({"A": np.ones((3, N_VOXELS + 1), np.float32), "B": None})
    with pytest.raises(BenchError, match="subject A have 7 voxels, expected 6"):
        unlabelled(folds["B"])


def test_blocks_do_not_matter(monkeypatch):
    tables = {"A": table(7, 1), "B": None, "C": table(4, 2)}
    whole = unlabelled(made(tables)[0]["B"]).data
    monkeypatch.setattr("benchmark.data.scan.BLOCK_BYTES", 2 * 4 * N_VOXELS)
    np.testing.assert_array_equal(unlabelled(made(tables)[0]["B"]).data, whole)
