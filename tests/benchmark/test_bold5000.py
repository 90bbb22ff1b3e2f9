import gzip
import json
import shutil
import subprocess
import sys
from collections import Counter
from itertools import product

import nibabel
import numpy as np
import pytest
from PIL import Image

from benchmark.data import bold5000, prepare, splits
from benchmark.data.bold5000_files import BETAS, ROIS, category, find, read_names
from benchmark.errors import BenchError
from tests.helpers import make_bold5000 as made
from tests.helpers.make_bold5000 import make_bold5000

REPEATED, COCO = "bold5000-repeated-v1", "bold5000-coco-v1"


@pytest.fixture
def root(tmp_path):
    return make_bold5000(tmp_path / "bold5000", ("CSI1", "CSI4"))


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def one(root, pattern):
    (path,) = root.rglob(pattern)
    return path


def load_all(root, cache):
    dataset = bold5000.load(root, cache)
    return [dataset.load_subject(subject) for subject in dataset.subjects]


def only_fault(root, cache):
    """The one fault of a folder; loading says the same."""
    (fault,) = bold5000.check(root)
    with pytest.raises(BenchError) as error:
        load_all(root, cache)
    assert str(error.value) == fault
    return fault


def test_betas_come_through_the_masks_as_they_are_stored(root, cache):
    dataset = bold5000.load(root, cache)
    assert dataset.subjects == ("CSI1", "CSI4")
    for subject, n_runs, n_sessions in (("CSI1", 3, 2), ("CSI4", 2, 1)):
        data, expected, masks = dataset.load_subject(subject), made.betas(subject), made.masks(subject)
        union = np.any(list(masks.values()), axis=0)
        np.testing.assert_array_equal(data.responses, expected[union].T)
        assert data.responses.dtype == np.float32
        for roi in ROIS:
            np.testing.assert_array_equal(data.responses[:, data.rois[roi]], expected[masks[roi] > 0].T)
        np.testing.assert_array_equal(data.space["coords"], np.argwhere(union))
        assert dataset.stimuli.ids[data.stimulus].tolist() == made.names(subject)
        assert list(Counter(data.run.tolist()).values()) == [37] * n_runs
        assert len(set(data.session.tolist())) == n_sessions
    assert data.run[[0, -1]].tolist() == ["run-001", "run-002"]


@pytest.mark.parametrize("subject", ["CSI1", "CSI2"])
@pytest.mark.parametrize("lists", ["names", "runs"])
def test_the_roi_release_gives_the_same_responses(tmp_path, cache, subject, lists):
    a = bold5000.load(make_bold5000(tmp_path / "a", (subject,), lists=lists, suffix=".nii"), cache)
    b = bold5000.load(make_bold5000(tmp_path / "b", (subject,), lists=lists, route="release"), cache)
    a, b = a.load_subject(subject), b.load_subject(subject)
    for roi in ROIS:
        both = [np.sort(d.responses[:, d.rois[roi]].view(np.uint32), axis=1) for d in (a, b)]
        np.testing.assert_array_equal(*both)
    assert a.responses.shape == b.responses.shape  # the voxel in two ROIs is there once
    np.testing.assert_array_equal(a.stimulus, b.stimulus)
    np.testing.assert_array_equal(a.run, b.run)
    if lists == "runs":
        np.testing.assert_array_equal(a.session, b.session)


def test_lists_of_runs_are_read_without_the_mark_of_a_repeat(tmp_path):
    root = make_bold5000(tmp_path, ("CSI3",), lists="runs")
    assert "rep_COCO" in one(root, "*sess03_run01.txt").read_text()
    shown = find(root)[0].shown["CSI3"]
    assert list(shown.names) == made.names("CSI3")
    assert shown.n_trials == (37, 37, 37)


def test_pictures_captions_and_categories(root, cache):
    stimuli = bold5000.load(root, cache).stimuli
    assert isinstance(stimuli.images, np.memmap)
    assert stimuli.images.shape == (84, 224, 224, 3)
    ids = stimuli.ids.tolist()
    for name in (made.SINGLE[2], "canyon.jpg"):
        grid = made.picture(name).astype(int)
        centres = stimuli.images[ids.index(name)][28::56, 28::56].astype(int)
        assert np.abs(centres - grid).mean() < 25  # JPEG thins out colour
    grey = stimuli.images[ids.index(made.SINGLE[1])]
    assert (grey == grey[..., :1]).all()
    captions = dict(zip(ids, stimuli.captions, strict=True))
    assert captions["COCO_train2014_000000001003.jpg"] == ("Caption 0 of 1003.", "Caption 1 of 1003.")
    assert captions["canyon.jpg"] == ()
    categories = Counter(stimuli.attributes["category"].tolist())
    assert categories == {"COCO": 34, "ImageNet": 33, "Scene": 17}


def test_without_the_captions_file_there_are_no_captions(tmp_path, cache):
    root = make_bold5000(tmp_path / "b", ("CSI1",), captions=False)
    assert bold5000.load(root, cache).stimuli.captions is None


def test_the_repeated_images_are_tested_averaged(root, cache):
    dataset = bold5000.load(root, cache)
    split = splits.derived(bold5000.split(REPEATED, root, cache))
    (fold,) = prepare.folds(dataset, split, "CSI1")
    train, items = prepare.train_set(fold, {"reconstruction"}), prepare.test_items(fold)
    assert len(train) == 75
    assert sorted(dataset.stimuli.ids[items.stimulus]) == sorted(made.REPEATED)
    responses = prepare.test_responses(fold)
    shown = np.array(made.names("CSI1"))
    data = dataset.load_subject("CSI1").responses[:, fold.preparation.keep]
    for row, name in zip(responses.data, dataset.stimuli.ids[items.stimulus], strict=True):
        np.testing.assert_allclose(row, data[shown == name].mean(axis=0), rtol=1e-4, atol=1e-5)
    # NaN outside the brain and a voxel that never changes are dropped, not faults
    assert (fold.report.n_dropped_nan, fold.report.n_dropped_constant, fold.report.n_filled) == (1, 1, 0)


def test_the_split_without_the_complete_subjects_needs_the_list_of_repeated_images(tmp_path):
    root = make_bold5000(tmp_path, ("CSI4",))
    with pytest.raises(BenchError, match="which images are repeated is not known, expected"):
        bold5000.split(REPEATED, root)
    listed = "\n".join(f"rep_{name}" for name in made.REPEATED)
    (tmp_path / "BOLD5000_Stimuli" / "Scene_Stimuli" / "repeated_stimuli_113_list.txt").write_text(listed)
    (fold,) = bold5000.split(REPEATED, root)["folds"]["CSI4"]
    assert (len(fold["train"]), len(fold["test"])) == (60, 8)
    (fold,) = bold5000.split(COCO, root)["folds"]["CSI4"]
    assert (len(fold["train"]), len(fold["test"])) == (30, 4)


def test_an_unknown_split_names_the_nearest(root):
    with pytest.raises(BenchError, match="did you mean 'bold5000-coco-v1'"):
        bold5000.split("bold5000-coco", root)


def test_a_derived_split_is_checked_like_a_file(root):
    content = bold5000.split(REPEATED, root)
    fold = content["folds"]["CSI1"][0]
    fold["train"] = [*fold["train"], fold["test"][0]]
    with pytest.raises(BenchError, match=r"split bold5000-repeated-v1: subject 'CSI1', fold .* in train and in test"):
        splits.derived(content)


def test_a_truncated_session(root, cache):
    path = one(root, "CSI1*ses-02.nii.gz")
    path.write_bytes(path.read_bytes()[:-2000])
    fault = only_fault(root, cache)
    assert fault == f"{path}: cut short, expected a whole NIfTI file (.nii or .nii.gz)"


def test_a_session_with_36_images_in_a_run(root, cache):
    path = one(root, "CSI1*ses-02.nii.gz")
    data = np.asarray(nibabel.load(path).dataobj)
    nibabel.save(nibabel.Nifti1Image(data[..., :36], np.eye(4)), path)
    fault = only_fault(root, cache)
    assert fault == f"{path}: 36 trials on the last axis, expected runs of 37 images, the last one has 36"


def test_a_run_of_36_images_in_the_lists(tmp_path, cache):
    root = make_bold5000(tmp_path / "b", ("CSI1",), lists="runs")
    path = one(root, "*sess01_run02.txt")
    path.write_text("\n".join(path.read_text().splitlines()[:36]))
    assert only_fault(root, cache) == f"{path}: 36 images in the run, expected 37"


def test_too_few_runs_in_a_session(root, cache):
    path = one(root, "CSI1*ses-01.nii.gz")
    data = np.asarray(nibabel.load(path).dataobj)
    nibabel.save(nibabel.Nifti1Image(data[..., :37], np.eye(4)), path)
    assert "the sessions of CSI1 hold 74 trials, expected 111 as in" in only_fault(root, cache)


def test_an_image_missing_from_the_stimuli(root, cache):
    one(root, "canyon.jpg").unlink()
    fault = only_fault(root, cache)
    assert fault == f"{root}: 1 of the 84 images shown is not in Presented_Stimuli (canyon.jpg), expected all of them"


def test_a_mask_of_another_shape(root, cache):
    path = one(root, "sub-CSI4_mask-RHPPA.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.ones((5, 5, 5), np.uint8), np.eye(4)), path)
    fault = only_fault(root, cache)
    assert fault == f"{path}: volumes of shape (5, 5, 5), expected (6, 7, 5) as the sessions of CSI4"


def test_a_roi_array_of_other_trials(tmp_path, cache):
    root = make_bold5000(tmp_path / "b", ("CSI1",), route="release")
    path = one(root, "CSI1*LHRSC.npy")
    np.save(path, np.load(path)[:-1])
    assert only_fault(root, cache).startswith(f"{path}: 110 trials, expected 111 as in")


def test_a_damaged_picture(root, cache):
    path = one(root, "beach1.jpeg")
    path.write_bytes(path.read_bytes()[:100])
    assert only_fault(root, cache).startswith(f"{path}: cannot be read")


def test_captions_that_lack_an_image(root, cache):
    path = one(root, "captions_train2014.json")
    content = json.loads(path.read_text())
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] != 2003]
    path.write_text(json.dumps(content))
    assert only_fault(root, cache).startswith(f"{path}: no caption of COCO_train2014_000000002003.jpg")


def test_everything_missing_is_listed_at_once(root, bench):
    for pattern in ("CSI1*ses-01.nii.gz", "sub-CSI1_mask-LHRSC.nii.gz", "CSI4_imgnames.txt", "canyon.jpg"):
        one(root, pattern).unlink()
    one(root, "sub-CSI4_mask-LHOPA.nii.gz").write_bytes(b"junk")
    shutil.copy(one(root, "CSI4*ses-01.nii.gz"), root)
    code, out, _ = bench("data", "check", root)
    assert code == 2
    for part in (
        f"CSI1_{BETAS}_ses-01.nii.gz not found, expected sessions 1 to 2",
        "sub-CSI1_mask-LHRSC.nii.gz not found",
        "CSI4_imgnames.txt not found",
        "(canyon.jpg)",
        "sub-CSI4_mask-LHOPA.nii.gz: cannot be read",
        "is the same file, expected one of them",
    ):
        assert part in out
    assert "6 faults" in out


def test_a_folder_of_stimuli_alone_says_what_to_get(tmp_path):
    root = make_bold5000(tmp_path, ())
    (fault,) = bold5000.check(root)
    assert "no betas, expected CSI1_GLMbetas" in fault


def test_a_picture_that_changes_is_another_dataset(root, cache):
    before = bold5000.load(root, cache)
    path = one(root, "canyon.jpg")
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(path)
    after = bold5000.load(root, cache)
    row = after.stimuli.ids.tolist().index("canyon.jpg")
    assert before.fingerprint != after.fingerprint
    assert before.stimuli.images[row].any()
    assert not after.stimuli.images[row].any()


@pytest.fixture(scope="module")
def lists(test_data):
    folder = test_data / "bold5000_meta"
    return {f"CSI{k}": read_names(folder / f"CSI{k}_imgnames.txt") for k in (1, 2, 3, 4)}


def test_the_published_lists_have_the_published_counts(lists):
    """Counts of the project's table of datasets, made from the same lists."""
    expected = {
        "CSI1": (5254, 4916, {1: 4803, 4: 112, 3: 1}, (2135, 2000), (2051, 1916), (1068, 1000)),
        "CSI2": (5254, 4916, {1: 4803, 4: 112, 3: 1}, (2135, 2000), (2051, 1916), (1068, 1000)),
        "CSI3": (5254, 4916, {1: 4803, 4: 107, 5: 3, 3: 2, 2: 1}, (2133, 2000), (2052, 1916), (1069, 1000)),
        "CSI4": (3108, 2952, {1: 2862, 2: 39, 3: 37, 4: 13, 5: 1}, (1274, 1207), (1208, 1144), (626, 601)),
    }
    for subject, names in lists.items():
        counts = Counter(names)
        kinds = [
            (sum(category(n) == kind for n in names), sum(category(n) == kind for n in counts))
            for kind in ("COCO", "ImageNet", "Scene")
        ]
        found = (len(names), len(counts), dict(Counter(counts.values())), *kinds)
        assert found == expected[subject]


def test_the_published_lists_give_the_published_splits(test_data, lists, tmp_path):
    for subject in lists:
        shutil.copy(test_data / "bold5000_meta" / f"{subject}_imgnames.txt", tmp_path)
    content = bold5000.split(REPEATED, tmp_path)
    sizes = {s: (len(f["train"]), len(f["test"])) for s, (f,) in content["folds"].items()}
    assert sizes == {"CSI1": (4803, 113), "CSI2": (4803, 113), "CSI3": (4803, 113), "CSI4": (2846, 106)}
    tested = content["folds"]["CSI1"][0]["test"]
    assert sorted(tested) == sorted(read_names(test_data / "bold5000_meta" / "repeated_113_derived.txt"))
    assert Counter(map(category, tested)) == {"COCO": 45, "ImageNet": 45, "Scene": 23}
    assert all(set(f["test"]) <= set(tested) for (f,) in content["folds"].values())
    coco = bold5000.split(COCO, tmp_path)
    sizes = {s: (len(f["train"]), len(f["test"])) for s, (f,) in coco["folds"].items()}
    assert [sizes[s] for s in ("CSI1", "CSI2", "CSI3")] == [(1955, 45)] * 3
    assert sizes["CSI4"] == (1164, 43)
    for part in (content, coco):
        assert splits.derived(part).average == ("subject", "stimulus")


@pytest.mark.parametrize(
    ("subject", "union", "release"), [("CSI1", 1666, 1685), ("CSI2", 2158, 2270), ("CSI3", 2963, 3104)]
)
def test_the_published_masks(test_data, tmp_path, cache, subject, union, release):
    """Sizes of the ROIs together: those of the ROI release, where a voxel of two ROIs stands twice."""
    root = make_bold5000(tmp_path, (subject,), suffix=".nii")
    folder = one(root, f"sub-{subject}")
    for path in folder.iterdir():
        path.unlink()
    upstream = {"CSI2": {"LHLOC": "LHLO", "RHLOC": "RHLO", "RHRSC": "RHRRSC"}}.get(subject, {})
    for roi in ROIS:
        source = test_data / "bold5000_meta" / "roi_masks" / f"sub-{subject}_mask-{roi}.nii.gz"
        shutil.copy(source, folder / f"sub-{subject}_mask-{upstream.get(roi, roi)}.nii.gz")
        shape = nibabel.load(source).shape
    start = 0
    for path in sorted((root / f"{subject}_betas").iterdir()):
        n = nibabel.load(path).shape[3]
        trials = np.empty((*shape, n), np.int8)
        trials[...] = np.arange(start, start + n)
        nibabel.save(nibabel.Nifti1Image(trials, np.eye(4)), path)
        start += n
    data = bold5000.load(root, cache).load_subject(subject)
    assert data.responses.shape == (111, union)
    assert sum(mask.sum() for mask in data.rois.values()) == release
    np.testing.assert_array_equal(data.responses, np.broadcast_to(np.arange(111)[:, None], (111, union)))


def test_the_suite_runs_through_the_command_line(root, bench, tmp_path):
    options = ("--data", root, "--subject", "CSI1", "--method", "ridge,mean", "--json", tmp_path / "out.json")
    code, _, err = bench("run", "--suite", "bold5000", *options)
    assert code == 0, err
    rows = json.loads((tmp_path / "out.json").read_text())
    assert {(r["method"], r["track"]) for r in rows} == set(product(("ridge", "mean"), ("embedding", "reconstruction")))
    two_way = {(r["method"], r["track"]): r["metrics"]["two_way"]["value"] for r in rows}
    assert two_way["ridge", "embedding"] > 0.7
    assert two_way["ridge", "reconstruction"] > 0.9
    assert two_way["mean", "embedding"] == two_way["mean", "reconstruction"] == 0.5


MEASURE = """
import sys, threading, time
from pathlib import Path
from benchmark.data import bold5000

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))

peak, done = [0.0], threading.Event()

def watch():
    while not done.wait(0.005):
        peak[0] = max(peak[0], anonymous())

threading.Thread(target=watch, daemon=True).start()
data = bold5000.load(Path(sys.argv[1]), Path(sys.argv[2])).load_subject("CSI1")
done.set()
print(len(data.responses), float(data.responses[-1].mean()), max(peak[0], anonymous()))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="RssAnon is Linux's")
def test_memory_is_bounded_whatever_the_number_of_sessions(tmp_path):
    shape, rng = (71, 89, 72), np.random.default_rng(0)
    root = make_bold5000(tmp_path / "b", ("CSI1",))
    for path in root.rglob("*.nii.gz"):
        path.unlink()
    union = rng.permutation(np.prod(shape))[: 10 * 166].reshape(10, 166)
    for roi, voxels in zip(ROIS, union, strict=True):
        mask = np.zeros(shape, np.uint8)
        mask.ravel()[voxels] = 1
        nibabel.save(nibabel.Nifti1Image(mask, np.eye(4)), root / f"sub-CSI1_mask-{roi}.nii.gz")
    n_trials, peaks = [370, *[37] * 15], []
    for k, n in enumerate(n_trials, 1):
        write_large(root / f"CSI1_{BETAS}_ses-{k:02d}.nii.gz", shape, n, k)
        if k in (1, 16):
            shown = rng.choice(made.SINGLE, sum(n_trials[:k]))
            (root / "CSI1_imgnames.txt").write_text("\n".join(shown))
            call = [sys.executable, "-c", MEASURE, str(root), str(tmp_path / f"cache{k}")]
            found = subprocess.run(call, capture_output=True, text=True, check=True).stdout.split()
            assert (int(found[0]), float(found[1])) == (sum(n_trials[:k]), k)
            peaks.append(float(found[2]))
    print(f"peak RssAnon: one session {peaks[0]:.0f} MB, sixteen {peaks[1]:.0f} MB")
    assert max(peaks) < 1000
    assert peaks[1] - peaks[0] < 30


def write_large(path, shape, n, value):
    """Write a session whose betas are all ``value``, so that it packs well."""
    header = nibabel.Nifti1Header()
    header.set_data_shape((*shape, n))
    header.set_data_dtype(np.float32)
    header["vox_offset"] = 352
    volume = np.full(shape, value, np.float32).tobytes(order="F")
    with gzip.open(path, "wb", compresslevel=1) as file:
        header.write_to(file)
        for _ in range(n):
            file.write(volume)
