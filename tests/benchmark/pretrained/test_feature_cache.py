"""The feature cache: computed once, found by content, whole after a kill, safe with two processes."""

import multiprocessing
import os
import signal
import time

import numpy as np
import pytest

from benchmark.errors import BenchError
from benchmark.pretrained.cache import Label, clear, content_key, extract, shelves, verify

LABEL = Label("toy-mini", "pixels", "abc")


def mean_rows(images):
    """Per image: its 12 block means; depends on nothing but the image."""
    return np.asarray(images, np.float32).reshape(len(images), 12, -1).mean(2)


def pictures(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 4, 4, 3), dtype=np.uint8)


def test_second_request_computes_nothing_and_returns_a_map(tmp_path):
    images, calls = pictures(10), []

    def counted(batch):
        calls.append(len(batch))
        return mean_rows(batch)

    first = extract(tmp_path, LABEL, images, counted, batch=4)
    again = extract(tmp_path, LABEL, images, counted, batch=4)
    assert calls == [4, 4, 2]
    np.testing.assert_array_equal(first, mean_rows(images))
    np.testing.assert_array_equal(again, first)
    assert isinstance(again, np.memmap)
    assert not again.flags.writeable


def test_rows_follow_the_content_not_the_position(tmp_path):
    images = pictures(6)
    extract(tmp_path, LABEL, images[:4], mean_rows)
    order = [5, 0, 3, 3, 1]
    calls = []

    def counted(batch):
        calls.append(len(batch))
        return mean_rows(batch)

    np.testing.assert_array_equal(extract(tmp_path, LABEL, images[order], counted), mean_rows(images[order]))
    assert calls == [1]
    assert [shelf.rows for shelf in shelves(tmp_path)] == [5]


@pytest.mark.parametrize(
    "change", [{"weights": "abd"}, {"preprocessing": "2"}, {"output": "other"}, {"model": "toy-full"}]
)
def test_every_part_of_the_label_separates(tmp_path, change):
    images = pictures(2)
    extract(tmp_path, LABEL, images, mean_rows)
    other = Label(**{"model": "toy-mini", "output": "pixels", "weights": "abc"} | change)
    np.testing.assert_array_equal(extract(tmp_path, other, images, lambda b: mean_rows(b) + 1), mean_rows(images) + 1)
    assert len(shelves(tmp_path)) == 2


def test_content_key_tells_shape_type_and_texts_apart():
    flat = np.zeros(12, np.uint8)
    items = [
        flat.reshape(2, 2, 3),
        flat.reshape(1, 4, 3),
        flat.astype(np.int8).reshape(2, 2, 3),
        "ab",
        ("ab",),
        ("a", "b"),
    ]
    assert len({content_key(item) for item in items}) == len(items)
    with pytest.raises(BenchError, match="not for int"):
        content_key(3)


def test_captions_and_half_precision(tmp_path):
    label = Label("toy-mini", "lengths", "abc", stored="float16")
    texts = [("a red star",), ("a star", "red"), ("sea",)]
    lengths = extract(tmp_path, label, texts, lambda some: np.array([[sum(map(len, t)) / 3] for t in some]))
    assert lengths.dtype == np.float32
    np.testing.assert_allclose(lengths[:, 0], [10 / 3, 9 / 3, 3 / 3], rtol=1e-3)
    with pytest.raises(BenchError, match="too large for float16"):
        extract(tmp_path, label, ["new"], lambda some: np.full((1, 1), 1e6))


@pytest.mark.parametrize(
    ("output", "message"),
    [(np.full((2, 12), np.nan), "NaN"), (np.zeros((1, 12)), "one an item"), (np.zeros((2, 5)), "expected \\(12,\\)")],
)
def test_wrong_output_is_told_and_not_stored(tmp_path, output, message):
    extract(tmp_path, LABEL, pictures(3), mean_rows)
    with pytest.raises(BenchError, match=message):
        extract(tmp_path, LABEL, pictures(2, seed=1), lambda batch: output)
    assert shelves(tmp_path)[0].rows == 3


def test_half_written_rows_and_keys_are_cut_off(tmp_path):
    images = pictures(5)
    extract(tmp_path, LABEL, images[:3], mean_rows)
    path = shelves(tmp_path)[0].path
    with (path / "rows.bin").open("ab") as rows, (path / "index.bin").open("ab") as index:
        rows.write(b"x" * 31)
        index.write(b"y" * 7)
    np.testing.assert_array_equal(extract(tmp_path, LABEL, images, mean_rows), mean_rows(images))
    assert verify(tmp_path) == []
    assert shelves(tmp_path)[0].rows == 5


def test_keys_without_rows_are_computed_again(tmp_path):
    images = pictures(4)
    extract(tmp_path, LABEL, images, mean_rows)
    path = shelves(tmp_path)[0].path
    os.truncate(path / "rows.bin", 2 * 12 * 4 + 5)
    assert "2 rows, expected 4" in verify(tmp_path)[0]
    np.testing.assert_array_equal(
        extract(tmp_path, LABEL, pictures(1, seed=3), mean_rows), mean_rows(pictures(1, seed=3))
    )
    np.testing.assert_array_equal(extract(tmp_path, LABEL, images, mean_rows), mean_rows(images))
    assert verify(tmp_path) == []


def test_verify_finds_a_flipped_byte_and_clear_removes(tmp_path):
    extract(tmp_path, LABEL, pictures(4), mean_rows)
    extract(tmp_path, Label("other", "pixels", "abc"), pictures(4), mean_rows)
    path = next(shelf.path for shelf in shelves(tmp_path) if shelf.label.model == "toy-mini")
    content = bytearray((path / "rows.bin").read_bytes())
    content[60] ^= 1
    (path / "rows.bin").write_bytes(content)
    (problem,) = verify(tmp_path)
    assert "1 of 4 rows, the first is 1" in problem
    assert clear(tmp_path, "toy-mini") > 4 * 48
    assert [shelf.label.model for shelf in shelves(tmp_path)] == ["other"]
    clear(tmp_path)
    assert shelves(tmp_path) == []
    assert verify(tmp_path) == []


def _slow(images):
    time.sleep(0.02)
    return mean_rows(images)


def _worker(root, n, results):
    results.put(extract(root, LABEL, pictures(n), _slow, batch=2))


def test_two_processes_share_one_shelf(tmp_path):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    workers = [context.Process(target=_worker, args=(tmp_path, 24, results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for _ in workers:
        np.testing.assert_array_equal(results.get(timeout=30), mean_rows(pictures(24)))
    for worker in workers:
        worker.join()
    assert shelves(tmp_path)[0].rows == 24
    assert verify(tmp_path) == []


def test_resumes_after_a_kill(tmp_path):
    context = multiprocessing.get_context("fork")
    worker = context.Process(target=_worker, args=(tmp_path, 400, context.Queue()))
    worker.start()
    while not (found := shelves(tmp_path)) or found[0].rows < 10:
        time.sleep(0.005)
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    done = shelves(tmp_path)[0].rows
    assert 10 <= done < 400
    computed = []

    def counted(batch):
        computed.extend(batch)
        return mean_rows(batch)

    np.testing.assert_array_equal(extract(tmp_path, LABEL, pictures(400), counted), mean_rows(pictures(400)))
    assert 400 - done - 2 <= len(computed) <= 400 - done
    assert verify(tmp_path) == []


def test_nothing_to_extract_is_an_error(tmp_path):
    with pytest.raises(BenchError, match="at least one item"):
        extract(tmp_path, LABEL, pictures(0), mean_rows)
