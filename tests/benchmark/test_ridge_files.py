"""The ridge engine on memory-mapped files, within memory limits, and its out-of-fold statistics and weights."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from benchmark import ridge
from benchmark.errors import BenchError
from benchmark.ridge import _model
from tests.benchmark.test_ridge import made, sklearn_predict

RAW = {"relative": False, "standardise": False}


def mapped(folder, name, array):
    np.save(folder / f"{name}.npy", array)
    return np.load(folder / f"{name}.npy", mmap_mode="r")


@pytest.mark.parametrize(("n", "p"), [(30, 50), (50, 30)])
def test_mapped_targets_with_tokens_and_own_penalties(tmp_path, n, p):
    x, y, test = made(n, p, 60)
    x, test = x.astype(np.float32), test.astype(np.float32)
    arrays = {"tokens": y.reshape(n, 6, 10), "vector": y[:, :7], "wide": np.hstack([y, y + 1])}
    penalties = {"tokens": 2.0, "vector": [5.0], "wide": 2.0}
    targets = {k: mapped(tmp_path, k, v.astype(np.float32)) for k, v in arrays.items()}
    model = ridge.fit(mapped(tmp_path, "x", x), targets, penalties, tile=32, **RAW)
    found = model.predict(test, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["tokens.npy", "vector.npy", "wide.npy"]
    own = {
        k: np.lib.format.open_memmap(tmp_path / f"own_{k}.npy", "w+", np.float32, (len(test), *v.shape[1:]))
        for k, v in targets.items()
    }
    again = model.predict(test, own)
    for name, y64 in arrays.items():
        expected = sklearn_predict(
            x.astype(float), y64.reshape(n, -1), test.astype(float), np.ravel(penalties[name])[0]
        )
        assert found[name].shape == (len(test), *y64.shape[1:])
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], expected.reshape(found[name].shape), rtol=2e-6)
        np.testing.assert_array_equal(np.load(tmp_path / f"own_{name}.npy"), found[name])
        assert again[name] is own[name]


@pytest.mark.parametrize("rows", [0, 1])
@pytest.mark.parametrize("p", [30, 5])
def test_hardly_any_test_rows(tmp_path, rows, p):
    x, y, test = made(12, p, 20)
    model = ridge.fit(x, {"y": y})
    found = model.predict(test[:rows], tmp_path)["y"]
    assert found.shape == np.load(tmp_path / "y.npy").shape == (rows, 20)
    np.testing.assert_allclose(found, model.predict(test)["y"][:rows], rtol=1e-10)


@pytest.mark.parametrize("use", ["predict", "out_of_fold", "weights", "gcv", "leave-out"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_bad_value_in_a_file_is_refused_and_leaves_no_file(tmp_path, use, value):
    x, y, test = made(20, 30, 40)
    y[3, 33] = value
    target = mapped(tmp_path, "glove", y)
    calls = {
        "predict": lambda m: m.predict(test, tmp_path / "out"),
        "out_of_fold": lambda m: m.out_of_fold("glove"),
        "weights": lambda m: m.weights("glove", tmp_path / "out"),
    }
    (tmp_path / "out").mkdir()
    options = {"penalties": [1.0]} if use in calls else {"select": use}
    with pytest.raises(BenchError, match="'glove' contains NaN or infinity"):
        calls.get(use, lambda m: m)(ridge.fit(x, {"glove": target}, **options, tile=16))
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("p", [8, 4])
def test_bad_test_responses_are_refused(p):
    x, y, test = made(6, p)
    test[2, 1] = np.nan
    with pytest.raises(BenchError, match="test responses contain NaN"):
        ridge.fit(x, {"y": y}).predict(test)


@pytest.mark.parametrize(
    "out", [{}, {"y": np.empty((7, 4))}, {"y": np.empty((7, 3), np.float32)}, {"y": np.empty((3, 7)).T}]
)
def test_unfit_output_arrays_are_refused(out):
    x, y, test = made(6, 4)
    with pytest.raises(BenchError, match=r"expected a contiguous float64 array of shape \(7, 3\) in out\['y'\]"):
        ridge.fit(x, {"y": y}).predict(test, out)


def test_a_target_without_a_penalty_and_an_unknown_choice_are_refused():
    x, y, _ = made(6, 4)
    with pytest.raises(BenchError, match="a penalty for the target 'y', got"):
        ridge.fit(x, {"y": y}, {"z": 1.0})
    with pytest.raises(BenchError, match="'leave-out' or 'gcv'"):
        ridge.fit(x, {"y": y}, select="aic")


@pytest.mark.parametrize(("n", "p"), [(25, 60), (60, 25)])
@pytest.mark.parametrize("t", [2, 90])
@pytest.mark.parametrize("count", [4, 24])
def test_gcv_equals_its_definition(n, p, t, count):
    x, y, _ = made(n, p, t)
    penalties = np.geomspace(1e3, 0.5, count)
    model = ridge.fit(x, {"y": y, "half": y[:, : t // 2] ** 2}, penalties, select="gcv", **RAW)
    centre = np.eye(n) - 1 / n
    xc = centre @ x
    for name, target in {"y": y, "half": y[:, : t // 2] ** 2}.items():
        expected = []
        for a in penalties:
            hat = 1 / n + xc @ np.linalg.solve(xc.T @ xc + a * np.eye(p), xc.T)
            rest = np.linalg.norm(target - hat @ target) ** 2 / target.size
            expected.append(rest / (1 - np.trace(hat) / n) ** 2)
        np.testing.assert_allclose(model.errors[name], expected, rtol=1e-6)
        assert model.penalties[name] == penalties[np.argmin(expected)]


def test_targets_may_offer_different_penalties():
    x, y, _ = made(25, 40, 3)
    for select in ("leave-out", "gcv"):
        both = ridge.fit(x, {"a": y, "b": y, "c": y}, {"a": [1.0, 4.0], "b": [4.0, 9.0, 2.0], "c": 7.0}, select=select)
        assert both.penalties["c"] == 7.0
        assert "c" not in both.errors
        for name, offered in {"a": [1.0, 4.0], "b": [4.0, 9.0, 2.0]}.items():
            alone = ridge.fit(x, {"y": y}, offered, select=select)
            np.testing.assert_allclose(both.errors[name], alone.errors["y"], rtol=1e-9)
            assert both.penalties[name] == alone.penalties["y"]


@pytest.mark.parametrize(("n", "p"), [(40, 70), (70, 30)])
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("rows", [None, 13])
def test_out_of_fold_statistics_equal_refits(n, p, grouped, rows):
    x, y, _ = made(n, p, 21)
    groups = np.random.default_rng(2).integers(0, 15, n) if grouped else None
    model = ridge.fit(x, {"y": y.reshape(n, 3, 7)}, [3.0], groups=groups, tile=8, **RAW)
    found = model.out_of_fold("y", folds=4, rows=rows, seed=5)
    folds = _model._folds(groups, n, 4, rows or n, 5)
    predictions = []
    for held, take in folds:
        others = np.setdiff1d(np.arange(n), held)
        if grouped:
            assert not set(groups[held]) & set(groups[others])
        predictions.append(sklearn_predict(x[others], y[others], x[held[:take]], 3.0))
    expected = np.concatenate(predictions)
    assert found.rows == len(expected) == (rows or n)
    np.testing.assert_allclose(found.mean, expected.mean(0).reshape(3, 7), rtol=1e-9)
    np.testing.assert_allclose(found.std, expected.std(0).reshape(3, 7), rtol=1e-7)
    np.testing.assert_allclose(found.target_mean, y.mean(0).reshape(3, 7), rtol=1e-9)
    np.testing.assert_allclose(found.target_std, y.std(0).reshape(3, 7), rtol=1e-7)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=2, max_size=30), st.integers(2, 12), st.integers(0, 9))
def test_folds_part_the_rows_and_keep_groups_whole(labels, folds, seed):
    labels = np.array(labels)
    if len(set(labels)) < 2:
        with pytest.raises(BenchError, match="two folds, two groups"):
            _model._folds(labels, len(labels), folds, len(labels), seed)
        return
    found = [rows for rows, _ in _model._folds(labels, len(labels), folds, len(labels), seed)]
    assert sorted(np.concatenate(found)) == list(range(len(labels)))
    assert 2 <= len(found) <= min(folds, len(set(labels)))
    assert sum(len(set(labels[rows])) for rows in found) == len(set(labels))


def test_out_of_fold_depends_on_the_seed_only():
    x, y, _ = made(40, 60, 5)
    model = ridge.fit(x, {"y": y}, [1.0])
    one, two, other = (model.out_of_fold("y", rows=10, seed=s).mean for s in (0, 0, 1))
    np.testing.assert_array_equal(one, two)
    assert not np.allclose(one, other, rtol=1e-6)


def test_constant_target_columns_have_no_spread():
    x, y, _ = (v.astype(np.float32) for v in made(40, 60, 5))
    y[:, 2] = 0.1
    model = ridge.fit(x, {"y": y}, [1.0])
    found = model.out_of_fold("y")
    assert found.std[2] == found.target_std[2] == 0
    assert found.mean[2] == found.target_mean[2] == np.float32(0.1)
    assert (model.predict(x)["y"][:, 2] == np.float32(0.1)).all()


@pytest.mark.parametrize(("n", "p"), [(30, 50), (50, 30)])
def test_weights_equal_sklearn(tmp_path, n, p):
    x, y, test = made(n, p, 24)
    x[:, 3] = 2.0  # constant: no weight
    model = ridge.fit(x, {"y": y.reshape(n, 4, 6)}, [3.0], tile=7, **RAW)
    weights, intercept = model.weights("y", tmp_path)
    reference = Ridge(alpha=3.0, solver="svd").fit(x, y)
    np.testing.assert_allclose(weights.reshape(p, -1), reference.coef_.T, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(intercept.ravel(), reference.intercept_, rtol=1e-9)
    np.testing.assert_array_equal(np.load(tmp_path / "y-weights.npy"), weights)
    scaled = ridge.fit(x, {"y": y}, [0.5])
    weights, intercept = scaled.weights("y")
    np.testing.assert_allclose(test @ weights + intercept, scaled.predict(test)["y"], rtol=1e-9)


def test_a_large_mean_costs_no_digits():
    x, y, test = made(60, 90, 70)
    exact = ridge.fit(x, {"y": y}, [1.0]).predict(test)["y"] - 100
    model = ridge.fit(x, {"y": (y - 100 + 2.0**14).astype(np.float32)}, [1.0])
    np.testing.assert_allclose(model.predict(test)["y"] - 2.0**14, exact, atol=3e-3)  # float32 there: 1e-3


@pytest.mark.parametrize("p", [40, 300])
def test_a_kernel_too_ill_conditioned_for_float32_is_refused(p):
    x = np.repeat(np.random.default_rng(0).standard_normal((200, 1)), p, axis=1).astype(np.float32)
    y = x[:, :30].copy()
    with pytest.raises(BenchError, match="larger penalty or precision='float64'"):
        ridge.fit(x, {"y": y}, [1e-9], precision="float32").predict(x)
    np.testing.assert_allclose(ridge.fit(x, {"y": y}, [1e-9]).predict(x)["y"], y, atol=1e-5)


@pytest.mark.parametrize("p", [40, 400])
def test_few_test_rows_at_a_time_change_nothing(monkeypatch, p):
    monkeypatch.setattr(ridge._plan, "MOMENT_VALUES", 1)
    x, y, test = made(200, p, 30, m=3000)
    whole = ridge.fit(x, {"y": y}, [1.0])
    least = ridge.plan(200, p, {"y": 30}, 3000, itemsize=8, memory_limit=10**12, tile=30)
    tight = ridge.fit(x, {"y": y}, [1.0])
    object.__setattr__(tight, "budget", least.memory - 10**6)
    assert tight._plan(tight.targets, 3000).rows < 3000
    np.testing.assert_allclose(tight.predict(test)["y"], whole.predict(test)["y"], rtol=1e-10)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 20000), st.integers(1, 20000), st.integers(1, 400000), st.integers(0, 5000),
    st.sampled_from([None, "gcv", "leave-out"]), st.integers(1, 12), st.integers(7, 11),
)  # fmt: skip
def test_a_plan_stays_inside_its_limit_or_says_the_least(n, p, t, m, select, penalties, digits):
    options = {"penalties": penalties, "select": select, "memory_limit": 10**digits}
    try:
        found = ridge._plan.choose(n, p, {"a": t, "b": 3}, m, tile=None, precision="auto", itemsize=4, **options)
    except BenchError as error:
        least = float(str(error).split("at least ")[1].split(" GB")[0])
        assert least * 1e9 > 10**digits
        options["memory_limit"] = int(least * 1e9)
        found = ridge._plan.choose(n, p, {"a": t, "b": 3}, m, tile=None, precision="auto", itemsize=4, **options)
    assert found.memory <= options["memory_limit"]
    assert found.rows <= max(m, 0)
    assert found.tile <= t or found.tile <= 3


def test_plan_at_full_size():
    sizes = {"vdvae": 91_168, "vision": 257 * 768, "text": 77 * 768}
    found = ridge.plan(8859, 15724, sizes, 982, penalties=3, memory_limit=4 * 10**9)
    assert found.memory <= 4e9
    assert 8.5e12 < found.flops < 9.5e12
    assert 0 < found.seconds < float("inf")
    assert "GB" in str(found)
    with pytest.raises(
        BenchError, match=r"leaves 0\.30 GB for 8859 rows and 15724 voxels; expected at least 0\.\d\d GB"
    ):
        ridge.plan(8859, 15724, sizes, 982, penalties=3, memory_limit=3 * 10**8)


MEASURED = """
import json, re, sys, threading, time
import numpy as np, torch
from benchmark import ridge
from benchmark.errors import BenchError
from benchmark.ridge import _select
from benchmark.ridge._model import _held

torch.set_num_threads(1)
folder, work = sys.argv[1:]
x, *targets = (np.load(f"{folder}/{name}.npy", mmap_mode="r") for name in "xab")
targets = dict(zip("ab", targets))
select = "leave-out" if work == "predict" else work
peak = 0

def watch():
    global peak
    while True:
        peak = max(peak, _held())
        time.sleep(0.001)

def run(limit):
    global peak
    peak = 0
    model = ridge.fit(x, targets, penalties, memory_limit=limit and before + limit, select=select)
    plans = [model.plan, model._plan(targets, 200)]
    model.predict(x[-200:], folder + "/out")
    if work == "predict":
        plans += [model._plan({"a": targets["a"]}, 300, "fold"), model._plan({"a": targets["a"]}, 0, "weights")]
        model.out_of_fold("a", rows=300, folds=10)
        model.weights("b", folder + "/out")
    return {"used": peak - before, "planned": max(p.memory for p in plans)}

torch.linalg.cholesky(torch.ones(64, 64) @ torch.ones(64, 64) + torch.eye(64))  # start the library
threading.Thread(target=watch, daemon=True).start()
penalties = {"a": 0.5, "b": 2.0} if work == "predict" else [0.5, 2.0]
try:
    ridge.fit(x, targets, penalties, memory_limit=1, select=select)
except BenchError as error:
    least = float(re.search("at least (.*) GB", str(error))[1]) * 1e9
options = {"penalties": 2, "select": None if work == "predict" else select}
free = ridge.plan(*x.shape, {"a": 8000, "b": 4000}, 1000, **options).memory
limit = int(0.7 * least + 0.3 * free)
before = _held()
print(json.dumps({"least": least, "limit": limit, "tight": run(limit), "free": run(None)}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells anonymous memory apart")
@pytest.mark.parametrize(("work", "n", "p"), [("predict", 2100, 2200), ("leave-out", 700, 900), ("gcv", 900, 700)])
def test_memory_is_what_was_planned(tmp_path, work, n, p):
    rng = np.random.default_rng(0)
    for name, width in {"x": p, "a": 8000, "b": 4000}.items():
        np.save(tmp_path / f"{name}.npy", rng.standard_normal((n, width), dtype=np.float32))
    done = subprocess.run([sys.executable, "-c", MEASURED, str(tmp_path), work], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    print(found)
    assert 0.2 * found["free"]["planned"] < found["free"]["used"] <= found["free"]["planned"]
    assert found["tight"]["used"] <= found["tight"]["planned"] <= found["limit"] < found["free"]["planned"]
