"""Two-way and pairwise identification against double loops, closed forms and laws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics import identification
from metrics.identification import pairwise_2v2, two_way, zero_variance_items


def corr(x, y):
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return np.corrcoef(np.asarray(x, float), np.asarray(y, float))[0, 1]


def credit(margin):
    return 1.0 if margin > 1e-12 else 0.5 if margin >= -1e-12 else 0.0


def naive_two_way(true, predicted):
    n = len(true)
    values = []
    for j in range(n):
        own = corr(true[j], predicted[j])
        values.append(np.mean([credit(own - corr(true[i], predicted[j])) for i in range(n) if i != j]))
    return np.array(values)


def naive_pairwise(true, predicted):
    n = len(true)
    values = np.zeros(n)
    for i in range(n):
        for j in range(n):
            if i != j:
                right = corr(true[i], predicted[i]) + corr(true[j], predicted[j])
                wrong = corr(true[i], predicted[j]) + corr(true[j], predicted[i])
                values[i] += credit(right - wrong)
    return values / (n - 1)


PAIRS = [(two_way, naive_two_way), (pairwise_2v2, naive_pairwise)]
BOTH = [two_way, pairwise_2v2]


def sample(kind, rng, n=14, d=37):
    true = rng.standard_normal((n, d))
    predicted = true + 2 * rng.standard_normal((n, d))
    if kind == "duplicate targets":
        true[1::2] = true[::2]
    elif kind == "scaled targets":
        true[1::2] = 3 * true[::2] + 5
    elif kind == "duplicate predictions":
        predicted[3:9] = predicted[3]
    elif kind == "constant prediction":
        predicted[:] = predicted[0]
    elif kind == "zero variance":
        true[2], predicted[5], predicted[6] = 0.1, 7.3, 0
    elif kind == "binary":
        true, predicted = np.sign(true), np.sign(predicted)
    elif kind == "large offset":
        true, predicted = true + 500, predicted - 500
    return true, predicted


KINDS = ["plain", "duplicate targets", "scaled targets", "duplicate predictions", "constant prediction"]
KINDS += ["zero variance", "binary", "large offset"]


@pytest.mark.parametrize(("function", "naive"), PAIRS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_double_loop(function, naive, kind, dtype):
    true, predicted = (x.astype(dtype) for x in sample(kind, np.random.default_rng(3)))
    np.testing.assert_allclose(function(true, predicted), naive(true, predicted), atol=1e-12)


@pytest.mark.parametrize(("function", "naive"), PAIRS)
def test_equals_double_loop_over_several_tiles_and_feature_blocks(function, naive, monkeypatch):
    monkeypatch.setattr(identification, "_TILE", 5)
    monkeypatch.setattr(identification, "_FEATURES", 7)
    monkeypatch.setattr(identification, "_PAIR_NUMBERS", 16)
    for kind in KINDS:
        true, predicted = (x.astype(np.float32) for x in sample(kind, np.random.default_rng(4)))
        np.testing.assert_allclose(function(true, predicted), naive(true, predicted), atol=1e-12, err_msg=kind)


@pytest.mark.parametrize("function", BOTH)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float32_product_decides_as_float64_does(function, dtype):
    rng = np.random.default_rng(0)
    # few different ternary vectors: correlations close to each other, and many exact ties
    true = rng.integers(-1, 2, (300, 2000)).astype(dtype)
    true[200:] = true[:100]
    predicted = true[rng.permutation(300)]
    predicted[::2] = true[::2]
    np.testing.assert_array_equal(
        function(true, predicted), function(true.astype(np.float64), predicted.astype(np.float64))
    )


@pytest.mark.parametrize("function", BOTH)
@pytest.mark.parametrize("n", [2, 3, 50, 997])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_perfect_is_one_and_constant_is_half(function, n, dtype):
    rng = np.random.default_rng(n)
    true = rng.standard_normal((n, 130)).astype(dtype)
    assert (function(true, true) == 1).all()
    constant = np.repeat(rng.standard_normal((1, 130)).astype(dtype), n, axis=0)
    assert function(true, constant).mean() == pytest.approx(0.5, abs=1e-12)
    assert (function(true, np.full_like(true, 0.1)) == 0.5).all()
    assert (function(constant, true) == 0.5).all()
    assert (pairwise_2v2(true, constant) == 0.5).all()


@pytest.mark.parametrize("function", BOTH)
def test_reversed_prediction_is_zero_and_one_item_is_refused(function):
    true = np.random.default_rng(0).standard_normal((20, 30))
    assert (function(true, -true) == 0).all()
    with pytest.raises(ValueError, match="at least 2 items"):
        function(true[:1], true[:1])


@pytest.mark.parametrize("function", BOTH)
@pytest.mark.parametrize("factor", [1e-300, 1e-37, 1e-30, 1e30, 3e37, 1e300])
def test_extreme_scales_change_nothing(function, factor):
    true, predicted = sample("plain", np.random.default_rng(1))
    expected = function(true, predicted)
    np.testing.assert_array_equal(function(true * factor, predicted), expected)
    if 1e-38 < factor < 1e38:  # the range of float32
        single = function((true * factor).astype(np.float32), predicted.astype(np.float32))
        np.testing.assert_array_equal(single, function(true.astype(np.float32), predicted.astype(np.float32)))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("function", BOTH)
@pytest.mark.parametrize("step", [2.0**-145, 2.0**127])
def test_the_ends_of_the_range_of_float32(function, step):
    rng = np.random.default_rng(0)
    true, predicted = rng.choice(np.array([-1, 1], np.float32), (2, 40, 50), p=[0.9, 0.1])
    expected = function(true, predicted)
    np.testing.assert_array_equal(function(true * np.float32(step), predicted * np.float32(step)), expected)


@pytest.mark.parametrize("function", BOTH)
def test_a_mean_that_dwarfs_the_deviations_is_taken_out_exactly(function):
    rng = np.random.default_rng(0)
    # a step of float32 at 10,000 is .001, and the mean lies between two steps
    true, predicted = (1e4 + 2**-10 * rng.choice([-1, 0, 2], (200, 400), p=[0.1, 0.6, 0.3]) for _ in range(2))
    true, predicted = true.astype(np.float32), predicted.astype(np.float32)
    np.testing.assert_array_equal(
        function(true, predicted), function(true.astype(np.float64), predicted.astype(np.float64))
    )


def test_pairwise_is_symmetric_in_the_roles_and_two_way_is_not():
    true, predicted = sample("plain", np.random.default_rng(5))
    np.testing.assert_allclose(pairwise_2v2(true, predicted), pairwise_2v2(predicted, true), atol=1e-15)
    assert not np.array_equal(two_way(true, predicted), two_way(predicted, true))


def test_two_way_compares_a_prediction_with_all_targets():
    # prediction 0 correlates best with target 1; targets 0 and 2 are worse for prediction 1
    true = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    predicted = np.array([[0.5, 1, 0.2, 0], [0, 1, 0, 0], [1, 0.1, 0.5, 0]])
    np.testing.assert_array_equal(two_way(true, predicted), [0.5, 1.0, 0.5])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(2, 12),
    d=st.integers(1, 9),
    levels=st.sampled_from([2, 3, 1000]),
    single=st.booleans(),
)
def test_range_permutation_and_affine_invariance(seed, n, d, levels, single):
    rng = np.random.default_rng(seed)
    dtype = np.float32 if single else np.float64
    true, predicted = (rng.integers(0, levels, (n, d)).astype(dtype) for _ in range(2))
    order = rng.permutation(n)
    for function in BOTH:
        values = function(true, predicted)
        assert ((values >= 0) & (values <= 1)).all()
        np.testing.assert_array_equal(function(true[order], predicted[order]), values[order])
        np.testing.assert_array_equal(function(2 * true + 1, 4 * predicted - 3), values)


@pytest.mark.parametrize("function", BOTH)
def test_falls_with_noise_in_expectation(function):
    rng = np.random.default_rng(0)
    true, noise = rng.standard_normal((2, 120, 60))
    means = [function(true, true + scale * noise).mean() for scale in (0.5, 3, 10, 40)]
    assert all(np.diff(means) < 0)


def test_zero_variance_items_are_named():
    true, predicted = sample("zero variance", np.random.default_rng(0))
    assert np.flatnonzero(zero_variance_items(true, predicted)).tolist() == [2, 5, 6]


def test_a_float32_constant_has_zero_variance_and_one_ulp_has_not():
    true = np.random.default_rng(0).standard_normal((3, 1000)).astype(np.float32)
    predicted = np.full((3, 1000), 0.1, np.float32)
    predicted[1, ::2] = np.nextafter(np.float32(0.1), np.float32(1))
    assert zero_variance_items(true, predicted).tolist() == [True, False, True]
    np.testing.assert_allclose(two_way(true, predicted), naive_two_way(true, predicted))
