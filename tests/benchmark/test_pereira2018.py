import json
import shutil

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from benchmark.data import pereira2018 as pereira
from benchmark.data import prepare, splits
from benchmark.data.pereira_files import words
from benchmark.data.splits import split_checksum
from benchmark.data.word_folds import leave_words_out
from benchmark.errors import BenchError
from tests.helpers.make_folder import truncate
from tests.helpers.make_pereira import PARADIGMS, ROI_NAMES, cell, edit_mat, make_pereira
from tests.helpers.naive_padding import naive_row, naive_template

SENTENCES, PICTURES = "data_180concepts_sentences.mat", "data_180concepts_pictures.mat"


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """P01 with both sentence files, M03 with one, M05 without, in the older variant."""
    root = tmp_path_factory.mktemp("pereira")
    return root, make_pereira(root, words())


@pytest.fixture
def copied(release, tmp_path):
    return shutil.copytree(release[0], tmp_path / "release")


@pytest.fixture
def alone(release, tmp_path):
    """One participant only, which is all that most faults need."""
    root = tmp_path / "release"
    root.mkdir()
    for path in release[0].glob("*.txt"):
        shutil.copy(path, root)
    shutil.copytree(release[0] / "M03", root / "M03")
    return root


@pytest.fixture
def loaded(release, tmp_path_factory):
    return pereira.load(release[0], tmp_path_factory.getbasetemp() / "pereira-cache")


# ------------------------------------------------------------------------------------------------ loading


def test_dataset(release, loaded):
    root, _ = release
    assert loaded.subjects == ("P01", "M03", "M05")
    assert loaded.nan_voxels == "error"
    assert loaded.roi_names == tuple(ROI_NAMES)
    assert loaded.stimuli.ids.tolist() == list(words()) == (root / "stimuli_180concepts.txt").read_text().split()
    vectors = np.loadtxt(root / "vectors_180concepts.GV42B300.txt")
    assert loaded.stimuli.embeddings["glove"].dtype == np.float32
    np.testing.assert_allclose(loaded.stimuli.embeddings["glove"], vectors, rtol=1e-6)
    rows = {"P01": 627, "M03": 243, "M05": None}
    for subject in loaded.subjects:
        data = loaded.load_subject(subject)
        assert isinstance(data.responses, np.memmap)
        assert data.responses.dtype == np.float32
        assert data.stimulus.tolist() == list(range(180)) * 3
        assert data.condition.tolist() == [p for p in PARADIGMS for _ in range(180)]
        assert (None if data.unlabelled is None else len(data.unlabelled)) == rows[subject]
        assert sum(mask.sum() for mask in data.rois.values()) == data.responses.shape[1]
    with pytest.raises(BenchError, match="M01"):
        loaded.load_subject("M01")


def expected_responses(root, made, subject, names):
    """Project the files of a subject with the naive loop."""
    zero_based = {s: [(part - 1).tolist() for part in v.lists] for s, v in made.items()}
    z = {s: v.coords[:, 2].tolist() for s, v in made.items()}
    goal = naive_template(list(zero_based.values()), list(z.values()), 333)
    rows = []
    for name, variable in names:
        content = loadmat(root / subject / name)[variable]
        rows += [naive_row(scan, zero_based[subject], z[subject], goal) for scan in content[:4].tolist()]
    return np.array(rows)


def test_columns_are_the_parcels_voxels(release, loaded):
    """Off by one would give every parcel another's voxels: the reference counts from the files' own lists."""
    root, made = release
    for subject, prefix in (("P01", "data"), ("M05", "examples")):
        data = loaded.load_subject(subject)
        names = [(f"{prefix}_180concepts_{p}s.mat", "examples") for p in PARADIGMS]
        expected = expected_responses(root, made, subject, names)
        first = (180 * np.arange(3)[:, None] + np.arange(4)).ravel()
        np.testing.assert_allclose(data.responses[first], expected, rtol=1e-5, atol=1e-6)
        largest = [max(len(v.lists[k]) for v in made.values()) for k in range(333)]
        assert [int(mask.sum()) for mask in data.rois.values()] == largest
    names = [(f"data_{n}sentences.mat", "examples_passagesentences") for n in (384, 243)]
    rows = [0, 1, 2, 3, 384, 385, 386, 387]
    unlabelled = loaded.load_subject("P01").unlabelled[rows]
    np.testing.assert_allclose(unlabelled, expected_responses(root, made, "P01", names), rtol=1e-5, atol=1e-6)


def test_files_are_converted_once(release, loaded, tmp_path, monkeypatch):
    root, cache = release[0], tmp_path / "cache"
    first = pereira.load(root, cache)
    assert first.fingerprint == loaded.fingerprint
    monkeypatch.setattr(pereira, "_convert", lambda *_: pytest.fail("converted again"))
    again = pereira.load(root, cache)
    np.testing.assert_array_equal(again.load_subject("M03").responses, first.load_subject("M03").responses)


def test_an_interrupted_conversion_leaves_nothing(release, tmp_path, monkeypatch):
    write = pereira._write

    def stop(path, *more):
        if path.stem.startswith("M"):
            raise OSError(28, "No space left on device")
        write(path, *more)

    monkeypatch.setattr(pereira, "_write", stop)
    with pytest.raises(BenchError, match="No space left on device"):
        pereira.load(release[0], tmp_path / "cache")
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["hashes"] or not list((tmp_path / "cache").iterdir())


def test_fingerprint_follows_the_bytes(copied, loaded, tmp_path):
    edit_mat(copied / "M03" / PICTURES, lambda c: c["examples"].__setitem__((3, 4), c["examples"][3, 4] + 1e-9))
    assert pereira.load(copied, tmp_path / "cache").fingerprint != loaded.fingerprint


def test_vectors_of_the_older_file(copied, release, tmp_path, loaded):
    table = np.loadtxt(copied / "vectors_180concepts.GV42B300.txt")
    (copied / "vectors_180concepts.GV42B300.txt").unlink()
    (copied / "glove_data").mkdir()
    savemat(copied / "glove_data/180_concepts.mat", {"words": [f"{w:15}" for w in words()], "data": table})
    dataset = pereira.load(copied, tmp_path / "cache")
    np.testing.assert_array_equal(dataset.stimuli.embeddings["glove"], loaded.stimuli.embeddings["glove"])


def test_the_real_vectors(alone, test_data, tmp_path):
    source = test_data / "pereira2018_stimuli"
    shutil.copy(source / "vectors_180concepts.GV42B300.txt", alone)
    shutil.copy(source / "stimuli_180concepts.txt", alone)
    text = pereira.load(alone, tmp_path / "cache").stimuli.embeddings["glove"]
    (alone / "vectors_180concepts.GV42B300.txt").unlink()
    shutil.copy(source / "brain2word_180_concepts.mat", alone / "180_concepts.mat")
    mat = pereira.load(alone, tmp_path / "cache").stimuli.embeddings["glove"]
    np.testing.assert_allclose(text, mat, atol=1e-5)
    assert np.std(text) == pytest.approx(0.4136, abs=1e-4)


def test_m01_is_left_out(copied, loaded, tmp_path):
    shutil.copytree(copied / "P01", copied / "M01")
    assert pereira.load(copied, tmp_path / "cache").fingerprint == loaded.fingerprint


# ------------------------------------------------------------------------------------------------ faults


def _lists(content, older=False):
    record = content["meta"][0, 0]
    return record["roiColumnsGordon"] if older else record["roiColumns"][0, 14]


def _set_index(roi, value):
    def change(content):
        _lists(content)[roi, 0] = np.array([[float(value)]])

    return change


def _set(name, change):
    return lambda content: content | {name: change(content[name])}


def _without(name):
    return lambda content: {key: value for key, value in content.items() if key != name}


def _planted(index, value):
    def change(data):
        data[index] = value
        return data

    return change


def _swapped(key):
    key[[7, 8]] = key[[8, 7]]
    return key


def _meta_without(name):
    def change(content):
        record = content["meta"][0, 0]
        return content | {"meta": {key: record[key] for key in record.dtype.names if key != name}}

    return change


FAULTS = {
    "index 0": (_set_index(5, 0), ["roiColumns", "from 0", "1 to"]),
    "index too large": (_set_index(5, 99_999), ["to 99999", "as MATLAB counts"]),
    "fractional index": (_set_index(5, 1.5), ["whole numbers"]),
    "NaN index": (_set_index(5, np.nan), ["whole numbers"]),
    "wrong word order": (_set("keyConcept", _swapped), ["word 8", "expected"]),
    "wrong label order": (_set("labelsConcept", _swapped), ["word 8", "expected"]),
    "label outside": (_set("labelsConcept", _planted((0, 0), 181)), ["labelsConcept", "1 to 180"]),
    "too few words": (lambda c: c | {"keyConcept": c["keyConcept"][:4], "labelsConcept": np.ones((4, 1))}, ["4 words"]),
    "too few rows": (_set("examples", lambda x: x[:179]), ["179 x", "180 rows"]),
    "no responses": (_without("examples"), ["no variable examples"]),
    "no meta": (_without("meta"), ["no variable meta"]),
    "no atlas": (_meta_without("atlases"), ["meta cannot be understood", "gordon"]),
    "no coordinates": (_meta_without("colToCoord"), ["colToCoord"]),
    "other voxels": (_set("examples", lambda x: x[:, :-1]), ["colToCoord is", "x 3"]),
    "one parcel less": (
        lambda c: c["meta"][0, 0]["roiColumns"].__setitem__((0, 14), _lists(c)[:-1]),
        ["332 lists", "expected 333"],
    ),
    "cells in a list": (lambda c: _lists(c).__setitem__((2, 0), cell(["a"])), ["meta cannot be understood"]),
}


@pytest.mark.parametrize("case", FAULTS)
def test_fault(alone, tmp_path, case):
    change, sentence = FAULTS[case]
    path = alone / "M03" / PICTURES
    edit_mat(path, change)
    with pytest.raises(BenchError) as caught:
        pereira.load(alone, tmp_path / "cache")
    for text in (str(path), "expected", *sentence):
        assert text in str(caught.value)
    found = [fault for fault in pereira.check(alone) if "no such folder" not in fault]
    assert found
    assert all(str(path) in fault for fault in found)


def _used(release, subject="M03"):
    return int(release[1][subject].lists[10][0]) - 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_hole_in_a_parcel(alone, release, tmp_path, value):
    path = alone / "M03" / PICTURES
    edit_mat(path, _set("examples", _planted((3, _used(release)), value)))
    with pytest.raises(BenchError, match="NaN or infinity in 1 voxels"):
        pereira.load(alone, tmp_path / "cache")
    assert sum("NaN or infinity in 1 voxels" in fault for fault in pereira.check(alone)) == 1


def test_a_hole_outside_of_all_parcels_does_no_harm(copied, release, tmp_path, loaded):
    voxels = release[1]["M03"]
    outside = np.setdiff1d(np.arange(len(voxels.coords)), np.concatenate(voxels.lists) - 1)
    edit_mat(copied / "M03" / PICTURES, _set("examples", _planted((3, outside[0]), np.nan)))
    dataset = pereira.load(copied, tmp_path / "cache")
    np.testing.assert_array_equal(dataset.load_subject("M03").responses, loaded.load_subject("M03").responses)


def test_an_index_of_the_older_variant_is_checked_too(copied, tmp_path):
    edit_mat(
        copied / "M05/examples_180concepts_pictures.mat",
        lambda c: _lists(c, older=True).__setitem__((3, 0), np.zeros((1, 1))),
    )
    with pytest.raises(BenchError, match="run from 0 to"):
        pereira.load(copied, tmp_path / "cache")


def test_parcels_named_otherwise(alone, tmp_path):
    def rename(content):
        content["meta"][0, 0]["rois"][0, 14][[3, 4]] = content["meta"][0, 0]["rois"][0, 14][[4, 3]]

    edit_mat(alone / "M03" / PICTURES, rename)
    with pytest.raises(BenchError, match="other parcels than in"):
        pereira.load(alone, tmp_path / "cache")


@pytest.mark.parametrize("name", [PICTURES, "data_243sentences.mat"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_truncated_file(alone, tmp_path, name, share):
    path = alone / "M03" / name
    truncate(path, round(path.stat().st_size * share))
    with pytest.raises(BenchError) as caught:
        pereira.load(alone, tmp_path / "cache")
    assert str(path) in str(caught.value)
    assert any(str(path) in fault for fault in pereira.check(alone))


def test_everything_missing_is_listed_at_once(copied, tmp_path):
    (copied / "P01" / PICTURES).unlink()
    (copied / "M03" / "data_243sentences.mat").unlink()
    (copied / "vectors_180concepts.GV42B300.txt").unlink()
    (copied / "M05/examples_180concepts_sentences.mat").write_bytes(b"nothing")
    found = "\n".join(pereira.check(copied))
    for text in (PICTURES, "243 sentences", "180_concepts.mat", "examples_180concepts_sentences.mat", "M17"):
        assert text in found
    assert len(pereira.check(copied)) == 12 + 4
    with pytest.raises(BenchError, match=r"data_180concepts_pictures.mat: no such file.*1 more: bench data check"):
        pereira.load(copied, tmp_path / "cache")


def test_an_empty_folder(tmp_path):
    with pytest.raises(BenchError, match=r"180_concepts\.mat"):
        pereira.load(tmp_path, tmp_path / "cache")
    assert len(pereira.check(tmp_path)) == 16


@pytest.mark.parametrize(
    ("plant", "sentence"),
    [
        (lambda f: f.write_text("1 2 3\n4 5 6\n"), "2 x 3"),
        (lambda f: f.write_text("word 1 2\n"), "rows of numbers"),
        (lambda f: np.savetxt(f, np.full((180, 300), np.nan)), "finite"),
        (lambda f: (f.parent / "stimuli_180concepts.txt").write_text("\n".join(reversed(words()))), "word 1 is 'word'"),
        (
            lambda f: (f.unlink(), savemat(f.parent / "180_concepts.mat", {"words": list(words()[1:]), "data": 0.0})),
            "expected 180 x 300",
        ),
        (
            lambda f: (
                f.unlink(),
                savemat(f.parent / "180_concepts.mat", {"words": [*words()[:-1], "w"], "data": np.zeros((180, 300))}),
            ),
            "word 180 is 'w'",
        ),
        (lambda f: (f.unlink(), (f.parent / "180_concepts.mat").write_bytes(b"\0" * 200)), "cannot be read"),
    ],
)
def test_wrong_vectors(alone, tmp_path, plant, sentence):
    plant(alone / "vectors_180concepts.GV42B300.txt")
    with pytest.raises(BenchError, match=sentence):
        pereira.load(alone, tmp_path / "cache")
    assert any(sentence in fault for fault in pereira.check(alone))


# ------------------------------------------------------------------------------------------------ splits


def test_splits():
    loso, lwo = splits.builtin("pereira2018-loso-v1"), splits.builtin("pereira2018-lwo-v1")
    assert [fold.test for fold in loso.folds["*"]] == [(s,) for s in pereira.SUBJECTS]
    assert all(sorted([*f.train, *f.test]) == sorted(pereira.SUBJECTS) for f in loso.folds["*"])
    assert len(pereira.SUBJECTS) == 15
    assert "M01" not in pereira.SUBJECTS
    folds = leave_words_out(words())
    assert lwo.average == ("subject", "stimulus")
    assert [{"name": f.name, "train": list(f.train), "test": list(f.test)} for f in lwo.folds["*"]] == folds
    content = {"name": lwo.name, "unit": "stimulus", "average": ["subject", "stimulus"], "folds": folds}
    assert split_checksum(content) == lwo.checksum


def test_unlabelled_scans_are_those_of_training_subjects(loaded):
    """P01 and M03 read sentences; who is tested brings none, and a split within a subject has none."""

    def train_set(split, subject):
        return prepare.train_set(prepare.folds(loaded, split, subject)[0], {"words"}, "glove")

    others = {s: tuple(t for t in loaded.subjects if t != s) for s in loaded.subjects}
    folds = tuple(splits.FoldIds(s, others[s], (s,)) for s in loaded.subjects)
    split = splits.Split("loso", "subject", (), {"*": folds}, "c")
    assert set(train_set(split, "P01").unlabelled.subject) == {"M03"}
    assert set(train_set(split, "M03").unlabelled.subject) == {"P01"}
    both = train_set(split, "M05").unlabelled
    assert both.subject.tolist() == ["P01"] * 627 + ["M03"] * 243
    np.testing.assert_array_equal(both.data[627:], loaded.load_subject("M03").unlabelled)
    lwo = splits.builtin("pereira2018-lwo-v1")
    train = train_set(lwo, "P01")
    assert train.unlabelled is None
    assert len(train) == 170
    # the three paradigms of a word averaged
    rows = loaded.load_subject("P01").responses.reshape(3, 180, -1).mean(axis=0)
    names = train.stimuli.ids[train.stimulus]
    np.testing.assert_allclose(train.fmri.data, rows[[words().index(w) for w in names]], rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------------ command line


def test_check_through_the_command_line(bench, copied):
    code, out, _ = bench("data", "check", copied.parent)
    assert code == 2
    assert "(pereira2018): 12 faults" in out


def test_words_left_out_of_one_participant(bench, alone, tmp_path):
    """A folder of one participant is enough within a subject, and is not for leaving subjects out."""
    arguments = ("run", "--data", alone, "--dataset", "pereira2018", "--method", "ridge", "--subject", "M03")
    code, _, err = bench(*arguments, "--split", "pereira2018-lwo-v1", "--jobs", 1, "--json", "out.json")
    assert code == 0, err
    (row,) = json.loads((tmp_path / "out.json").read_text())
    assert row["split"] == "pereira2018-lwo-v1"
    assert row["metrics"]["rank_accuracy"]["value"] > 0.8
    assert row["metrics"]["rank_accuracy"]["chance"] == 0.5
    assert row["metrics"]["rank_accuracy"]["n"] == 180
    assert row["metrics"]["top5"]["chance"] == pytest.approx(0.5)
    for split, sentence in (
        ("pereira2018-loso-v1", "fold 'M03' lists the subject 'P01' and 13 more"),
        ("pereira2018-lwo-v2", "did you mean 'pereira2018-lwo-v1'"),
    ):
        code, _, err = bench(*arguments, "--split", split)
        assert code == 2
        assert sentence in " ".join(err.split())


@pytest.mark.slow
def test_ridge_on_both_protocols(bench, tmp_path):
    root = tmp_path / "release"
    make_pereira(root, words(), subjects=pereira.SUBJECTS, sentences=False, per_roi=2, noise=4.0)
    arguments = [
        "run",
        "--data",
        root,
        "--dataset",
        "pereira2018",
        "--method",
        "ridge,shuffled",
        "--subject",
        "P01,M05",
    ]
    code, _, err = bench(*arguments, "--json", "out.json")
    assert code == 0, err
    rows = json.loads((tmp_path / "out.json").read_text())
    found = {(row["split"], row["method"], row["subject"]): row["metrics"] for row in rows}
    assert len(found) == 8
    for subject in ("P01", "M05"):
        loso, lwo = (found[f"pereira2018-{name}-v1", "ridge", subject] for name in ("loso", "lwo"))
        assert loso["top5"]["value"] > 0.5
        assert loso["top5"]["chance"] == pytest.approx(5 / 180)
        assert loso["top5"]["n"] == 540
        assert lwo["rank_accuracy"]["value"] > 0.65
        assert 0.35 < found["pereira2018-lwo-v1", "shuffled", subject]["rank_accuracy"]["value"] < 0.65
    board = (tmp_path / "runs/leaderboards/pereira2018/words.md").read_text()
    assert "Ranked by **top5**" in board
    assert "Ranked by **rank_accuracy**" in board
    code, out, err = bench(*arguments, "--split", "pereira2018-lwo-v1")
    assert code == 0, err
    assert "4 runs, 4 kept from before" in out
