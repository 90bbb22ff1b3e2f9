"""Folder datasets: image folders, fingerprints, hashes."""

import json
import os
import re
import time

import numpy as np
import pytest
from PIL import Image

from benchmark.data import files, folder
from benchmark.errors import BenchError
from tests.helpers.make_folder import (
    every_file,
    make_folder,
    truncate,
)


@pytest.fixture
def root(tmp_path):
    return make_folder(tmp_path / "tiny")


# ---------------------------------------------------------------------------------------------- image folder


@pytest.fixture
def pictures(tmp_path):
    return make_folder(tmp_path / "pictures", images="folder")


def test_image_folder_equals_image_array(tmp_path, pictures, root):
    assert folder.check(pictures) == []
    dataset = folder.load(pictures, tmp_path / "cache")
    assert type(dataset.stimuli.images) is np.memmap
    np.testing.assert_array_equal(dataset.stimuli.images, np.load(root / "images.npy"))
    cached = list((tmp_path / "cache" / "images").iterdir())
    before = cached[0].stat().st_mtime_ns
    folder.load(pictures, tmp_path / "cache")
    assert [p.stat().st_mtime_ns for p in (tmp_path / "cache" / "images").iterdir()] == [before]
    truncate(cached[0])  # a damaged cache is made again
    again = folder.load(pictures, tmp_path / "cache").stimuli.images
    np.testing.assert_array_equal(again, np.load(root / "images.npy"))


def test_grey_pictures_have_one_channel(tmp_path, pictures):
    for path in (pictures / "images").iterdir():
        Image.open(path).convert("L").save(path)
    assert folder.load(pictures, tmp_path / "cache").stimuli.images.shape == (12, 8, 8, 1)


def test_changed_picture_changes_array_and_fingerprint(tmp_path, pictures):
    before = folder.load(pictures, tmp_path / "cache")
    Image.new("RGB", (8, 8), (1, 2, 3)).save(pictures / "images" / "stim004.png")
    after = folder.load(pictures, tmp_path / "cache")
    assert after.fingerprint != before.fingerprint
    assert (after.stimuli.images[4] == (1, 2, 3)).all()


def damage(path):
    path.write_bytes(path.read_bytes()[:60])


IMAGE_FAULTS = {
    "missing": (lambda p: p.unlink(), "no such file, expected a PNG or JPEG"),
    "truncated": (damage, "cannot be read"),
    "text": (lambda p: p.write_text("hello"), "cannot be read"),
    "size": (
        lambda p: Image.new("RGB", (9, 8)).save(p),
        "shape (8, 9, 3) (height, width, channels), expected (8, 8, 3)",
    ),
    "16 bit": (lambda p: Image.fromarray(np.zeros((8, 8), np.uint16)).save(p), "pixels of mode I;16, expected 8-bit"),
}


@pytest.mark.parametrize("case", IMAGE_FAULTS)
@pytest.mark.parametrize("which", [0, 4])
def test_picture_faults(tmp_path, pictures, case, which):
    plant, sentence = IMAGE_FAULTS[case]
    path = pictures / "images" / f"stim00{which}.png"
    plant(path)
    faults = folder.check(pictures)
    assert any(sentence in fault for fault in faults) or (case == "size" and which == 0 and len(faults) == 11)
    assert case == "size" or [fault.startswith(f"{path}: ") for fault in faults] == [True]
    with pytest.raises(BenchError, match=r"stim00.\.png"):
        folder.load(pictures, tmp_path / "cache")
    assert not list(tmp_path.glob("cache/images/*"))


@pytest.mark.parametrize("name", ["../stimuli.csv", "/etc/passwd", "a\\b.png", "C:x.png"])
def test_picture_names_stay_in_the_folder(pictures, name):
    path = pictures / "stimuli.csv"
    path.write_text(path.read_text().replace("stim000.png", name))
    assert any(
        f"image {name!r} in line 2 of the stimulus table, expected a file name in images/" in fault
        for fault in folder.check(pictures)
    )


def test_image_folder_missing(pictures):
    (pictures / "images").rename(pictures / "elsewhere")
    assert ["images: no such folder" in fault for fault in folder.check(pictures)] == [True]


# ------------------------------------------------------------------------------------- fingerprint and hashes


def settle(root):
    """Date every file back, so that its hash may be remembered; the change time must be faked too."""
    past = time.time() - 3600
    for path in root.rglob("*"):
        os.utime(path, (past, past))


def test_fingerprint_covers_every_byte(root, tmp_path):
    cache = tmp_path / "cache"
    before = folder.load(root, cache).fingerprint
    assert before == folder.load(root, tmp_path / "other").fingerprint
    header = json.loads((root / "dataset.json").read_text())
    table = files.read_table(root, "stimuli.csv")
    assert sorted(folder._files(header, table)) == every_file(root)
    with (root / "S2" / "responses.npy").open("r+b") as file:
        file.seek(-3, os.SEEK_END)
        byte = file.read(1)
        file.seek(-3, os.SEEK_END)
        file.write(bytes([byte[0] ^ 1]))
    assert folder.load(root, cache).fingerprint != before
    assert make_folder(root)
    assert folder.load(root, cache).fingerprint == before


def test_hashes_change_with_any_byte(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(range(64)))
    digests = set()
    for position in range(64):
        content = bytearray(range(64))
        content[position] ^= 255
        path.write_bytes(bytes(content))  # the same size, within the granularity of the time stamp
        digests.add(files.hash_files(tmp_path, ["a.bin"], tmp_path / "cache")["a.bin"])
    assert len(digests) == 64
    assert not (tmp_path / "cache").exists()  # nothing that fresh is remembered


def test_settled_files_are_read_once(tmp_path, monkeypatch):
    path, cache = tmp_path / "a.bin", tmp_path / "cache"
    path.write_bytes(b"one")
    monkeypatch.setattr(files, "MTIME_GRANULARITY_S", -1.0)
    first = files.hash_files(tmp_path, ["a.bin"], cache)
    monkeypatch.setattr(files.hashlib, "file_digest", lambda *_: pytest.fail("read again"))
    assert files.hash_files(tmp_path, ["a.bin"], cache) == first
    monkeypatch.undo()
    stamp = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # same size, modification time set back
    assert files.hash_files(tmp_path, ["a.bin"], cache) != first


def test_damaged_hash_cache_is_ignored(tmp_path, monkeypatch):
    (tmp_path / "a.bin").write_bytes(b"one")
    monkeypatch.setattr(files, "MTIME_GRANULARITY_S", -1.0)
    first = files.hash_files(tmp_path, ["a.bin"], tmp_path / "cache")
    (store,) = (tmp_path / "cache" / "hashes").iterdir()
    for content in (b"", b"[1]", b'{"a.bin": 3}', b"\xff"):
        store.write_bytes(content)
        assert files.hash_files(tmp_path, ["a.bin"], tmp_path / "cache") == first


def test_write_atomic_leaves_nothing_behind(tmp_path):
    path = tmp_path / "sub" / "a.txt"
    files.write_atomic(path, b"old")

    def fail(file):
        file.write(b"half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        files.write_atomic(path, fail)
    assert path.read_bytes() == b"old"
    assert len(list(path.parent.iterdir())) == 1


# ------------------------------------------------------------------------------------------------ documentation


def test_the_example_in_the_documentation_works(tmp_path, monkeypatch):
    text = (files.Path(__file__).parents[2] / "docs" / "folder-dataset.md").read_text("utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "folder-dataset.md", "exec"), {})
    assert folder.check(tmp_path / "my-dataset") == []
    described = set(re.findall(r"`([a-z_]+)`", text))
    schema = files._schema()
    keys = {*schema["properties"], *schema["properties"]["stimuli"]["properties"]}
    keys |= set(schema["properties"]["subjects"]["additionalProperties"]["properties"])
    assert keys <= described, keys - described
