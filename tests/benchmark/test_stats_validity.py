"""Do the intervals cover, and do the tests hold their level? By simulation; the figures are in docs/statistics.md.

``pytest tests/benchmark/test_stats_validity.py -s`` prints them.
"""

import numpy as np
import pytest
from scipy.stats import binom, norm

from benchmark import board_stats, bootstrap, stats

pytestmark = pytest.mark.slow

N = (10, 20, 36, 100, 120, 180, 300, 540, 982, 3240)
NUMBERS = 1_500_000  # values drawn per population and n


def shown(name, n, intervals, truth):
    """Return the share of samples with an interval, the share of those that cover, and three standard errors."""
    has = ~np.isnan(intervals[:, 0])
    hit = (intervals[:, 0] <= truth + 1e-12) & (truth - 1e-12 <= intervals[:, 1])
    cover = hit[has].mean() if has.any() else np.nan
    missed = (has & ~hit).mean()
    print(f"{name:28s} n={n:5d} shown {has.mean():.3f} cover {cover:.3f} shown and missed {missed:.3f}")
    return has.mean(), cover, missed, 3 * np.sqrt(0.05 * 0.95 / max(has.sum(), 1))


def rank_accuracy(mean, n_candidates=180):
    """Rank accuracy where an item's evidence is normal: ``mean`` standard deviations above the others'."""

    def draw(rng, shape):
        share = norm.cdf(mean + rng.standard_normal(shape))
        return np.rint(share * (n_candidates - 1)) / (n_candidates - 1)

    return draw


def reciprocal(mean, n_candidates=180):
    def draw(rng, shape):
        return 1 / (1 + np.rint((1 - norm.cdf(mean + rng.standard_normal(shape))) * (n_candidates - 1)))

    return draw


MEANS = {
    "rank accuracy .50": (rank_accuracy(0), "mean", (0, 1)),
    "rank accuracy .69": (rank_accuracy(0.7), "mean", (0, 1)),
    "rank accuracy .86": (rank_accuracy(1.5), "mean", (0, 1)),
    "rank accuracy .94": (rank_accuracy(2.2), "mean", (0, 1)),
    "rank accuracy .98": (rank_accuracy(3.0), "mean", (0, 1)),
    "pixcorr .28": (lambda rng, shape: np.tanh(0.3 + 0.25 * rng.standard_normal(shape)), "mean", (-1, 1)),
    "pixcorr .77, skewed": (lambda rng, shape: np.tanh(1.2 + 0.5 * rng.standard_normal(shape)), "mean", (-1, 1)),
    "l1, gamma of skewness 1.4": (lambda rng, shape: rng.gamma(2.0, 0.1, shape), "mean", (0, np.inf)),
    "mrr chance (.03)": (reciprocal(0), "heavy", (0, 1)),
    "mrr .08": (reciprocal(0.7), "heavy", (0, 1)),
    "mrr .36": (reciprocal(2.0), "heavy", (0, 1)),
}


@pytest.mark.parametrize("name", MEANS)
def test_means_of_items(name):
    draw, kind, bounds = MEANS[name]
    rng = np.random.default_rng(0)
    truth = draw(rng, 4_000_000).mean()
    for n in N:
        sample = draw(rng, (int(np.clip(NUMBERS / n, 1500, 10_000)), n))
        share, cover, missed, error = shown(name, n, stats.item_intervals(sample, kind=kind, bounds=bounds), truth)
        assert missed <= 0.07 + error
        # where a mean is too close to its bound only some samples get an interval, and which do depends on the mean
        if share > 0.95:
            assert 0.93 - error <= cover <= 0.97 + error


@pytest.mark.parametrize("n", N)
@pytest.mark.parametrize("p", [0.0056, 0.03, 0.1, 0.5])
def test_shares_of_ones_exactly(n, p):
    counts = np.arange(n + 1)
    values = (np.arange(n) < counts[:, None]).astype(float)
    intervals = stats.item_intervals(values, kind="proportion")
    cover = binom.pmf(counts, n, p)[(intervals[:, 0] <= p) & (p <= intervals[:, 1])].sum()
    print(f"top-k, p={p} n={n:5d} cover {cover:.3f}")
    assert cover >= 0.93 - 5e-4
    # ones are whole: with few of them expected the next smaller interval would cover too little
    assert cover <= (0.97 if n * p >= 15 else 0.98 if n * p >= 5 else 1)


@pytest.mark.parametrize("n", N)
def test_worst_share_of_ones(n):
    counts = np.arange(n + 1)
    intervals = stats.item_intervals((np.arange(n) < counts[:, None]).astype(float), kind="proportion")
    p = np.linspace(0.001, 0.5, 800)
    cover = binom.pmf(counts[:, None], n, p)
    cover[(intervals[:, :1] > p) | (intervals[:, 1:] < p)] = 0
    cover = cover.sum(axis=0)
    print(f"top-k over p .001-.5 n={n:5d} worst {cover.min():.3f} mean {cover.mean():.3f}")
    assert cover.min() >= 0.91
    assert 0.94 <= cover.mean() <= 0.98


@pytest.mark.parametrize("n_cells", [3, 6])
@pytest.mark.parametrize("mean", [-2.6, -1.8, 0.0])
def test_shares_averaged_over_seeds_or_subjects(mean, n_cells):
    rng = np.random.default_rng(1)
    truth = norm.cdf(mean / np.sqrt(2))
    for n in N:
        p = norm.cdf(mean + rng.standard_normal((int(np.clip(NUMBERS / n, 1500, 10_000)), n)))
        sample = rng.binomial(n_cells, p) / n_cells
        name = f"top-k {truth:.2f}, mean of {n_cells}"
        _, cover, _, error = shown(name, n, stats.item_intervals(sample, kind="proportion"), truth)
        expected = n * n_cells * truth
        assert cover >= 0.93 - error - (0.02 if expected < 3 else 0)
        assert cover <= (0.97 if expected >= 15 else 1) + error


DIMENSIONS = 40
SCALE = np.arange(1, DIMENSIONS + 1) ** -0.5


def vectors(rng, n, noise, n_methods=1, hubs=0.0):
    """Targets with a common part, predictions of them with noise of unequal size; unit vectors for correlations."""
    true = rng.standard_normal((n, DIMENSIONS)) * SCALE * np.exp(hubs * rng.standard_normal((n, 1)))
    size = noise * np.exp(0.3 * rng.standard_normal((n_methods, n, 1)))
    predicted = 0.6 * true + size * rng.standard_normal((n_methods, n, DIMENSIONS)) * SCALE
    return [unit(x + 0.5 * SCALE) for x in (true, predicted)]


def unit(x):
    x = x - x.mean(axis=-1, keepdims=True)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def identified(true, predicted):
    """Return two-way and 2v2 values of every item, (n_methods, n) each."""
    r = predicted @ true.T
    own = np.diagonal(r, axis1=1, axis2=2)[..., None]
    n = r.shape[-1]
    two_way = (own > r).sum(axis=-1) / (n - 1)
    swapped = r + np.swapaxes(r, 1, 2)
    pairs = (own + np.swapaxes(own, 1, 2) - swapped > 1e-12).sum(axis=-1) / (n - 1)
    return two_way, pairs


@pytest.mark.parametrize(("noise", "hubs"), [(1.0, 0.0), (2.5, 0.0), (6.0, 0.0), (2.5, 0.6)])
def test_items_that_are_compared_with_each_other(noise, hubs):
    """Two-way for this gallery and for a redrawn one; 2v2, whose pairs count twice."""
    rng = np.random.default_rng(2)
    truth = np.mean([[v.mean() for v in identified(*vectors(rng, 1500, noise, 1, hubs))] for _ in range(8)], axis=0)
    new_true, new_predicted = vectors(rng, 12_000, noise, 1, hubs)
    own = (new_true * new_predicted[0]).sum(axis=1)
    for n, repeats in ((10, 2000), (20, 2000), (36, 1500), (120, 600), (300, 250)):
        two_way, pairs, gallery = [], [], []
        for _ in range(repeats):
            true, predicted = vectors(rng, n, noise, 1, hubs)
            a, b = identified(true, predicted)
            two_way.append(a[0])
            pairs.append(b[0])
            gallery.append((own[:, None] > new_predicted[0] @ true.T).mean())
        name = f"noise {noise} hubs {hubs}"
        intervals = stats.item_intervals(np.array(two_way), bounds=(0, 1))
        share, cover, _, error = shown(f"two-way {name}", n, intervals, np.array(gallery))
        if share > 0.95:
            assert 0.93 - error <= cover <= 0.975 + error
        shown(f"  redrawn gallery {name}", n, intervals, truth[0])
        naive = stats.item_intervals(np.array(pairs), bounds=(0, 1))
        shown(f"  2v2 as if independent {name}", n, naive, truth[1])
        intervals = stats.item_intervals(np.array(pairs), kind="pairs", bounds=(0, 1))
        share, cover, missed, error = shown(f"2v2 {name}", n, intervals, truth[1])
        assert missed <= 0.07 + error
        if share > 0.95:
            assert 0.93 - error <= cover <= 0.975 + error


@pytest.mark.parametrize("n_candidates", [1_000_000, 180])
def test_medians(n_candidates):
    rng = np.random.default_rng(3)
    truth = 1 + np.rint((1 - norm.cdf(1.0)) * (n_candidates - 1))
    for n in N:
        evidence = 1.0 + rng.standard_normal((int(np.clip(NUMBERS / n, 1500, 10_000)), n))
        ranks = 1 + np.rint((1 - norm.cdf(evidence)) * (n_candidates - 1))
        _, cover, _, error = shown(
            f"median of {n_candidates} ranks", n, stats.item_intervals(ranks, kind="median"), truth
        )
        # at large n ranks are as coarse as the interval, which then covers more than it says
        assert 0.93 - error <= cover <= (0.97 + error if n_candidates > 1000 else 1)


def test_mean_of_several_subjects_medians():
    rng = np.random.default_rng(4)
    shift = np.array([0.5, 0.8, 1.0, 1.3])
    truth = (1 + (1 - norm.cdf(shift)) * 1e6).mean()
    for n, repeats in ((20, 600), (36, 600), (120, 400), (300, 200)):
        intervals = []
        for _ in range(repeats):
            item = rng.standard_normal((n, 1)) * np.sqrt(0.5)
            evidence = shift + item + rng.standard_normal((n, 4)) * np.sqrt(0.5)
            ranks = 1 + (1 - norm.cdf(evidence)) * 1e6
            intervals.append(bootstrap.median_cells_interval(ranks[:, None, :], draws=1000))
        _, cover, _, error = shown("mean of 4 medians", n, np.array(intervals), truth)
        assert 0.92 - error <= cover <= 0.97 + error


@pytest.mark.parametrize(("n", "repeats"), [(20, 800), (100, 500)])
def test_differences_of_medians(n, repeats):
    rng = np.random.default_rng(15)
    truth = (norm.cdf(-0.5) - norm.cdf(-1.0)) * 1e6
    intervals = []
    for _ in range(repeats):
        evidence = (rng.standard_normal((n, 1)) + rng.standard_normal((n, 2))) / np.sqrt(2) + np.array([0.5, 1.0])
        a, b = (1 - norm.cdf(evidence)).T[:, :, None, None] * 1e6
        intervals.append(bootstrap.median_test(a, b, draws=1000).interval)
    _, cover, _, error = shown("difference of medians", n, np.array(intervals), truth)
    assert 0.93 - error <= cover <= 0.98 + error


@pytest.mark.parametrize("n", [3, 4, 6, 15])
def test_subjects(n):
    rng = np.random.default_rng(5)
    values = 0.6 + 0.08 * rng.standard_normal((4000, n))
    intervals = np.array([stats.subject_interval(v) for v in values])
    _, cover, _, error = shown("subjects", n, intervals, 0.6)
    assert 0.95 - error <= cover <= 0.95 + error


@pytest.mark.parametrize(("n", "repeats"), [(100, 600), (300, 400), (982, 150)])
def test_corpus_scores(n, repeats):
    """A ratio of sums times a brevity penalty, as BLEU is."""

    def score(sums):
        return sums[:, 0] / sums[:, 1] * np.exp(np.minimum(0, 1 - sums[:, 2] / sums[:, 1]))

    def draw(size):
        length, wanted = rng.integers(6, 14, size), rng.integers(7, 15, size)
        return np.stack([rng.binomial(length, rng.beta(2, 4, size)), length, wanted], axis=1).astype(float)

    rng = np.random.default_rng(6)
    truth = score(draw(2_000_000).sum(axis=0)[None])[0]
    intervals = np.array([bootstrap.corpus_interval(draw(n), score, draws=1000, seed=i) for i in range(repeats)])
    _, cover, _, error = shown("corpus score", n, intervals, truth)
    assert 0.93 - error <= cover <= 0.97 + error


@pytest.mark.parametrize(
    ("n", "p"), [(20, 0.1), (36, 0.1), (100, 0.03), (120, 0.1), (180, 0.03), (540, 0.03), (982, 0.5)]
)
def test_differences_of_shares(n, p):
    """Both methods find the easy items: outcomes of an item correlate."""
    rng = np.random.default_rng(7)
    easy = norm.ppf(p) * np.sqrt(2) + rng.standard_normal((2000, n, 1)) * 1.0
    ones = (easy + rng.standard_normal((2000, n, 2)) + np.array([0.0, 0.4]) > 0).astype(float)
    truth = p - norm.cdf((norm.ppf(p) * np.sqrt(2) + 0.4) / np.sqrt(2))
    found = [stats.paired_test(v[:, 0], v[:, 1], draws=2).interval for v in ones]
    intervals = np.array([(np.nan, np.nan) if v is None else v for v in found])
    share, cover, _, error = shown(f"difference of top-k near {p}", n, intervals, truth)
    assert share == 1
    assert cover >= 0.93 - error


@pytest.mark.parametrize("n", [20, 36, 100, 540])
@pytest.mark.parametrize("skewed", [False, True])
def test_differences_of_skewed_values(n, skewed):
    rng = np.random.default_rng(8)
    draw = rank_accuracy(2.2 if skewed else 0.7), rank_accuracy(1.0 if skewed else 0.5)
    truth = draw[0](rng, 4_000_000).mean() - draw[1](rng, 4_000_000).mean()
    samples = [f(rng, (1500, n)) for f in draw]
    found = [stats.paired_test(a, b, draws=2).interval for a, b in zip(*samples, strict=True)]
    _, cover, _, error = shown("difference of rank accuracy", n, np.array(found), truth)
    assert 0.93 - error <= cover <= 0.97 + error


def family_error(name, values, kind="mean"):
    """Return how often any of the methods of a board is told apart; values (n_boards, n_methods, n_items)."""
    n_boards, n_methods, n = values.shape
    i, j = np.triu_indices(n_methods, 1)
    wrong = 0
    for boards in np.array_split(values, max(1, n_boards // 50)):
        differences = (boards[:, i] - boards[:, j]).reshape(-1, n)
        p = stats.sign_flip(stats.stretched(differences) if kind == "pairs" else differences, 10_000)
        for board, own in zip(boards, p.reshape(len(boards), -1), strict=True):
            adjusted = np.ones((n_methods, n_methods))
            adjusted[i, j] = adjusted[j, i] = stats.holm(own)
            wrong += max(stats.tiers(board.mean(axis=1), adjusted)) > 1
    print(f"A/A {name}: {wrong} of {n_boards} boards")
    return wrong / n_boards


def test_identical_methods_share_a_tier():
    """1,000 boards of 10 methods that differ in nothing but chance; any second tier is an error."""
    rng = np.random.default_rng(9)
    item = rng.standard_normal((1000, 1, 100))
    rate = family_error("rank accuracy, 100 items", norm.cdf(1.2 + item + rng.standard_normal((1000, 10, 100))))
    assert rate <= 0.05


@pytest.mark.parametrize(("p", "n"), [(0.03, 120), (0.3, 120)])
def test_identical_methods_share_a_tier_in_top_k(p, n):
    rng = np.random.default_rng(10)
    values = rng.standard_normal((1000, 1, n)) + rng.standard_normal((1000, 10, n)) < np.sqrt(2) * norm.ppf(p)
    assert family_error(f"top-k {p}, {n} items", values.astype(float)) <= 0.05


@pytest.mark.parametrize("noise", [2.5, 40.0])
def test_identical_methods_share_a_tier_where_items_are_compared_with_each_other(noise):
    rng = np.random.default_rng(11)
    boards = [identified(*vectors(rng, 60, noise, 10)) for _ in range(1000)]
    assert family_error(f"two-way, noise {noise}", np.array([b[0] for b in boards])) <= 0.05
    assert family_error(f"2v2, noise {noise}", np.array([b[1] for b in boards]), "pairs") <= 0.05


def test_identical_methods_share_a_tier_over_subjects():
    rng = np.random.default_rng(12)
    wrong = 0
    for _ in range(1000):
        values = rng.standard_normal((1, 4)) + rng.standard_normal((10, 4))
        i, j = np.triu_indices(10, 1)
        wrong += (stats.holm(stats.paired_t(values[i] - values[j])) < 0.05).any()
    print(f"A/A over 4 subjects: {wrong} of 1000 boards")
    assert wrong <= 50


def test_identical_methods_share_a_tier_in_medians():
    rng = np.random.default_rng(13)
    wrong = 0
    for _ in range(1000):
        evidence = 0.7 + rng.standard_normal((1, 100)) + rng.standard_normal((10, 100))
        ranks = 1 + np.rint((1 - norm.cdf(evidence)) * 179)
        names = [f"i{k}" for k in range(100)]
        board = {(f"m{m}", "S1", 0): dict(zip(names, r.tolist(), strict=True)) for m, r in enumerate(ranks)}
        found = board_stats.board_statistics(board, kind="median", higher_is_better=False)
        wrong += max(s.tier for s in found.values()) > 1
    print(f"A/A medians: {wrong} of 1000 boards")
    assert wrong <= 50


def test_a_difference_of_one_sd_is_found():
    """One method of ten is one SD of the item noise better, 100 items."""
    rng = np.random.default_rng(14)
    alone, led = 0, 0
    for k in range(200):
        values = rng.standard_normal((1, 100)) + rng.standard_normal((10, 100))
        values[0] += 1
        names = [f"i{n}" for n in range(100)]
        board = {(f"m{m}", "S1", 0): dict(zip(names, v.tolist(), strict=True)) for m, v in enumerate(values)}
        found = board_stats.board_statistics(board, seed=k) if k < 20 else None
        if found:
            led += found["m0"].tier == 1 and min(s.tier for m, s in found.items() if m != "m0") == 2
        i, j = np.triu_indices(10, 1)
        adjusted = stats.holm(stats.sign_flip(values[i] - values[j], 10_000, k))
        alone += (adjusted[i == 0] < 0.05).all()
    print(f"1 SD in 100 items: better one told from all nine others in {alone} of 200 boards")
    assert led == 20
    assert alone >= 190
