"""Splits of NSD from its own design: every count and order against an independent table of what was shown."""

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from benchmark.data.nsd_design import SESSIONS, SPLITS, distinct, read_design, trial_table
from benchmark.data.splits import derived
from benchmark.errors import BenchError
from tests.helpers.make_nsd import make_nsd

# train and test pictures, train and test trials, at 37 and at 40 sessions
WHOLE = {37: (8859, 982, 24980, 2770), 40: (9000, 1000, 27000, 3000)}
COUNTS = {subject: WHOLE for subject in ("subj01", "subj02", "subj05", "subj07")}
COUNTS |= {subject: dict.fromkeys((37, 40), (8481, 930, 21629, 2371)) for subject in ("subj03", "subj06")}
COUNTS |= {subject: dict.fromkeys((37, 40), (8302, 907, 20312, 2188)) for subject in ("subj04", "subj08")}


@pytest.fixture(scope="module")
def design(test_data):
    return read_design(test_data / "nsd_design" / "nsd_expdesign_equiv.mat")


@pytest.fixture(scope="module")
def shown(test_data):
    """What was shown on each trial, from another table than the design."""
    return np.load(test_data / "nsd_design" / "nsd_design.npz")


@pytest.mark.parametrize("name", SPLITS)
def test_counts_and_order_of_every_subject(design, shown, name):
    sessions, average = SPLITS[name]
    content = design.split(name)
    split = derived(content)
    assert list(split.average) == average
    assert split.sessions == tuple(f"ses{n:02d}" for n in range(1, sessions + 1))
    assert list(split.folds) == list(COUNTS)[:2] + sorted(COUNTS)[2:] == sorted(COUNTS)
    for subject, counts in COUNTS.items():
        (fold,) = split.for_subject(subject)
        pictures = shown[f"nsd_id_{subject}"][: 750 * sessions]
        train, test = (np.array([int(i[3:]) for i in side]) for side in (fold.train, fold.test))
        trials = [int(np.isin(pictures, side).sum()) for side in (train, test)]
        assert (len(train), len(test), *trials) == counts[sessions], subject
        assert set(test) == set(shown["shared1000"]) & set(pictures)
        first = {picture: trial for trial, picture in reversed(list(enumerate(pictures.tolist())))}
        for side in (train, test):
            assert np.diff([first[picture] for picture in side.tolist()]).min() > 0
    if name == "nsd-982":
        # pinned: a score belongs to the split of this checksum
        assert split.checksum == "0a1fb72024f9ef5ecc3140c893ddec012dbd0afc071594ae140e777e0b1d2ee2"
        (fold,) = split.for_subject("subj01")
        assert {int(i[3:]) for i in fold.test} == set(shown["test982"])


def test_every_trial_has_its_picture_session_and_run(design, shown):
    for subject, sessions in SESSIONS.items():
        table = trial_table(design, subject, sessions)
        assert [int(i[3:]) for i in table["stimulus_id"]] == shown[f"nsd_id_{subject}"].tolist()
        assert [int(s[3:]) for s in table["session"]] == shown[f"session_{subject}"].tolist()
        # the released runs count those at rest; the blocks of trials are the same
        pairs = np.stack([shown[f"session_{subject}"], shown[f"run_{subject}"]], axis=1)
        starts = np.flatnonzero((np.diff(pairs, axis=0) != 0).any(axis=1))
        assert np.flatnonzero(table["run"][1:] != table["run"][:-1]).tolist() == starts.tolist()


def test_fewer_sessions_than_asked_for_are_those_completed(design):
    picture, shared = design.trials("subj04", 40)
    assert len(picture) == len(shared) == 30 * 750


def test_an_unknown_split_is_told_the_known_ones(design):
    with pytest.raises(BenchError, match=r"unknown split 'nsd-981'.*nsd-982"):
        design.split("nsd-981")


def test_distinct_keeps_the_order_of_first_appearance():
    assert distinct(np.array([5, 3, 5, 9, 3, 1])).tolist() == [5, 3, 9, 1]
    assert distinct(np.array([], int)).tolist() == []


@pytest.mark.parametrize(
    ("variable", "place", "value", "sentence"),
    [
        ("masterordering", (0, 7), 10001, "masterordering holds numbers outside 1 to 10000"),
        ("masterordering", (0, 7), 0, "masterordering holds numbers outside 1 to 10000"),
        ("subjectim", (2, 5), 1, "the first 1000 columns of subjectim are not sharedix"),
        ("subjectim", (0, 1003), 73001, "subjectim of subj01 holds numbers outside 1 to 73000"),
        ("sharedix", (0, 0), np.nan, "sharedix holds NaN or infinity"),
    ],
)
def test_a_design_that_contradicts_itself_is_refused(tmp_path, variable, place, value, sentence):
    path = make_nsd(tmp_path / "nsd", n_sessions=0, captions=None) / "nsddata/experiments/nsd/nsd_expdesign.mat"
    content = {k: v for k, v in loadmat(path).items() if not k.startswith("_")}
    content[variable][place] = value
    savemat(path, content)
    with pytest.raises(BenchError, match=sentence):
        read_design(path)


def test_a_missing_or_damaged_design_is_named(tmp_path):
    with pytest.raises(BenchError, match=r"design.mat: no such file"):
        read_design(tmp_path / "design.mat")
    (tmp_path / "design.mat").write_bytes(b"nothing" * 40)
    with pytest.raises(BenchError, match=r"design.mat: cannot be read as MATLAB 5"):
        read_design(tmp_path / "design.mat")
