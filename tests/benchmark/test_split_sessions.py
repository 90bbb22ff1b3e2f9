"""A split that names sessions uses their trials alone, whatever it holds out."""

import dataclasses

import numpy as np
import pytest

from benchmark.data import folder, prepare
from benchmark.errors import BenchError
from tests.helpers.make_folder import edit_split, make_folder


def load(tmp_path, unit):
    """Three repeats of twelve stimuli in sessions a, b, c; subject S2 lacks c."""
    root = make_folder(tmp_path / "tiny", unit=unit, repeats=3, average=())
    for subject, sessions in (("S1", "abc"), ("S2", "abb")):
        lines = (root / subject / "trials.csv").read_text().split()
        rows = [f"{line},{sessions[i // 12]}" for i, line in enumerate(lines[1:])]
        (root / subject / "trials.csv").write_text("\n".join([f"{lines[0]},session", *rows]))
    return root


@pytest.mark.parametrize("unit", ["stimulus", "run", "subject"])
def test_only_their_trials_are_used(tmp_path, unit):
    root = load(tmp_path, unit)
    every = prepare.folds(folder.load(root, tmp_path), folder.read_splits(root)["main"], "S1")
    edit_split(root / "splits/main.json", lambda split: split.update(sessions=["a", "b"]))
    dataset, split = folder.load(root, tmp_path), folder.read_splits(root)["main"]
    assert split.sessions == ("a", "b")
    some = prepare.folds(dataset, split, "S1")
    for all_rows, rows in zip(every, some, strict=True):
        for side in ("train_rows", "test_rows"):
            for subject, found in getattr(rows, side).items():
                session = dataset.load_subject(subject).session
                expected = [r for r in getattr(all_rows, side)[subject] if session[r] in ("a", "b")]
                assert found.tolist() == expected


def test_no_trial_left_is_an_error(tmp_path):
    root = load(tmp_path, "stimulus")
    edit_split(root / "splits/main.json", lambda split: split.update(sessions=["c"]))
    dataset, split = folder.load(root, tmp_path), folder.read_splits(root)["main"]
    assert len(prepare.train_set(prepare.folds(dataset, split, "S1")[0], set())) == 8
    with pytest.raises(BenchError, match="no train trial of subject 'S2'"):
        prepare.folds(dataset, split, "S2")


def test_sessions_are_part_of_the_checksum(tmp_path):
    root = load(tmp_path, "stimulus")
    before = folder.read_splits(root)["main"]
    edit_split(root / "splits/main.json", lambda split: split.update(sessions=["a"]))
    after = folder.read_splits(root)["main"]
    assert before.checksum != after.checksum
    assert dataclasses.replace(after, checksum=before.checksum, sessions=()) == before
    assert np.isin(after.sessions, ["a"]).all()
