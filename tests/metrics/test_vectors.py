"""Vector metrics against scipy, scikit-learn, torchmetrics, loops and closed forms."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cosine as cosine_distance
from scipy.stats import pearsonr
from sklearn.metrics import r2_score
from torchmetrics.functional import pairwise_cosine_similarity, pearson_corrcoef
from torchmetrics.functional.regression import cosine_similarity

from metrics import vectors
from metrics.vectors import collapse, cosine, cosine_centred, l1, pearson_dim, r2


@pytest.fixture(params=[np.float32, np.float64])
def pair(request):
    rng = np.random.default_rng(7)
    true = rng.standard_normal((23, 11)) + rng.standard_normal(11)
    return true.astype(request.param), (true + rng.standard_normal((23, 11))).astype(request.param)


@pytest.fixture(params=[None, 8])
def _block(request, monkeypatch):
    """Run once as it is and once with blocks of a single row."""
    if request.param:
        whole = vectors.blocks
        monkeypatch.setattr(vectors, "blocks", lambda n, width, size=0: whole(n, width, request.param))


@pytest.mark.usefixtures("_block")
def test_items_equal_references(pair):
    true, predicted = (x.astype(np.float64) for x in pair)
    expected = [1 - cosine_distance(t, p) for t, p in zip(true, predicted, strict=True)]
    np.testing.assert_allclose(cosine(*pair), expected, atol=1e-12)
    other = cosine_similarity(torch.tensor(predicted), torch.tensor(true), reduction="none").numpy()
    np.testing.assert_allclose(cosine(*pair), other, atol=1e-6)  # torchmetrics goes through float32
    centre = np.arange(11.0) / 11
    expected = [1 - cosine_distance(t - centre, p - centre) for t, p in zip(true, predicted, strict=True)]
    np.testing.assert_allclose(cosine_centred(*pair, centre=centre), expected, atol=1e-12)
    np.testing.assert_allclose(l1(*pair), np.abs(true - predicted).mean(axis=1), atol=1e-12)


@pytest.mark.usefixtures("_block")
def test_dimensions_equal_references(pair):
    true, predicted = (x.astype(np.float64) for x in pair)
    np.testing.assert_allclose(r2(*pair), r2_score(true, predicted, multioutput="raw_values"), atol=1e-12)
    expected = [pearsonr(true[:, d], predicted[:, d]).statistic for d in range(11)]
    np.testing.assert_allclose(pearson_dim(*pair), expected, atol=1e-12)
    other = pearson_corrcoef(torch.tensor(predicted), torch.tensor(true)).numpy()
    np.testing.assert_allclose(pearson_dim(*pair), other, atol=1e-9)


@pytest.mark.usefixtures("_block")
def test_collapse_equals_loop_and_torchmetrics(pair):
    predicted = pair[1].astype(np.float64)
    cosines = [
        1 - cosine_distance(predicted[i], predicted[j])
        for i in range(len(predicted))
        for j in range(len(predicted))
        if i != j
    ]
    value = collapse(pair[1])
    assert value.shape == (1,)
    assert value[0] == pytest.approx(np.mean(cosines), abs=1e-12)
    other = pairwise_cosine_similarity(torch.tensor(predicted), zero_diagonal=True).sum() / (23 * 22)
    assert value[0] == pytest.approx(float(other), abs=1e-12)


def test_perfect_opposite_and_constant_predictions(pair):
    true = pair[0]
    centre = true.mean(axis=0)
    np.testing.assert_allclose(cosine(true, true), 1)
    np.testing.assert_allclose(cosine(true, -true), -1)
    np.testing.assert_allclose(cosine_centred(true, true, centre), 1)
    np.testing.assert_allclose(r2(true, true), 1)
    np.testing.assert_allclose(pearson_dim(true, true), 1)
    np.testing.assert_allclose(pearson_dim(true, -true), -1)
    assert (l1(true, true) == 0).all()
    np.testing.assert_allclose(l1(true, true + true.dtype.type(0.5)), 0.5, rtol=1e-6)

    mean = np.repeat(centre[None], len(true), axis=0)
    assert (cosine_centred(true, mean, centre) == 0).all()
    assert vectors.zero_items(true, mean, centre).all()
    assert (pearson_dim(true, mean) == 0).all()
    assert vectors.zero_variance_dimensions(true, mean).all()
    np.testing.assert_allclose(r2(true, mean), 0, atol=1e-6)
    np.testing.assert_allclose(collapse(mean), 1)


def test_a_centre_rounded_to_another_precision_is_still_the_centre():
    rng = np.random.default_rng(0)
    true = rng.standard_normal((5, 40)) + 3
    centre = true.mean(axis=0)
    assert (cosine_centred(true, np.repeat(centre[None].astype(np.float32), 5, axis=0), centre) == 0).all()


def test_a_constant_up_to_float64_rounding_has_zero_variance():
    true = np.random.default_rng(0).standard_normal((6, 1))
    predicted = np.array([[0.3], [0.1 * 3], [0.3], [0.1 + 0.2], [0.3], [0.3]])
    assert np.ptp(predicted) > 0
    assert pearson_dim(true, predicted).tolist() == [0]
    assert r2(predicted, true).tolist() == [0]
    assert vectors.zero_variance_dimensions(true, predicted).tolist() == [True]
    assert abs(pearson_dim(true, 0.3 + 1e-10 * true)[0]) > 0.99


def test_vectors_of_zeros_have_cosine_zero_and_are_counted():
    true = np.eye(3)
    predicted = np.array([[1.0, 0, 0], [0, 0, 0], [0, 0, 1]])
    assert cosine(true, predicted).tolist() == [1, 0, 1]
    assert vectors.zero_items(true, predicted).tolist() == [False, True, False]
    assert vectors.zero_predictions(predicted).tolist() == [False, True, False]
    assert collapse(np.array([[1.0, 0], [0, 0], [1, 0]]))[0] == pytest.approx(1 / 3)
    assert collapse(np.zeros((3, 2)))[0] == 0
    # a vector of zeros is not a zero vector once a small centre is taken from it
    np.testing.assert_allclose(cosine_centred(np.zeros((1, 2)), np.zeros((1, 2)), np.array([1e-9, 1e-9])), 1)


def test_r2_of_constant_targets_is_one_only_when_exact():
    true = np.full((4, 3), 0.1)
    true[:, 2] = [1, 2, 3, 4]
    predicted = true.copy()
    predicted[0, 1] = 0.2
    assert r2(true, predicted).tolist() == [1, 0, 1]
    assert r2_score(np.ones((4, 2)), [[1, 1], [1, 1], [1, 1], [1, 2]], multioutput="raw_values").tolist() == [1, 0]
    assert vectors.zero_variance_targets(true, predicted).tolist() == [True, True, False]


def test_r2_has_no_lower_bound_and_one_item_is_refused_where_items_are_compared():
    true = np.array([[0.0], [1.0]])
    assert r2(true, true + 10)[0] == pytest.approx(1 - 200 / 0.5)
    for function in (r2, pearson_dim):
        with pytest.raises(ValueError, match="at least 2 items"):
            function(true[:1], true[:1])
    with pytest.raises(ValueError, match="at least 2 items"):
        collapse(true[:1])
    assert cosine(true[1:], true[1:]).tolist() == [1]
    assert l1(true[1:], true[1:]).tolist() == [0]


@pytest.mark.parametrize("factor", [1e-300, 1e-160, 1e160, 1e300])
def test_extreme_scales(factor):
    rng = np.random.default_rng(0)
    true, predicted = rng.standard_normal((2, 9, 6))
    np.testing.assert_allclose(cosine(true * factor, predicted), cosine(true, predicted), atol=1e-12)
    np.testing.assert_allclose(pearson_dim(true * factor, predicted), pearson_dim(true, predicted), atol=1e-12)
    np.testing.assert_allclose(r2(true * factor, predicted * factor), r2(true, predicted), atol=1e-12)
    np.testing.assert_allclose(collapse(predicted * factor), collapse(predicted), atol=1e-12)


@pytest.mark.filterwarnings("error")
def test_overflow_is_an_error_not_a_number():
    huge = np.full((2, 2), 1.5e308)
    with pytest.raises(ValueError, match="overflowed"):
        l1(huge, -huge)
    with pytest.raises(ValueError, match="overflowed"):
        r2(np.array([[0.0], [1.0]]), np.array([[1e200], [0.0]]))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 10), st.integers(1, 7), st.sampled_from([2, 5, 10**6]))
def test_range_and_joint_permutation(seed, n, d, levels):
    rng = np.random.default_rng(seed)
    true, predicted = (rng.integers(-levels, levels, (n, d)) for _ in range(2))
    centre = rng.integers(-levels, levels, d)
    items, dims = rng.permutation(n), rng.permutation(d)
    for function in (cosine, l1, lambda t, p: cosine_centred(t, p, centre=centre)):
        np.testing.assert_allclose(
            function(true[items], predicted[items]), function(true, predicted)[items], atol=1e-12
        )
    for function in (r2, pearson_dim):
        values = function(true, predicted)
        np.testing.assert_allclose(function(true[items], predicted[items]), values, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(function(true[:, dims], predicted[:, dims]), values[dims], rtol=1e-9, atol=1e-12)
        assert (values <= 1).all()
    assert (np.abs(cosine(true, predicted)) <= 1).all()
    assert (np.abs(pearson_dim(true, predicted)) <= 1).all()
    assert (l1(true, predicted) >= 0).all()
    assert -1 / (n - 1) - 1e-12 <= collapse(predicted)[0] <= 1
    np.testing.assert_allclose(collapse(predicted[items]), collapse(predicted), atol=1e-12)


def test_worse_with_noise_in_expectation():
    rng = np.random.default_rng(0)
    true, noise = rng.standard_normal((2, 200, 30))
    scales = (0.2, 1, 4)
    for function, sign in ((cosine, 1), (r2, 1), (pearson_dim, 1), (l1, -1)):
        means = [sign * function(true, true + s * noise).mean() for s in scales]
        assert means[0] > means[1] > means[2], function.__name__
