import gzip

import nibabel
import numpy as np
import pytest

from benchmark.data import sessions
from benchmark.data.sessions import SessionFile, extract, read_session, read_volume, session_fault, session_shape
from benchmark.errors import BenchError

SHAPE, N = (5, 4, 3), 11


@pytest.fixture
def mask():
    return np.random.default_rng(1).random(SHAPE) < 0.4


def write(path, dtype="f4", slope=None, n=N, seed=0):
    data = (100 * np.random.default_rng(seed).normal(size=(*SHAPE, n))).astype(dtype)
    image = nibabel.Nifti1Image(data, np.eye(4))
    image.header.set_data_dtype(data.dtype)
    image.header.set_slope_inter(slope, None if slope is None else 3)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(("dtype", "slope"), [("f4", None), ("f8", None), ("i2", None), (">i2", None), ("i2", 0.5)])
@pytest.mark.parametrize("slab", [1, 3 * 60 * 2, 1 << 25])
def test_a_session_is_what_nibabel_reads_of_it(tmp_path, mask, monkeypatch, suffix, dtype, slope, slab):
    path = write(tmp_path / f"ses{suffix}", dtype, slope)
    monkeypatch.setattr(sessions, "SLAB_BYTES", slab)
    out = np.full((N, mask.sum()), np.nan, np.float32)
    read_session(path, mask, out, scale=1 / 300)
    expected = nibabel.load(path).get_fdata()[mask].T / 300
    np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-6)


def test_nan_stays_nan(tmp_path, mask):
    data = np.ones((*SHAPE, 2), np.float32)
    data[mask, 1] = np.nan
    nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), tmp_path / "a.nii.gz")
    out = np.empty((2, mask.sum()), np.float32)
    read_session(tmp_path / "a.nii.gz", mask, out)
    assert (out[0] == 1).all()
    assert np.isnan(out[1]).all()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kept", [0, 100, 0.5, -9])
def test_a_session_cut_short_is_one_sentence(tmp_path, suffix, kept):
    path = write(tmp_path / f"ses{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    fault = session_fault(path)
    assert fault.startswith(f"{path}: c")  # "cut short" or "cannot be read"
    assert "expected a whole NIfTI file" in fault


def test_a_changed_byte_is_found(tmp_path):
    path = write(tmp_path / "ses.nii.gz")
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # in gzip's own checksum
    path.write_bytes(content)
    assert "CRC" in session_fault(path)


def test_what_follows_the_last_trial_is_a_fault(tmp_path):
    path = write(tmp_path / "ses.nii.gz")
    path.write_bytes(path.read_bytes() + gzip.compress(b"more"))
    assert f"goes on after the last of {N} trials" in session_fault(path)


def test_a_sound_file_has_no_fault(tmp_path):
    assert session_fault(write(tmp_path / "ses.nii.gz")) is None
    assert session_shape(tmp_path / "ses.nii.gz") == (SHAPE, N)


def test_other_shapes_and_counts_are_named(tmp_path, mask):
    path = write(tmp_path / "ses.nii.gz")
    with pytest.raises(BenchError, match=rf"ses.nii.gz: {N} trials on its last axis, expected 9"):
        read_session(path, mask, np.empty((9, mask.sum()), np.float32))
    with pytest.raises(BenchError, match=r"volumes of shape \(5, 4, 3\), expected \(5, 3, 4\) as the mask's"):
        read_session(path, mask.swapaxes(1, 2), np.empty((N, mask.sum()), np.float32))
    with pytest.raises(BenchError, match=r"expected a volume \(x, y, z\)"):
        read_volume(path)
    nibabel.save(nibabel.Nifti1Image(mask.astype(np.uint8), np.eye(4)), tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "mask.nii.gz"), mask)
    with pytest.raises(BenchError, match=r"expected \(x, y, z, trials\)"):
        session_shape(tmp_path / "mask.nii.gz")
    with pytest.raises(BenchError, match="no such file"):
        read_volume(tmp_path / "none.nii.gz")


def listed(tmp_path, n=3):
    paths = [write(tmp_path / f"ses{k}.nii.gz", n=N + k, seed=k) for k in range(n)]
    return [SessionFile(path, N + k, f"digest{k}") for k, path in enumerate(paths)]


def test_all_sessions_make_one_mapped_matrix(tmp_path, mask):
    files = listed(tmp_path)
    out = extract(files, mask, tmp_path / "cache")
    assert isinstance(out, np.memmap)
    assert out.dtype == np.float32
    expected = np.concatenate([nibabel.load(f.path).get_fdata()[mask].T for f in files])
    np.testing.assert_allclose(out, expected, rtol=1e-6)
    assert [p.name for p in (tmp_path / "cache" / "responses").iterdir()] == [out.filename.name]  # no part is left
    for file in files:
        file.path.unlink()
    np.testing.assert_array_equal(extract(files, mask, tmp_path / "cache"), out)  # from the cache


def test_an_interrupted_extraction_goes_on_where_it_stopped(tmp_path, mask, monkeypatch):
    files, cache, read = listed(tmp_path), tmp_path / "cache", []

    def counted(path, *arguments):
        read.append(path.name)
        if len(read) == 3:
            raise KeyboardInterrupt
        read_session(path, *arguments)

    monkeypatch.setattr(sessions, "read_session", counted)
    with pytest.raises(KeyboardInterrupt):
        extract(files, mask, cache)
    assert not list((cache / "responses").glob("*.npy"))
    out = extract(files, mask, cache)
    assert read == ["ses0.nii.gz", "ses1.nii.gz", "ses2.nii.gz", "ses2.nii.gz"]
    np.testing.assert_array_equal(out, extract(files, mask, tmp_path / "other"))


def test_other_content_mask_or_scale_is_another_matrix(tmp_path, mask):
    files, cache = listed(tmp_path, 2), tmp_path / "cache"
    first = extract(files, mask, cache)
    np.testing.assert_allclose(extract(files, mask, cache, 0.5), first / 2, rtol=1e-6)
    assert extract(files, ~mask, cache).shape == (2 * N + 1, (~mask).sum())
    write(files[0].path, seed=9)
    changed = [SessionFile(files[0].path, N, "other"), files[1]]
    assert not np.array_equal(extract(changed, mask, cache), first)
