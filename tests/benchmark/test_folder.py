"""Folder datasets: round trip, every fault in one clear sentence, fingerprint and caches."""

import contextlib
import json
import pickle
import re

import numpy as np
import pytest

from benchmark.data import folder, prepare
from benchmark.errors import BenchError
from tests.helpers.make_folder import (
    edit_array,
    edit_json,
    edit_split,
    every_file,
    make_folder,
    truncate,
    write_csv,
    write_json,
    write_split,
)


@pytest.fixture
def root(tmp_path):
    return make_folder(tmp_path / "tiny")


def put(index, value):
    """Return a change of an array at an index."""

    def change(data):
        data[index] = value

    return change


def key(*steps, value=None):
    """Return a change of a JSON value: set the entry at the end of the steps, or remove it."""

    def change(content):
        for step in steps[:-1]:
            content = content[step]
        if value is None:
            del content[steps[-1]]
        else:
            content[steps[-1]] = value

    return change


def trials(*lines):
    return lambda path: path.write_text("\n".join(["stimulus_id,run", *lines]) + "\n")


def masks(**arrays):
    return lambda path: np.savez(path, **arrays)


def header(*steps, value=None):
    return lambda path: edit_json(path, key(*steps, value=value))


def split(*steps, value=None):
    return lambda path: edit_split(path, key(*steps, value=value))


def array(change):
    return lambda path: edit_array(path, change)


# (file, fault planted in it, what the sentence says besides the file's path)
FAULTS = {
    "header missing": ("dataset.json", lambda p: p.unlink(), "no such file, expected a JSON file"),
    "header damaged": ("dataset.json", truncate, "not valid JSON at line"),
    "header binary": ("dataset.json", lambda p: p.write_bytes(b"\xff\xfe{}"), "not UTF-8"),
    "header not object": ("dataset.json", lambda p: p.write_text("[]"), "expected an object"),
    "header key twice": ("dataset.json", lambda p: p.write_text('{"name": "a", "name": "b"}'), "'name' is given twice"),
    "key unknown": ("dataset.json", header("nan_voxel", value="drop"), "'nan_voxel', did you mean 'nan_voxels'?"),
    "nested key unknown": (
        "dataset.json",
        header("subjects", "S1", "roi", value="x.npz"),
        "'subjects.S1.roi', did you mean 'rois'?",
    ),
    "key missing": ("dataset.json", header("tracks"), "key 'tracks' is missing, expected an object"),
    "format": ("dataset.json", header("format", value="bids"), 'format is "bids", expected "fmri-bench-folder"'),
    "version unknown": ("dataset.json", header("format_version", value=2), "format_version is 2, expected 1"),
    "option unknown": ("dataset.json", header("nan_voxels", value="fill"), 'expected "error" or "drop"'),
    "absolute path": (
        "dataset.json",
        header("stimuli", "table", value="/etc/passwd"),
        'stimuli.table is "/etc/passwd", expected a path inside',
    ),
    "escaping path": (
        "dataset.json",
        header("subjects", "S1", "trials", value="a/../../t.csv"),
        'subjects.S1.trials is "a/../../t.csv", expected a path inside',
    ),
    "windows path": ("dataset.json", header("stimuli", "captions", value="C:\\c.json"), "expected a path inside"),
    "subject name": (
        "dataset.json",
        header("subjects", "../S3", value={}),
        "key 'subjects.../S3' found, expected a name",
    ),
    "space unknown": (
        "dataset.json",
        header("tracks", "embedding", "space", value="clip"),
        "tracks.embedding.space is 'clip', expected one of stimuli.embeddings (latent)",
    ),
    "track without images": ("dataset.json", header("stimuli", "images"), "'stimuli.images' is missing"),
    "table missing": ("stimuli.csv", lambda p: p.unlink(), "no such file, expected a CSV table"),
    "table empty": ("stimuli.csv", lambda p: p.write_text("stimulus_id\n"), "no rows"),
    "table not text": (
        "stimuli.csv",
        lambda p: p.write_bytes(b"stimulus_id\n\xff\xfe\n"),
        "expected a CSV table in UTF-8",
    ),
    "table cut in a cell": ("stimuli.csv", lambda p: p.write_text('stimulus_id,word\na,"b'), "damaged"),
    "table cut in a row": (
        "stimuli.csv",
        lambda p: p.write_text("stimulus_id,word\na\n"),
        "1 cells in line 2, expected 2",
    ),
    "column missing": (
        "stimuli.csv",
        lambda p: p.write_text("name,word\na,b\n"),
        "columns are name, word, expected one",
    ),
    "column twice": ("stimuli.csv", lambda p: p.write_text("word,word\na,b\n"), "expected each once"),
    "column misspelt": (
        "S1/trials.csv",
        lambda p: p.write_text(p.read_text().replace("run", "runs", 1)),
        "unknown column 'runs', did you mean 'run'?",
    ),
    "words empty": (
        "stimuli.csv",
        lambda p: p.write_text(p.read_text().replace("word3", "")),
        "word is empty in line 5, expected a text",
    ),
    "ids twice": (
        "stimuli.csv",
        lambda p: p.write_text(p.read_text().replace("stim001", "stim000")),
        "1 stimulus_id given twice ('stim000' in lines 2 and 3), expected unique ids",
    ),
    "images missing": ("images.npy", lambda p: p.unlink(), "no such file, expected uint8 (n, height, width, 1 or 3)"),
    "images truncated": ("images.npy", truncate, "truncated or not a .npy file"),
    "images not uint8": ("images.npy", array(lambda x: x.astype(np.float32)), "float32 array of shape (12, 8, 8, 3)"),
    "images uint16": ("images.npy", array(lambda x: x.astype(np.uint16)), "uint16 array of shape (12, 8, 8, 3)"),
    "images channels first": ("images.npy", array(lambda x: x.transpose(0, 3, 1, 2).copy()), "shape (12, 3, 8, 8)"),
    "images too few": ("images.npy", array(lambda x: x[:-1]), "shape (11, 8, 8, 3), expected uint8"),
    "captions count": ("captions.json", lambda p: write_json(p, [["a"]] * 11), "captions of 11 stimuli, expected 12"),
    "captions flat": ("captions.json", lambda p: write_json(p, ["a"] * 12), 'entry 0 is "a", expected a list'),
    "captions object": ("captions.json", lambda p: write_json(p, {}), "a JSON dict, expected a list"),
    "embedding rows": ("latent.npy", array(lambda x: x[:-1]), "shape (11, 5), expected float32 (n, d) (n = 12"),
    "embedding NaN": ("latent.npy", array(put((3, 1), np.nan)), "of stimulus 'stim003' holds NaN or infinity"),
    "embedding integers": ("latent.npy", array(lambda x: x.astype(int)), "int64 array of shape (12, 5)"),
    "responses missing": (
        "S1/responses.npy",
        lambda p: p.unlink(),
        "no such file, expected float32 (n_trials, n_voxels)",
    ),
    "responses truncated": ("S1/responses.npy", truncate, "truncated or not a .npy file"),
    "responses empty file": ("S1/responses.npy", lambda p: p.write_bytes(b""), "truncated or not a .npy file"),
    "responses too long": (
        "S1/responses.npy",
        lambda p: p.write_bytes(p.read_bytes() + b"\0" * 80),
        "2128 bytes, expected 2048 as the array's own header says",
    ),
    "responses text": ("S1/responses.npy", lambda p: p.write_text("1,2,3"), "not a .npy file"),
    "responses pickled": ("S1/responses.npy", lambda p: p.write_bytes(pickle.dumps([1.0])), "not a .npy file"),
    "responses objects": ("S1/responses.npy", array(lambda x: x.astype(object)), "not a .npy file of plain numbers"),
    "responses archive": ("S1/responses.npy", lambda p: p.write_bytes((p.parent / "rois.npz").read_bytes()), ".npz"),
    "responses integers": ("S1/responses.npy", array(lambda x: x.astype(np.int16)), "int16 array of shape (24, 20)"),
    "responses half": ("S1/responses.npy", array(lambda x: x.astype(np.float16)), "float16 array of shape (24, 20)"),
    "responses 3-D": ("S1/responses.npy", array(lambda x: x[None]), "shape (1, 24, 20), expected float32 (n_trials"),
    "responses no voxels": ("S1/responses.npy", array(lambda x: x[:, :0]), "is empty, expected trials and voxels"),
    "responses rows": (
        "S1/responses.npy",
        array(lambda x: x[:-2]),
        "22 rows, expected 24, one per row of S1/trials.csv",
    ),
    "trials rows": (
        "S1/trials.csv",
        lambda p: p.write_text("\n".join(p.read_text().splitlines()[:-1])),
        "24 rows, expected 23, one per row of S1/trials.csv",
    ),
    "trials unknown id": (
        "S1/trials.csv",
        lambda p: p.write_text(re.sub("stim00[12]", "stim999", p.read_text())),
        "1 unknown stimulus_id ('stim999' in line",
    ),
    "trial all NaN": ("S1/responses.npy", array(put(7, np.nan)), "1 trials are all NaN (row 7, from 0), expected"),
    "voxel NaN": (
        "S1/responses.npy",
        array(put((slice(None), 4), np.nan)),
        '1 of 20 voxels hold NaN, expected none unless "nan_voxels" is "drop"',
    ),
    "infinity": ("S1/responses.npy", array(put((2, 4), np.inf)), "1 trials are infinite in some voxel (row 2"),
    "no voxel left": ("S1/responses.npy", array(put(slice(None), 1.0)), "no voxel left, all are NaN or constant"),
    "roi length": (
        "S1/rois.npz",
        masks(V1=np.ones(19, bool)),
        "'V1' is a bool array of shape (19,), expected a boolean",
    ),
    "roi numbers": ("S1/rois.npz", masks(V1=np.ones(20)), "'V1' is a float64 array of shape (20,), expected a boolean"),
    "roi truncated": ("S1/rois.npz", truncate, "cannot be read (BadZipFile), expected an .npz file of ROI masks"),
    "roi missing": ("S1/rois.npz", lambda p: p.unlink(), "no such file, expected an .npz file of ROI masks"),
    "ncsnr length": ("S1/ncsnr.npy", array(lambda x: x[1:]), "shape (19,), expected float32, one value for each of 20"),
    "ncsnr NaN": ("S1/ncsnr.npy", array(put(0, np.nan)), "holds NaN or infinity"),
    "coords columns": ("S1/coords.npy", array(lambda x: x[:, :2].copy()), "shape (20, 2), expected integers (n, 3)"),
    "coords outside": ("S1/coords.npy", array(put((1, 0), 9)), "row 1 is [9, 0, 1], expected a place within shape"),
    "split missing": ("splits/main.json", lambda p: p.unlink(), "no such file, expected a JSON file"),
    "split checksum": ("splits/main.json", lambda p: edit_json(p, key("name", value="x")), "sha256 is '"),
    "split unsigned": ("splits/main.json", lambda p: edit_json(p, key("sha256")), "key 'sha256' is missing"),
    "split id unknown": (
        "splits/main.json",
        split("folds", 0, "test", value=["stim011", "nobody"]),
        "fold 'fold0' lists the stimulus 'nobody', expected only ids of the dataset",
    ),
    "split overlap": (
        "splits/main.json",
        split("folds", 0, "test", value=["stim001", "stim011"]),
        "fold 'fold0' has the stimulus 'stim001' in train and in test",
    ),
    "split subject": (
        "splits/main.json",
        split("folds", value={"S9": [{"name": "f", "train": ["stim000"], "test": ["stim001"]}]}),
        "folds of subject 'S9', expected one of S1, S2",
    ),
    "split never shown": (
        "S1/trials.csv",
        trials(*[f"stim00{i % 3},run1" for i in range(24)]),
        "fold 'fold0' has no test trial of subject 'S1'",
    ),
    "picture twice": (
        "images.npy",
        array(lambda x: np.concatenate([x[:-1], x[:1]])),
        "trains on 'stim000' and tests on 'stim011', whose images are identical",
    ),
}


# faults that show in another file than the one they are planted in
ELSEWHERE = {
    "trials rows": "S1/responses.npy",
    "split never shown": "splits/main.json",
    "picture twice": "splits/main.json",
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_named_with_its_file(root, case):
    name, plant, sentence = FAULTS[case]
    plant(root / name)
    start = f"{root / ELSEWHERE.get(case, name)}: "
    faults = folder.check(root)
    assert any(fault.startswith(start) and sentence in fault for fault in faults), faults
    assert all(
        (fault.startswith(f"{root}/") and "\n" not in fault and "expected" in fault) or "did you mean" in fault
        for fault in faults
    ), faults


def test_consequences_of_a_fault_are_not_faults(root):
    for case in (
        "responses truncated",
        "table missing",
        "split checksum",
        "key unknown",
        "roi length",
        "embedding NaN",
    ):
        name, plant, _ = FAULTS[case]
        make_folder(root)
        plant(root / name)
        assert len(folder.check(root)) == 1, case


def test_a_sound_folder_has_no_faults(root):
    assert folder.check(root) == []


def test_all_faults_are_named_at_once_and_load_gives_the_first(root, tmp_path):
    truncate(root / "S1" / "responses.npy")
    (root / "S2" / "rois.npz").unlink()
    edit_json(root / "dataset.json", key("colour", value="blue"))
    faults = folder.check(root)
    assert len(faults) == 3
    with pytest.raises(BenchError) as error:
        folder.load(root, tmp_path / "cache")
    assert str(error.value) == f"{faults[0]}; 2 more: bench data check {root}"
    assert not (tmp_path / "cache").exists()


def test_one_fault_is_given_alone(root, tmp_path):
    truncate(root / "S2" / "responses.npy")
    with pytest.raises(BenchError, match=r"responses\.npy: truncated .*\(n_trials, n_voxels\)$"):
        folder.load(root, tmp_path)


def test_round_trip(root, tmp_path):
    dataset = folder.load(root, tmp_path)
    assert (dataset.name, dataset.version, dataset.subjects) == ("tiny", "1.0", ("S1", "S2"))
    assert dataset.roi_names == ("early", "late")
    stimuli, data = dataset.stimuli, dataset.load_subject("S2")
    assert type(data.responses) is np.memmap
    assert type(stimuli.images) is np.memmap
    assert type(stimuli.embeddings["latent"]) is np.memmap
    np.testing.assert_array_equal(data.responses, np.load(root / "S2" / "responses.npy"))
    np.testing.assert_array_equal(stimuli.images, np.load(root / "images.npy"))
    lines = (root / "S2" / "trials.csv").read_text().splitlines()[1:]
    assert stimuli.ids[data.stimulus].tolist() == [line.split(",")[0] for line in lines]
    assert data.run.tolist() == [line.split(",")[1] for line in lines]
    assert data.condition.tolist() == [""] * len(lines)
    assert stimuli.captions[3] == ("a picture of thing 3", "thing 3")
    assert stimuli.words[3] == "word3"
    assert data.space["coords"].shape == (20, 3)
    assert data.space["shape"].tolist() == [4, 5, 3]
    info = dataset.info(frozenset({"words"}), "stimulus")
    assert info.has_captions
    assert info.has_words
    assert info.has_images
    assert info.spaces == ("latent", "clip")  # CLIP can be computed where there are images
    pickle.loads(pickle.dumps(dataset)).load_subject("S1")  # a dataset can be sent to a process


def test_only_the_table_is_needed(tmp_path):
    root = make_folder(tmp_path / "d", images=None, captions=False, words=False, place=False)
    edit_json(root / "dataset.json", lambda h: (h["subjects"]["S1"].pop("rois"), h["subjects"]["S1"].pop("ncsnr")))
    assert folder.check(root) == []
    dataset = folder.load(root, tmp_path)
    assert dataset.stimuli.images is None
    assert dataset.stimuli.captions is None
    assert dataset.stimuli.words is None
    assert dataset.load_subject("S1").rois == {}
    assert dataset.load_subject("S1").space == {}


def test_table_cells_stay_text(root, tmp_path):
    ids = ["001", "NA", "nan", "1e3", "", 'ü,"x"', *"abcdef"]
    ids[4] = "null"
    write_csv(root / "stimuli.csv", {"stimulus_id": ids, "word": ids})
    (root / "stimuli.csv").write_bytes(b"\xef\xbb\xbf" + (root / "stimuli.csv").read_bytes())
    for subject in ("S1", "S2"):
        write_csv(root / subject / "trials.csv", {"stimulus_id": ids * 2, "run": ["01"] * 24})
    edit_split(root / "splits" / "main.json", key("folds", 0, "train", value=ids[:8]))
    edit_split(root / "splits" / "main.json", key("folds", 0, "test", value=ids[8:]))
    assert folder.check(root) == []
    dataset = folder.load(root, tmp_path)
    assert dataset.stimuli.ids.tolist() == ids
    assert dataset.stimuli.ids[dataset.load_subject("S1").stimulus].tolist() == ids * 2
    assert set(dataset.load_subject("S1").run) == {"01"}


def test_unknown_subject(root, tmp_path):
    with pytest.raises(BenchError, match="unknown subject 'S11' of dataset tiny, did you mean 'S1'"):
        folder.load(root, tmp_path).load_subject("S11")


def test_file_damaged_after_load(root, tmp_path):
    dataset = folder.load(root, tmp_path)
    truncate(root / "S1" / "responses.npy")
    with pytest.raises(BenchError, match=r"S1/responses\.npy: truncated"):
        dataset.load_subject("S1")


def test_any_damage_is_a_clear_error(tmp_path):
    rng = np.random.default_rng(0)
    root, cache = make_folder(tmp_path / "d", images="folder", n_stimuli=6, n_test=2, subjects=("S1",)), tmp_path / "c"
    for name in every_file(root):
        content = (root / name).read_bytes()
        for place in rng.integers(0, min(len(content), 150), 2):
            cut, flipped = content[:place], content[:place] + bytes([content[place] ^ 2]) + content[place + 1 :]
            for damaged in (cut, flipped, cut + content[place + 3 :]):
                (root / name).write_bytes(damaged)
                faults = folder.check(root)
                with contextlib.suppress(BenchError):  # anything else is a bug
                    dataset, split = folder.load(root, cache), folder.read_splits(root)["main"]
                    prepare.preflight(dataset, split, dataset.subjects[0])
                    assert not faults, name
        (root / name).write_bytes(content)
    assert folder.check(root) == []


def test_header_and_splits_alone(root):
    assert folder.read_header(root)["name"] == "tiny"
    assert list(folder.read_splits(root)) == ["main"]
    edit_json(root / "dataset.json", key("nme", value="x"))
    with pytest.raises(BenchError, match="did you mean 'name'"):
        folder.read_header(root)


def test_two_splits_of_one_name(root):
    content = json.loads((root / "splits" / "main.json").read_text())
    write_split(root / "splits" / "other.json", content)
    edit_json(root / "dataset.json", key("splits", value=["splits/main.json", "splits/other.json"]))
    assert ["name 'main' is also that of splits/main.json" in fault for fault in folder.check(root)] == [True]


def test_nan_voxels_may_be_declared(tmp_path):
    root = make_folder(tmp_path / "d", nan_voxels="drop")
    edit_array(root / "S1" / "responses.npy", put((slice(None), 4), np.nan))
    assert folder.check(root) == []
    edit_array(root / "S1" / "responses.npy", put((5, slice(None)), np.nan))
    assert ["all NaN (row 5" in fault for fault in folder.check(root)] == [True]


def test_attributes_count(root):
    np.save(root / "a.npy", np.zeros(11))
    edit_json(root / "dataset.json", key("stimuli", "attributes", value={"hue": "a.npy"}))
    assert ["a.npy: float64 array of shape (11,), expected n rows" in fault for fault in folder.check(root)] == [True]
