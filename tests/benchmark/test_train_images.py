"""A large table of training pictures lies in a file that holds these alone."""

import numpy as np
import pytest

from benchmark.data import folder, prepare, train_images
from tests.helpers.make_folder import make_folder


@pytest.fixture
def fold(tmp_path, monkeypatch):
    monkeypatch.setattr(train_images, "IMAGES_IN_MEMORY", 8 * 8 * 8 * 3 - 1)  # one byte less than the eight of training
    monkeypatch.setattr(train_images, "BLOCK_BYTES", 500)  # written in several blocks
    root = make_folder(tmp_path / "tiny")
    dataset = folder.load(root, tmp_path / "cache")
    return prepare.folds(dataset, folder.read_splits(root)["main"], "S1")[0]


def test_they_are_those_of_the_training_side_and_no_other(fold, tmp_path):
    train, copied = prepare.train_set(fold, set(), cache=tmp_path), prepare.train_set(fold, set())
    assert isinstance(train.stimuli.images, np.memmap)
    assert not isinstance(copied.stimuli.images, np.memmap)
    np.testing.assert_array_equal(train.stimuli.images, copied.stimuli.images)
    assert train.stimuli.ids.tolist() == copied.stimuli.ids.tolist()
    assert train.stimuli.captions == copied.stimuli.captions
    (file,) = (tmp_path / "train-images").iterdir()
    content = file.read_bytes()
    assert len(np.load(file)) == 8
    assert len(content) == 128 + 8 * 8 * 8 * 3
    assert all(picture.tobytes() not in content for picture in prepare.truth(fold).images)


def test_a_method_may_write_on_its_pictures_without_harm(fold, tmp_path):
    images = prepare.train_set(fold, set(), cache=tmp_path).stimuli.images
    before = images.copy()
    images[:] = 0
    np.testing.assert_array_equal(prepare.train_set(fold, set(), cache=tmp_path).stimuli.images, before)


def test_the_file_is_made_once_and_again_where_it_is_damaged(fold, tmp_path):
    first = prepare.train_set(fold, set(), cache=tmp_path).stimuli.images.copy()
    (file,) = (tmp_path / "train-images").iterdir()
    made = file.stat().st_mtime_ns
    prepare.train_set(fold, set(), cache=tmp_path)
    assert file.stat().st_mtime_ns == made
    file.write_bytes(file.read_bytes()[:-1])
    np.testing.assert_array_equal(prepare.train_set(fold, set(), cache=tmp_path).stimuli.images, first)


def test_other_rows_or_other_data_get_another_file(fold, tmp_path):
    prepare.train_set(fold, set(), cache=tmp_path)
    images = fold.dataset.stimuli.images
    train_images.kept(fold.dataset, np.arange(len(images))[:8][::-1], tmp_path)
    assert len(list((tmp_path / "train-images").iterdir())) == 2


def test_few_pictures_are_copied_into_memory(fold, tmp_path, monkeypatch):
    monkeypatch.setattr(train_images, "IMAGES_IN_MEMORY", 8 * 8 * 8 * 3)
    assert not isinstance(prepare.train_set(fold, set(), cache=tmp_path).stimuli.images, np.memmap)
    assert not (tmp_path / "train-images").exists()
