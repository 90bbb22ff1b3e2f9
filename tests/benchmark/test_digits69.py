import numpy as np
import pytest
from scipy.io import savemat

from benchmark.data import digits69, splits
from benchmark.errors import BenchError

N_VOXELS = 12


def _content():
    rng = np.random.default_rng(0)
    return {
        "fmriTrn": rng.standard_normal((90, N_VOXELS)),
        "fmriTest": rng.standard_normal((10, N_VOXELS)),
        "stimTrn": rng.integers(0, 256, (90, 784), np.uint8),
        "stimTest": rng.integers(0, 256, (10, 784), np.uint8),
        "labelTrn": np.repeat([1, 2], 45)[:, None].astype(np.uint8),
        "labelTest": np.repeat([1, 2], 5)[:, None].astype(np.uint8),
    }


def _write(folder, **changes):
    content = {name: value for name, value in (_content() | changes).items() if value is not None}
    savemat(folder / digits69.FILE, content)
    return folder


def test_layout(tmp_path):
    content = _content()
    dataset = digits69.load(_write(tmp_path), tmp_path / "cache")
    assert dataset.subjects == ("S1",)
    assert dataset.name == "digits69"
    assert list(dataset.stimuli.ids[[0, 89, 90, 99]]) == ["train-00", "train-89", "test-00", "test-09"]
    assert dataset.stimuli.images.shape == (100, 28, 28, 1)
    assert dataset.stimuli.images.dtype == np.uint8
    for i, row in ((0, content["stimTrn"][0]), (99, content["stimTest"][9])):
        assert np.array_equal(dataset.stimuli.images[i, :, :, 0], row.reshape(28, 28, order="F"))
    assert dataset.stimuli.attributes["digit"].tolist() == [6] * 45 + [9] * 45 + [6] * 5 + [9] * 5
    data = dataset.load_subject("S1")
    assert data.responses.dtype == np.float32
    np.testing.assert_allclose(data.responses, np.concatenate([content["fmriTrn"], content["fmriTest"]]), rtol=1e-6)
    assert np.array_equal(data.stimulus, np.arange(100))
    with pytest.raises(BenchError, match="S2"):
        dataset.load_subject("S2")


def test_split(tmp_path):
    dataset = digits69.load(_write(tmp_path), tmp_path / "cache")
    split = splits.builtin("digits69-v1")
    (fold,) = split.for_subject("S1")
    assert split.unit == "stimulus"
    assert (*fold.train, *fold.test) == tuple(dataset.stimuli.ids)
    assert splits.guard(split, dataset, "S1") == ()


def test_fingerprint_follows_the_bytes(tmp_path):
    first = digits69.load(_write(tmp_path), tmp_path / "cache").fingerprint
    changed = _content()["fmriTrn"]
    changed[3, 4] += 1e-9
    assert digits69.load(_write(tmp_path, fmriTrn=changed), tmp_path / "cache").fingerprint != first


def _with(name, index, value):
    array = _content()[name].astype(float)
    array[index] = value
    return {name: array}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fmriTest": None}, ["fmriTest", "missing"]),
        ({"stimTrn": np.zeros((89, 784), np.uint8)}, ["stimTrn", "89 x 784", "90 x 784"]),
        ({"stimTest": np.zeros((10, 28, 28), np.uint8)}, ["stimTest", "10 x 28 x 28", "10 x 784"]),
        ({"fmriTrn": np.zeros((90, 0))}, ["fmriTrn", "90 x 0"]),
        ({"labelTrn": "six"}, ["labelTrn", "numbers"]),
        (_with("fmriTrn", (5, 5), np.nan), ["fmriTrn", "NaN"]),
        (_with("fmriTest", (0, 0), np.inf), ["fmriTest", "infinity"]),
        (_with("stimTrn", (0, 0), 256), ["stimTrn", "0 to 255"]),
        (_with("stimTrn", (0, 0), 0.5), ["stimTrn", "0 to 255"]),
        (_with("labelTest", (0, 0), 3), ["labelTest", "1 and 2"]),
        ({"fmriTest": np.zeros((10, N_VOXELS + 1))}, ["fmriTrn has 12 voxels", "fmriTest 13"]),
    ],
)
def test_one_fault_is_one_sentence(tmp_path, changes, words):
    faults = digits69.check(_write(tmp_path, **changes))
    assert len(faults) == 1
    assert all(word in faults[0] for word in (digits69.FILE, "expected", *words))
    with pytest.raises(BenchError, match=r"DSC_2018\.00112_485") as error:
        digits69.load(tmp_path, tmp_path / "cache")
    assert str(error.value).startswith(faults[0])


def test_every_fault_is_named(tmp_path):
    folder = _write(tmp_path, fmriTest=None, labelTrn=None, **_with("fmriTrn", (5, 5), np.nan))
    assert [("fmriTrn" in f, "fmriTest" in f, "labelTrn" in f) for f in digits69.check(folder)] == [
        (True, False, False),
        (False, True, False),
        (False, False, True),
    ]


def test_missing_and_truncated_file(tmp_path):
    assert digits69.check(tmp_path)[0].endswith(f"MATLAB 5 file with {', '.join(digits69._LAYOUT)}")
    path = _write(tmp_path) / digits69.FILE
    assert digits69.check(tmp_path) == []
    whole = path.read_bytes()
    for size in (0, 50, len(whole) // 3, len(whole) - 7):
        path.write_bytes(whole[:size])
        faults = digits69.check(tmp_path)
        assert faults
        assert all(str(path) in fault and "expected" in fault for fault in faults)


def test_real_recording(test_data, tmp_path):
    """Ridge at lambda = the kernel's mean diagonal; the expected figures were measured apart from this package."""
    folder = test_data / "digit69"
    assert digits69.check(folder) == []
    dataset = digits69.load(folder, tmp_path)
    x = dataset.load_subject("S1").responses.astype(np.float64)
    assert x.shape == (100, 3092)
    y = dataset.stimuli.images.reshape(100, -1) / 255.0
    assert len(np.unique(y, axis=0)) == 100
    mean, centre = x[:90].mean(0), y[:90].mean(0)
    kernel = (x[:90] - mean) @ (x[:90] - mean).T
    weights = np.linalg.solve(kernel + np.trace(kernel) / 90 * np.eye(90), y[:90] - centre)
    predicted = (x[90:] - mean) @ (x[:90] - mean).T @ weights + centre
    r = np.corrcoef(y[90:], predicted)[:10, 10:]
    assert np.diag(r).mean() == pytest.approx(0.739, abs=0.02)
    assert (r < np.diag(r)).sum() / 90 == pytest.approx(0.922, abs=0.03)
