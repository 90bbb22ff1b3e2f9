"""Statistics against closed forms and scipy; whether they cover is in test_stats_validity.py."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, bootstrap, norm, permutation_test, ttest_1samp, ttest_rel

from benchmark import bootstrap as resampling
from benchmark import stats
from benchmark.board_stats import (
    board_statistics,
    by_stimulus,
    compare_items,
    stimulus_of,
    subject_values,
    unit_values,
)
from benchmark.errors import BenchError

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("n", [3, 4, 15])
def test_subjects_get_the_t_interval(n):
    values = RNG.normal(size=n)
    assert stats.subject_interval(values) == pytest.approx(tuple(ttest_1samp(values, 0).confidence_interval()))


@pytest.mark.parametrize("values", [[], [0.5], [0.4, 0.6]])
def test_fewer_than_three_subjects_get_none(values):
    assert stats.subject_interval(values) is None


@pytest.mark.parametrize("values", [[0.1, np.nan, 0.2], [0.1, np.inf, 0.2], [[0.1, 0.2, 0.3]]])
@pytest.mark.parametrize("function", [stats.subject_interval, stats.item_interval, stats.median_interval])
def test_what_is_not_finite_is_refused(function, values):
    with pytest.raises(BenchError, match="finite"):
        function(values)


def test_symmetric_values_get_nearly_the_t_interval():
    values = np.r_[np.arange(30.0), -np.arange(30.0)]
    assert stats.item_interval(values) == pytest.approx(tuple(ttest_1samp(values, 0).confidence_interval()))


def test_the_skew_correction_is_close_to_the_studentised_bootstrap():
    values = np.random.default_rng(1).exponential(size=40)
    n, mean, rng = len(values), values.mean(), np.random.default_rng(2)
    sample = values[rng.integers(n, size=(40_000, n))]
    t = (sample.mean(axis=1) - mean) / (sample.std(axis=1, ddof=1) / np.sqrt(n))
    error = values.std(ddof=1) / np.sqrt(n)
    expected = mean - error * np.quantile(t, [0.975, 0.025])
    found = stats.item_interval(values)
    assert found[0] == pytest.approx(expected[0], abs=0.2 * error)
    assert found[1] == pytest.approx(expected[1], abs=0.5 * error)
    assert found[1] - mean > 1.2 * (mean - found[0])  # reaches further into the long tail


@pytest.mark.parametrize("kind", ["mean", "proportion", "pairs", "heavy"])
@pytest.mark.parametrize("values", [np.full(50, 1 / 180), np.full(50, 0.3), np.zeros(0), [0.5], [0.2, 0.4, 0.3]])
def test_equal_or_few_values_get_none(kind, values):
    assert stats.item_interval(values, kind=kind) is None


def test_means_next_to_the_end_of_their_range_get_none():
    values = np.ones(100)
    values[:2] = 0.7
    assert stats.item_interval(values) is not None
    assert stats.item_interval(values, bounds=(0, 1)) is None
    values[:20] = 0.7
    assert stats.item_interval(values, bounds=(0, 1))[1] <= 1
    assert stats.item_interval(values * 3, bounds=(0, np.inf)) is not None


@pytest.mark.parametrize(("hits", "n"), [(20, 40), (57, 120), (500, 982)])
def test_shares_away_from_the_ends_get_wilsons_interval(hits, n):
    values = np.arange(n) < hits
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    assert stats.item_interval(values, kind="proportion") == pytest.approx(tuple(expected))


@pytest.mark.parametrize("n", [10, 60, 200])
def test_shares_next_to_the_ends(n):
    none, one = (stats.item_interval(np.arange(n) < hits, kind="proportion") for hits in (0, 1))
    assert none[0] == 0
    assert none == pytest.approx(tuple(binomtest(0, n).proportion_ci(method="wilson")))
    assert one[0] == pytest.approx(-np.log(0.95) / n)  # P(no event) = .95 for a Poisson mean of n low
    every, all_but_one = (stats.item_interval(np.arange(n) < hits, kind="proportion") for hits in (n, n - 1))
    assert every == pytest.approx((1 - none[1], 1))
    assert all_but_one == pytest.approx((1 - one[1], 1 - one[0]))


def test_shares_beyond_their_range_are_refused():
    with pytest.raises(BenchError, match="between 0 and 1"):
        stats.item_interval(np.linspace(0, 1.5, 20), kind="proportion")


def test_more_agreement_between_seeds_is_no_narrower_than_ones():
    ones = (np.random.default_rng(3).random(200) < 0.2).astype(float)
    mixed = np.clip(ones * 0.6 + 0.08, 0, 1)
    wide, narrow = (stats.item_interval(v, kind="proportion") for v in (ones, mixed))
    assert narrow[1] - narrow[0] < wide[1] - wide[0]


@pytest.mark.parametrize("n", [6, 11, 20, 100])
def test_the_median_interval_lies_between_order_statistics(n):
    values = np.sort(np.random.default_rng(4).normal(size=n))
    # scipy's exact interval of the median: the quantile test of Conover
    from scipy.stats import quantile_test

    low, high = stats.median_interval(values)
    exact = quantile_test(values, p=0.5).confidence_interval(0.95)
    assert exact.low <= low <= np.median(values) <= high <= exact.high
    assert stats.median_interval(values[:5]) is None


def test_pairs_count_twice():
    """Pseudo-values of a mean over pairs, against leaving every item out."""
    wins = np.random.default_rng(5).random((12, 12))
    wins = (wins + wins.T) / 2
    np.fill_diagonal(wins, 0)
    n, total = 12, wins.sum() / (12 * 11)
    left_out = [np.delete(np.delete(wins, i, 0), i, 1).sum() / (11 * 10) for i in range(n)]
    expected = n * total - (n - 1) * np.array(left_out)
    found = stats.stretched(wins.sum(axis=1) / (n - 1))
    assert found == pytest.approx(expected)
    assert found.mean() == pytest.approx(total)


@pytest.mark.parametrize("n", [1, 2, 5, 10])
def test_few_differences_are_tested_exactly(n):
    d = np.round(np.random.default_rng(n).normal(0.5, 1, n), 1)
    flips = np.array(list(product([-1, 1], repeat=n))) @ d
    assert stats.sign_flip(d[None])[0] == np.mean(np.abs(flips) >= abs(d.sum()) - 1e-9)


@pytest.mark.parametrize("n", [20, 300])
def test_many_differences_are_tested_as_scipy_does(n):
    rng = np.random.default_rng(6)
    a, b = rng.normal(0.1, 1, n), rng.normal(0, 1, n)
    reference = permutation_test((a, b), lambda x, y: x.mean() - y.mean(), permutation_type="samples", rng=rng).pvalue
    assert stats.sign_flip((a - b)[None])[0] == pytest.approx(reference, abs=0.02)
    assert stats.sign_flip((a - b)[None])[0] == stats.sign_flip((a - b)[None])[0]


def test_no_difference_is_p_one():
    found = stats.paired_test([0.1, 0.2, 0.3], [0.1, 0.2, 0.3])
    assert (found.value, found.interval, found.p, found.effect_size, found.n) == (0, None, 1, None, 3)
    assert stats.sign_flip(np.zeros((2, 500))).tolist() == [1, 1]


def test_rows_that_need_no_more_draws_have_the_p_value_they_had():
    """Normal theory is the reference: sign flips of 400 normal differences are nearly so."""
    rng = np.random.default_rng(0)
    z = np.array([0, 0.7, 1.5, 2.2, 3.0, 3.6, 9.0, 15.0])
    d = rng.standard_normal((len(z), 400))
    d += (z / 20 * np.sqrt((d**2).mean(axis=1)) - d.mean(axis=1))[:, None]
    normal = 2 * norm.sf(np.abs(d.sum(axis=1)) / np.sqrt((d**2).sum(axis=1)))
    few, many = stats.sign_flip(d, 10_000), stats.sign_flip(d, 200_000)
    assert many[normal > 1e-4] == pytest.approx(normal[normal > 1e-4], rel=0.3)
    assert many[:3] == pytest.approx(few[:3], abs=0.01)
    assert many[-2:] == pytest.approx(1 / 200_001)  # none of 200,000 can reach these
    assert few[-2:] == pytest.approx(1 / 10_001)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=9), st.integers(0, 9))
def test_exchanging_the_methods_only_changes_signs(values, seed):
    a = np.array(values)
    b = np.random.default_rng(seed).normal(size=len(a))
    one, other = stats.paired_test(a, b), stats.paired_test(b, a)
    assert one.value == pytest.approx(-other.value)
    assert one.p == pytest.approx(other.p)
    assert 2.0 ** (1 - len(a)) <= one.p <= 1


def test_effect_size_and_interval_of_a_difference():
    rng = np.random.default_rng(7)
    b = rng.normal(size=200)
    d = rng.normal(0.5, 1, 200)
    found = stats.paired_test(b + d, b)
    assert found.effect_size == pytest.approx(d.mean() / d.std(ddof=1))
    assert found.interval == pytest.approx(tuple(ttest_1samp(d, 0).confidence_interval()), abs=0.02)
    assert found.interval[0] < d.mean() < found.interval[1]


def test_items_of_different_number_are_refused():
    for a, b in (([1, 2], [1]), ([], [])):
        with pytest.raises(BenchError, match="same items"):
            stats.paired_test(a, b)


def test_differences_of_ones_have_an_interval_however_few_differ():
    a, b = np.zeros(100), np.zeros(100)
    a[:3] = 1
    low, high = stats.paired_test(a, b).interval
    assert low < 0.03 < high
    assert stats.paired_test(a * 0.5, b).interval is None


def test_subjects_are_compared_by_t():
    rng = np.random.default_rng(8)
    a, b = rng.normal(size=6), rng.normal(size=6)
    found, reference = stats.paired_subjects(a, b), ttest_rel(a, b)
    assert found.p == pytest.approx(reference.pvalue)
    assert found.interval == pytest.approx(tuple(reference.confidence_interval()))
    assert stats.paired_subjects(a[:2], b[:2]) is None
    assert stats.paired_subjects(a, a).p == 1


def test_holm_by_hand():
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([]).tolist() == []
    assert stats.holm([0.6, 0.7]).tolist() == [1, 1]
    with pytest.raises(BenchError, match="p-values"):
        stats.holm([0.1, np.nan])


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_keeps_the_order_and_never_lowers(p):
    adjusted = stats.holm(p)
    assert (adjusted >= np.array(p)).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()


def test_tiers_are_led_by_the_best_of_the_rest():
    same = np.ones((4, 4))
    assert stats.tiers([0.5, 0.7, 0.6, 0.4], same) == [1, 1, 1, 1]
    apart = np.zeros((4, 4))
    assert stats.tiers([0.5, 0.7, 0.6, 0.4], apart) == [3, 1, 2, 4]
    assert stats.tiers([0.5, 0.7, 0.6, 0.4], apart, higher_is_better=False) == [2, 4, 3, 1]
    chain = np.array([[1, 0.2, 0.01], [0.2, 1, 0.3], [0.01, 0.3, 1]])  # neighbours alike, ends not
    assert stats.tiers([3, 2, 1], chain) == [1, 1, 2]


def test_seeds_are_pooled_within_subjects():
    values = {("S1", 0): 0.5, ("S1", 1): 0.7, ("S2", 0): 0.9, ("S2", 1): 0.9, ("S3", 0): 0.1}
    assert stats.seed_spread(values) == pytest.approx(np.sqrt((0.02 + 0) / 2))
    assert stats.seed_spread({("S1", 0): 0.5, ("S2", 0): 0.9}) is None


def test_scaled_scores():
    assert stats.control_scaled(0.7, 0.5, 0.9) == pytest.approx(0.5)
    assert stats.control_scaled(0.7, 0.5, 0.5) is None
    assert stats.ceiling_scaled(0.3, 0.6) == pytest.approx(0.5)
    assert stats.ceiling_scaled(0.3, 0) is stats.ceiling_scaled(0.3, None) is None


def test_corpus_scores_are_resampled_as_scipy_does():
    rng = np.random.default_rng(9)
    parts = np.stack([rng.binomial(9, 0.3, 150), rng.integers(7, 12, 150)], axis=1).astype(float)
    found = resampling.corpus_interval(parts, lambda s: s[:, 0] / s[:, 1])
    reference = bootstrap(
        (parts[:, 0], parts[:, 1]), lambda a, b, axis: a.sum(axis) / b.sum(axis), paired=True, rng=rng, method="BCa"
    ).confidence_interval
    assert found == pytest.approx(tuple(reference), abs=0.003)
    assert resampling.corpus_interval(parts[:99], lambda s: s[:, 0] / s[:, 1]) is None
    assert resampling.corpus_interval(np.ones((200, 2)), lambda s: s[:, 0] / s[:, 1]) is None


def test_counts_are_resamples():
    counts = resampling.bootstrap_counts(7, 50, np.random.default_rng(0))
    assert counts.shape == (50, 7)
    assert (counts.sum(axis=1) == 7).all()


def test_resampled_medians_are_medians_of_resamples():
    rng = np.random.default_rng(10)
    cells = rng.integers(1, 30, size=(21, 2, 3)).astype(float)
    counts = resampling.bootstrap_counts(21, 40, np.random.default_rng(5)).astype(int)
    expected = [resampling.median_of(np.repeat(cells, c, axis=0)) for c in counts]
    assert resampling.resampled_medians(cells, 40, seed=5) == pytest.approx(expected)
    test = resampling.median_test(cells, cells + 5)
    assert (test.value, *test.interval) == pytest.approx((-5, -5, -5))
    assert test.p < 0.01
    assert resampling.median_test(cells, cells).p == 1


@pytest.mark.parametrize(
    ("name", "more", "kind"),
    [
        ("two_way", {}, "mean"),
        ("ssim[brain-diffuser]", {}, "mean"),
        ("top5", {}, "proportion"),
        ("mrr", {}, "heavy"),
        ("pairwise_2v2", {}, "pairs"),
        ("rank_median", {"aggregate": "median"}, "median"),
        ("pearson_dim", {"metric_kind": "dimensions"}, None),
        ("collapse", {"metric_kind": "set"}, None),
    ],
)
def test_kinds(name, more, kind):
    assert stats.kind_of(name, **more) == kind


def test_stimuli_of_item_ids():
    blocks = {"W01", "W01/picture", "W01/word", "a/b"}
    items = ["W01/dog/picture", "W01/dog/word", "W01/a/c/word#2", "W01/picture", "a/b/cat", "a/b/cat#x"]
    folds = ["W01"] * 4 + ["a/b"] * 2
    assert stimulus_of(items, folds, blocks) == ["dog", "dog", "a/c", "picture", "cat", "cat#x"]


def test_units_have_the_mean_of_subject_means():
    rng = np.random.default_rng(11)
    scores = {
        ("S1", 0): by_stimulus(["a", "a", "b", "c"], rng.random(4)),
        ("S1", 1): by_stimulus(["a", "a", "b", "c"], rng.random(4)),
        ("S2", 0): by_stimulus(["b", "d"], rng.random(2)),
    }
    names, values = unit_values(scores)
    assert names == ["a", "b", "c", "d"]
    assert values.mean() == pytest.approx(np.mean(list(subject_values(scores).values())))


def test_units_of_equal_items_are_plain_means():
    x = np.random.default_rng(12).random((3, 2, 20))
    scores = {(f"S{s}", k): {f"i{i:02d}": x[s, k, i] for i in range(20)} for s in range(3) for k in range(2)}
    assert unit_values(scores)[1] == pytest.approx(x.mean(axis=(0, 1)))


def board(shift, n_subjects=4, n_seeds=2, n=60, sd=0.2):
    rng = np.random.default_rng(13)
    item = rng.normal(0.5, sd, (n_subjects, 1, n))
    return {
        (f"m{m}", f"S{s}", k): {f"i{i}": item[s, 0, i] + move + rng.normal(0, sd) for i in range(n)}
        for m, move in enumerate(shift)
        for s in range(n_subjects)
        for k in range(n_seeds)
    }


def test_a_board_has_tiers_and_intervals():
    found = board_statistics(board([0.0, 0.5, 0.5, 1.0]), ranked=["m0", "m1", "m2"])
    assert [found[f"m{m}"].tier for m in range(4)] == [2, 1, 1, None]
    assert [found[f"m{m}"].tier_subjects for m in range(4)] == [2, 1, 1, None]
    m3 = found["m3"]
    assert m3.items[0] < m3.value < m3.items[1]
    assert m3.subjects[0] < m3.value < m3.subjects[1]
    assert (m3.n_units, m3.n_subjects) == (60, 4)
    assert m3.seed_sd == pytest.approx(0.2 / np.sqrt(60), rel=0.9)
    lower = board_statistics(board([0.0, 0.5, 0.5]), higher_is_better=False)
    assert [s.tier for s in lower.values()] == [1, 2, 2]


def test_few_subjects_speak_for_themselves_only():
    found = board_statistics(board([0.0, 0.5], n_subjects=2, n_seeds=1))["m1"]
    assert found.items is not None
    assert (found.subjects, found.tier_subjects, found.seed_sd, found.tier) == (None, None, None, 1)


def test_rows_that_are_no_items_have_subjects_only():
    found = board_statistics(board([0.0, 0.5]), kind=None)["m1"]
    assert (found.items, found.tier) == (None, None)
    assert found.subjects is not None
    assert found.tier_subjects == 1


def test_a_board_of_medians():
    found = board_statistics(board([0.0, 0.5]), kind="median")
    assert [s.tier for s in found.values()] == [2, 1]
    assert found["m1"].items[0] < found["m1"].value < found["m1"].items[1]
    assert board_statistics(board([0.0], 1, 1), kind="median")["m0"].items is not None


def test_a_board_of_one_method_is_led_by_it():
    assert board_statistics(board([0.3]))["m0"].tier == 1


@pytest.mark.parametrize("kind", ["mean", "median"])
def test_missing_subjects_and_items_are_named(kind):
    values = board([0.0, 0.5])
    without = {k: v for k, v in values.items() if k[:2] != ("m1", "S2")}
    with pytest.raises(BenchError, match="m1 lacks subject S2"):
        board_statistics(without, kind=kind)
    for key in [k for k in values if k[0] == "m1"]:
        del values[key]["i7"]
    with pytest.raises(BenchError, match="S0: m0 seed 0 and m1 seed 0 differ in 1 items, the first is 'i7'"):
        board_statistics(values, kind=kind)
    left, right = ({k[1:]: v for k, v in values.items() if k[0] == m} for m in ("m0", "m1"))
    with pytest.raises(BenchError, match="S0: A seed 0 and B seed 0 differ in 1 items, the first is 'i7'"):
        compare_items(left, right, kind)
