import pytest

from benchmark.data.word_folds import leave_words_out
from benchmark.errors import BenchError


@pytest.mark.parametrize(("n", "n_folds"), [(180, 18), (11, 3), (2, 2)])
def test_every_word_is_held_out_once(n, n_folds):
    ids = [f"w{i:03d}" for i in range(n)]
    folds = leave_words_out(ids, n_folds)
    assert [fold["name"] for fold in folds] == [f"words{k:02d}" for k in range(1, n_folds + 1)]
    assert sorted(word for fold in folds for word in fold["test"]) == ids
    for fold in folds:
        assert sorted([*fold["train"], *fold["test"]]) == ids
        assert fold["train"] == sorted(fold["train"])
        assert len(fold["test"]) in (n // n_folds, -(-n // n_folds))


def test_the_seed_fixes_the_folds():
    ids = [f"w{i:03d}" for i in range(180)]
    assert leave_words_out(ids) == leave_words_out(ids, 18, 0)
    assert leave_words_out(ids) != leave_words_out(ids, seed=1)
    # known draw: split files hold these lists
    assert leave_words_out(ids)[0]["test"] != ids[:10]


@pytest.mark.parametrize(("ids", "n_folds"), [(["a", "b", "a"], 2), (["a", "b"], 3), (["a", "b"], 1), ([], 2)])
def test_refused(ids, n_folds):
    with pytest.raises(BenchError, match="expected"):
        leave_words_out(ids, n_folds)
