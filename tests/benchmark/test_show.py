"""The picture of a dataset: it is drawn whatever the dataset has, and puts numbers where they belong."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from benchmark.data import folder, scan, show
from tests.helpers.make_folder import edit_array, make_folder


@pytest.mark.parametrize(
    "options",
    [{"n_stimuli": 5}, {"place": False, "images": None}, {"images": None, "words": False, "captions": False}],
)
def test_a_picture_is_drawn(tmp_path, options):
    dataset = folder.load(make_folder(tmp_path / "d", **options), tmp_path / "cache")
    path = show.picture(dataset, "S1", tmp_path / "new" / "tiny.png")
    pixels = np.asarray(Image.open(path).convert("RGB"))
    assert path == tmp_path / "new" / "tiny.png"
    assert pixels.shape == (990, 1430, 3)
    assert len(np.unique(pixels @ np.array([65536, 256, 1]))) > 100


def test_nan_and_empty_masks_are_drawn(tmp_path):
    root = make_folder(tmp_path / "d", nan_voxels="drop", n_voxels=40)
    edit_array(root / "S1" / "responses.npy", lambda x: x.__setitem__((slice(None), slice(0, 4)), np.nan))
    np.savez(root / "S1" / "rois.npz", none=np.zeros(40, bool))
    show.picture(folder.load(root, tmp_path / "cache"), "S1", tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_grey_pictures_and_one_voxel(tmp_path):
    root = make_folder(tmp_path / "d", n_voxels=1)
    edit_array(root / "images.npy", lambda x: x[..., :1].copy())
    show.picture(folder.load(root, tmp_path / "cache"), "S1", tmp_path / "a.png")
    assert (tmp_path / "a.png").exists()


def test_mean_response_leaves_nan_out(tmp_path, monkeypatch):
    dataset = folder.load(make_folder(tmp_path / "d"), tmp_path / "cache")
    data = dataset.load_subject("S1")
    responses = np.array(data.responses)
    responses[:3, 1], responses[:, 2] = np.nan, np.nan
    data = dataclasses.replace(data, responses=responses)
    for block in (1, 1 << 20):
        monkeypatch.setattr(scan, "BLOCK_BYTES", block)
        mean = show.mean_response(data)
        np.testing.assert_allclose(mean[[0, 1, 3]], np.nanmean(responses[:, [0, 1, 3]], axis=0), rtol=1e-5)
        assert np.isnan(mean[2])


def test_volume_puts_voxels_in_place():
    grid = show.volume(np.array([1.0, 2.0]), np.array([[0, 1, 2], [1, 0, 0]]), np.array([2, 2, 3]))
    assert grid[0, 1, 2] == 1
    assert grid[1, 0, 0] == 2
    assert np.isnan(grid).sum() == 10
