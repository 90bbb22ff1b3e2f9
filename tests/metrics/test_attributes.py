import numpy as np
import pytest

from metrics.vectors import attribute_accuracy


def naive(true, read):
    shares = []
    for a, b in zip(true, read, strict=True):
        pairs = [(x, y) for x, y in zip(a, b, strict=True) if x != -1 or y != -1]
        shares.append(sum(x == y for x, y in pairs) / len(pairs) if pairs else 1.0)
    return shares


def test_equals_a_loop_and_leaves_out_what_is_nowhere():
    true, read = np.random.default_rng(0).integers(-1, 3, (2, 50, 7))
    true[0] = read[0] = -1
    np.testing.assert_allclose(attribute_accuracy(true, read), naive(true, read))


def test_missing_and_made_up_objects_are_wrong_in_each_attribute():
    true = np.array([[4, 1, -1], [4, -1, -1]])
    read = np.array([[4, -1, -1], [4, 1, 2]])
    assert attribute_accuracy(true, read) == pytest.approx([1 / 2, 1 / 3])
