"""Rank metrics against brute force over tie orders, scipy, scikit-learn and closed forms."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata
from sklearn.metrics import top_k_accuracy_score

from metrics import ranking
from metrics.ranking import mid_rank, mrr, rank_accuracy, rank_distribution, similarity, top1, top5, top10, topk

ALL = [top1, top5, top10, mid_rank, rank_accuracy, mrr]


def ranks_under_every_tie_order(row, target):
    """Rank of the target for every order of the candidates, equal scores staying in that order."""
    ranks = []
    for order in permutations(range(len(row))):
        ranked = sorted(order, key=lambda c: -row[c])
        ranks.append(ranked.index(target) + 1)
    return np.array(ranks)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=2, max_size=5), st.data())
def test_equals_mean_over_every_tie_order(row, data):
    target = data.draw(st.integers(0, len(row) - 1))
    ranks = ranks_under_every_tie_order(row, target)
    scores, column = np.array([row]), np.array([target])
    for k in (1, 2, 3, 5, 10):
        assert topk(scores, column, k)[0] == pytest.approx((ranks <= k).mean())
    assert mrr(scores, column)[0] == pytest.approx((1 / ranks).mean())
    assert mid_rank(scores, column)[0] == pytest.approx(ranks.mean())
    assert rank_accuracy(scores, column)[0] == pytest.approx(1 - (ranks.mean() - 1) / (len(row) - 1))
    expected = [(ranks == r).mean() for r in range(1, len(row) + 1)]
    np.testing.assert_allclose(rank_distribution(scores, column), expected, atol=1e-12)


def test_equals_scipy_and_scikit_learn():
    rng = np.random.default_rng(0)
    scores, target = rng.standard_normal((200, 30)), rng.integers(0, 30, 200)
    tied = np.round(scores)
    midranks = rankdata(-tied, method="average", axis=1)[np.arange(200), target]
    np.testing.assert_array_equal(mid_rank(tied, target), midranks)
    for k, function in ((1, top1), (5, top5), (10, top10)):
        assert function(scores, target).mean() == top_k_accuracy_score(target, scores, k=k, labels=range(30))


@pytest.mark.parametrize("n_candidates", [2, 10, 180])
def test_all_tied_is_exactly_chance(n_candidates):
    scores, target = np.zeros((4, n_candidates)), np.arange(4) % n_candidates
    for k in (1, 5, 10):
        assert (topk(scores, target, k) == min(1, k / n_candidates)).all()
    harmonic = sum(1 / r for r in range(1, n_candidates + 1))
    np.testing.assert_allclose(mrr(scores, target), harmonic / n_candidates)
    assert (mid_rank(scores, target) == (n_candidates + 1) / 2).all()
    assert (rank_accuracy(scores, target) == 0.5).all()
    np.testing.assert_allclose(rank_distribution(scores, target), 4 / n_candidates)


def test_perfect_worst_and_a_known_rank():
    scores = np.arange(20.0)[None]
    best, worst, third = (np.array([c]) for c in (19, 0, 17))
    assert [f(scores, best)[0] for f in ALL] == [1, 1, 1, 1, 1, 1]
    assert [f(scores, worst)[0] for f in ALL] == [0, 0, 0, 20, 0, 1 / 20]
    assert [f(scores, third)[0] for f in ALL] == [0, 1, 1, 3, 1 - 2 / 19, 1 / 3]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(2, 15), st.sampled_from([2, 5, 10**6]))
def test_permutation_monotone_maps_and_distribution(seed, n, n_candidates, levels):
    rng = np.random.default_rng(seed)
    scores, target = rng.integers(0, levels, (n, n_candidates)), rng.integers(0, n_candidates, n)
    items, columns = rng.permutation(n), rng.permutation(n_candidates)
    place = np.argsort(columns)
    for function in ALL:
        values = function(scores, target)
        np.testing.assert_array_equal(function(scores[items], target[items]), values[items])
        np.testing.assert_array_equal(function(scores[:, columns], place[target]), values)
        np.testing.assert_array_equal(function(np.exp(scores / levels), target), values)
    distribution = rank_distribution(scores, target)
    assert distribution.sum() == pytest.approx(n)
    for k in range(1, n_candidates + 1):
        assert distribution[:k].sum() / n == pytest.approx(topk(scores, target, k).mean())
    assert distribution @ np.arange(1, n_candidates + 1) / n == pytest.approx(mid_rank(scores, target).mean())


def test_blocks_of_rows_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    scores, target = rng.integers(0, 5, (50, 7)), rng.integers(0, 7, 50)
    expected = [f(scores, target) for f in ALL]
    monkeypatch.setattr(ranking.vectors, "blocks", lambda n, width: (slice(i, i + 3) for i in range(0, n, 3)))
    for function, values in zip(ALL, expected, strict=True):
        np.testing.assert_array_equal(function(scores, target), values)


def test_mrr_is_exact_far_down_a_long_list():
    scores = -np.arange(100_000.0)[None]
    assert mrr(scores, np.array([99_999]))[0] == 1 / 100_000


@pytest.mark.parametrize("kind", ["cosine", "pearson"])
def test_similarity_equals_loop(kind):
    rng = np.random.default_rng(0)
    predicted, candidates, centre = rng.standard_normal((5, 8)), rng.standard_normal((6, 8)), rng.standard_normal(8)

    def one(p, c):
        return np.corrcoef(p, c)[0, 1] if kind == "pearson" else p @ c / np.sqrt((p @ p) * (c @ c))

    expected = [[one(p, c) for c in candidates] for p in predicted]
    np.testing.assert_allclose(similarity(predicted, candidates, kind), expected, atol=1e-14)
    if kind == "cosine":
        expected = [[one(p - centre, c - centre) for c in candidates] for p in predicted]
        np.testing.assert_allclose(similarity(predicted, candidates, kind, centre), expected, atol=1e-14)


@pytest.mark.parametrize("kind", ["cosine", "pearson"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_candidates_tie_exactly(kind, dtype):
    rng = np.random.default_rng(0)
    candidates = rng.standard_normal((101, 333)).astype(dtype)
    candidates[rng.permutation(101)[:60]] = candidates[0]
    scores = similarity(candidates, candidates, kind)
    same = (candidates == candidates[0]).all(axis=1)
    assert len(np.unique(scores[:, same], axis=1).T) == 1
    np.testing.assert_allclose(top1(scores, np.arange(101)), np.where(same, 1 / same.sum(), 1))
    for n, n_candidates in ((1, 7), (3, 7), (5, 103), (7, 13)):  # a plain product differs by position here
        alike = np.repeat(candidates[:1], n_candidates, axis=0)
        assert (np.ptp(similarity(rng.standard_normal((n, 333)).astype(dtype), alike, kind), axis=1) == 0).all()
    constant = similarity(np.repeat(candidates[:1], 101, axis=0), candidates, kind)
    assert mid_rank(constant, np.arange(101)).mean() == 51
    assert (similarity(np.zeros((1, 333)), candidates, kind) == 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((2, 3)), np.ones((2, 4))), "3 dimensions"),
        ((np.ones((2, 3)), np.ones((2, 3)), "euclid"), "kind"),
        ((np.ones((2, 3)), np.ones((2, 3)), "pearson", np.ones(3)), "kind"),
        ((np.ones((2, 3)), np.ones((2, 3)), "cosine", np.ones(2)), "3 values"),
        ((np.full((2, 3), np.nan), np.ones((2, 3))), "finite"),
    ],
)
def test_similarity_refuses_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        similarity(*arguments)


def test_topk_refuses_k_below_one():
    with pytest.raises(ValueError, match="at least 1"):
        topk(np.ones((2, 3)), np.array([0, 1]), 0)
