"""bench data prepare nsd: both forms of betas, remote sources, kills, growth, and every damage in one sentence."""

import gzip
import json
import os
import signal
import subprocess
import sys

import h5py
import nibabel
import numpy as np
import pytest
from PIL import Image

from benchmark.data import hdf5_sessions, nsd_prepare
from benchmark.data.growing import GrowingArray
from benchmark.data.nsd_prepare import BETAS, Request, prepare, read_betas
from benchmark.data.source import Source
from benchmark.errors import BenchError
from tests.helpers.make_nsd import BETAS as FOLDER
from tests.helpers.make_nsd import BRICK, ROI, SHAPE, make_nsd, save_volume, served, write_session

SUBJECT = "subj01"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Two sessions of a subject; only read."""
    return make_nsd(tmp_path_factory.mktemp("nsd") / "tree")


@pytest.fixture
def own(tmp_path):
    """A tree that a test may damage, without captions."""
    return make_nsd(tmp_path / "own", captions=None)


def run(tree, out, n_sessions=2, **options):
    return prepare(Request(SUBJECT, Source(tree), out, n_sessions, **options))


def betas_file(tree, session=1, form=".nii.gz"):
    return tree / FOLDER.format(SUBJECT) / f"betas_session{session:02d}{form}"


def contents(out):
    """Every file's bytes, but for locks and what a kill left of a file that was being written."""
    files = [p for p in out.rglob("*") if p.is_file() and not p.name.startswith(".")]
    return {str(p.relative_to(out)): p.read_bytes() for p in files}


def counted(path):
    """The rows that a growing file's header counts."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        return np.lib.format.read_array_header_1_0(file)[0][0]


def test_responses_pictures_captions_and_masks_are_those_of_the_files(tree, tmp_path):
    out = run(tree, tmp_path / "out")
    mask = nibabel.load(tree / ROI.format(SUBJECT) / "nsdgeneral.nii.gz").get_fdata() > 0
    volumes = [nibabel.load(betas_file(tree, n)).get_fdata() for n in (1, 2)]
    expected = np.concatenate([volume[mask].T for volume in volumes]) / 300
    betas = np.load(out / SUBJECT / "betas.npy", mmap_mode="r")
    assert betas.dtype == np.float32
    np.testing.assert_allclose(betas, expected, rtol=1e-6)
    np.testing.assert_array_equal(np.load(out / SUBJECT / "coords.npy"), np.argwhere(mask))
    ncsnr = nibabel.load(tree / FOLDER.format(SUBJECT) / "ncsnr.nii.gz").get_fdata()
    np.testing.assert_allclose(np.load(out / SUBJECT / "ncsnr.npy"), ncsnr[mask])
    faces = nibabel.load(tree / ROI.format(SUBJECT) / "floc-faces.nii.gz").get_fdata()[mask]
    with np.load(out / SUBJECT / "rois.npz") as rois:
        np.testing.assert_array_equal(rois["FFA-1"], faces == 2)
        np.testing.assert_array_equal(rois["aTL-faces"], faces == 5)
        assert not rois["mTL-bodies"].any()  # no voxel has its label: an empty mask, not a missing one
        assert rois["mTL-bodies"].dtype == bool
        assert "ecc-0-0.5" not in rois.files  # its volume is not among the files
    ids = (out / "stimuli.csv").read_text().split()[1:]
    trials = [line.split(",")[0] for line in (out / SUBJECT / "trials.csv").read_text().split()[1:]]
    assert list(dict.fromkeys(trials)) == ids
    assert all(name.startswith("nsd") and len(name) == 8 for name in ids)
    images, captions = np.load(out / "images.npy"), json.loads((out / "captions.json").read_text())
    with h5py.File(tree / BRICK) as file:
        for name, picture, texts in zip(ids, images, captions, strict=True):
            row = int(name[3:])
            np.testing.assert_array_equal(picture, file["imgBrick"][row])
            assert texts == [f"picture {row}", f"a thing of number {row}", f"number {row}"]  # empty ones left out


@pytest.mark.parametrize("chunks", [None, (1, 5, 6, 7), (750, 1, 1, 1), (750, 2, 6, 7), (100, 2, 3, 4)])
def test_both_forms_of_betas_give_the_same(tree, tmp_path, monkeypatch, chunks):
    monkeypatch.setattr(hdf5_sessions, "SLAB_BYTES", 40_000)  # several slabs also of these small volumes
    path = betas_file(tree)
    stored = np.asarray(nibabel.load(path).dataobj).transpose(3, 2, 1, 0)
    other = write_session(tmp_path, SUBJECT, 1, stored, ".hdf5", chunks=chunks)
    mask = np.random.default_rng(0).random(SHAPE) < 0.3
    mask[:, :, 2] = False  # a plane without any voxel
    one, two = (np.full((750, mask.sum()), np.nan, np.float32) for _ in range(2))
    read_betas(path, mask, one)
    read_betas(other, mask, two)
    np.testing.assert_array_equal(one, two)


def test_floating_point_betas_are_percent_already(own, tmp_path):
    volume = np.asarray(nibabel.load(betas_file(own)).dataobj)
    mask = np.ones(SHAPE, bool)
    out, again = np.empty((750, mask.sum()), np.float32), np.empty((750, mask.sum()), np.float32)
    read_betas(betas_file(own), mask, out)
    save_volume(betas_file(own), (volume / 300).astype(np.float32))
    read_betas(betas_file(own), mask, again)
    np.testing.assert_allclose(again, out, rtol=1e-5)


def test_captions_from_cocos_own_annotations_are_the_same(tree, tmp_path):
    coco = make_nsd(tmp_path / "coco", captions="coco")
    one, two = run(tree, tmp_path / "a"), run(coco, tmp_path / "b")
    texts = [[sorted(t) for t in json.loads((o / "captions.json").read_text())] for o in (one, two)]
    assert texts[0] == texts[1]


def test_a_smaller_size_is_resampled_with_antialiasing(tree, tmp_path):
    out = run(tree, tmp_path / "out", size=4)
    images = np.load(out / "images.npy")
    assert images.shape == (60, 4, 4, 3)
    ids = (out / "stimuli.csv").read_text().split()[1:]
    with h5py.File(tree / BRICK) as file:
        full = file["imgBrick"][int(ids[3][3:])]
    np.testing.assert_array_equal(images[3], Image.fromarray(full).resize((4, 4), Image.Resampling.LANCZOS))
    # every pixel is a mean over its surroundings, not one of them
    assert abs(images[3].mean() - full.mean()) < 2
    with pytest.raises(BenchError, match="--size 99: the pictures have 16 pixels a side, expected no more"):
        run(tree, tmp_path / "other", size=99)
    with pytest.raises(BenchError, match=r"images.npy: holds uint8 rows of shape \(4, 4, 3\), expected"):
        run(tree, out)


# ------------------------------------------------------------------------------------------------- a remote source


def test_a_server_gives_the_same_with_one_session_on_disk_at_a_time(tree, tmp_path, monkeypatch):
    local, out = run(tree, tmp_path / "local"), tmp_path / "remote"
    seen = []
    true = nsd_prepare.read_betas

    def watched(path, mask, block):
        seen.append([p.name for p in out.rglob("betas_session*")])
        true(path, mask, block)

    monkeypatch.setattr(nsd_prepare, "read_betas", watched)
    with served(tree) as (url, asked):
        run(url, out)
    assert contents(out) == contents(local)
    assert seen == [["betas_session01.nii.gz"], ["betas_session02.nii.gz"]]
    assert not (out / ".download").exists()
    # of the pictures' file only the pictures needed were fetched
    fetched = [int(line.split()[2]) for line in asked if line.startswith("GET nsd_stimuli.hdf5")]
    assert sum(size >= 16 * 16 * 3 for size in fetched) >= 60
    assert max(fetched[2:]) < (tree / BRICK).stat().st_size


def test_files_outside_the_tree_may_be_named(tree, own, tmp_path):
    stimuli, captions = tree / BRICK, tree / "COCO_73k_annots_curated.npy"
    (own / BRICK).unlink()
    out = run(own, tmp_path / "out", stimuli=str(stimuli), captions=str(captions))
    expected = run(tree, tmp_path / "same")
    for name in ("images.npy", "captions.json"):
        assert (out / name).read_bytes() == (expected / name).read_bytes()


def test_a_server_that_lacks_a_session_or_is_gone_is_named(own, tmp_path):
    betas_file(own, 2).unlink()
    with served(own) as (url, _), pytest.raises(BenchError, match=r"http://.*betas_session02.nii.gz: no such file"):
        run(url, tmp_path / "out")
    with pytest.raises(BenchError, match=r"http://127.0.0.1:\d+/.*nsd_expdesign.mat: (no such file|cannot be fetched)"):
        run(url, tmp_path / "out")


def test_a_place_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(BenchError, match="nowhere: no such folder"):
        Source(tmp_path / "nowhere")
    with pytest.raises(BenchError, match=r"nosuch://x: cannot be opened .* expected a folder or an fsspec URL"):
        Source("nosuch://x")


def test_a_full_disk_is_not_blamed_on_the_pictures(tree, tmp_path, monkeypatch):
    def full(self, block):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(GrowingArray, "append", full)
    with pytest.raises(OSError, match="No space left"):
        run(tree, tmp_path / "out")


# ------------------------------------------------------------------------------------------- kills, and going on


def test_what_is_finished_is_not_read_again(tree, tmp_path, monkeypatch):
    out, true, read = tmp_path / "out", nsd_prepare.read_betas, []

    def stops(path, mask, block):
        read.append(path.name)
        if len(read) == 2:
            block[:] = 9  # half a session
            raise KeyboardInterrupt
        true(path, mask, block)

    monkeypatch.setattr(nsd_prepare, "read_betas", stops)
    with pytest.raises(KeyboardInterrupt):
        run(tree, out)
    assert not (out / "nsd.json").exists()
    assert len(np.load(out / SUBJECT / "betas.npy")) == 750
    run(tree, out)
    assert read == ["betas_session01.nii.gz", "betas_session02.nii.gz", "betas_session02.nii.gz"]
    assert contents(out) == contents(run(tree, tmp_path / "whole"))


def test_a_sigkill_loses_nothing(tree, tmp_path):
    """Killed at the n-th time that something is brought to the disk: between rows and their count, and after it."""
    out = tmp_path / "out"
    killed = (
        "import os, signal, sys; from pathlib import Path\n"
        "from benchmark.data.nsd_prepare import *\n"
        "left, true = int(sys.argv[3]), os.fsync\n"
        "def fsync(file):\n"
        "    global left\n"
        "    true(file)\n"
        "    left -= 1\n"
        "    left or os.kill(os.getpid(), signal.SIGKILL)\n"
        "os.fsync = fsync\n"
        f"prepare(Request('{SUBJECT}', Source(sys.argv[1]), Path(sys.argv[2]), 2))"
    )
    rows = []
    for n in (5, 5, 5, 5, 4, 6):
        done = subprocess.run([sys.executable, "-c", killed, tree, out, str(n)])
        assert done.returncode == -signal.SIGKILL
        rows.append(sum(counted(out / name) for name in ("images.npy", f"{SUBJECT}/betas.npy")))
    assert rows == sorted(rows)
    assert len(set(rows)) >= 4  # pictures, the first session and the second were counted between two kills
    assert not (out / "nsd.json").exists()
    run(tree, out)
    assert contents(out) == contents(run(tree, tmp_path / "whole"))


def test_sessions_and_subjects_are_added(tmp_path):
    tree = make_nsd(tmp_path / "tree", subjects=("subj01", "subj02"), n_sessions=3)
    out = run(tree, tmp_path / "out", 2)
    before = np.load(out / SUBJECT / "betas.npy"), (out / "stimuli.csv").read_text()
    run(tree, out, 3)
    after = np.load(out / SUBJECT / "betas.npy")
    assert len(after) == 3 * 750
    np.testing.assert_array_equal(after[:1500], before[0])
    run(tree, out, 1)  # there are more already
    assert json.loads((out / "nsd.json").read_text())["subjects"][SUBJECT]["sessions"] == 3
    prepare(Request("subj02", Source(tree), out, 2))
    header = json.loads((out / "nsd.json").read_text())
    assert {name: files["sessions"] for name, files in header["subjects"].items()} == {"subj01": 3, "subj02": 2}
    ids = (out / "stimuli.csv").read_text()
    assert ids.startswith(before[1])  # rows keep their place
    assert len(ids.split()) == 1 + 60 + 50  # the ten shared pictures are there once
    with h5py.File(tree / BRICK) as file:
        for name, picture in zip(ids.split()[1:], np.load(out / "images.npy"), strict=True):
            np.testing.assert_array_equal(picture, file["imgBrick"][int(name[3:])])


def test_other_voxels_betas_or_design_are_not_mixed(own, tmp_path):
    out = run(own, tmp_path / "out")
    save_volume(own / ROI.format(SUBJECT) / "nsdgeneral.nii.gz", np.ones(SHAPE, np.int16))
    with pytest.raises(BenchError, match=r"begun with another nsdgeneral, expected the same; remove .*subj01"):
        run(own, out)
    other = make_nsd(tmp_path / "other", seed=1, captions=None)
    with pytest.raises(BenchError, match=r"nsd_expdesign.mat: not the design that .* was begun with"):
        run(other, out)


def test_two_at_once_are_refused(tree, tmp_path):
    import filelock

    (tmp_path / "out").mkdir()
    with filelock.FileLock(tmp_path / "out" / ".lock"), pytest.raises(BenchError, match="another bench data prepare"):
        run(tree, tmp_path / "out")


# ------------------------------------------------------------------------------------------------------- damage


def refused(tree, tmp_path, sentence, n_sessions=2, **options):
    with pytest.raises(BenchError, match=sentence) as error:
        run(tree, tmp_path / "out", n_sessions, **options)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out" / "nsd.json").exists()


def test_a_missing_session_is_said_before_anything_is_read(own, tmp_path):
    refused(own, tmp_path, "betas_session03.nii.gz: no such file, nor one that ends in .hdf5 or .nii; .* 1 to 37", 37)
    assert not (tmp_path / "out" / "images.npy").exists()


def test_a_truncated_gzip_is_named(own, tmp_path):
    path = betas_file(own, 2)
    path.write_bytes(path.read_bytes()[:-5000])
    refused(own, tmp_path, "betas_session02.nii.gz: cut short")


def test_a_gzip_whose_last_bytes_are_missing_is_named(own, tmp_path):
    path = betas_file(own, 2)
    path.write_bytes(path.read_bytes()[:-4])  # the data are whole, their checksum is not
    refused(own, tmp_path, "betas_session02.nii.gz: cut short")


def test_a_flipped_byte_is_found_by_the_checksum(own, tmp_path):
    raw = bytearray(gzip.decompress(betas_file(own).read_bytes()))
    packed = bytearray(gzip.compress(bytes(raw), 0))
    packed[len(packed) // 2] ^= 1
    betas_file(own).write_bytes(packed)
    refused(own, tmp_path, "betas_session01.nii.gz: cannot be read .*CRC")


def test_a_truncated_hdf5_session_is_named(own, tmp_path):
    for session in (1, 2):
        stored = np.asarray(nibabel.load(betas_file(own, session)).dataobj).transpose(3, 2, 1, 0)
        path = write_session(own, SUBJECT, session, stored, ".hdf5")
        betas_file(own, session).unlink()
    assert len(np.load(run(own, tmp_path / "sound") / SUBJECT / "betas.npy")) == 1500
    path.write_bytes(path.read_bytes()[:-100_000])
    refused(own, tmp_path, "betas_session02.hdf5: cannot be read .* expected a whole HDF5 file")
    with h5py.File(path, "w") as file:
        file["other"] = np.zeros(3)
    refused(own, tmp_path, "betas_session02.hdf5: no dataset 'betas'")
    write_session(own, SUBJECT, 2, stored[:700], ".hdf5")
    refused(own, tmp_path, "betas_session02.hdf5: 700 trials on its first axis, expected 750")
    write_session(own, SUBJECT, 2, stored.transpose(0, 3, 2, 1), ".hdf5")
    refused(own, tmp_path, r"betas_session02.hdf5: betas of shape \(750, 7, 6, 5\), expected \(trials, 5, 6, 7\)")


def test_another_number_of_trials_is_named(own, tmp_path):
    stored = np.asarray(nibabel.load(betas_file(own)).dataobj).transpose(3, 2, 1, 0)
    write_session(own, SUBJECT, 1, stored[:749], ".nii.gz")
    refused(own, tmp_path, "betas_session01.nii.gz: 749 trials on its last axis, expected 750")


def test_masks_of_another_shape_are_named(own, tmp_path):
    save_volume(own / ROI.format(SUBJECT) / "floc-words.nii.gz", np.ones((7, 6, 4), np.int16))
    refused(own, tmp_path, r"floc-words.nii.gz: shape \(7, 6, 4\), expected \(7, 6, 5\) as nsdgeneral's")
    for file in (own / ROI.format(SUBJECT)).iterdir():
        save_volume(file, np.ones((7, 6, 4), np.int16))
    save_volume(own / FOLDER.format(SUBJECT) / "ncsnr.nii.gz", np.ones((7, 6, 4), np.float32))
    refused(own, tmp_path, r"betas_session01.nii.gz: volumes of shape \(7, 6, 5\), expected \(7, 6, 4\) as the mask's")


def test_a_mask_without_voxels_is_named(own, tmp_path):
    save_volume(own / ROI.format(SUBJECT) / "nsdgeneral.nii.gz", np.full(SHAPE, -1, np.int16))
    refused(own, tmp_path, "nsdgeneral.nii.gz: no voxel above 0")


def test_an_all_nan_or_constant_session_is_named(own, tmp_path):
    save_volume(betas_file(own, 2), np.full((*SHAPE, 750), np.nan, np.float32))
    refused(own, tmp_path, "betas_session02.nii.gz: 750 of 750 trials are NaN in every voxel of nsdgeneral")
    save_volume(betas_file(own, 2), np.zeros((*SHAPE, 750), np.int16))  # what NaN becomes as whole numbers
    refused(own, tmp_path, "betas_session02.nii.gz: no voxel of nsdgeneral changes over its trials")
    betas = np.random.default_rng(0).standard_normal((*SHAPE, 750)).astype(np.float32)
    betas[..., 5] = np.inf
    save_volume(betas_file(own, 2), betas)
    refused(own, tmp_path, r"betas_session02.nii.gz: trial 5 \(from 0\) holds an infinity")


def test_damaged_pictures_are_named(own, tmp_path):
    with h5py.File(own / BRICK, "w") as file:
        file["imgBrick"] = np.zeros((3, 4, 4, 3), np.uint8)
    refused(own, tmp_path, r"imgBrick is uint8 \(3, 4, 4, 3\), expected uint8 \(73000, side, side, 3\)")
    with h5py.File(own / BRICK, "w") as file:
        file["other"] = 1
    refused(own, tmp_path, "nsd_stimuli.hdf5: no array imgBrick")
    sound = make_nsd(tmp_path / "sound", n_sessions=0, captions=None) / BRICK
    (own / BRICK).write_bytes(sound.read_bytes()[:-3000])
    refused(own, tmp_path, r"nsd_stimuli.hdf5: cannot be read \(.*truncated")
    (own / BRICK).write_bytes(b"nothing")
    refused(own, tmp_path, "nsd_stimuli.hdf5: cannot be read")
    (own / BRICK).unlink()
    refused(own, tmp_path, "nsd_stimuli.hdf5: no such file")


def test_captions_are_checked(own, tmp_path):
    first = (run(own, tmp_path / "sound") / "stimuli.csv").read_text().split()[1]
    path = own / "COCO_73k_annots_curated.npy"
    texts = np.full((73000, 5), "a text")
    texts[int(first[3:])] = " "
    np.save(path, texts)
    refused(own, tmp_path, f"COCO_73k_annots_curated.npy: {first} without a caption that is not empty")
    np.save(path, texts[:10])
    refused(own, tmp_path, r"annots_curated.npy: <U6 array of shape \(10, 5\), expected texts \(73000, n\)")
    np.save(path, texts.astype(object), allow_pickle=True)
    refused(own, tmp_path, "annots_curated.npy: .* expected texts .* not pickled")
    path.write_bytes(b"\x93NUMPY")
    refused(own, tmp_path, "annots_curated.npy: truncated or not a .npy file")


def test_an_unknown_subject_or_dataset_is_named(bench, tree, tmp_path):
    arguments = ("--data", tree, "--out", tmp_path / "out")
    code, _, err = bench("data", "prepare", "nsd", "--subject", 9, *arguments)
    assert code == 2
    assert "error: --subject 9: expected 1 to 8" in err
    code, _, err = bench("data", "prepare", "nds", "--subject", 1, *arguments)
    assert code == 2
    assert "unknown dataset to prepare 'nds', did you mean 'nsd'?" in err


def test_the_verb_says_where_the_folder_is(bench, tree, tmp_path):
    code, out, err = bench(
        "data", "prepare", "nsd", "--subject", 1, "--data", tree, "--out", tmp_path / "out", "--sessions", 2
    )
    assert code == 0, err
    assert out.strip() == f"{tmp_path / 'out'}: dataset nsd, for bench run --data"
    assert "2/2" in err
    assert BETAS == "betas_fithrf_GLMdenoise_RR"
    assert os.path.getsize(tmp_path / "out" / "nsd.json")
