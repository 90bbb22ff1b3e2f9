import os

import pytest

from benchmark.data.files import write_atomic, write_folder_once


def test_a_folder_is_written_once(tmp_path):
    calls = []
    for _ in range(2):
        write_folder_once(tmp_path / "made", lambda folder: calls.append((folder / "x").write_text("1")))
    assert len(calls) == 1
    assert os.listdir(tmp_path) == ["made"]


def test_the_slower_of_two_writers_gives_way(tmp_path):
    place = tmp_path / "made"

    def write(folder):
        (folder / "mine").write_text("late")
        place.mkdir()  # meanwhile, another process
        (place / "theirs").write_text("first")

    write_folder_once(place, write)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["made", "theirs"]


def test_a_failed_writer_leaves_nothing(tmp_path):
    def write(folder):
        (folder / "half").write_text("")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_folder_once(tmp_path / "made", write)
    with pytest.raises(ZeroDivisionError):
        write_atomic(tmp_path / "file", lambda file: file.write(b"1") / 0)
    assert os.listdir(tmp_path) == []


def test_files_have_the_permissions_of_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        write_atomic(tmp_path / "a" / "file", b"text")
    finally:
        os.umask(old)
    assert (tmp_path / "a" / "file").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "a" / "file").read_bytes() == b"text"
