"""Caption metrics as the COCO caption toolkit (Chen et al. 2015, arXiv:1504.00325) defines them, without Java.

Every function takes the reference captions of each item and one predicted caption, and returns one value per item whose
mean is the corpus score. The toolkit's own package brings 100 MB of Java programs, its METEOR and its tokeniser among
them; the tokeniser here follows the same rules for what captions hold, see `tokenise`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from metrics import validate

BETA = 1.2  # ROUGE-L: recall counts beta**2 times as much as precision
SIGMA = 6.0  # CIDEr-D: words of difference in length
ORDERS = (1, 2, 3, 4)

_CLITIC = re.compile(r"(?<=\w)(n't|'(?:s|m|d|re|ve|ll))\b")
_COMPOUND = re.compile(r"\b(can)(not)\b|\b(gon|wan)(na)\b|\b(got)(ta)\b|\b(lem|gim)(me)\b")
_TOKEN = re.compile(
    r"n't\b|'(?:s|m|d|re|ve|ll)\b"
    r"|(?:[^\W\d_]\.){2,}"  # u.s.
    r"|\b(?:mr|mrs|ms|dr|st|mt|jr|sr|vs|etc|no)\.(?=\s+\S)"
    r"|\w+(?:(?:[-./']|(?<=\d)[,:](?=\d))\w+)*"  # red-and-white, o'neil, 10:30, 1,000
    r"|[$%&#@*=+]"
)


def tokenise(text: str) -> list[str]:
    """Split a caption into lower-case words as the Penn Treebank does, without punctuation.

    ``isn't`` is ``is n't``, ``man's`` is ``man 's``, ``cannot`` is ``can not``; hyphens, full stops and slashes within
    a word stay, and so do signs such as ``$`` and ``%``. The toolkit's tokeniser leaves brackets in the text as
    ``-lrb-``; here they are dropped.

    Parameters
    ----------
    text : str

    Returns
    -------
    list of str
    """
    text = text.lower().replace("\u2019", "'")
    text = _CLITIC.sub(r" \1", text)
    text = _COMPOUND.sub(lambda found: " ".join(part for part in found.groups() if part), text)
    return _TOKEN.findall(text)


def bleu1(true: Sequence[Sequence[str]], predicted: Sequence[str]) -> np.ndarray:
    """BLEU of single words, see `bleu4`."""
    return _bleu("bleu1", true, predicted, 1)


def bleu4(true: Sequence[Sequence[str]], predicted: Sequence[str]) -> np.ndarray:
    """BLEU of up to four words: geometric mean of clipped n-gram precisions times the brevity penalty.

    Matches and lengths are summed over the corpus first, with the reference length closest to the prediction's (the
    shorter of two). An item's value is the corpus score plus n times the item's first-order effect on it, so that the
    mean of the values is the corpus score, and resampling the items spreads it as resampling the corpus does, to first
    order. A single value may leave [0, 1] and is no score of its sentence.

    Parameters
    ----------
    true : sequence of n sequences of str
        Reference captions, at least one for each item.
    predicted : sequence of n str

    Returns
    -------
    ndarray of shape (n,), float64
        The mean is in [0, 1]; 0 where nothing of four words matches (where the toolkit gives about 1e-4).

    Raises
    ------
    ValueError
        Bad input, see `metrics.validate`.
    """
    return _bleu("bleu4", true, predicted, 4)


def rouge_l(true: Sequence[Sequence[str]], predicted: Sequence[str]) -> np.ndarray:
    """ROUGE-L: F-measure (beta 1.2) of the longest common subsequence of words.

    Best precision and best recall over the references, each on its own, as in the toolkit.

    Parameters
    ----------
    true : sequence of n sequences of str
    predicted : sequence of n str

    Returns
    -------
    ndarray of shape (n,), float64
        In [0, 1].

    Raises
    ------
    ValueError
        Bad input, see `metrics.validate`.
    """
    references, found = _tokens("rouge_l", true, predicted)
    result = np.zeros(len(found))
    for i, (texts, words) in enumerate(zip(references, found, strict=True)):
        common = [(_common(words, text), len(text)) for text in texts if text]
        best = max((length for length, _ in common), default=0)
        if best:
            precision, recall = best / len(words), max(length / size for length, size in common)
            result[i] = (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)
    return result


def cider(true: Sequence[Sequence[str]], predicted: Sequence[str]) -> np.ndarray:
    """CIDEr-D: tf-idf similarity of n-grams (1 to 4 words) with the references, times 10.

    Prediction clipped at the reference, Gaussian penalty on the difference in length (sigma 6 words), mean over
    references. The document frequency of an n-gram is the number of items whose references hold it; it is taken as
    fixed where items are resampled.

    Parameters
    ----------
    true : sequence of n sequences of str
        At least two items: the weights of one item's n-grams are all 0.
    predicted : sequence of n str

    Returns
    -------
    ndarray of shape (n,), float64
        In [0, 10].

    Raises
    ------
    ValueError
        Bad input, see `metrics.validate`.
    """
    references, found = _tokens("cider", true, predicted)
    validate.at_least("cider", found, 2)
    counts = [[_ngrams(text) for text in texts] for texts in references]
    frequency = Counter(gram for texts in counts for gram in set().union(*texts))
    weight = {gram: np.log(len(found) / n) for gram, n in frequency.items()}
    absent = np.log(len(found))

    def vector(grams: Counter) -> tuple[dict, np.ndarray, int]:
        values = {gram: n * weight.get(gram, absent) for gram, n in grams.items()}
        square = np.zeros(len(ORDERS))
        for gram, value in values.items():
            square[len(gram) - 1] += value**2
        return values, np.sqrt(square), sum(n for gram, n in grams.items() if len(gram) == 2)

    result = np.zeros(len(found))
    for i, (texts, words) in enumerate(zip(counts, found, strict=True)):
        mine, length, n = vector(_ngrams(words))
        for other, other_length, other_n in map(vector, texts):
            product = np.zeros(len(ORDERS))
            for gram in mine.keys() & other.keys():
                product[len(gram) - 1] += min(mine[gram], other[gram]) * other[gram]
            norm = length * other_length
            cosine = np.divide(product, norm, out=np.zeros(len(ORDERS)), where=norm > 0)
            result[i] += cosine.mean() * np.exp(-((n - other_n) ** 2) / (2 * SIGMA**2))
        result[i] *= 10 / len(texts)
    return result


def meteor(true: Sequence[Sequence[str]], predicted: Sequence[str]) -> np.ndarray:
    """METEOR 1.5, which exists as a Java program only: never computed, always a ``ValueError`` that says so."""
    validate.captions("meteor", true, predicted)
    raise ValueError("Java")


def _tokens(name: str, true, predicted) -> tuple[list[list[list[str]]], list[list[str]]]:
    true, predicted = validate.captions(name, true, predicted)
    return [[tokenise(text) for text in texts] for texts in true], [tokenise(text) for text in predicted]


def _ngrams(words: Sequence[str], orders: Iterable[int] = ORDERS) -> Counter:
    return Counter(tuple(words[i : i + k]) for k in orders for i in range(len(words) - k + 1))


def _bleu(name: str, true, predicted, order: int) -> np.ndarray:
    references, found = _tokens(name, true, predicted)
    n = len(found)
    matches, there = np.zeros((n, order)), np.zeros((n, order))
    length, closest = np.zeros(n), np.zeros(n)
    for i, (texts, words) in enumerate(zip(references, found, strict=True)):
        most = Counter()
        for text in texts:
            most |= _ngrams(text, range(1, order + 1))
        for gram, count in _ngrams(words, range(1, order + 1)).items():
            matches[i, len(gram) - 1] += min(count, most[gram])
            there[i, len(gram) - 1] += count
        length[i] = len(words)
        closest[i] = min((abs(len(text) - len(words)), len(text)) for text in texts)[1]
    if not matches.sum(axis=0).all():
        return np.zeros(n)
    score = np.exp(np.log(matches.sum(axis=0) / there.sum(axis=0)).mean())
    effect = (matches / matches.sum(axis=0) - there / there.sum(axis=0)).mean(axis=1)
    ratio = closest.sum() / length.sum()
    if ratio > 1:
        score *= np.exp(1 - ratio)
        effect += ratio * (length / length.sum() - closest / closest.sum())
    return score * (1 + n * effect)


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    """Return the length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for word in a:
        before = row
        row = [0]
        for j, other in enumerate(b):
            row.append(before[j] + 1 if word == other else max(before[j + 1], row[j]))
    return row[-1]
