"""The ridge engine against scikit-learn, naive loops and closed forms, in float64."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge, RidgeCV

from benchmark import ridge
from benchmark.errors import BenchError
from benchmark.ridge import _kernel, _plan, _select


def made(n, p, t=3, seed=0, m=7):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n + m, p)) * rng.uniform(0.5, 3, p) + rng.uniform(-5, 5, p)
    y = x @ rng.standard_normal((p, t)) / p + 0.3 * rng.standard_normal((n + m, t)) + 100
    return x[:n], y[:n], x[n:]


def sklearn_predict(x, y, test, alpha):
    return Ridge(alpha=alpha, solver="svd").fit(x, y).predict(test).reshape(len(test), -1)


@pytest.mark.parametrize(("n", "p"), [(30, 80), (80, 30), (40, 40), (2, 5), (50, 1)])
@pytest.mark.parametrize("t", [1, 3, 60])
def test_single_penalty_equals_sklearn(n, p, t):
    x, y, test = made(n, p, t)
    model = ridge.fit(x, {"y": y}, [2.5], relative=False, standardise=False)
    np.testing.assert_allclose(model.predict(test)["y"], sklearn_predict(x, y, test, 2.5), rtol=1e-8)


def test_standardised_relative_penalty():
    x, y, test = made(30, 80)
    z, z_test = (x - x.mean(0)) / x.std(0), (test - x.mean(0)) / x.std(0)
    expected = sklearn_predict(z, y, z_test, 0.7 * 80)  # trace(K) / n is the number of z-scored voxels
    np.testing.assert_allclose(ridge.fit(x, {"y": y}, [0.7]).predict(test)["y"], expected, rtol=1e-8)


@pytest.mark.parametrize(("n", "p"), [(25, 60), (60, 25)])
@pytest.mark.parametrize("t", [2, 90])
def test_leave_one_out_equals_ridgecv(n, p, t):
    x, y, test = made(n, p, t)
    penalties = [0.1, 1.0, 10.0, 100.0]
    reference = RidgeCV(alphas=penalties, store_cv_results=True).fit(x, y)
    model = ridge.fit(x, {"y": y}, penalties, relative=False, standardise=False)
    expected = reference.cv_results_.reshape(-1, len(penalties)).mean(0)[::-1]
    np.testing.assert_allclose(model.errors["y"], expected, rtol=1e-7)
    assert model.penalties["y"] == reference.alpha_
    np.testing.assert_allclose(model.predict(test)["y"], reference.predict(test), rtol=1e-8)


@pytest.mark.parametrize(("n", "p"), [(24, 50), (50, 24)])
@pytest.mark.parametrize("t", [2, 70])
def test_group_errors_equal_a_naive_loop(n, p, t):
    x, y, _ = made(n, p, t)
    groups = np.array(["s1", "s2", "s3", "s2", "s4"])[np.random.default_rng(1).integers(5, size=n)]
    penalties = [30.0, 3.0, 0.3]
    expected = []
    for alpha in penalties:
        squares = 0.0
        for group in np.unique(groups):
            out = groups == group
            squares += ((sklearn_predict(x[~out], y[~out], x[out], alpha) - y[out]) ** 2).sum()
        expected.append(squares / y.size)
    model = ridge.fit(x, {"y": y}, penalties, groups=groups, relative=False, standardise=False)
    np.testing.assert_allclose(model.errors["y"], expected, rtol=1e-7)


def test_every_target_group_has_its_own_penalty_and_nothing_else_changes():
    x, y, test = made(40, 60, 2)
    noise = np.random.default_rng(3).standard_normal((40, 5))
    both = ridge.fit(x, {"y": y, "noise": noise})
    assert both.penalties["noise"] > both.penalties["y"]
    for name, target in {"y": y, "noise": noise}.items():
        alone = ridge.fit(x, {name: target})
        assert alone.penalties[name] == both.penalties[name]
        np.testing.assert_allclose(alone.predict(test)[name], both.predict(test)[name], rtol=1e-10)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 12), st.integers(1, 12), st.integers(0, 99), st.floats(0.01, 100))
def test_dual_equals_primal(n, p, seed, alpha):
    x, y, test = made(n, p, 2, seed)
    wide = np.hstack([x, np.zeros((n, 13))])  # zero columns force the dual form and change nothing
    wide_test = np.hstack([test, np.zeros((len(test), 13))])
    options = {"relative": False, "standardise": False}
    one = ridge.fit(x, {"y": y}, [alpha], **options).predict(test)["y"]
    two = ridge.fit(wide, {"y": y}, [alpha], **options).predict(wide_test)["y"]
    np.testing.assert_allclose(one, two, rtol=1e-8, atol=1e-8)


def test_one_item_gives_its_target():
    x, y, test = made(1, 6)
    np.testing.assert_allclose(ridge.fit(x, {"y": y}).predict(test)["y"], np.tile(y, (len(test), 1)))


def test_one_group_takes_the_largest_penalty():
    x, y, _ = made(10, 6)
    assert ridge.fit(x, {"y": y}, [1.0, 5.0, 2.0], groups=np.zeros(10)).penalties["y"] == 5.0


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
@pytest.mark.parametrize("p", [40, 10])
def test_constant_column_is_ignored(value, p):
    x, y, test = (v.astype(np.float32) for v in made(20, p))
    without = ridge.fit(x, {"y": y}, [3.0], relative=False).predict(test)["y"]
    wide = np.hstack([x, np.full((20, 1), value, np.float32)])
    wide_test = np.hstack([test, np.full((len(test), 1), value + 3, np.float32)])
    given = ridge.fit(wide, {"y": y}, [3.0], relative=False).predict(wide_test)["y"]
    np.testing.assert_allclose(given, without, rtol=1e-6)


def test_all_columns_constant_gives_the_mean():
    _, y, _ = made(8, 4)
    model = ridge.fit(np.ones((8, 4)), {"y": y})
    np.testing.assert_allclose(model.predict(np.ones((3, 4)))["y"], np.tile(y.mean(0), (3, 1)))


def test_float32_storage_stays_close_to_float64():
    x, y, test = made(200, 300, 5)
    exact = ridge.fit(x, {"y": y}, [1.0]).predict(test)["y"]
    for precision, tolerance in [("auto", 1e-6), ("float32", 1e-5)]:
        model = ridge.fit(x.astype(np.float32), {"y": y.astype(np.float32)}, [1.0], precision=precision)
        close = model.predict(test.astype(np.float32))["y"]
        assert close.dtype == np.float32
        assert np.linalg.norm(close - exact) <= tolerance * np.linalg.norm(exact)


@pytest.mark.parametrize("p", [50, 9])
@pytest.mark.parametrize("t", [30, 3])
@pytest.mark.parametrize("select", ["leave-out", "gcv"])
def test_tiles_do_not_change_the_result(monkeypatch, p, t, select):
    x, y, test = made(20, p, t)
    whole = ridge.fit(x, {"y": y}, select=select)
    monkeypatch.setattr(_plan, "STEPS", (7,))
    monkeypatch.setattr(_kernel, "BLOCK", 6)
    monkeypatch.setattr(_kernel, "MOMENT_VALUES", 50)
    monkeypatch.setattr(_select, "BLOCK", 6)
    tiled = ridge.fit(x, {"y": y}, select=select, tile=7)
    assert (tiled.plan.tile, tiled.plan.step) == (min(t, 7), 7)
    np.testing.assert_allclose(tiled.errors["y"], whole.errors["y"], rtol=1e-9)
    np.testing.assert_allclose(tiled.predict(test)["y"], whole.predict(test)["y"], rtol=1e-10)


def test_memory_map_and_one_test_row(tmp_path):
    x, y, test = made(20, 50)
    np.save(tmp_path / "x.npy", x)
    mapped = ridge.fit(np.load(tmp_path / "x.npy", mmap_mode="r"), {"y": y})
    whole = mapped.predict(test)["y"]
    np.testing.assert_allclose(mapped.predict(test[:1])["y"], whole[:1], rtol=1e-10)


X, Y = np.random.default_rng(0).standard_normal((2, 6, 6))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.where(X[2, 2] == X, np.nan, X)}, "training responses contain NaN"),
        ({"x": np.where(X[2, 2] == X, np.inf, X)}, "training responses contain NaN"),
        ({"targets": {"glove": np.where(Y[1, 1] == Y, np.nan, Y)}}, "'glove' contains NaN"),
        ({"targets": {"glove": Y[:3]}}, "6 rows"),
        ({"targets": {"glove": Y[:, 0]}}, "6 rows"),
        ({"targets": {"glove": Y.astype(int)}}, "float32 or float64"),
        ({"targets": {}}, "at least one target"),
        ({"x": X[:0]}, "at least one of each"),
        ({"x": X[0]}, "at least one of each"),
        ({"penalties": []}, "penalties"),
        ({"penalties": [0.0]}, "above zero"),
        ({"penalties": [np.nan]}, "above zero"),
        ({"groups": np.zeros(5)}, "one group label"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_bad_input_is_one_sentence(change, message):
    with pytest.raises(BenchError, match=message) as error:
        ridge.fit(**{"x": X, "targets": {"y": Y}} | change)
    assert str(error.value).count(". ") == 0


def test_predict_refuses_another_number_of_voxels():
    with pytest.raises(BenchError, match=r"\(n, 6\)"):
        ridge.fit(X, {"y": Y}).predict(X[:, :4])


def test_import_is_light():
    modules = "benchmark.ridge, methods.ridge, methods.brain2word, methods.cosine_mlp"
    code = f"import sys, {modules}; print({{'torch', 'sklearn', 'scipy'}} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
