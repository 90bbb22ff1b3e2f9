import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.consistency import fault


def scores_of(values, value, **more):
    items = {"words": {"top5": {f"i{k}": v for k, v in enumerate(values)}}}
    n = sum(len(v) if isinstance(v, list) else 1 for v in values)
    return {"words": {"top5": {"value": value, "n": n} | more}}, items


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=4), min_size=1, max_size=30))
def test_mean_and_median_of_all_rows_agree_although_rows_are_rounded(rows):
    flat = np.concatenate(rows)
    kept = [[round(v, 6) for v in row] if len(row) > 1 else round(row[0], 6) for row in rows]
    assert fault(*scores_of(kept, float(flat.mean()))) == ""
    assert fault(*scores_of(kept, float(np.median(flat)))) == ""
    off = max(flat.mean(), np.median(flat)) + 0.01
    assert "its items give" in fault(*scores_of(kept, float(off)))


@pytest.mark.parametrize("value", ["0.5", True, float("nan"), float("inf")])
def test_what_is_no_finite_number_is_a_fault_in_scores_and_items(value):
    assert "expected a finite number" in fault(*scores_of([0.5], value))
    assert "expected a finite number" in fault(*scores_of([0.5, value], 0.5))
    assert "expected a finite number" in fault(*scores_of([[0.5, value]], 0.5))


def test_counts_and_gaps_are_faults_and_metrics_without_items_are_not():
    scores, items = scores_of([0.0, 1.0], 0.5)
    more = copy.deepcopy(scores)
    more["words"]["mrr"] = {"value": None, "n": 0}
    assert fault(more, items) == fault(scores, {}) == fault({}, {}) == ""
    assert fault(*scores_of([0.0, 1.0], 0.5, n=3)) == "words top5 is of 3 items, and has 2"
    assert fault({}, items) == "words top5 is of 0 items, and has 2"
    assert fault(*scores_of([0.0, 1.0], None)) == "words top5 is None, its items give 0.5"
