"""The common layout of parcels' voxels against naive loops, by hand and against the published table."""

import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.data import splits
from benchmark.data.pereira_layout import Layout, layout, project, projection, template
from tests.helpers.naive_padding import naive_row, naive_template


def draw(rng, n_rois, n_slices):
    """Draw the parcels' lists, in no order, and the voxels' slices; parcels may be empty."""
    n = int(rng.integers(n_rois, 9 * n_rois))
    owner = rng.integers(-1, n_rois, n)
    owner[0] = 0
    lists = [rng.permutation(np.flatnonzero(owner == k)) for k in range(n_rois)]
    return lists, rng.integers(3, 3 + n_slices, n)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000), st.integers(1, 6), st.integers(1, 5), st.integers(1, 4))
def test_padding_equals_a_naive_loop(seed, n_rois, n_slices, n_recordings):
    rng = np.random.default_rng(seed)
    drawn = [draw(rng, n_rois, n_slices) for _ in range(n_recordings)]
    layouts = [layout(lists, z) for lists, z in drawn]
    goal = template(layouts, n_rois)
    naive = naive_template([lists for lists, _ in drawn], [z for _, z in drawn], n_rois)
    assert goal.sizes.tolist() == [sum(columns.values()) for columns in naive]
    extra = draw(rng, n_rois, n_slices + 2)  # not part of the template: what has no column is left out
    for (lists, z), found in zip([*drawn, extra], [*layouts, layout(*extra)], strict=True):
        data = rng.standard_normal((3, len(z)))
        got = project(np.asfortranarray(data), found, projection(found, goal))
        assert got.dtype == np.float32
        assert got.flags.c_contiguous
        expected = [naive_row(scan, [part.tolist() for part in lists], z.tolist(), naive) for scan in data]
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)


def test_no_voxel_is_lost_and_none_is_there_twice():
    rng = np.random.default_rng(3)
    drawn = [draw(rng, 5, 4) for _ in range(4)]
    layouts = [layout(*d) for d in drawn]
    goal = template(layouts, 5)
    for found in layouts:
        row = projection(found, goal).row
        assert sorted(row[row < len(found.column)]) == list(range(len(found.column)))
        assert len(row) == goal.sizes.sum()


def test_padding_by_hand():
    """Parcel 0 has slices of 2, 3 and 1 columns; the second recording has 1, 0 and 2 voxels there, and no parcel 1."""
    first = layout([np.arange(6), np.array([6, 7])], np.array([4, 4, 5, 5, 5, 6, 4, 4]))
    second = layout([np.array([2, 0, 1]), np.array([], int)], np.array([6, 6, 4]))
    goal = template([first, second], 2)
    assert goal.sizes.tolist() == [6, 2]
    got = project(np.array([[10.0, 20.0, 30.0]]), second, projection(second, goal))
    # slice 4: voxel 2 and its mean; slice 5 is absent: the mean of slice 4, in two columns only, because slice 6 has
    # one voxel more than columns. Parcel 1 is absent: the mean of all parcels' voxels.
    assert got.tolist() == [[30, 30, 30, 30, 10, 20, 20, 20]]


def test_a_first_slice_that_is_absent_holds_the_parcels_mean():
    first = layout([np.arange(4)], np.array([1, 1, 2, 2]))
    second = layout([np.arange(2)], np.array([2, 2]))
    goal = template([first], 1)
    assert project(np.array([[1.0, 2.0]]), second, projection(second, goal)).tolist() == [[1.5, 1.5, 1.0, 2.0]]


def test_the_published_table_gives_the_published_sizes(test_data):
    """Largest participants as the published table has them, and a smaller one of one voxel per slice."""
    folder = test_data / "pereira2018_stimuli"
    sizes = np.load(folder / "brain2word_sizes.npy")
    with np.load(folder / "brain2word_last_dim.npz") as file:
        tables = [file[f"arr_{k}"] for k in range(333)]
    roi = np.repeat(np.arange(333), [len(t[0]) for t in tables])
    small = Layout(np.arange(len(roi)), roi, np.concatenate([t[0] for t in tables]))
    count = np.concatenate([t[1] for t in tables])
    large = Layout(np.arange(count.sum()), np.repeat(roi, count), np.repeat(small.z, count))
    goal = template([small, large], 333)
    assert goal.sizes.tolist() == sizes.tolist()
    assert goal.sizes.sum() == 65_730
    assert json.loads((splits.resources.files("benchmark.data") / "parcels.json").read_text())["input_sizes"] == list(
        sizes
    )
    for k, table in enumerate(tables):
        mine = goal.roi == k
        np.testing.assert_array_equal([goal.z[mine], goal.count[mine]], table)
    assert projection(large, goal).row.tolist() == list(range(65_730))
    out = project(np.arange(2.0 * len(roi)).reshape(2, -1), small, projection(small, goal))
    np.testing.assert_array_equal(out, np.repeat(np.arange(2.0 * len(roi)).reshape(2, -1), count, axis=1))
