"""Splits: checksums, faults of a split file, and the guards against leaks."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.api import Responses, Stimuli, TrainSet
from benchmark.data import folder, splits
from benchmark.errors import BenchError
from tests.helpers.make_folder import edit_array, edit_json, edit_split, make_folder, write_split

FOLD = {"name": "fold0", "train": ["a", "b"], "test": ["c"]}
SPLIT = {"name": "s", "unit": "stimulus", "average": [], "folds": [FOLD]}


def written(tmp_path, **changes):
    path = tmp_path / "split.json"
    write_split(path, SPLIT | changes)
    return path


def test_checksum_is_that_of_the_canonical_json():
    text = '{"average":[],"folds":[{"name":"fold0","test":["c"],"train":["a","b"]}],"name":"s","unit":"stimulus"}'
    assert splits.split_checksum(SPLIT | {"sha256": "old"}) == hashlib.sha256(text.encode()).hexdigest()


def test_read_split(tmp_path):
    split = splits.read_split(written(tmp_path, average=["subject", "stimulus"]))
    assert (split.name, split.unit, split.average) == ("s", "stimulus", ("subject", "stimulus"))
    assert split.for_subject("anyone") == (splits.FoldIds("fold0", ("a", "b"), ("c",)),)
    assert split.checksum == splits.split_checksum(SPLIT | {"average": ["subject", "stimulus"]})
    with pytest.raises(dataclasses.FrozenInstanceError):
        split.name = "other"


def test_checksum_mismatch_names_the_file_and_the_checksum(tmp_path):
    path = written(tmp_path)
    edit_json(path, lambda content: content["folds"][0]["test"].append("d"))
    expected = splits.split_checksum(json.loads(path.read_text()))
    with pytest.raises(BenchError, match=rf"split\.json: sha256 is '[0-9a-f]{{12}}'..., expected '{expected}'"):
        splits.read_split(path)


@given(st.lists(st.integers(0, 99).map(str), min_size=4, max_size=8, unique=True), st.randoms())
def test_any_moved_id_changes_the_checksum(ids, random):
    before = SPLIT | {"folds": [{"name": "f", "train": ids[:-2], "test": ids[-2:]}]}
    after = SPLIT | {"folds": [{"name": "f", "train": ids[:-1], "test": ids[-1:]}]}
    keys = list(before)
    random.shuffle(keys)
    assert splits.split_checksum(before) != splits.split_checksum(after)
    assert splits.split_checksum({key: before[key] for key in keys}) == splits.split_checksum(before)


FAULTS = {
    "overlap": ({"folds": [FOLD | {"test": ["b", "c"]}]}, "'fold0' has the stimulus 'b' in train and in test"),
    "twice in train": ({"folds": [FOLD | {"train": ["a", "a"]}]}, "'fold0' lists the stimulus 'a' twice in train"),
    "twice in test": ({"folds": [FOLD | {"test": ["c", "c"]}]}, "'fold0' lists the stimulus 'c' twice in test"),
    "tested twice": (
        {"folds": [FOLD, FOLD | {"name": "fold1"}]},
        "folds 'fold0' and 'fold1' both test the stimulus 'c', expected one",
    ),
    "name twice": ({"folds": [FOLD, FOLD | {"test": ["d"]}]}, "fold 'fold0' is there twice"),
    "no folds": ({"folds": []}, "folds is [], expected a list of folds"),
    "no test": ({"folds": [FOLD | {"test": []}]}, "folds.0.test is [], expected a list of at least one id"),
    "number as id": ({"folds": [FOLD | {"test": [3]}]}, "folds.0.test.0 is 3, expected an id as text"),
    "unit": ({"unit": "voxel"}, 'unit is "voxel", expected "stimulus", "subject" or "run"'),
    "average": (
        {"average": ["stimulus"]},
        "average is ['stimulus'], expected none or at least 'subject' and 'stimulus'",
    ),
    "average of what": ({"average": ["voxel"]}, 'average.0 is "voxel", expected one of subject, stimulus'),
    "unknown key": ({"fold": []}, "unknown key 'fold', did you mean 'folds'?"),
    "by subject": ({"folds": {"S1": [FOLD], "S2": [FOLD | {"test": ["a"]}]}}, "subject 'S2', fold 'fold0' has the"),
    "subject fold named otherwise": (
        {"unit": "subject", "folds": [{"name": "x", "train": ["S1"], "test": ["S2"]}]},
        "fold 'x' tests ['S2'], expected only the subject the fold is named after",
    ),
    "subjects by subject": (
        {"unit": "subject", "folds": {"S2": [{"name": "S2", "train": ["S1"], "test": ["S2"]}]}},
        "folds differ by subject",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_faults_of_a_split_file(tmp_path, case):
    changes, sentence = FAULTS[case]
    path = written(tmp_path, **changes)
    with pytest.raises(BenchError) as error:
        splits.read_split(path)
    assert sentence in str(error.value)
    assert str(error.value).startswith(f"{path}: ")


def test_all_faults_of_a_split_file_are_listed():
    content = SPLIT | {"folds": [FOLD | {"train": ["a", "a", "c"]}], "average": ["run"], "sha256": "0"}
    assert len(splits.content_faults(content)) == 4


def test_folds_of_a_subject(tmp_path):
    by_subject = splits.read_split(written(tmp_path, folds={"S1": [FOLD], "S2": [FOLD | {"name": "other"}]}))
    assert [fold.name for fold in by_subject.for_subject("S2")] == ["other"]
    with pytest.raises(BenchError, match="split s: no fold tests subject 'S3', expected one of S1, S2"):
        by_subject.for_subject("S3")
    folds = [{"name": s, "train": [t for t in "XYZ" if t != s], "test": [s]} for s in "XYZ"]
    held_out = splits.read_split(written(tmp_path, unit="subject", folds=folds))
    assert [fold.train for fold in held_out.for_subject("Y")] == [("X", "Z")]
    with pytest.raises(BenchError, match="no fold tests subject 'W', expected one of X, Y, Z"):
        held_out.for_subject("W")


def test_unknown_builtin_split():
    with pytest.raises(BenchError, match="unknown split 'digits69-v9', did you mean 'digits69-v1'"):
        splits.builtin("digits69-v9")


def test_every_builtin_split_is_sound():
    names = sorted(path.stem for path in (folder.Path(splits.__file__).parent / "splits").glob("*.json"))
    for name in names:
        assert splits.builtin(name).name == name


# ----------------------------------------------------------------------------------------------------- guards


def loaded(tmp_path, **options):
    root = make_folder(tmp_path / "d", **options)
    return root, folder.load(root, tmp_path / "cache"), folder.read_splits(root)["main"]


@pytest.mark.parametrize(("unit", "tags"), [("stimulus", ()), ("subject", ()), ("run", ("seen stimuli",))])
def test_a_sound_split_passes(tmp_path, unit, tags):
    _, dataset, split = loaded(tmp_path, unit=unit)
    assert splits.guard(split, dataset, "S1") == tags


def test_runs_with_their_own_stimuli_carry_no_tag(tmp_path):
    root, _, _ = loaded(tmp_path, unit="run")
    for subject in ("S1", "S2"):
        path = root / subject / "trials.csv"
        lines = [f"stim{i % 6:03d},run1\n" for i in range(12)] + [f"stim{6 + i % 6:03d},run2\n" for i in range(12)]
        path.write_text("stimulus_id,run\n" + "".join(lines))
    dataset = folder.load(root, tmp_path / "cache")
    assert splits.guard(folder.read_splits(root)["main"], dataset, "S1") == ()


@pytest.mark.parametrize("unit", ["stimulus", "subject", "run"])
def test_unknown_ids(tmp_path, unit):
    root, dataset, split = loaded(tmp_path, unit=unit)
    edit_split(root / "splits" / "main.json", lambda s: [f["train"].append("who") for f in s["folds"]])
    split = splits.read_split(root / "splits" / "main.json")
    with pytest.raises(BenchError, match=f"split main on dataset tiny: fold .* lists the {unit} 'who'"):
        splits.guard(split, dataset, "S1")


@pytest.mark.parametrize("images", ["array", "folder"])
def test_one_picture_under_two_ids_on_both_sides(tmp_path, images):
    root, dataset, split = loaded(tmp_path, images=images)

    def copy(pixels):
        pixels[11] = pixels[3]
        pixels[2] = pixels[1]  # both on the training side: allowed

    if images == "array":
        edit_array(root / "images.npy", copy)
    else:
        (root / "images" / "stim011.png").write_bytes((root / "images" / "stim003.png").read_bytes())
    sentence = "fold 'fold0' trains on 'stim003' and tests on 'stim011', whose images are identical"
    with pytest.raises(BenchError, match="split main on dataset tiny: " + sentence):
        splits.guard(split, folder.load(root, tmp_path / "cache"), "S1") if images == "folder" else splits.guard(
            split, dataset, "S1"
        )
    assert [sentence in fault for fault in folder.check(root)] == [True]


def test_stimulus_id_twice(tmp_path):
    _, dataset, split = loaded(tmp_path)
    ids = dataset.stimuli.ids.copy()
    ids[3] = ids[2]
    twice = dataclasses.replace(dataset, stimuli=dataclasses.replace(dataset.stimuli, ids=ids))
    with pytest.raises(BenchError, match="stimulus id 'stim002' is there twice"):
        splits.guard(split, twice, "S1")


# ------------------------------------------------------------------------- validation out of the training side


def rows(unit, subject, stimulus):
    n = len(stimulus)
    fmri = Responses(np.zeros((n, 1), np.float32), np.array(subject))
    stimuli = Stimuli(np.unique(stimulus).astype(str))
    return TrainSet(fmri, np.array(stimulus), stimuli, np.full(n, ""), frozenset(), unit=unit)


@given(
    st.sampled_from(["stimulus", "subject", "run"]),
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 6)), min_size=1, max_size=40),
    st.floats(0, 1),
    st.integers(0, 9),
)
def test_holdout_keeps_units_whole(unit, trials, fraction, seed):
    train = rows(unit, [subject for subject, _ in trials], [stimulus for _, stimulus in trials])
    fit, validation = train.holdout(fraction, seed)
    assert sorted([*fit, *validation]) == list(range(len(trials)))
    units = train.fmri.subject if unit == "subject" else train.stimulus
    assert not set(units[fit]) & set(units[validation])
    n = len(set(units.tolist()))
    assert len(fit)
    assert len(set(units[validation].tolist())) == min(max(1, round(fraction * n)), n - 1)
    np.testing.assert_array_equal(train.holdout(fraction, seed)[1], validation)
