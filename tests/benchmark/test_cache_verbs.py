import numpy as np

from benchmark.data.locate import cache_dir
from benchmark.pretrained.cache import FOLDER, Label, extract


def test_list_verify_and_clear(bench, monkeypatch, tmp_path):
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "own"))
    images = np.arange(5 * 12, dtype=np.uint8).reshape(5, 2, 2, 3)
    extract(cache_dir(), Label("toy", "mean", "w" * 64), images, lambda x: x.reshape(len(x), -1).mean(1)[:, None])
    code, out, _ = bench("cache", "list")
    assert code == 0
    assert "toy" in out
    assert "mean" in out
    assert bench("cache", "verify")[:2] == (0, "no fault found\n")
    (rows,) = (cache_dir() / FOLDER).glob("*/*rows*")
    content = bytearray(rows.read_bytes())
    content[3] ^= 255
    rows.write_bytes(bytes(content))
    code, out, _ = bench("cache", "verify")
    assert code == 1
    assert "damaged" in out
    code, _, err = bench("cache", "clear", "--model", "toi")
    assert code == 2
    assert "did you mean 'toy'" in err
    assert "MB removed" in bench("cache", "clear", "--model", "toy")[1]
    assert not list((cache_dir() / FOLDER).glob("*/*"))
