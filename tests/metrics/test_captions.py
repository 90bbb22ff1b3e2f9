"""Caption metrics against hand-computed examples, naive references and recorded values of the COCO caption toolkit."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.captions import bleu1, bleu4, cider, meteor, rouge_l, tokenise
from metrics.table import METRICS

SCORES = [bleu1, bleu4, rouge_l, cider]
WORDS = ["a", "the", "man", "dog", "on", "in", "red", "blue", "boat", "street", "riding", "wave"]

PREDICTED = [
    "A man is riding a wave on a surfboard.",
    "two dogs",
    "A red and white boat isn't on the water",
    "a plate of food with a fork and a knife on a table",
    "the giraffe stands",
    "",
]
TRUE = [
    ("A man riding a wave on top of a surfboard.", "A surfer rides a large wave in the ocean.", "Man on a surfboard"),
    ("Two dogs are playing in the grass.", "A pair of dogs, playing.", "Two brown dogs run"),
    ("A red and white boat sits in the water.", "A boat is docked at the pier."),
    ("A plate of food on a table.", "There is a plate with food and a fork.", "A dinner plate, fork and knife."),
    ("Two giraffes stand next to each other near trees.",),
    ("A man in a hat.", "Someone wears a hat."),
]
# Of the toolkit's own Python modules (pycocoevalcap 1.2) after its Java tokeniser, on the captions above.
TOOLKIT = {
    "bleu1": 0.6486829049447214,
    "bleu4": 0.3439183129872358,
    "rouge_l": 0.5106783561635181,
    "cider": 1.4731814560334653,
}


def naive_cider(true, predicted):
    """CIDEr-D from its formula, over one dense vector per order."""
    n_images = len(true)
    tokens, found = [[tokenise(t) for t in texts] for texts in true], [tokenise(t) for t in predicted]
    values = np.zeros(n_images)
    for order in range(1, 5):

        def grams(words, order=order):
            return Counter(tuple(words[i : i + order]) for i in range(len(words) - order + 1))

        known = sorted({g for texts in (*tokens, found) for t in texts for g in grams(t)})
        df = np.array([sum(any(g in grams(t) for t in texts) for texts in tokens) for g in known])
        idf = np.log(n_images / np.maximum(df, 1))
        for i in range(n_images):
            mine = np.array([grams(found[i])[g] for g in known]) * idf
            for text in tokens[i]:
                other = np.array([grams(text)[g] for g in known]) * idf
                norm = np.linalg.norm(mine) * np.linalg.norm(other)
                if norm:
                    gauss = math.exp(-((len(found[i]) - len(text)) ** 2) / (2 * 6**2))
                    values[i] += 10 / 4 / len(tokens[i]) * (np.minimum(mine, other) @ other) / norm * gauss
    return values


def corpus(rng, n, longest=12):
    def sentence():
        return " ".join(rng.choice(WORDS, rng.integers(1, longest)))

    true = [tuple(sentence() for _ in range(rng.integers(1, 6))) for _ in range(n)]
    predicted = [str(rng.choice(texts)) if rng.random() < 0.4 else sentence() for texts in true]
    return true, predicted


# --- the tokeniser ---------------------------------------------------------------------------------------------------

# Words of the toolkit's Java tokeniser for the same text, punctuation dropped.
SAME = {
    "A man's dog isn't on the red-and-white boat.": "a man 's dog is n't on the red-and-white boat",
    "Two dogs, one cat; and a bird!": "two dogs one cat and a bird",
    'The sign says "STOP" in 1,000 languages.': "the sign says stop in 1,000 languages",
    "a man riding a wave on top of a surfboard .": "a man riding a wave on top of a surfboard",
    "Mr. Smith can't stop at the U.S. border...": "mr. smith ca n't stop at the u.s. border",
    "cannot gonna wanna they're we've I'll he'd I'm": "can not gon na wan na they 're we 've i 'll he 'd i 'm",
    "black/white photo, and/or 50% off @ 10:30 a.m.": "black/white photo and/or 50 % off @ 10:30 a.m.",
    "A t-shirt -- with dashes - and an em\u2014dash.": "a t-shirt with dashes and an em dash",
    "'single quotes' and ``double''": "single quotes and double",
    "the boys' bikes": "the boys bikes",
    "": "",
    "   ": "",
    "caf\u00e9 na\u00efve": "caf\u00e9 na\u00efve",
    "room #5": "room # 5",
    "A dog. A cat.": "a dog a cat",
    "1/2 pizza": "1/2 pizza",
    "dog's, cat's": "dog 's cat 's",
    "a man ,a dog": "a man a dog",
    "O'Neil's pub": "o'neil 's pub",
    "3-D tv's": "3-d tv 's",
    "St. Louis": "st. louis",
    "a 1950's car": "a 1950 's car",
    "www.flickr.com": "www.flickr.com",
    "don't. won't shan't ain't": "do n't wo n't sha n't ai n't",
    "wouldn\u2019t": "would n't",
    "two-story building.The end": "two-story building.the end",
    "vs. them": "vs. them",
    "'s": "'s",
}


@pytest.mark.parametrize("text", SAME)
def test_tokens_are_those_of_the_toolkit(text):
    assert tokenise(text) == SAME[text].split()


def test_brackets_are_punctuation_too():
    assert tokenise("It costs $5.50 (five dollars).") == ["it", "costs", "$", "5.50", "five", "dollars"]


# --- values ----------------------------------------------------------------------------------------------------------


def test_values_are_those_of_the_toolkit():
    found = {name: METRICS[name].function(TRUE, PREDICTED).mean() for name in TOOLKIT}
    assert found == pytest.approx(TOOLKIT, abs=1e-9)


def test_bleu_by_hand():
    # "the the the cat": one of three "the" matches, and "cat": 2 / 4; the closest reference has 4 words: no penalty
    assert bleu1([("the cat sat down", "a b c d e f")], ["the the the cat"]).mean() == pytest.approx(2 / 4)
    # 3 of 3 words, but the closest reference has 6
    assert bleu1([("a dog on the red mat",)], ["a dog mat"]).mean() == pytest.approx(math.exp(1 - 6 / 3))
    # sums over the corpus, not a mean of sentences: 4 + 1 matches of 4 + 4 words, of equal length
    true, predicted = [("a b c d",), ("e f g h",)], ["a b c d", "e x y z"]
    assert bleu1(true, predicted).mean() == pytest.approx(5 / 8)
    # n-grams: 5/8 words, 3/6 pairs, 2/4 triples, 1/2 quadruples
    assert bleu4(true, predicted).mean() == pytest.approx((5 / 8 * 3 / 6 * 2 / 4 * 1 / 2) ** 0.25)
    # of two references equally near in length the shorter counts: no penalty for 3 words against 2 and 4
    assert bleu1([("a b", "a b c d")], ["a b c"]).mean() == pytest.approx(1)


def test_rouge_by_hand():
    # longest common subsequence "a dog the mat": 4 of 5 predicted, 4 of 6 in the reference
    p, r = 4 / 5, 4 / 6
    expected = (1 + 1.44) * p * r / (r + 1.44 * p)
    assert rouge_l([("a dog lies on the mat",)], ["a dog ate the mat"])[0] == pytest.approx(expected)
    # precision from one reference, recall from the other
    assert rouge_l([("a dog", "a b c d e f g h a dog x")], ["a dog"])[0] == pytest.approx(1)


def test_cider_by_hand():
    # two images without a common word: every n-gram has weight log 2; prediction 0 has one of two pairs of words
    true, predicted = [("red boat",), ("two dogs",)], ["red dogs", "two dogs"]
    words, pairs = 1 / (math.sqrt(2) * math.sqrt(2)), 0
    np.testing.assert_allclose(cider(true, predicted), [10 / 4 * (words + pairs), 10 / 4 * (1 + 1)])


def test_cider_equals_its_formula():
    true, predicted = corpus(np.random.default_rng(0), 15)
    predicted[3] = ""
    np.testing.assert_allclose(cider(true, predicted), naive_cider(true, predicted), atol=1e-12)
    np.testing.assert_allclose(cider(TRUE, PREDICTED), naive_cider(TRUE, PREDICTED), atol=1e-12)


@pytest.mark.parametrize(("function", "order"), [(bleu1, 1), (bleu4, 4)])
def test_bleu_equals_torchmetrics(function, order):
    from torchmetrics.functional.text import bleu_score

    true, predicted = corpus(np.random.default_rng(1), 60)
    by_length = [sorted(texts, key=lambda text: len(text.split())) for texts in true]  # a tie goes to the shorter
    assert function(true, predicted).mean() == pytest.approx(float(bleu_score(predicted, by_length, order)), abs=1e-6)


@pytest.mark.parametrize("function", SCORES)
def test_an_identical_sentence_is_perfect_and_an_empty_one_worst(function):
    texts = ["a man is riding a red boat", "two dogs run in the street"]
    best = {cider: 10}.get(function, 1)
    np.testing.assert_allclose(function([(t,) for t in texts], texts), best)
    np.testing.assert_allclose(function([(t, t) for t in texts], texts), best)
    assert function([(t,) for t in texts], ["", ""]).tolist() == [0, 0]
    assert function([("",), ("...",)], texts).tolist() == [0, 0]
    assert 0 < function([(t,) for t in texts], [texts[0], ""]).mean() < best


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12))
def test_order_of_items_and_references_and_punctuation_do_not_matter(seed, n):
    rng = np.random.default_rng(seed)
    true, predicted = corpus(rng, n)
    order = rng.permutation(n)
    for function in SCORES:
        values = function(true, predicted)
        assert values.shape == (n,)
        assert 0 <= values.mean() <= METRICS[function.__name__].upper
        moved = function([true[i][::-1] for i in order], [predicted[i].upper() + "!" for i in order])
        np.testing.assert_allclose(moved, values[order], atol=1e-12)


# --- resampling ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [bleu1, bleu4])
@pytest.mark.parametrize("short", [False, True])
def test_items_of_bleu_are_its_first_order_effects(function, short):
    """Leaving an item out changes the corpus score as its value says; so does resampling all items."""
    rng = np.random.default_rng(2)
    true, predicted = corpus(rng, 120)
    # well to one side of the length where the brevity penalty begins, at which nothing is of first order
    predicted = [" ".join(text.split()[:5]) if short else f"{text} the boat" for text in predicted]
    values = function(true, predicted)
    n, score = len(values), values.mean()
    for i in (0, 7, 99):
        without = function(true[:i] + true[i + 1 :], predicted[:i] + predicted[i + 1 :]).mean()
        assert (n - 1) * (score - without) == pytest.approx(values[i] - score, abs=0.02)
    draws = rng.integers(0, n, (40, n))
    whole = [function([true[i] for i in rows], [predicted[i] for i in rows]).mean() for rows in draws]
    assert np.std(values[draws].mean(axis=1)) == pytest.approx(np.std(whole), rel=0.15)
    assert np.corrcoef(values[draws].mean(axis=1), whole)[0, 1] > 0.98


# --- refusals --------------------------------------------------------------------------------------------------------


def test_meteor_says_what_it_lacks():
    with pytest.raises(ValueError, match=r"^Java$"):
        meteor([("a",)], ["a"])


@pytest.mark.parametrize("function", [*SCORES, meteor])
@pytest.mark.parametrize(
    ("true", "predicted", "message"),
    [
        ([], [], "one predicted caption per item"),
        ([("a",)], ["a", "b"], "one predicted caption per item"),
        (["a man"], ["a"], "in a sequence"),
        ([()], ["a"], "at least one reference"),
        ([("a",)], [None], "as texts"),
        ([("a",)], [0.5], "as texts"),
        ([(1,)], ["a"], "as texts"),
    ],
)
def test_bad_captions_are_refused(function, true, predicted, message):
    with pytest.raises(ValueError, match=rf"^{function.__name__}: expected .*{message}"):
        function(true, predicted)


def test_cider_needs_two_items():
    with pytest.raises(ValueError, match="at least 2 items"):
        cider([("a",)], ["a"])
