import hashlib
import json
import os
import shutil
from itertools import product

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat, savemat

from benchmark.data import algonauts2023, nsd_design, prepare, splits
from benchmark.data.algonauts_files import CLASSES
from benchmark.data.overlap import overlap_fault, shared_pictures, trained_on_fault
from benchmark.errors import BenchError
from tests.helpers import make_algonauts as made
from tests.helpers.make_algonauts import make_algonauts
from tests.helpers.pickled import Evil, write_object

SPLIT = "algonauts-heldout-v1"
BOTH = pytest.mark.parametrize("named", [True, False], ids=["official", "copy without ids"])


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path):
    return make_algonauts(tmp_path / "algonauts")


def one(root, pattern):
    (path,) = root.rglob(pattern)
    return path


def only_fault(root, cache):
    """The one fault of a folder; loading says the same."""
    (fault,) = algonauts2023.check(root)
    with pytest.raises(BenchError) as error:
        algonauts2023.load(root, cache).load_subject("subj01")
    assert str(error.value) == fault
    return fault


def sides(root, subject="subj01"):
    (fold,) = algonauts2023.split(SPLIT, root)["folds"][subject]
    return fold["train"], fold["test"]


@BOTH
def test_left_then_right_vertices_and_the_picture_of_every_row(tmp_path, cache, named):
    root = make_algonauts(tmp_path / "a", ("subj01", "subj03"), named=named)
    dataset = algonauts2023.load(root, cache)
    assert dataset.subjects == ("subj01", "subj03")
    assert isinstance(dataset.stimuli.images, np.memmap)
    assert dataset.stimuli.images.shape == (12 + 2 * 48, 224, 224, 3)
    for subject in dataset.subjects:
        data, rows = dataset.load_subject(subject), made.responses(subject)
        assert isinstance(data.responses, np.memmap)
        assert data.responses.dtype == np.float32
        np.testing.assert_array_equal(data.responses, np.concatenate([rows["lh"], rows["rh"]], axis=1))
        pictures = np.stack([made.picture(k) for k in made.numbers(subject)]).astype(int)
        centres = dataset.stimuli.images[data.stimulus][:, 28::56, 28::56].astype(int)
        assert np.abs(centres - pictures).max() < 12
        if named:
            assert dataset.stimuli.ids[data.stimulus].tolist() == [f"nsd{k:05d}" for k in made.numbers(subject)]


@BOTH
def test_roi_masks_by_name(tmp_path, cache, named):
    root = make_algonauts(tmp_path / "a", named=named)
    dataset = algonauts2023.load(root, cache)
    rois = dataset.load_subject("subj01").rois
    for kind, names in CLASSES.items():
        labels = np.concatenate([made.labels(side, kind) for side in ("lh", "rh")])
        value = {name: k for k, name in made.mapping(kind).items()}
        for name in names:
            np.testing.assert_array_equal(rois[name], labels == value.get(name, -1))
    assert set(rois) == set(dataset.roi_names) == {name for names in CLASSES.values() for name in names}
    # without a vertex, and without a place in the mapping
    assert [name for name, mask in rois.items() if not mask.any()] == ["aTL-faces", "mTL-bodies"]


def test_labels_are_resolved_through_the_mapping(root, cache):
    """The same numbers with other names, one of them new."""
    folder = root / "subj01" / "roi_masks"
    np.save(folder / "mapping_floc-places.npy", {1: "RSC", 2: "new", 3: "OPA"}, allow_pickle=True)  # 0 left out
    dataset = algonauts2023.load(root, cache)
    rois = dataset.load_subject("subj01").rois
    labels = np.concatenate([made.labels(side, "floc-places") for side in ("lh", "rh")])
    for value, name in ((1, "RSC"), (2, "new"), (3, "OPA")):
        np.testing.assert_array_equal(rois[name], labels == value)
    assert not rois["PPA"].any()
    assert "new" in dataset.roi_names


def test_the_shared_pictures_are_tested(root, cache):
    train, test = sides(root)
    assert test == [f"nsd{k:05d}" for k in made.SHARED[:12]]
    assert len(train) == 48
    dataset = algonauts2023.load(root, cache)
    (fold,) = prepare.folds(dataset, splits.derived(algonauts2023.split(SPLIT, root, cache)), "subj01")
    shown = dataset.stimuli.ids[dataset.load_subject("subj01").stimulus]
    expected = np.concatenate(list(made.responses("subj01").values()), axis=1)
    np.testing.assert_array_equal(prepare.test_responses(fold).data, expected[np.isin(shown, test)])
    np.testing.assert_array_equal(prepare.train_set(fold, set()).fmri.data, expected[np.isin(shown, train)])
    assert dataset.tags == ("transductive scaling",)


def test_the_design_file_beside_the_data_says_what_is_shared(root):
    own = [k for k in made.numbers("subj01") if k not in made.SHARED][:5]
    shared = [*own, *made.SHARED[12:1000], *range(40000, 40007)]
    savemat(root / "nsd_expdesign.mat", {"sharedix": np.array(shared, float)[None] + 1})
    assert sides(root)[1] == [f"nsd{k:05d}" for k in own]
    savemat(root / "nsd_expdesign.mat", {"sharedix": np.ones((1, 1000))})
    (fault,) = algonauts2023.check(root)
    assert "sharedix is not 1000 different numbers" in fault
    with pytest.raises(BenchError, match="sharedix is not 1000 different numbers"):
        algonauts2023.split(SPLIT, root)


def test_without_ids_a_tenth_is_tested_by_the_content_of_the_files(tmp_path):
    subjects = ("subj01", "subj02", "subj03")
    root = make_algonauts(tmp_path / "a", subjects, named=False)
    n_tested = n = 0
    for subject in subjects:
        train, test = sides(root, subject)
        paths = sorted((root / subject).rglob("*.png"), key=lambda p: int(p.stem))
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
        low = [int(digest[:8], 16) / 2**32 < 0.1 for digest in digests]
        assert test == [f"image-{d[:16]}" for d, is_low in zip(digests, low, strict=True) if is_low]
        assert train == [f"image-{d[:16]}" for d, is_low in zip(digests, low, strict=True) if not is_low]
        n_tested, n = n_tested + len(test), n + len(paths)
    assert 0.03 < n_tested / n < 0.2


def test_pictures_in_order_of_number_not_of_name(tmp_path, cache):
    root = make_algonauts(tmp_path / "a", named=False)
    dataset = algonauts2023.load(root, cache)
    rows = dataset.load_subject("subj01").stimulus
    first = hashlib.sha256(one(root, "2.png").read_bytes()).hexdigest()[:16]
    assert dataset.stimuli.ids[rows[2]] == f"image-{first}"


def test_a_split_needs_pictures_on_both_sides(root):
    for path in root.rglob("*.png"):
        number = int(path.stem[-5:])
        path.rename(path.with_name(path.name.replace(f"{number:05d}", f"{number + 1:05d}")))
    # as if ids counted from 1: a few may still be shared ones by chance
    shared = set(made.SHARED) & {k + 1 for k in made.numbers("subj01")}
    assert not shared
    with pytest.raises(BenchError, match=r"0 of 60 training pictures are tested .* expected pictures on both sides"):
        algonauts2023.split(SPLIT, root)


def test_an_unknown_split_or_subject_names_the_nearest(root, cache):
    with pytest.raises(BenchError, match="did you mean 'algonauts-heldout-v1'"):
        algonauts2023.split("algonauts-heldout", root)
    with pytest.raises(BenchError, match="no subject 'subj02', did you mean 'subj01'"):
        algonauts2023.load(root, cache).load_subject("subj02")


# --- faults ---


def save(path, change):
    np.save(path, change(np.array(np.load(path))))


def set_at(where, value):
    def change(array):
        array[where] = value
        return array

    return change


def dump(value):
    return lambda path: np.save(path, value, allow_pickle=True)


def copy_to(name):
    return lambda path: shutil.copy(path, path.with_name(name))


def rename_to(name):
    return lambda path: path.rename(path.with_name(name))


A, B, C = (f"train-{k:04d}_nsd-{n:05d}.png" for k, n in enumerate(made.numbers("subj01")[:3], 1))
DAMAGE = {
    "rows removed": (
        "lh_training_fmri.npy",
        lambda p: save(p, lambda a: a[:-1]),
        "59 rows, expected 60, one for every",
    ),
    "truncated": ("lh_training_fmri.npy", lambda p: os.truncate(p, p.stat().st_size // 2), "truncated or not"),
    "no numbers": ("lh_training_fmri.npy", dump(np.array([["a"]])), "<U1 array of shape (1, 1), expected floats"),
    "flat": ("rh_training_fmri.npy", dump(np.zeros(5)), "float64 array of shape (5,), expected floats (n_images"),
    "removed": ("rh_training_fmri.npy", os.unlink, "no such file, expected responses"),
    "a label too few": ("lh.streams_challenge_space.npy", lambda p: save(p, lambda a: a[1:]), "29 labels, expected 30"),
    "labels of no name": (
        "rh.streams_challenge_space.npy",
        lambda p: save(p, set_at(4, 9)),
        "label 9 is not in mapping_streams.npy, expected a name for every label",
    ),
    "labels of fractions": (
        "rh.streams_challenge_space.npy",
        lambda p: save(p, lambda a: a + 0.5),
        "float64 array of shape (36,), expected a whole number for every vertex",
    ),
    "no labels": ("rh.streams_challenge_space.npy", os.unlink, "no such file, expected a label for every vertex"),
    "no mapping": ("mapping_streams.npy", os.unlink, "no such file, expected a dict"),
    "mapping the wrong way": ("mapping_streams.npy", dump({"early": 1}), "holds something else, expected a dict"),
    "NaN": ("rh_training_fmri.npy", lambda p: save(p, set_at((7, 3), np.nan)), "1 values are NaN and 0 rows hold"),
    "infinity": ("rh_training_fmri.npy", lambda p: save(p, set_at((7, 3), np.inf)), "0 values are NaN and 1 rows hold"),
    "damaged picture": (A, lambda p: p.write_bytes(p.read_bytes()[:60]), "cannot be read"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named_in_one_sentence(root, cache, case):
    name, damage, sentence = DAMAGE[case]
    path = one(root, name)
    damage(path)
    fault = only_fault(root, cache)
    assert fault.startswith(f"{path}: ")
    assert sentence in fault


NAMES = {
    "one NSD picture twice": (B, rename_to(B[:14] + A[14:]), "are of one NSD picture, expected every id once"),
    "one number twice": (B, rename_to(A[:10] + B[10:]), "two pictures of number 1, expected one"),
    "a gap": (B, os.unlink, "no picture of number 2, expected every number from 1 to 60"),
    "another name": (A, copy_to("cat.png"), "cat.png: 1 such names, expected all pictures named train-"),
    "both ways of naming": (A, copy_to("7.png"), "7.png: 1 such names, expected all pictures named train-"),
    "an id too large": (C, rename_to(C[:15] + "99999.png"), "NSD picture 99999 found, expected ids from 0 to 72999"),
}


@pytest.mark.parametrize("case", NAMES)
def test_names_of_pictures_that_cannot_be_right(root, cache, case):
    name, change, sentence = NAMES[case]
    change(one(root, name))
    faults = algonauts2023.check(root)
    assert sentence in faults[0]
    with pytest.raises(BenchError) as error:
        algonauts2023.load(root, cache)
    assert str(error.value).startswith(faults[0])
    with pytest.raises(BenchError) as error:
        algonauts2023.split(SPLIT, root)
    assert str(error.value) == faults[0]


def test_a_copy_with_one_picture_twice(tmp_path, cache):
    root = make_algonauts(tmp_path / "a", named=False)
    shutil.copy(one(root, "3.png"), one(root, "40.png"))
    assert "40.png: the same bytes as 3.png, expected every picture once" in only_fault(root, cache)


def test_one_id_with_two_pictures(tmp_path):
    root = make_algonauts(tmp_path / "a", ("subj01", "subj02"))
    number = made.SHARED[0]
    path = next((root / "subj02").rglob(f"*_nsd-{number:05d}.png"))
    picture = Image.open(path)
    picture.save(path, compress_level=9)  # other bytes, the same picture
    assert algonauts2023.check(root) == []
    Image.new("RGB", picture.size).save(path)
    (fault,) = algonauts2023.check(root)
    assert fault.startswith(f"{path}: not the picture of")
    assert fault.endswith(f"expected one picture of nsd{number:05d} for every subject")


def test_everything_missing_is_listed_at_once(tmp_path, bench):
    root = make_algonauts(tmp_path / "a", ("subj01", "subj02"))
    for path in (
        root / "subj01/roi_masks/mapping_floc-words.npy",
        root / "subj01/roi_masks/lh.prf-visualrois_challenge_space.npy",
        root / "subj02/training_split/training_fmri/rh_training_fmri.npy",
    ):
        path.unlink()
    save(root / "subj01/training_split/training_fmri/lh_training_fmri.npy", set_at((0, 0), np.nan))
    shutil.rmtree(root / "subj02/training_split/training_images")
    write_object(root / "subj02/roi_masks/mapping_streams.npy", Evil(tmp_path / "trace"))
    code, out, _ = bench("data", "check", root)
    assert code == 2
    for part in (
        "mapping_floc-words.npy: no such file",
        "lh.prf-visualrois_challenge_space.npy: no such file",
        "rh_training_fmri.npy: no such file",
        "lh_training_fmri.npy: 1 values are NaN",
        "training_images: no picture, expected train-0001_nsd-00013.png",
        "mapping_streams.npy: refused",
        "(algonauts2023): 6 faults",
    ):
        assert part in out
    assert not (tmp_path / "trace").exists()


def test_a_sound_folder_has_no_fault(tmp_path, bench):
    root = make_algonauts(tmp_path / "a", ("subj01", "subj02"))
    code, out, _ = bench("data", "check", root)
    assert (code, "(algonauts2023): no fault found" in out) == (0, True)
    (tmp_path / "empty").mkdir()
    (fault,) = algonauts2023.check(tmp_path / "empty")
    assert "no subject, expected folders such as subj01/training_split" in fault


def test_a_fingerprint_changes_with_any_byte_that_counts(root, cache):
    before = algonauts2023.load(root, cache).fingerprint
    (root / "subj01" / "test_split").mkdir()  # ignored
    (root / "subj01" / "test_split" / "test-0001_nsd-00845.png").write_bytes(b"")
    assert algonauts2023.load(root, cache).fingerprint == before
    save(one(root, "lh.streams_challenge_space.npy"), set_at(0, 0))
    assert algonauts2023.load(root, cache).fingerprint != before


# --- NSD's shared pictures, and models trained on one dataset and scored on the other ---


def ids(pictures):
    return nsd_design.stimulus_ids(np.asarray(pictures)).tolist()


@pytest.fixture(scope="module")
def design(test_data):
    return test_data / "nsd_design" / "nsd_expdesign_equiv.mat"


def test_the_shared_pictures_are_those_of_the_design(design):
    shared = loadmat(design)["sharedix"].ravel().astype(int) - 1
    assert shared_pictures().shape == (1000,)
    np.testing.assert_array_equal(shared_pictures(), np.sort(shared))


def training_pictures(design, subject):
    """The challenge's training pictures: those of all but a subject's last three sessions."""
    content = loadmat(design)
    order, pictures = content["masterordering"].ravel().astype(int) - 1, content["subjectim"].astype(int) - 1
    trials = (nsd_design.SESSIONS[subject] - 3) * 750
    return np.unique(pictures[int(subject[-1]) - 1, order[:trials]])


@pytest.mark.parametrize("subject", nsd_design.SESSIONS)
def test_the_published_training_pictures_have_the_published_number(design, subject):
    shown = training_pictures(design, subject)
    whole = subject in ("subj01", "subj02", "subj05", "subj07")
    known = (9841, 982) if whole else (9082, 894) if subject in ("subj03", "subj06") else (8779, 872)
    assert (len(shown), np.isin(shown, shared_pictures()).sum()) == known


def test_the_published_training_pictures_are_split_as_nsd_982_splits_them(design, tmp_path):
    folder = tmp_path / "subj01" / "training_split" / "training_images"
    folder.mkdir(parents=True)
    for row, number in enumerate(training_pictures(design, "subj01"), 1):
        (folder / f"train-{row:04d}_nsd-{number:05d}.png").touch()
    (expected,) = nsd_design.read_design(design).split("nsd-982")["folds"]["subj01"]
    train, test = sides(tmp_path)
    assert (len(train), len(test)) == (8859, 982)
    assert (train, test) == (sorted(expected["train"]), sorted(expected["test"]))
    shutil.copy(design, tmp_path / "nsd_expdesign.mat")
    assert sides(tmp_path) == (train, test)
    # trained on one dataset's training side, scored on the other's test side
    assert overlap_fault("nsd/nsd-982", expected["train"], f"algonauts2023/{SPLIT}", test) is None
    whole = overlap_fault("algonauts2023", train + test, "nsd/nsd-982", expected["test"])
    assert "shows 982 of the 982 stimuli that nsd/nsd-982 tests" in whole


def test_a_model_that_saw_a_tested_picture_is_refused():
    assert overlap_fault("a", ids([1, 2, 3]), "b", ids([3, 4])) == (
        "trained on a, which shows 1 of the 2 stimuli that b tests (nsd00003), expected a model that never saw them"
    )
    assert overlap_fault("a", ids([1, 2]), "b", ids([3, 4])) is None
    assert overlap_fault("a", [], "b", ids([3])) is None
    assert overlap_fault("a", ids([1]), "b", []) is None


def test_copies_without_ids_cannot_be_told_from_nsd():
    unknown = ["image-0123456789abcdef"]
    for trained, tested in ((unknown, ids([1])), (ids([1]), unknown)):
        assert "which they share cannot be told" in overlap_fault("a", trained, "b", tested)
    assert overlap_fault("a", unknown, "b", ["image-fedcba9876543210"]) is None  # two sides of one copy
    assert overlap_fault("a", unknown, "b", ["COCO_train2014_000000001000.jpg"]) is None


NSD_TEST = ids(made.SHARED[:982])


@pytest.mark.parametrize(
    ("trained_on", "tested_on", "tested", "sentence"),
    [
        ("algonauts2023", "nsd/nsd-982", NSD_TEST, "shows 982 of the 982 stimuli that nsd/nsd-982 tests"),
        ("nsd", f"algonauts2023/{SPLIT}", NSD_TEST[:7], "shows 7 of the 7"),
        ("nsd", "nsd/nsd-1000", NSD_TEST, "shows 982 of the 982"),
        (f"algonauts2023/{SPLIT}", "nsd/nsd-982", NSD_TEST, None),
        ("nsd/nsd-1000-single", f"algonauts2023/{SPLIT}", NSD_TEST, None),
        ("nsd/nsd-982", "mine", ids([0, made.SHARED[0]]), "shows 1 of the 2 stimuli that mine tests (nsd00000)"),
        ("nsd/nsd-982", f"algonauts2023/{SPLIT}", ["image-0123456789abcdef"], "cannot be told"),
        ("algonauts2023", "bold5000", ["canyon.jpg"], None),
        ("bold5000", "nsd/nsd-982", NSD_TEST, None),
    ],
)
def test_a_refusal_by_name(trained_on, tested_on, tested, sentence):
    fault = trained_on_fault(trained_on, tested_on, tested)
    assert fault is None if sentence is None else sentence in fault


def test_an_unknown_split_to_have_trained_on():
    with pytest.raises(BenchError, match="unknown split 'nsd-981', did you mean"):
        trained_on_fault("nsd/nsd-981", "nsd/nsd-982", NSD_TEST)


# --- through the command line ---


@pytest.mark.slow  # a few seconds on a quiet machine, more than 20 on a busy one
@BOTH
def test_the_suite_runs_through_the_command_line(tmp_path, bench, named):
    root = make_algonauts(tmp_path / "a", named=named)
    options = ("--data", root, "--method", "ridge,mean", "--json", tmp_path / "out.json")
    code, _, err = bench("run", "--suite", "algonauts2023", *options)
    assert code == 0, err
    rows = {(r["track"], r["method"]): r["metrics"] for r in json.loads((tmp_path / "out.json").read_text())}
    assert set(rows) == set(product(("embedding", "reconstruction"), ("ridge", "mean")))
    n = len(sides(root)[1])
    assert all(row["two_way"]["n"] == n for row in rows.values())
    if named:
        assert rows["reconstruction", "ridge"]["two_way"]["value"] > 0.8
        assert rows["embedding", "ridge"]["two_way"]["value"] > 0.6
    assert (tmp_path / "runs/leaderboards/algonauts2023/reconstruction.md").is_file()
