"""`bench doctor DATASET` finds every planted fault, names it under its own check, and leaves clean data alone."""

import csv
import dataclasses

import numpy as np
import pytest
from PIL import Image

from benchmark import checkup
from benchmark.checkup import _recording, _responses, _signal
from benchmark.data import digits69, folder, miyawaki2008, splits, synthetic_scenes, synthetic_words
from tests.helpers.make_folder import edit_array, edit_json, make_folder, write_csv

SIZE = {"n_stimuli": 60, "n_test": 12, "repeats": 3, "n_voxels": 60, "subjects": ("S1",), "image_size": 32}


def look(root, tmp_path, subject="S1", **options):
    dataset = folder.load(root, tmp_path / "cache")
    return checkup.check_dataset(dataset, next(iter(folder.read_splits(root).values())), subject, **options)


def complaints(found):
    return [(f.check, f.verdict) for f in found.findings if f.verdict in (checkup.WARNING, checkup.FAULT)]


def trials(root, subject="S1"):
    with (root / subject / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [row[name] for row in rows] for name in rows[0]}


def relabel(root, change):
    """Replace the stimulus ids of S1's trials."""
    table = trials(root)
    write_csv(root / "S1" / "trials.csv", table | {"stimulus_id": list(change(np.array(table["stimulus_id"])))})


def responses(root, change):
    edit_array(root / "S1" / "responses.npy", change)


def on_test(root):
    return np.array([int(name.removeprefix("stim")) >= 48 for name in trials(root)["stimulus_id"]])


# --- clean data ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_clean_data_are_left_alone(tmp_path, seed):
    found = look(make_folder(tmp_path / "d", seed=seed, **SIZE), tmp_path)
    assert complaints(found) == []
    verdict = {f.check: f.verdict for f in found.findings}
    checked = {"NaN", "constant voxels", "outlying trials", "alignment", "repeats", "scaling", "train and test"}
    assert {name for name, v in verdict.items() if v == checkup.OK} == checked | {"pictures", "targets"}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"unit": "subject", "subjects": ("S1", "S2", "S3")},
        {"unit": "run", "repeats": 3},
        {"unit": "run"},
        {"conditions": ("a", "b")},
        {"images": None, "captions": False, "words": False},
        {"images": "folder"},
        {"n_voxels": 1, "repeats": 1, "average": ()},
        {"n_stimuli": 3, "n_test": 1, "repeats": 1},
        {"n_stimuli": 40, "repeats": 1},
    ],
    ids=str,
)
def test_small_folders_are_left_alone(tmp_path, options):
    assert complaints(look(make_folder(tmp_path / "d", **options), tmp_path)) == []


@pytest.mark.parametrize(
    ("source", "subject"),
    [(synthetic_scenes, "subj01"), *[(synthetic_words, s) for s in synthetic_words.SUBJECTS]],
    ids=["scenes", *synthetic_words.SUBJECTS],
)
def test_built_in_datasets_are_left_alone(tmp_path_factory, source, subject):
    from benchmark.pretrained import hub

    dataset = source.load(None, tmp_path_factory.getbasetemp() / "cache")
    clip = hub.load("clip", "mini") if dataset.stimuli.captions is not None else None
    found = checkup.check_dataset(dataset, splits.builtin(source.SPLIT), subject, clip)
    assert complaints(found) == []
    verdict = {f.check: f.verdict for f in found.findings}
    assert verdict["alignment"] == checkup.OK
    if clip:
        assert verdict["captions"] == verdict["repeats"] == verdict["pictures"] == checkup.OK


def test_scaling_within_sessions_or_by_the_training_rows_is_fine(tmp_path):
    root = make_folder(tmp_path / "d", **SIZE)
    table = trials(root)
    write_csv(root / "S1" / "trials.csv", table | {"session": table["run"]})
    runs = np.array(table["run"])

    def by_session(x):
        for run in np.unique(runs):
            x[runs == run] = (x[runs == run] - x[runs == run].mean(0)) / x[runs == run].std(0)

    responses(root, by_session)
    found = look(root, tmp_path)
    assert complaints(found) == []
    assert any("z-scored within runs" in f.sentence for f in found.findings)
    root = make_folder(tmp_path / "e", **SIZE)
    train = ~on_test(root)
    responses(root, lambda x: (x - x[train].mean(0)) / x[train].std(0, ddof=1))
    found = look(root, tmp_path)
    assert complaints(found) == []
    assert any("with the training rows" in f.sentence for f in found.findings)


# --- planted faults --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [-2, -1, 1, 2])
def test_labels_off_by_some_trials(tmp_path, shift):
    root = make_folder(tmp_path / "d", **SIZE)
    relabel(root, lambda ids: np.roll(ids, shift))
    found = look(root, tmp_path)
    (alignment,) = [f for f in found.findings if f.check == "alignment"]
    plural = "s" * (abs(shift) > 1)
    assert alignment.verdict == checkup.FAULT
    assert f"off by {abs(shift)} trial{plural}" in alignment.sentence
    assert ("later" if shift > 0 else "earlier") in alignment.sentence
    assert ("repeats", checkup.FAULT) in complaints(found)


@pytest.mark.parametrize("repeats", [1, 3])
def test_permuted_rows(tmp_path, repeats):
    root = make_folder(tmp_path / "d", **SIZE | {"repeats": repeats})
    responses(root, lambda x: np.random.default_rng(1).permutation(x))
    found = look(root, tmp_path)
    assert ("alignment", checkup.FAULT) in complaints(found)
    assert (("repeats", checkup.FAULT) in complaints(found)) == (repeats > 1)


def test_broken_repeats(tmp_path):
    root = make_folder(tmp_path / "d", **SIZE | {"n_stimuli": 90, "repeats": 2})
    rng = np.random.default_rng(1)
    relabel(root, lambda ids: np.concatenate([ids[:90], rng.permutation(ids[90:])]))
    found = look(root, tmp_path)
    assert ("repeats", checkup.FAULT) in complaints(found)
    assert ("alignment", checkup.FAULT) not in complaints(found)  # half of the labels are right


def test_broken_repeats_of_the_test_side_alone(tmp_path):
    root = make_folder(tmp_path / "d", **SIZE | {"n_stimuli": 100, "n_test": 50, "repeats": 2})
    rng = np.random.default_rng(1)

    def change(ids):
        rows = np.flatnonzero((ids >= "stim050") & (np.arange(len(ids)) >= 100))
        ids[rows] = rng.permutation(ids[rows])
        return ids

    relabel(root, change)
    bad = [f for f in look(root, tmp_path).findings if f.verdict == checkup.FAULT]
    assert [f.check for f in bad] == ["repeats"]
    assert "test side" in bad[0].sentence


def test_nan_constant_and_infinite_voxels(tmp_path):
    root = make_folder(tmp_path / "d", **SIZE)
    responses(root, lambda x: x.__setitem__((slice(None), 0), np.nan))
    responses(root, lambda x: x.__setitem__((5, 1), np.nan))
    responses(root, lambda x: x.__setitem__((slice(None), slice(2, 5)), 7))
    found = look(root, tmp_path)
    assert complaints(found) == [("NaN", checkup.FAULT), ("constant voxels", checkup.WARNING)]
    assert [f.sentence[:10] for f in found.findings[:2]] == ["2 of 60 vo", "3 of 60 vo"]
    edit_json(root / "dataset.json", lambda header: header.update(nan_voxels="drop"))
    assert complaints(look(root, tmp_path)) == [("constant voxels", checkup.WARNING)]
    responses(root, lambda x: x.__setitem__((9, 30), np.inf))
    bad = [f for f in look(root, tmp_path).findings if f.verdict == checkup.FAULT]
    assert [f.check for f in bad] == ["NaN"]
    assert "trial 9" in bad[0].sentence


def test_nothing_left(tmp_path):
    root = make_folder(tmp_path / "d", **SIZE)
    responses(root, np.zeros_like)
    found = look(root, tmp_path)
    assert ("constant voxels", checkup.FAULT) in complaints(found)


def test_one_picture_on_both_sides(tmp_path):
    root = make_folder(tmp_path / "d", **SIZE)
    edit_array(root / "images.npy", lambda x: x.__setitem__(50, x[7]))
    bad = [f for f in look(root, tmp_path).findings if f.verdict == checkup.FAULT]
    assert [f.check for f in bad] == ["pictures"]
    assert "stim050 is stim007" in bad[0].sentence


def test_nearly_one_picture_on_both_sides(tmp_path):
    root = make_folder(tmp_path / "d", **SIZE)
    rng = np.random.default_rng(2)

    def change(x):
        noisy = x[7].astype(float) * 0.9 + 10 + rng.normal(0, 4, x[7].shape)
        x[50] = np.clip(noisy, 0, 255).astype(np.uint8)

    edit_array(root / "images.npy", change)
    bad = [f for f in look(root, tmp_path).findings if f.verdict == checkup.FAULT]
    assert [f.check for f in bad] == ["pictures"]
    assert "stim050 and stim007" in bad[0].sentence


def test_few_near_duplicates_are_a_warning(tmp_path):
    root = make_folder(tmp_path / "d", **SIZE | {"n_stimuli": 90, "n_test": 42})
    edit_array(root / "images.npy", lambda x: x.__setitem__(50, x[7] // 8 * 8))
    assert complaints(look(root, tmp_path)) == [("pictures", checkup.WARNING)]


def test_scaled_with_the_test_rows(tmp_path):
    root = make_folder(tmp_path / "d", **SIZE)
    responses(root, lambda x: (x - x.mean(0)) / x.std(0))
    assert complaints(look(root, tmp_path)) == [("scaling", checkup.FAULT)]
    edit_json(root / "dataset.json", lambda header: header.update(tags=["transductive scaling"]))
    assert complaints(look(root, tmp_path)) == []
    edit_json(root / "dataset.json", lambda header: header.update(tags=[]))
    responses(root, lambda x: (x - x.min(0)) / np.ptp(x, axis=0))
    assert complaints(look(root, tmp_path)) == [("scaling", checkup.FAULT)]
    responses(root, lambda x: x - x.mean(0))
    assert complaints(look(root, tmp_path)) == [("scaling", checkup.WARNING)]
    root = make_folder(tmp_path / "e", **SIZE)
    edit_array(root / "latent.npy", lambda x: (x - x.mean(0)) / x.std(0))
    assert complaints(look(root, tmp_path)) == [("targets", checkup.WARNING)]


@pytest.mark.parametrize("change", ["x3", "+2 SD"])
def test_test_trials_of_another_distribution(tmp_path, change):
    root = make_folder(tmp_path / "d", **SIZE)
    test = on_test(root)
    scale, shift = (3, 0) if change == "x3" else (1, 2)
    responses(root, lambda x: np.where(test[:, None], scale * x + shift * x.std(0), x).astype(np.float32))
    bad = [f for f in look(root, tmp_path).findings if f.verdict == checkup.FAULT]
    assert [f.check for f in bad] == ["train and test"]
    number = bad[0].value if change == "x3" else float(bad[0].sentence.partition("differ by ")[2].split()[0])
    assert abs(number - (scale if change == "x3" else shift)) < 0.3


def test_a_subject_in_other_units(tmp_path):
    root = make_folder(tmp_path / "d", unit="subject", subjects=("S1", "S2", "S3"))
    responses(root, lambda x: 3 * x)
    assert complaints(look(root, tmp_path)) == [("train and test", checkup.FAULT)]
    assert complaints(look(root, tmp_path, "S2")) == []


def test_trials_far_out_empty_or_copied(tmp_path):
    root = make_folder(tmp_path / "d", **SIZE)
    test = np.flatnonzero(on_test(root))
    train = np.flatnonzero(~on_test(root))
    responses(root, lambda x: x.__setitem__(train[3], 20 * x[train[3]]))
    found = look(root, tmp_path)
    assert complaints(found) == [("outlying trials", checkup.WARNING)]
    assert any(f"trial {train[3]} " in f.sentence for f in found.findings)
    root = make_folder(tmp_path / "e", **SIZE)
    responses(root, lambda x: x.__setitem__(train[3], 0))
    assert complaints(look(root, tmp_path)) == [("empty trials", checkup.WARNING)]
    root = make_folder(tmp_path / "f", **SIZE)
    responses(root, lambda x: x.__setitem__(train[3], x[train[4]]))
    assert complaints(look(root, tmp_path)) == [("copied trials", checkup.WARNING)]
    responses(root, lambda x: x.__setitem__(train[3], x[test[0]]))
    assert complaints(look(root, tmp_path)) == [("copied trials", checkup.FAULT)]


def test_targets_in_another_order_constant_or_damaged(tmp_path):
    root = make_folder(tmp_path / "d", **SIZE)
    latent = np.load(root / "latent.npy")
    np.save(root / "other.npy", np.random.default_rng(1).permutation(latent))
    edit_json(root / "dataset.json", lambda h: h["stimuli"]["embeddings"].update(other="other.npy"))
    found = look(root, tmp_path)
    assert complaints(found) == [("targets", checkup.WARNING)]
    assert any("'other'" in f.sentence for f in found.findings if f.verdict == checkup.WARNING)
    edit_array(root / "other.npy", lambda x: np.ones_like(x))
    assert complaints(look(root, tmp_path)) == [("targets", checkup.FAULT)]
    np.save(root / "other.npy", latent)
    edit_array(root / "other.npy", lambda x: x.__setitem__(51, x[50]))
    assert complaints(look(root, tmp_path)) == [("targets", checkup.WARNING)]
    edit_array(root / "other.npy", lambda x: x.__setitem__((3, 2), np.nan))
    assert complaints(look(root, tmp_path)) == [("targets", checkup.FAULT)]
    np.save(root / "other.npy", latent)
    edit_array(root / "images.npy", lambda x: x.__setitem__(3, 99))
    assert complaints(look(root, tmp_path)) == [("targets", checkup.WARNING)]


def test_captions_of_other_pictures():
    rng = np.random.default_rng(0)
    scenes = synthetic_scenes.sc.sample(rng, 24, "train", distinct=True)
    from benchmark.pretrained import hub

    clip, images = hub.load("clip", "mini"), synthetic_scenes.sc.render(scenes)
    texts = synthetic_scenes.sc.captions(scenes, rng)
    data = _recording.SubjectData(np.zeros((24, 5), np.float32), np.arange(24), *[np.full(24, "")] * 3)
    rows = np.arange(18), np.arange(18, 24)

    def verdict(listed, model):
        stimuli = _recording.Stimuli(np.arange(24).astype(str), images=images, captions=listed)
        dataset = _recording.Dataset("d", "1", "f", ("S",), stimuli, lambda subject: data)
        recording = _recording.Recording(dataset, None, data, np.arange(5), data.responses, *rows, rng)
        (found,) = checkup._check.captions(recording, model)
        return found.verdict

    assert verdict(texts, clip) == checkup.OK
    assert verdict([texts[i] for i in rng.permutation(24)], clip) == checkup.FAULT
    assert verdict([("an aardvark",)] * 24, clip) == checkup.UNCHECKED  # a word it never read
    assert verdict(texts, None) == checkup.UNCHECKED


# --- parts -----------------------------------------------------------------------------------------------------------


def test_no_fit_sees_the_test_side(tmp_path, monkeypatch):
    from benchmark import ridge

    root = make_folder(tmp_path / "d", **SIZE)
    test, marked, seen = on_test(root), 1e6, []
    responses(root, lambda x: np.where(test[:, None], marked, x).astype(np.float32))
    fit = ridge.fit
    monkeypatch.setattr(ridge, "fit", lambda x, *rest, **more: seen.append(np.abs(x).max()) or fit(x, *rest, **more))
    look(root, tmp_path)
    assert len(seen) == _signal.FOLDS
    assert max(seen) < marked / 100


def test_halves_are_means_of_odd_and_even_presentations():
    stimulus = np.array([2, 0, 0, 1, 2, 0, 2, 3])
    x = np.arange(8, dtype=np.float32)[:, None] ** 2
    empty = np.full(8, "")
    data = _recording.SubjectData(x, stimulus, empty, empty, empty)
    recording = _recording.Recording(None, None, data, np.arange(1), x, np.arange(8), np.arange(0), None)
    assert _signal._halves(recording, np.arange(8)) is None  # two repeated stimuli
    data = dataclasses.replace(data, stimulus=np.array([2, 0, 0, 1, 2, 0, 2, 1]))
    recording = dataclasses.replace(recording, data=data)
    first, second = _signal._halves(recording, np.arange(8))
    np.testing.assert_allclose(first[:, 0] + x.mean(), [(1 + 25) / 2, 9, (0 + 36) / 2])
    np.testing.assert_allclose(second[:, 0] + x.mean(), [4, 49, 16])


def test_correlation_is_that_of_centred_values():
    rng = np.random.default_rng(0)
    y, p = rng.normal(size=(2, 9, 4))
    expected = np.corrcoef((y - y.mean(0)).ravel(), (p - p.mean(0)).ravel())[0, 1]
    assert _signal._correlation(y, p) == pytest.approx(expected)
    assert _signal._correlation(y, np.zeros_like(p)) == 0
    stacked = _signal._correlation(np.stack([y, p], 1), np.stack([p, p], 1))
    np.testing.assert_allclose(stacked, [expected, 1])


def test_rows_are_permuted_within_their_group():
    groups = np.array([0, 1, 0, 2, 1, 0])
    order = _signal._within(np.random.default_rng(3), groups)
    np.testing.assert_array_equal(groups[order], groups)
    np.testing.assert_array_equal(np.sort(order), np.arange(6))


def test_shares_of_scaled_columns():
    x = np.random.default_rng(0).normal(3, 2, (50, 8)).astype(np.float32)
    assert _responses.scaled_shares(x)[:2] == (0, 0)
    assert _responses.scaled_shares(x)[2] < 0.3
    for ddof in (0, 1):
        assert _responses.scaled_shares((x - x.mean(0)) / x.std(0, ddof=ddof))[:2] == (1, 1)
    assert _responses.scaled_shares(x - x.mean(0))[:2] == (0, 1)
    assert _responses.scaled_shares((x - x.min(0)) / np.ptp(x, axis=0))[2] == 1
    assert _responses.scaled_shares(x[:2]) == (0, 0, 0)


def test_voxels_are_sampled_over_the_range_of_variances():
    rng = np.random.default_rng(0)
    sd = rng.permutation(5000) + 1.0
    x = (rng.normal(size=(40, 5000)) * sd).astype(np.float32)
    chosen = _responses._sample(x, np.arange(5000))
    assert len(np.unique(chosen)) == _responses.MAX_VOXELS
    assert abs(np.median(sd[chosen]) - 2500) < 150
    np.testing.assert_array_equal(_responses._sample(x, np.arange(7)), np.arange(7))


# --- the verb --------------------------------------------------------------------------------------------------------


def test_verb_prints_draws_and_exits(bench, tmp_path):
    root = make_folder(tmp_path / "d", **SIZE | {"subjects": ("S1", "S2")})
    code, out, err = bench("doctor", "tiny", "--data", root, "--subject", "all", "--out", "new")
    assert (code, err) == (0, "")
    assert out.count("0 faults, 0 warnings") == 2
    for subject in ("S1", "S2"):
        pixels = np.asarray(Image.open(tmp_path / "new" / f"tiny-{subject}-doctor.png").convert("RGB"))
        assert pixels.shape[1] == 1400
        assert len(np.unique(pixels @ np.array([65536, 256, 1]))) > 100
    responses(root, lambda x: np.random.default_rng(1).permutation(x))
    code, out, _ = bench("doctor", "tiny", "--data", root)
    assert code == 1
    assert "fault       alignment: Ridge decodes no target" in out
    assert "S2" not in out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "expected a DATASET or --models"),
        (("tiny", "--models"), "expected a DATASET or --models"),
        (("tyni",), "unknown dataset 'tyni'"),
        (("tiny", "--subject", "S9"), "unknown subject of dataset tiny 'S9'"),
        (("tiny", "--split", "mian"), "unknown split of dataset tiny 'mian'"),
    ],
)
def test_wrong_options_are_one_sentence(bench, tiny, arguments, expected):
    code, out, err = bench("doctor", *arguments, "--data", tiny)
    assert (code, out) == (2, "")
    assert expected in err
    assert len(err.strip().splitlines()) == 1


# --- real recordings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "place", "split", "subject"),
    [
        (digits69, "digit69", "digits69-v1", "S1"),
        (miyawaki2008, "miyawaki2008_kamitani", "miyawaki2008-v1", "S1"),
        (miyawaki2008, "miyawaki2008_kamitani", "miyawaki2008-v1", "S2"),
    ],
    ids=["digits69", "miyawaki-S1", "miyawaki-S2"],
)
def test_real_recordings_have_no_fault(test_data, tmp_path, source, place, split, subject):
    dataset = source.load(test_data / place, tmp_path)
    found = checkup.check_dataset(dataset, splits.builtin(split), subject)
    assert found.count(checkup.FAULT) == 0
    assert {f.check: f.verdict for f in found.findings}["alignment"] == checkup.OK


@pytest.mark.parametrize("shift", [-1, 1])
def test_shifted_labels_of_real_recordings(test_data, tmp_path, shift):
    dataset = miyawaki2008.load(test_data / "miyawaki2008_kamitani", tmp_path)
    data = dataset.load_subject("S1")
    moved = dataclasses.replace(data, stimulus=np.roll(data.stimulus, shift))
    dataset = dataclasses.replace(dataset, load_subject=lambda subject: moved)
    found = checkup.check_dataset(dataset, splits.builtin("miyawaki2008-v1"), "S1")
    (alignment,) = [f for f in found.findings if f.check == "alignment"]
    assert alignment.verdict == checkup.FAULT
    assert "off by 1 trial" in alignment.sentence
