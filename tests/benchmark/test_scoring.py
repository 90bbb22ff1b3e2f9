import json

import numpy as np
import pyarrow.parquet
import pytest

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
    small = scoring.Part("f", given.items, given.truth, Predictions(images=images[:, :8]))
    with pytest.raises(BenchError, match="images have shape"):
        scoring.score([small], {"reconstruction": RECONSTRUCTION}, METRICS)


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
