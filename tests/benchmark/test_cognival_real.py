"""Fifteen real people reading 180 words: import, leave-words-out, every method."""

import json
import statistics
import subprocess
import sys

import numpy as np
import pytest

from benchmark.data import folder

CONTROLS = {"chance", "mean", "shuffled", "noise-input", "nearest-train", "oracle"}


@pytest.fixture
def real(bench, test_data, tmp_path):
    stimuli = test_data / "pereira2018_stimuli"
    code, out, err = bench(
        "data", "import", "cognival", test_data / "pereira2018_cognival",
        "--vectors", stimuli / "vectors_180concepts.GV42B300.txt",
        "--words", stimuli / "stimuli_180concepts.txt", "--out", "words15",
    )  # fmt: skip
    assert code == 0, err
    assert "15 subjects" in out
    return tmp_path / "words15"


def test_real_files_become_a_sound_folder(bench, real, test_data, tmp_path):
    assert bench("data", "check", real)[0] == 0
    found = folder.load(real, tmp_path / "cache")
    stimuli = test_data / "pereira2018_stimuli"
    assert found.stimuli.words.tolist() == (stimuli / "stimuli_180concepts.txt").read_text().split()
    vectors = np.loadtxt(stimuli / "vectors_180concepts.GV42B300.txt", dtype=np.float32)
    np.testing.assert_array_equal(found.stimuli.embeddings["glove"], vectors)
    with np.load(test_data / "pereira2018_cognival/pereira_1000voxels.npz") as archive:
        np.testing.assert_array_equal(found.load_subject("M17").responses, archive["M17"])
    split = folder.read_splits(real)["leave-words-out"]
    assert [len(f.test) for f in split.for_subject("M01")] == [10] * 18


def test_text_files_of_100_voxels(bench, test_data, tmp_path):
    source = test_data / "pereira2018_cognival"
    stimuli = test_data / "pereira2018_stimuli"
    code, out, err = bench(
        "data", "import", "cognival", *sorted(source.glob("*.txt"))[1:],
        "--vectors", stimuli / "vectors_180concepts.GV42B300.txt",
        "--words", stimuli / "stimuli_180concepts.txt", "--out", "words3",
    )  # fmt: skip
    assert code == 0, err
    assert "3 subjects (M01, M02, M15), 180 stimuli, 100 voxels" in out
    first = (source / "scaled_100_pereira_targets_M02.txt").read_text().splitlines()[7].split()
    data = folder.load(tmp_path / "words3", tmp_path / "cache")
    subject = data.load_subject("M02")
    assert data.stimuli.ids[subject.stimulus[6]] == first[0]
    np.testing.assert_array_equal(subject.responses[6], np.array(first[1:], np.float32))


def run(folder_, *arguments):
    command = [sys.executable, "-m", "benchmark.cli", "run", "--data", folder_, "--json", "out.json", *arguments]
    done = subprocess.run(list(map(str, command)), cwd=folder_.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads((folder_.parent / "out.json").read_text())


@pytest.mark.slow
def test_the_whole_job_on_real_people(real):
    """Every method of the words track; ridge decodes, and permuted pairs do not."""
    values = {}
    for o in run(real, "--method", "all"):
        assert o["status"] in ("ok", "skipped"), o["reason"]
        if o["status"] == "ok":
            values.setdefault(o["method"], []).append(o["metrics"]["rank_accuracy"]["value"])
    mean = {method: statistics.fmean(found) for method, found in values.items()}
    print({method: round(value, 3) for method, value in sorted(mean.items(), key=lambda item: -item[1])})
    assert {len(found) for found in values.values()} == {15}
    assert mean["oracle"] == 1
    assert mean["ridge"] >= 0.60
    assert set(mean) - CONTROLS >= {"ridge", "cosine-mlp", "brain2word-base"}
    for control in ("chance", "mean", "noise-input"):
        assert abs(mean[control] - 0.5) < 0.03, control
    board = (real.parent / "runs/leaderboards/words15/words.md").read_text()
    lines = [line for line in board.splitlines() if line.endswith("|")]
    assert sum("| transductive scaling" in line and "incomplete" not in line for line in lines) == len(mean)
    assert sum("| 15 | 2700 |" in line for line in lines) == len(mean)  # runs and items
    assert "18 folds, each holding out 10 of 180 words" in board


@pytest.mark.slow
def test_permuted_pairs_are_at_chance(real):
    permuted = run(real, "--method", "shuffled", "--seeds", 5)
    assert len(permuted) == 75
    mean = statistics.fmean(o["metrics"]["rank_accuracy"]["value"] for o in permuted)
    print(f"shuffled, mean of 5 permutations: {mean:.4f}")
    assert 0.47 <= mean <= 0.53
