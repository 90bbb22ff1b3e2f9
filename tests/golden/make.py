"""Make the golden files: small predictions with truth, and the value of every metric on them.

The values come from the definitions, written here as slow loops over numpy, scipy, scikit-learn, scikit-image and PIL;
nothing of this project is imported. Run ``python -m tests.golden.make`` after adding a metric to ``PINNED``: the inputs
are made from fixed seeds, so that the values of the others stay as they are.
"""

import json
import math
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.stats import skew
from skimage.color import rgb2gray
from skimage.metrics import structural_similarity
from sklearn.metrics import r2_score

HERE = Path(__file__).parent
TIE = 1e-12


# --- vectors ---------------------------------------------------------------------------------------------------------


def pearson(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if any(np.ptp(x) <= 1e-13 * np.abs(x).max() for x in (a, b)):
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def compare(a, b, tie=0.5):
    return tie if abs(a - b) <= TIE else float(a > b)


def two_way(true, predicted, tie=0.5):
    n = len(true)
    r = [[pearson(true[i], predicted[j]) for j in range(n)] for i in range(n)]
    return [np.mean([compare(r[j][j], r[i][j], tie) for i in range(n) if i != j]) for j in range(n)]


def two_way_strict(true, predicted):
    return two_way(true, predicted, tie=0.0)


def pairwise_2v2(true, predicted):
    n = len(true)
    r = [[pearson(true[i], predicted[j]) for j in range(n)] for i in range(n)]
    return [np.mean([compare(r[i][i] + r[j][j], r[i][j] + r[j][i]) for j in range(n) if j != i]) for i in range(n)]


def angle(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    length = math.sqrt(float(a @ a)) * math.sqrt(float(b @ b))
    return float(a @ b) / length if length else 0.0


def cosine(true, predicted):
    return [angle(a, b) for a, b in zip(true, predicted, strict=True)]


def cosine_centred(true, predicted, centre):
    def less(row):
        row = np.asarray(row, np.float64)
        rest = row - centre
        return rest if np.abs(rest).max() > 1e-6 * max(np.abs(row).max(), np.abs(centre).max()) else 0 * rest

    return [angle(less(a), less(b)) for a, b in zip(true, predicted, strict=True)]


def l1(true, predicted):
    return [float(np.mean(np.abs(a.astype(float) - b.astype(float)))) for a, b in zip(true, predicted, strict=True)]


def squared_distance(true, predicted):
    return [float(np.sum((a.astype(float) - b.astype(float)) ** 2)) for a, b in zip(true, predicted, strict=True)]


def correlation_distance(true, predicted):
    return [1 - pearson(a, b) for a, b in zip(true, predicted, strict=True)]


def r2(true, predicted):
    return r2_score(true.astype(float), predicted.astype(float), multioutput="raw_values").tolist()


def pearson_dim(true, predicted):
    return [pearson(true[:, k], predicted[:, k]) for k in range(true.shape[1])]


def collapse(predicted):
    n = len(predicted)
    return [float(np.mean([angle(predicted[i], predicted[j]) for i in range(n) for j in range(n) if i != j]))]


def attribute_accuracy(true, read):
    values = []
    for a, b in zip(true, read, strict=True):
        counted = [x == y for x, y in zip(a, b, strict=True) if not x == y == -1]
        values.append(float(np.mean(counted)) if counted else 1.0)
    return values


# --- scores of candidates --------------------------------------------------------------------------------------------


def places(row, own):
    """Ranks that the target can have when ties are broken at random."""
    greater = sum(value > row[own] + TIE for value in row)
    tied = sum(abs(value - row[own]) <= TIE for value in row)
    return list(range(greater + 1, greater + tied + 1))


def over_places(function):
    def values(scores, target):
        pairs = zip(scores, target, strict=True)
        return [float(np.mean([function(place, len(row)) for place in places(row, own)])) for row, own in pairs]

    return values


def topk(k):
    return over_places(lambda place, n: place <= k)


mid_rank = over_places(lambda place, n: place)
rank_accuracy = over_places(lambda place, n: 1 - (place - 1) / (n - 1))
mrr = over_places(lambda place, n: 1 / place)


def csls_topk(k):
    def values(scores, target):
        scores = np.asarray(scores, np.float64)
        near = [np.mean(sorted(column)[::-1][:10]) for column in scores.T]
        return topk(k)(2 * scores - np.array(near), target)

    return values


def hubness(scores):
    n = scores.shape[1]
    counts = np.zeros(n)
    for row in scores:
        for c in range(n):
            possible = places(row, c)
            counts[c] += np.mean([place <= min(10, n) for place in possible])
    return [0.0 if np.ptp(counts) < 1e-9 else float(skew(counts))]


# --- pools (all candidates in one: up to 300) ------------------------------------------------------------------------


def image_retrieval(predicted, candidates, target):
    return topk(1)([[angle(p, c) for c in candidates] for p in predicted], target)


def brain_retrieval(predicted, candidates, target):
    credit = []
    for image, candidate in enumerate(candidates):
        similar = [angle(p, candidate) for p in predicted]
        best = [i for i, value in enumerate(similar) if value >= max(similar) - TIE]
        credit.append(sum(target[i] == image for i in best) / len(best))
    return [credit[image] for image in target]


# --- captions, words between spaces ----------------------------------------------------------------------------------


def grams(words, order):
    return Counter(tuple(words[i : i + order]) for i in range(len(words) - order + 1))


def bleu(orders):
    def value(true, predicted):
        precisions, length, reference = [], 0, 0
        for order in range(1, orders + 1):
            right = there = 0
            for texts, text in zip(true, predicted, strict=True):
                mine = grams(text.split(), order)
                right += sum(min(n, max(grams(t.split(), order)[g] for t in texts)) for g, n in mine.items())
                there += sum(mine.values())
            precisions.append(right / there if there else 0.0)
        for texts, text in zip(true, predicted, strict=True):
            n = len(text.split())
            length += n
            reference += min((abs(len(t.split()) - n), len(t.split())) for t in texts)[1]
        brevity = 1.0 if length >= reference else math.exp(1 - reference / length)
        return [brevity * math.prod(precisions) ** (1 / orders)] if all(precisions) else [0.0]

    return value


def common(a, b):
    if not a or not b:
        return 0
    if a[-1] == b[-1]:
        return common(a[:-1], b[:-1]) + 1
    return max(common(a[:-1], b), common(a, b[:-1]))


def rouge_l(true, predicted):
    values = []
    for texts, text in zip(true, predicted, strict=True):
        mine, lengths = text.split(), [(common(text.split(), t.split()), len(t.split())) for t in texts]
        precision, recall = max(n for n, _ in lengths) / len(mine), max(n / size for n, size in lengths)
        bottom = recall + 1.2**2 * precision
        values.append((1 + 1.2**2) * precision * recall / bottom if bottom else 0.0)
    return [float(np.mean(values))]


def cider(true, predicted):
    n = len(true)
    values = np.zeros(n)
    for order in range(1, 5):
        known = sorted({g for texts in true for t in texts for g in grams(t.split(), order)})
        known += sorted({g for t in predicted for g in grams(t.split(), order)} - set(known))
        frequency = [sum(any(g in grams(t.split(), order) for t in texts) for texts in true) for g in known]
        weight = np.log(n / np.maximum(frequency, 1))
        for i, (texts, text) in enumerate(zip(true, predicted, strict=True)):
            mine = np.array([grams(text.split(), order)[g] for g in known]) * weight
            for t in texts:
                other = np.array([grams(t.split(), order)[g] for g in known]) * weight
                norm = np.linalg.norm(mine) * np.linalg.norm(other)
                if norm:
                    gauss = math.exp(-((len(text.split()) - len(t.split())) ** 2) / (2 * 6**2))
                    values[i] += 10 / 4 / len(texts) * float(np.minimum(mine, other) @ other) / norm * gauss
    return [float(values.mean())]


# --- pictures --------------------------------------------------------------------------------------------------------


def grey(picture):
    return rgb2gray(picture) if picture.shape[-1] == 3 else picture[..., 0]


def similar(a, b, **options):
    return float(
        structural_similarity(
            *(a, b), gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1, **options
        )
    )


def pixcorr(true, predicted):
    return [pearson(a.ravel(), b.ravel()) for a, b in zip(true, predicted, strict=True)]


def ssim(true, predicted):
    values = []
    for a, b in zip(true, predicted, strict=True):
        side = min(a.shape[:2])
        times = 1 if side >= 11 else math.ceil(16 / side)
        values.append(similar(*(np.kron(grey(x / 255), np.ones((times, times))) for x in (a, b))))
    return values


def by_pil(picture):
    """As Brain-Diffuser's scripts: PIL's default resize to 425 x 425, bicubic, of the 8-bit picture."""
    image = Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)
    return np.asarray(image.resize((425, 425), Image.Resampling.BICUBIC)).reshape(425, 425, -1) / 255


def along(values, axis, size):
    n = values.shape[axis]
    result = []
    for i in range(size):
        at = max(0.0, (i + 0.5) * n / size - 0.5)
        low = int(at)
        high, part = min(low + 1, n - 1), at - low
        result.append((1 - part) * values.take(low, axis) + part * values.take(high, axis))
    return np.stack(result, axis)


def by_tensors(picture):
    """As MindEye's: two bilinear resizes without antialiasing, pixel centres at half, to 256 and then to 425."""
    values = picture / 255
    for size in (256, 425):
        values = along(along(values, 0, size), 1, size)
    return values


def resized(function, resize, **options):
    def values(true, predicted):
        return [function(resize(a), resize(b), **options) for a, b in zip(true, predicted, strict=True)]

    return values


def flat_pearson(a, b):
    return pearson(a.ravel(), b.ravel())


def grey_similar(a, b, **options):
    return similar(grey(a), grey(b), **options)


# --- which metric has which reference: add a metric here --------------------------------------------------------------

PUBLISHED = ("brain-diffuser", "mindeye")
PINNED = {
    "vectors": {
        **dict.fromkeys(("two_way", "judge_two_way", "clip_two_way"), two_way),
        **dict.fromkeys(("alexnet2_two_way", "alexnet5_two_way", "inception_two_way"), two_way),
        **{
            f"{name}_two_way[{protocol}]": two_way_strict
            for name in ("alexnet2", "alexnet5", "inception", "clip")
            for protocol in PUBLISHED
        },
        **{
            name + suffix: correlation_distance
            for name in ("effnet_b", "swav")
            for suffix in ("", *(f"[{protocol}]" for protocol in PUBLISHED))
        },
        "pairwise_2v2": pairwise_2v2,
        "cosine": cosine,
        "clip_similarity": cosine,
        "cosine_centred": cosine_centred,
        "clip_similarity_centred": cosine_centred,
        "l1": l1,
        "lpips": squared_distance,
        "r2": r2,
        "pearson_dim": pearson_dim,
        "collapse": collapse,
    },
    "attributes": {"attribute_accuracy": attribute_accuracy},
    "scores": {
        **{name: topk(1) for name in ("top1", "caption_top1", "top1[published-all]")},
        **{name: topk(5) for name in ("top5", "caption_top5", "top5[published-all]", "category_recall")},
        "top10": topk(10),
        **dict.fromkeys(("rank_median", "caption_rank_median", "rank_median[published-all]"), mid_rank),
        **dict.fromkeys(("rank_accuracy", "rank_accuracy_all"), rank_accuracy),
        "mrr": mrr,
        "top1_csls": csls_topk(1),
        "top5_csls": csls_topk(5),
        "hubness": hubness,
    },
    "pools": {"image_retrieval": image_retrieval, "brain_retrieval": brain_retrieval},
    "pictures": {"pixcorr": pixcorr, "ssim": ssim},
    "sizes": {
        "pixcorr[brain-diffuser]": resized(flat_pearson, by_pil),
        "ssim[brain-diffuser]": resized(grey_similar, by_pil, channel_axis=-1),
        "pixcorr[mindeye]": resized(flat_pearson, by_tensors),
        "ssim[mindeye]": resized(grey_similar, by_tensors),
    },
    "captions": {"bleu1": bleu(1), "bleu4": bleu(4), "rouge_l": rouge_l, "cider": cider},
}
# What a metric may differ by: counts and closed forms to float64, filters and resizes that run in float32 to 5e-6.
TOLERANCE = dict.fromkeys(PINNED, 1e-6) | {"pictures": 5e-6, "sizes": 5e-6}


# --- inputs ----------------------------------------------------------------------------------------------------------


def vectors():
    rng = np.random.default_rng(1)
    true = rng.standard_normal((12, 9)).astype(np.float32)
    near = (0.6 * true + rng.standard_normal(true.shape)).astype(np.float32)
    centre = rng.standard_normal(9) / 3
    cases = {"random": (true, near, centre)}
    ties, answers = true.copy(), near.copy()
    ties[3], ties[4] = ties[2], 2 * ties[5] + 1  # an equal target, and one that correlates alike
    ties[6], answers[7], answers[8], answers[9] = 0, 0, 2.5, answers[10]  # zeros, a constant, equal predictions
    ties[:, 4], answers[:, 5] = 1, 3  # dimensions that do not vary
    cases["ties"] = ties, answers, centre
    cases["one answer"] = true, np.tile(near[:1], (12, 1)), centre
    cases["exact"] = true, true.copy(), centre
    wide = rng.standard_normal((5, 700)) + 50
    cases["wide"] = wide, wide + rng.standard_normal(wide.shape), np.full(700, 50.0)
    cases["two items"] = true[:2], near[:2], centre
    return {k: dict(zip(("true", "predicted", "centre"), v, strict=True)) for k, v in cases.items()}


def attributes():
    rng = np.random.default_rng(2)
    true = rng.integers(-1, 4, (6, 5))
    read = np.where(rng.random(true.shape) < 0.5, true, rng.integers(-1, 4, true.shape))
    true[0] = read[0] = -1
    read[1] = true[1]
    return {"random": {"true": true, "predicted": read}}


def scores():
    rng = np.random.default_rng(3)
    random = rng.standard_normal((14, 23))
    cases = {"random": random, "ties": rng.integers(0, 4, (14, 23)).astype(float), "one score": np.full((14, 23), 0.25)}
    found = {k: {"scores": v, "target": rng.integers(0, v.shape[1], len(v))} for k, v in cases.items()}
    found["hubs"] = {"scores": random + 3 * (np.arange(23) < 2), "target": rng.integers(0, 23, 14)}
    found["two candidates"] = {"scores": random[:3, :2], "target": np.array([0, 1, 1])}
    return found


def pools():
    rng = np.random.default_rng(4)
    images = rng.standard_normal((9, 6)).astype(np.float32)
    target = np.array([*range(9), 2, 5, 5])  # some images have several predictions
    near = (images[target] + rng.standard_normal((12, 6))).astype(np.float32)
    twins, same = images.copy(), near.copy()
    twins[4], same[1], same[3] = twins[3], same[0], 0
    return {
        "random": {"predicted": near, "candidates": images, "target": target},
        "ties": {"predicted": same, "candidates": twins, "target": target},
    }


def noisy(rng, shape):
    true = rng.integers(0, 256, shape, dtype=np.uint8)
    other = rng.integers(0, 256, shape, dtype=np.uint8)
    return {"true": true, "predicted": (0.5 * true + 0.5 * other).astype(np.uint8)}


def pictures():
    rng = np.random.default_rng(5)
    cases = {"grey": noisy(rng, (2, 16, 16, 1)), "colour": noisy(rng, (2, 21, 34, 3))}
    cases |= {"small": noisy(rng, (2, 7, 9, 3)), "least": noisy(rng, (1, 11, 11, 1))}
    flat = noisy(rng, (3, 12, 12, 3))
    flat["predicted"][0], flat["true"][1], flat["predicted"][2] = 90, 0, flat["true"][2]  # constants, and the truth
    return cases | {"constant": flat}


def sizes():
    """Pictures whose predictions have another size, as published protocols take them."""
    rng = np.random.default_rng(6)
    coarse = rng.integers(0, 256, (2, 6, 8, 3), dtype=np.uint8)
    true = coarse.repeat(5, 1).repeat(5, 2)
    predicted = np.clip(coarse.repeat(4, 1).repeat(4, 2) + rng.integers(-40, 40, (2, 24, 32, 3)), 0, 255)
    small = {"true": true, "predicted": predicted.astype(np.uint8)}
    grey_case = {"true": true[:1, ..., :1], "predicted": predicted[:1, :, ::-1, :1].astype(np.uint8)}
    flat = {"true": true.copy(), "predicted": predicted.astype(np.uint8)}
    flat["true"][0], flat["predicted"][1] = 77, 3  # one value, which a resize in float32 rounds unevenly
    return {"colour": small, "grey": grey_case, "constant": flat}


def captions():
    return {
        "random": {
            "predicted": [
                "a man riding a wave",
                "two dogs",
                "a red boat on the water near a pier",
                "a cat",
                "green tea",
            ],
            "true": [
                ["a man riding a wave on a board", "a surfer rides a large wave"],
                ["two dogs play in the grass", "a pair of dogs", "two brown dogs run"],
                ["a red boat on the water", "a boat near a pier"],
                ["a cat on a mat"],
                ["a plate of food on a table", "some food"],
            ],
        },
        "nothing right": {"predicted": ["one two", "three"], "true": [["four five six"], ["seven", "eight nine"]]},
    }


def pinned(function, case):
    """Call a reference with the parts of a case that it names."""
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    return function(*(case["predicted" if name == "read" else name] for name in names if name != "tie"))


def main():
    for file, references in PINNED.items():
        cases = globals()[file]()
        values = {}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for name, case in cases.items():
                values[name] = {metric: [float(v) for v in pinned(f, case)] for metric, f in references.items()}
        content = {"tolerance": TOLERANCE[file], "made by": "tests/golden/make.py", "values": values}
        if file == "captions":
            content["inputs"] = cases
        else:
            content["inputs"] = f"{file}.npz"
            arrays = {f"{name}/{part}": array for name, case in cases.items() for part, array in case.items()}
            np.savez_compressed(HERE / f"{file}.npz", **arrays)
        text = json.dumps(content, indent=1, allow_nan=False)
        (HERE / f"{file}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
