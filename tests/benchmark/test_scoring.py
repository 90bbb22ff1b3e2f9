import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image
from skimage.color import rgb2gray
from skimage.metrics import structural_similarity

from benchmark import scoring
from benchmark.api import Predictions, Stimuli
from benchmark.data.prepare import TestItems
from benchmark.errors import BenchError
from benchmark.registry import Registry
from benchmark.suites import RECONSTRUCTION, embedding, words

METRICS = {entry.name: entry.load() for entry in Registry().entries("metric")}


def part(true, predicted=None, *, fold="f", conditions=None, images=None, ids=None, **predictions):
    n = len(true)
    stimulus = np.arange(n)
    ids = np.array([f"s{i}" for i in range(n)]) if ids is None else np.asarray(ids)
    condition = np.full(n, "") if conditions is None else np.asarray(conditions)
    block = np.array([f"{fold} {c}" for c in condition])
    names = np.array([f"{fold} {i} {c}" for i, c in zip(ids, condition, strict=True)])
    items = TestItems(names, stimulus, np.full(n, "S1"), condition, block)
    if predicted is not None:
        predictions["embeddings"] = {"v": predicted}
    return scoring.Part(
        fold, items, Stimuli(ids, images, embeddings={"v": true}), Predictions(**predictions), true.mean(0)
    )


def test_the_truth_is_best_and_every_metric_is_there():
    true = np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32)
    table, summary = scoring.score([part(true, true)], {"embedding": embedding("v")}, METRICS)
    found = summary["embedding"]
    assert list(found) == list(embedding("v").metrics)
    expected = {"two_way": 1, "top1": 1, "rank_median": 1, "cosine": 1, "r2": 1, "l1": 0, "pearson_dim": 1}
    assert {k: found[k]["value"] for k in expected} == pytest.approx(expected, abs=1e-6)
    assert found["top1"]["chance"] == pytest.approx(1 / 20)
    assert found["two_way"] | {"value": 0} == {
        "value": 0, "n": 20, "chance": 0.5, "higher_is_better": True, "version": 1, "protocol": "bench-1", "note": "",
        "range": [0, 1],
    }  # fmt: skip
    assert table["metric"].count("two_way") == 20
    assert len({len(column) for column in table.values()}) == 1


def test_comparisons_stay_within_a_block():
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((5, 8)).astype(np.float32)
    true = np.concatenate([vectors, vectors])  # the same five words in two paradigms
    predicted = true + rng.standard_normal(true.shape).astype(np.float32)
    ids = [f"w{i % 5}" for i in range(10)]
    conditions = ["a"] * 5 + ["b"] * 5
    _, summary = scoring.score([part(true, predicted, conditions=conditions, ids=ids)], {"words": words("v")}, METRICS)
    correct = []
    for rows in (range(5), range(5, 10)):
        r = np.corrcoef(true[list(rows)], predicted[list(rows)])[:5, 5:]
        correct += [r[i, i] + r[j, j] > r[i, j] + r[j, i] for i in range(5) for j in range(5) if i != j]
    assert summary["words"]["pairwise_2v2"]["value"] == pytest.approx(np.mean(correct))
    assert summary["words"]["top1"]["chance"] == pytest.approx(1 / 5)


def test_candidates_are_those_of_the_fold():
    rng = np.random.default_rng(2)
    parts = [part(v := rng.standard_normal((4, 6)).astype(np.float32), v, fold=f"f{i}") for i in range(3)]
    _, summary = scoring.score(parts, {"words": words("v")}, METRICS)
    assert summary["words"]["top1"]["chance"] == 0.25
    assert summary["words"]["top1"]["n"] == 12


def test_class_scores_come_first_in_the_words_track_and_need_every_candidate():
    true = np.eye(3, 5, dtype=np.float32)
    scores = np.eye(3, dtype=np.float32)[:, [2, 0, 1]]
    given = part(true, None, class_scores=scores, class_ids=np.array(["s2", "s0", "s1"]))
    _, summary = scoring.score([given], {"words": words("v")}, METRICS)
    assert summary["words"]["top1"]["value"] == 1
    assert summary["words"]["cosine"]["value"] is None
    assert summary["words"]["cosine"]["undefined"]
    assert summary["words"]["cosine"]["reason"] == "not predicted (vectors)"
    lacking = part(true, None, class_scores=scores[:, :2], class_ids=np.array(["s2", "s0"]))
    with pytest.raises(BenchError, match="no column for 1 candidates, the first is 's1'"):
        scoring.score([lacking], {"words": words("v")}, METRICS)


def test_reconstructions():
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (6, 16, 16, 3), np.uint8)
    given = part(np.zeros((6, 2), np.float32), images=images, **{})
    given = scoring.Part("f", given.items, given.truth, Predictions(images=images))
    _, summary = scoring.score([given], {"reconstruction": RECONSTRUCTION}, METRICS)
    values = {k: v["value"] for k, v in summary["reconstruction"].items()}
    assert values == pytest.approx({"two_way": 1, "pixcorr": 1, "ssim": 1, "l1": 0}, abs=1e-6)
    grey = scoring.Part("f", given.items, given.truth, Predictions(images=images[..., :1]))
    with pytest.raises(BenchError, match="images have shape"):
        scoring.score([grey], {"reconstruction": RECONSTRUCTION}, METRICS)


def test_predictions_of_another_size_are_resized():
    flat = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.full((1, 16, 16, 3), 40, np.uint8)
    given = part(np.zeros((6, 2), np.float32), images=flat)
    large = np.repeat(np.repeat(flat, 2, 1), 2, 2)
    given = scoring.Part("f", given.items, given.truth, Predictions(images=large))
    _, summary = scoring.score([given], {"reconstruction": RECONSTRUCTION}, METRICS)
    assert summary["reconstruction"]["l1"]["value"] == 0


def test_constant_predictions_are_chance_and_counted():
    true = np.random.default_rng(4).standard_normal((10, 6)).astype(np.float32)
    _, summary = scoring.score([part(true, np.ones_like(true))], {"embedding": embedding("v")}, METRICS)
    assert summary["embedding"]["two_way"]["value"] == 0.5
    assert summary["embedding"]["two_way"]["n_zero_variance"] == 10


def test_nan_is_an_error_and_no_number():
    true = np.ones((4, 3), np.float32)
    with pytest.raises(BenchError, match=r"embeddings\[v\]: NaN"):
        scoring.score([part(true, true * np.nan)], {"embedding": embedding("v")}, METRICS)


def test_one_item_has_no_comparison_but_the_rest():
    true = np.ones((1, 4), np.float32)
    true[0, 0] = 3
    _, summary = scoring.score([part(true, true)], {"embedding": embedding("v")}, METRICS)
    assert summary["embedding"]["two_way"]["value"] is None
    assert summary["embedding"]["cosine"]["value"] == pytest.approx(1)


def test_files_round_trip(tmp_path):
    true = np.random.default_rng(6).standard_normal((7, 5)).astype(np.float32)
    table, summary = scoring.score([part(true, true[::-1].copy())], {"embedding": embedding("v")}, METRICS)
    scoring.write(tmp_path, table, summary, "id")
    saved = pyarrow.parquet.read_table(tmp_path / "scores.parquet").to_pandas()
    two_way = saved[(saved.metric == "two_way") & (saved.track == "embedding")]
    record = json.loads((tmp_path / "scores.json").read_text())
    assert record["score_id"] == "id"
    assert two_way.value.mean() == pytest.approx(record["tracks"]["embedding"]["two_way"]["value"])


# --- retrieval -------------------------------------------------------------------------------------------------------


def scenes(n=12, d=6, noise=0.7, **more):
    """A part with captions, categories and predicted captions."""
    rng = np.random.default_rng(7)
    true = rng.standard_normal((n, d)).astype(np.float32)
    given = part(true, true + noise * rng.standard_normal((n, d)).astype(np.float32))
    captions = [tuple(f"{word} {i}" for word in ("a", "the", "one")[: 1 + i % 3]) for i in range(n)]
    attributes = {"category": np.array(["x", "y", "y"])[np.arange(n) % 3]}
    truth = replace(given.truth, captions=captions, attributes=attributes, embeddings={"clip": true})
    said = Predictions({"clip": given.predictions.embeddings["v"]}, captions=[texts[0] for texts in captions])
    return replace(given, truth=truth, predictions=said, **more)


class Texts:
    """Frozen models whose text vectors are the true ones of the image plus noise."""

    def __init__(self, true, captions):
        rng = np.random.default_rng(8)
        self.vectors = {text: true[i] + 0.3 * rng.standard_normal(6) for i, own in enumerate(captions) for text in own}

    def extract(self, model, output, items):
        assert (model, output) == ("clip", "encode_text")
        return np.array([self.vectors[text] for text in items], np.float32)


ALL = embedding("clip", categories=True, captions=True, caption_retrieval=True, published_all=True)


def scored(parts, source=None):
    table, summary = scoring.score(parts, {"embedding": ALL}, METRICS, source)
    rows = {}
    for metric, item, value in zip(table["metric"], table["item"], table["value"], strict=True):
        rows.setdefault(metric, {})[item] = value
    return rows, summary["embedding"]


def test_retrieval_columns_of_one_pool():
    rows, found = scored([scenes()])
    assert found["image_retrieval"]["value"] == found["top1"]["value"]  # one pool of all: the same ranking
    assert found["image_retrieval"]["chance"] == pytest.approx(1 / 12)
    assert found["image_retrieval"]["note"] == "not the 300-pool: one pool of all test images, 12"
    assert 0 < found["brain_retrieval"]["value"] < 1
    assert found["hubness"]["n"] == 1
    assert set(rows["rank_median"].values()) <= {r / 2 for r in range(2, 25)}
    assert np.median(list(rows["rank_median"].values())) == found["rank_median"]["value"]


def test_only_pools_of_300_are_called_so():
    rng = np.random.default_rng(9)
    true = rng.standard_normal((310, 4)).astype(np.float32)
    near = true + 0.2 * rng.standard_normal((310, 4)).astype(np.float32)
    _, found = scoring.score([part(true, near)], {"embedding": embedding("v")}, METRICS)
    record = found["embedding"]["image_retrieval"]
    assert record["note"] == "300-pool: pools of 300 test images"
    assert record["chance"] == pytest.approx(1 / 300)
    assert record["value"] > found["embedding"]["top1"]["value"]


def test_recall_is_a_mean_over_categories_of_all_folds():
    first = scenes()
    second = replace(scenes(noise=2.0), fold="g")
    rows, found = scored([first, second])
    credit, names = [], []
    for p in (first, second):
        one, _ = scored([p])
        credit += [one["top5"][i] for i in p.items.ids]
        names += list(p.truth.attributes["category"])
    means = {f"category {c}": np.mean([v for v, n in zip(credit, names, strict=True) if n == c]) for c in "xy"}
    assert rows["category_recall"] == pytest.approx(means)
    assert found["category_recall"]["value"] == pytest.approx(np.mean(list(means.values())))
    without = replace(first, truth=replace(first.truth, attributes={"background": np.arange(12)}))
    assert len(scored([without])[0]["category_recall"]) == 12
    without = replace(first, truth=replace(first.truth, attributes={"category": np.zeros((12, 2))}))
    assert scored([without])[1]["category_recall"]["reason"] == "not computed (no categories)"


def test_captions_are_retrieved_by_the_models_own_vectors():
    given = scenes()
    source = Texts(given.truth.embeddings["clip"], given.truth.captions)
    rows, found = scored([given], source)
    texts = [(i, text) for i, own in enumerate(given.truth.captions) for text in own]
    expected = []
    for i, vector in enumerate(given.predictions.embeddings["clip"]):
        score = {t: vector @ v / np.linalg.norm(vector) / np.linalg.norm(v) for t, v in source.vectors.items()}
        best = max(score[t] for t in given.truth.captions[i])
        expected.append(1 + sum(score[t] > best for j, t in texts if j != i))
    assert list(rows["caption_rank_median"].values()) == expected
    assert found["caption_top1"]["value"] == pytest.approx(np.mean(np.array(expected) == 1))
    assert found["caption_top1"]["chance"] == pytest.approx(1 / 12)  # 24 captions; 1, 2 or 3 own: their mean
    assert scored([given])[1]["caption_top1"]["reason"] == "not computed (no text model for the space clip)"
    no_texts = replace(given, truth=replace(given.truth, captions=None))
    assert scored([no_texts], source)[1]["caption_top1"]["reason"] == "not computed (no reference captions)"


def test_predicted_captions_are_one_corpus_over_folds():
    first, second = scenes(), replace(scenes(), fold="g")
    short = replace(second.predictions, captions=["a dog"] * 12)
    _, found = scored([first, replace(second, predictions=short)])
    true = [*first.truth.captions, *second.truth.captions]
    said = [*first.predictions.captions, *short.captions]
    for name in ("bleu1", "rouge_l", "cider"):
        assert found[name]["value"] == pytest.approx(METRICS[name].function(true, said).mean())
        assert found[name]["n"] == 24
    assert found["bleu4"]["value"] == 0
    assert (found["meteor"]["value"], found["meteor"]["reason"]) == (None, "not computed (Java)")
    assert found["meteor"]["undefined"]
    assert "undefined" not in found["caption_top1"]  # for want of a model: that row is incomplete


def test_what_is_not_predicted_is_said_apart_from_what_cannot_be_computed():
    given = scenes()
    silent = replace(given, predictions=replace(given.predictions, captions=None))
    found = scored([given, silent])[1]
    for name in ("bleu1", "bleu4", "rouge_l", "cider"):
        assert found[name]["undefined"]
        assert (found[name]["value"], found[name]["reason"]) == (None, "not predicted (captions)")
    true = given.truth.embeddings["clip"]
    scores_only = part(true, None, class_scores=np.eye(12), class_ids=np.array([f"s{i}" for i in range(12)]))
    words_found = scoring.score([scores_only], {"words": words("v")}, METRICS)[1]["words"]
    missing = {name: record["reason"] for name, record in words_found.items() if record["value"] is None}
    vector = ("pairwise_2v2", "cosine", "cosine_centred", "r2", "l1", "pearson_dim", "collapse")
    assert missing == dict.fromkeys(vector, "not predicted (vectors)")


# --- galleries -------------------------------------------------------------------------------------------------------


def test_a_training_stimulus_in_the_test_gallery_is_an_error():
    assert scored([scenes(trained=np.array(["t0", "t1"]))])[1]["top1"]["value"] is not None
    with pytest.raises(BenchError, match=r"fold f: 2 stimuli of the test gallery are training stimuli.*'s10'"):
        scored([scenes(trained=np.array(["s3", "t0", "s10"]))])


def test_the_published_gallery_holds_all_stimuli_and_is_told_apart():
    given = scenes()
    assert scored([given])[1]["top1[published-all]"]["reason"] == "not computed (no gallery of all stimuli)"
    rng = np.random.default_rng(10)
    more = rng.standard_normal((30, 6)).astype(np.float32)
    true = given.truth.embeddings["clip"]
    order = rng.permutation(42)
    ids = np.array([*given.truth.ids, *(f"t{i}" for i in range(30))])[order]
    everything = Stimuli(ids, embeddings={"clip": np.concatenate([true, more])[order]})
    rows, found = scored([replace(given, gallery=everything, trained=ids[np.char.startswith(ids, "t")])])
    predicted = given.predictions.embeddings["clip"]
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (predicted, np.concatenate([true, more]))]
    score = unit[0] @ unit[1].T
    ranks = 1 + (score > np.diag(score)[:, None]).sum(1)
    assert list(rows["rank_median[published-all]"].values()) == ranks.tolist()
    record = found["top1[published-all]"]
    assert (record["protocol"], record["chance"]) == ("published-all", None)
    assert "never ranked" in record["note"]
    assert found["top5[published-all]"]["value"] <= found["top5"]["value"]
    assert "[" not in ALL.ranked


def test_rank_accuracy_among_all_words_counts_those_of_the_training_side():
    rng = np.random.default_rng(11)
    vectors = rng.standard_normal((30, 6)).astype(np.float32)
    near = vectors[:10] + rng.standard_normal((10, 6)).astype(np.float32)
    given = replace(part(vectors[:10], near), trained=np.array([f"s{i}" for i in range(10, 30)]))
    track = words("v", "rank_accuracy", everything=True)
    assert track.metrics == (*words("v").metrics, "rank_accuracy_all")
    order = rng.permutation(30)
    everything = Stimuli(np.array([f"s{i}" for i in order]), embeddings={"v": vectors[order]})
    _, found = scoring.score([replace(given, gallery=everything)], {"words": track}, METRICS)
    r = np.corrcoef(near, vectors)[:10, 10:]
    for name, candidates in (("rank_accuracy", range(10)), ("rank_accuracy_all", range(30))):
        above = [sum(r[i, j] > r[i, i] for j in candidates) / (len(candidates) - 1) for i in range(10)]
        assert found["words"][name]["value"] == pytest.approx(1 - np.mean(above))
    assert (found["words"]["rank_accuracy"]["chance"], found["words"]["rank_accuracy_all"]["chance"]) == (0.5, None)


def test_pictures_of_another_size_are_compared_as_pil_resizes_them():
    """bench-1 from end to end: PIL's bicubic resize to the stimuli's size in 8 bits, then the naive metrics."""
    rng = np.random.default_rng(12)
    coarse = rng.integers(0, 256, (4, 7, 7, 3), dtype=np.uint8)

    def resized(pictures, size):
        return np.stack([np.asarray(Image.fromarray(x).resize(size, Image.Resampling.BICUBIC)) for x in pictures])

    true = resized(coarse, (40, 32))
    for size in ((90, 71), (25, 19)):
        predicted = (0.7 * resized(coarse, size) + 0.3 * rng.integers(0, 256, (4, *size[::-1], 3))).astype(np.uint8)
        given = part(np.zeros((4, 2), np.float32), images=true)
        given = replace(given, predictions=Predictions(images=predicted))
        _, found = scoring.score([given], {"reconstruction": RECONSTRUCTION}, METRICS)
        near = resized(predicted, (40, 32))
        expected = {
            "pixcorr": np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(true, near, strict=True)]),
            "ssim": np.mean([grey_similarity(a, b) for a, b in zip(true, near, strict=True)]),
            "l1": np.mean(np.abs(true / 255 - near / 255)),
        }
        values = {name: found["reconstruction"][name]["value"] for name in expected}
        assert values == pytest.approx(expected, abs=5e-4)  # the two bicubic kernels round differently by one of 255


def grey_similarity(a, b):
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
    return structural_similarity(rgb2gray(a / 255), rgb2gray(b / 255), **options)
