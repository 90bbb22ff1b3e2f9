"""Retrieval metrics against naive double loops, closed forms and scipy."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom, skew

from metrics import ranking, retrieval
from metrics.retrieval import brain_retrieval, csls, hubness, image_retrieval, occurrences, own_caption, pools
from metrics.table import METRICS


def cosine(a, b):
    return a @ b / np.sqrt((a @ a) * (b @ b))


def naive_pool(predicted, candidates, target, pool, by_image):
    """Top-1 credit of every item of a pool, by loops; ties count in expectation."""
    items = [i for i in range(len(predicted)) if target[i] in pool]
    credit = {}
    for i in items:
        if by_image:
            scores = {c: cosine(predicted[i], candidates[c]) for c in pool}
            best = [c for c in pool if scores[c] >= max(scores.values()) - 1e-12]
            credit[i] = (target[i] in best) / len(best)
        else:
            scores = {j: cosine(predicted[j], candidates[target[i]]) for j in items}
            best = [j for j in items if scores[j] >= max(scores.values()) - 1e-12]
            credit[i] = sum(target[j] == target[i] for j in best) / len(best)
    return credit


def naive(predicted, candidates, target, by_image):
    found = [naive_pool(predicted, candidates, target, list(p), by_image) for p in pools(len(candidates))]
    own = [[credit[i] for credit in found if i in credit] for i in range(len(predicted))]
    return np.array([np.mean(values) for values in own])


def noisy(rng, n, d=5, noise=1.5):
    true = rng.standard_normal((n, d))
    return true + noise * rng.standard_normal((n, d)), true


# --- pools -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("function", "by_image"), [(image_retrieval, True), (brain_retrieval, False)])
def test_pools_equal_double_loops(function, by_image, monkeypatch):
    rng = np.random.default_rng(0)
    predicted, true = noisy(rng, 12)
    true[7] = true[3]  # two identical images
    predicted[9] = predicted[2]
    values = function(predicted, true, np.arange(12))
    np.testing.assert_allclose(values, naive(predicted, true, np.arange(12), by_image), atol=1e-12)
    assert 0.1 < values.mean() < 0.95
    monkeypatch.setattr(retrieval, "POOL", 5)
    monkeypatch.setattr(retrieval.pools, "__defaults__", (5, 7))
    small = function(predicted, true, np.arange(12))
    np.testing.assert_allclose(small, naive(predicted, true, np.arange(12), by_image), atol=1e-12)
    assert small.mean() > values.mean()  # fewer wrong candidates


@pytest.mark.parametrize(("function", "by_image"), [(image_retrieval, True), (brain_retrieval, False)])
def test_an_image_with_several_predictions_is_one_candidate(function, by_image):
    rng = np.random.default_rng(1)
    target = np.array([0, 1, 2, 3, 4, 5, 0, 0, 3])
    _, true = noisy(rng, 6)
    predicted = true[target] + rng.standard_normal((9, 5))
    values = function(predicted, true, target)
    np.testing.assert_allclose(values, naive(predicted, true, target, by_image), atol=1e-12)
    assert function(true[target], true, target).tolist() == [1] * 9


def test_constant_predictions_are_at_chance_in_both_directions():
    true = np.random.default_rng(2).standard_normal((20, 4))
    constant, zeros = np.ones((20, 4)), np.zeros((20, 4))
    for predicted in (constant, zeros):
        for function in (image_retrieval, brain_retrieval):
            assert function(predicted, true, np.arange(20)).mean() == pytest.approx(1 / 20)
    assert METRICS["image_retrieval"].chance(20) == 1 / 20
    assert METRICS["brain_retrieval"].chance(982) == 1 / 300


def test_directions_are_named_by_what_is_ranked():
    true = np.eye(3)
    predicted = np.array([[1, 0, 0], [2, 1, 0], [2, 0, 1.0]])  # every prediction ranks image 0 first
    assert image_retrieval(predicted, true, np.arange(3)).tolist() == [1, 0, 0]
    assert brain_retrieval(predicted, true, np.arange(3)).tolist() == [1, 1, 1]


@pytest.mark.parametrize("n", [1, 2, 113, 300, 301, 450, 515, 900, 982, 1000, 10_000])
def test_pools_are_fixed_without_repeats_and_balanced(n):
    found = pools(n)
    np.testing.assert_array_equal(found, pools(n))
    assert found.shape == ((1, n) if n <= 300 else (max(30, -(-n // 300)), 300))
    assert all(len(set(pool)) == len(pool) for pool in found)
    counts = np.bincount(found.ravel(), minlength=n)
    assert counts.min() >= 1
    assert np.ptp(counts) <= (0 if n <= 300 or found.size % n == 0 else 1)


def test_pools_draw_everyone_alike():
    met = np.zeros((40, 40))
    for pool in pools(40, 10, 4000):
        met[np.ix_(pool, pool)] += 1
    pairs = met[~np.eye(40, dtype=bool)]
    assert np.all(np.diag(met) == 1000)
    assert abs(pairs / (1000 * 9 / 39) - 1).max() < 0.35  # 231 expected, SD about 14


def test_mean_over_items_is_the_mean_over_balanced_pools_and_near_the_expectation():
    rng = np.random.default_rng(3)
    predicted, true = noisy(rng, 600, 12, 1.0)
    values = image_retrieval(predicted, true, np.arange(600))
    by_pool = [ranking.top1(ranking.similarity(predicted[p], true[p]), np.arange(300)).mean() for p in pools(600)]
    assert values.mean() == pytest.approx(np.mean(by_pool))
    # expectation over all pools: no better image is among the 299 others that are drawn of 599
    better = ranking.mid_rank(ranking.similarity(predicted, true), np.arange(600)) - 1
    assert values.mean() == pytest.approx(hypergeom(599, better.astype(int), 299).pmf(0).mean(), abs=0.01)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12))
def test_the_order_of_items_and_the_length_of_vectors_do_not_matter(seed, n):
    rng = np.random.default_rng(seed)
    predicted, true = noisy(rng, n)
    order = rng.permutation(n)
    for function in (image_retrieval, brain_retrieval):
        values = function(predicted, true, np.arange(n))
        np.testing.assert_array_equal(function(predicted[order], true, np.arange(n)[order]), values[order])
        scaled = function(predicted * rng.uniform(1, 9, (n, 1)), true * 4, np.arange(n))
        np.testing.assert_array_equal(scaled, values)


@pytest.mark.parametrize("function", [image_retrieval, brain_retrieval])
def test_one_image_and_an_image_without_an_item_are_refused(function):
    with pytest.raises(ValueError, match="at least 2 items"):
        function(np.ones((3, 2)), np.ones((1, 2)), np.zeros(3, int))
    with pytest.raises(ValueError, match="every candidate"):
        function(np.ones((3, 2)), np.ones((3, 2)), np.array([0, 0, 1]))


# --- large galleries -------------------------------------------------------------------------------------------------


def close(rng, n, d):
    """Vectors with a large common part, equal ones, and some that differ by less than float32 can tell."""
    true = (rng.standard_normal((n, d)) * 0.02 + 1).astype(np.float32)
    true[5] = true[3]
    true[11] = true[12] * np.float32(1 + 1e-6)
    true[11, 0] *= np.float32(1 + 3e-7)
    predicted = (true + 0.02 * rng.standard_normal((n, d))).astype(np.float32)
    predicted[20] = predicted[21]
    predicted[12] = true[12]
    predicted[40:50] = 1
    return predicted, true


@pytest.mark.parametrize("kind", ["cosine", "pearson"])
@pytest.mark.parametrize("d", [3, 60, 1500])
def test_large_galleries_keep_the_order_of_float64(kind, d, monkeypatch):
    predicted, true = close(np.random.default_rng(0), 300, d)
    target = np.random.default_rng(1).integers(0, 300, 300)
    exact = ranking.similarity(predicted, true, kind)
    monkeypatch.setattr(retrieval, "_EXACT", 0)
    fast = retrieval.scores(predicted, true, target, kind)
    assert fast.dtype == np.float32
    np.testing.assert_allclose(fast, exact, atol=5e-5)
    for function in (ranking.mid_rank, ranking.top1, ranking.mrr):
        np.testing.assert_array_equal(function(fast, target), function(exact, target))
    np.testing.assert_array_equal(fast[:, 3], fast[:, 5])


def test_small_and_double_problems_stay_float64(monkeypatch):
    predicted, true = close(np.random.default_rng(0), 60, 8)
    np.testing.assert_array_equal(retrieval.scores(predicted, true, np.arange(60)), ranking.similarity(predicted, true))
    monkeypatch.setattr(retrieval, "_EXACT", 0)
    assert retrieval.scores(predicted.astype(float), true.astype(float), np.arange(60)).dtype == np.float64


@pytest.mark.parametrize("screened", ["pairs", "whole rows"])
def test_both_ways_of_looking_again_agree(screened, monkeypatch):
    rng = np.random.default_rng(4)
    spread = 1.0 if screened == "pairs" else 1e-5  # near-equal candidates: nearly all entries are too close to call
    true = (1 + spread * rng.standard_normal((80, 30))).astype(np.float32)
    predicted = (true + spread * rng.standard_normal((80, 30))).astype(np.float32)
    exact = ranking.similarity(predicted, true)
    monkeypatch.setattr(retrieval, "_EXACT", 0)
    fast = retrieval.scores(predicted, true, np.arange(80))
    np.testing.assert_array_equal(ranking.mid_rank(fast, np.arange(80)), ranking.mid_rank(exact, np.arange(80)))


# --- hubs ------------------------------------------------------------------------------------------------------------


def test_csls_equals_its_definition_up_to_a_constant_of_the_row():
    rng = np.random.default_rng(5)
    scores = rng.uniform(-1, 1, (14, 12))
    full = np.array(
        [[2 * s - np.mean(sorted(row)[-10:]) - np.mean(sorted(scores[:, j])[-10:]) for j, s in enumerate(row)]
         for row in scores]
    )  # fmt: skip
    target = rng.integers(0, 12, 14)
    np.testing.assert_allclose(np.diff(csls(scores)), np.diff(full), atol=1e-12)
    for name, function in (("top1_csls", ranking.top1), ("top5_csls", ranking.top5)):
        np.testing.assert_array_equal(METRICS[name].function(scores, target), function(full, target))


def test_csls_takes_a_hub_away():
    scores = np.full((12, 12), 0.1)
    np.fill_diagonal(scores, 0.5)
    scores[:, 0] = 0.6  # one picture is nearest to everything
    target = np.arange(12)
    assert ranking.top1(scores, target).mean() == 1 / 12
    assert METRICS["top1_csls"].function(scores, target)[1:].mean() == 1
    assert hubness(scores)[0] > hubness(np.eye(12))[0]


def test_csls_ties_and_few_predictions():
    scores = np.tile([[0.2, 0.7, 0.7]], (3, 1))
    assert METRICS["top1_csls"].function(scores, np.array([0, 1, 2])).mean() == pytest.approx(1 / 3)
    one = METRICS["top1_csls"].function(np.array([[0.3, 0.9]]), np.array([1]))
    assert one.tolist() == [1]  # one prediction is the only neighbour of every candidate: 2 s - s ranks as s does


def test_occurrences_equal_every_tie_order():
    rng = np.random.default_rng(6)
    scores = rng.integers(0, 3, (7, 5)).astype(float)
    expected = np.zeros(5)
    for row in scores:
        orders = [sorted(order, key=lambda c: -row[c])[:2] for order in permutations(range(5))]
        for first in orders:
            expected[first] += 1 / len(orders)
    np.testing.assert_allclose(occurrences(scores, 2), expected)
    assert occurrences(scores, 9).tolist() == [7] * 5


def test_hubness_is_the_skewness_of_occurrences():
    rng = np.random.default_rng(7)
    scores = rng.standard_normal((90, 40)) + 2 * rng.standard_normal(40)
    counts = np.bincount(np.argsort(-scores, axis=1)[:, :10].ravel(), minlength=40)
    assert hubness(scores)[0] == pytest.approx(skew(counts))
    assert hubness(np.zeros((5, 30)))[0] == 0
    assert hubness(rng.standard_normal((5, 10)))[0] == 0
    assert abs(hubness(rng.standard_normal((20_000, 40)))[0]) < 1.2  # no hubs in noise: SD of the skewness is .37


# --- captions --------------------------------------------------------------------------------------------------------


def naive_caption_rank(row, owner, image):
    """Mid-rank of the image's best caption among the captions of other images."""
    best = max(s for s, o in zip(row, owner, strict=True) if o == image)
    others = [s for s, o in zip(row, owner, strict=True) if o != image]
    return 1 + sum(s > best for s in others) + sum(s == best for s in others) / 2


def test_captions_of_the_own_image_are_never_wrong():
    rng = np.random.default_rng(8)
    owner = np.repeat(np.arange(6), [5, 5, 4, 5, 1, 6])
    scores = np.round(rng.uniform(-1, 1, (9, len(owner))), 1)
    target = np.array([0, 1, 2, 3, 4, 5, 0, 0, 2])
    reduced, column = own_caption(scores, owner, target)
    expected = [naive_caption_rank(row, owner, image) for row, image in zip(scores, target, strict=True)]
    assert ranking.mid_rank(reduced, column).tolist() == expected
    assert (owner[column] == target).all()
    perfect = np.where(owner == target[:, None], 0.9, 0.1)
    assert ranking.top1(*own_caption(perfect, owner, target)).tolist() == [1] * 9
    assert (scores >= -1).all()  # the input is as it was


def test_an_image_without_captions_is_refused():
    with pytest.raises(ValueError, match="at least one caption"):
        own_caption(np.zeros((2, 3)), np.zeros(3, int), np.array([0, 1]))


@pytest.mark.parametrize(("n_images", "n_own"), [(4, 1), (6, 5), (30, 3)])
def test_stated_chance_of_captions_is_what_random_scores_get(n_images, n_own):
    rng = np.random.default_rng(9)
    owner, target = np.repeat(np.arange(n_images), n_own), rng.integers(0, n_images, 6000)
    reduced, column = own_caption(rng.uniform(-1, 1, (6000, len(owner))), owner, target)
    for name in ("caption_top1", "caption_top5"):
        metric = METRICS[name]
        chance = metric.chance(len(owner), n_own)
        sd = np.sqrt(max(chance * (1 - chance), 1e-9) / 6000)
        assert metric.function(reduced, column).mean() == pytest.approx(chance, abs=4 * sd)
    assert METRICS["caption_top1"].chance(len(owner), n_own) == pytest.approx(1 / n_images)
    ranks, median = ranking.mid_rank(reduced, column), METRICS["caption_rank_median"].chance(len(owner), n_own)
    assert np.mean(ranks <= median) >= 0.48
    assert np.mean(ranks < median) <= 0.52
