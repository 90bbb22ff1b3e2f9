"""What the main job must show on the built-in data, and a real recording its known baseline."""

import json
from math import sqrt

import pytest

CONTROLS = {"chance", "mean", "shuffled", "noise-input", "nearest-train", "oracle"}
RANKED = {"embedding": "two_way", "reconstruction": "judge_two_way", "words": "top5"}


@pytest.fixture(scope="module")
def job_folder(tmp_path_factory):
    """Run the main job once."""
    import subprocess
    import sys

    folder = tmp_path_factory.mktemp("main-job")
    command = [sys.executable, "-m", "benchmark.cli", "run", "--method", "all", "--json", "out.json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def main_job(job_folder):
    """Return {track: {method: its records of the ranked metric}}."""
    objects = json.loads((job_folder / "out.json").read_text())
    values = {}
    for o in objects:
        values.setdefault(o["track"], {}).setdefault(o["method"], []).append(o["metrics"][RANKED[o["track"]]])
    return values


def mean(records):
    return sum(r["value"] for r in records) / len(records)


@pytest.mark.slow
def test_methods_beat_mean_and_shuffled_and_the_oracle_is_on_top(main_job):
    for track, found in main_job.items():
        methods = set(found) - CONTROLS
        assert methods
        assert mean(found["oracle"]) == max(mean(r) for r in found.values()), track
        for method in methods:
            for control in ("mean", "shuffled"):
                assert mean(found[method]) > mean(found[control]), (track, method, control)


@pytest.mark.slow
@pytest.mark.parametrize("control", ["chance", "shuffled", "noise-input"])
def test_null_controls_lie_within_the_interval_of_chance(main_job, control):
    """95 % under independent predictions: a share of n items, or a mean of n uniform two-way scores."""
    for track, found in main_job.items():
        records = found[control]
        n, chance = sum(r["n"] for r in records), records[0]["chance"]
        sd = sqrt(1 / 12) if RANKED[track].endswith("two_way") else sqrt(chance * (1 - chance))
        assert abs(mean(records) - chance) < 1.96 * sd / sqrt(n), (track, control, mean(records))


@pytest.mark.slow
def test_ridge_is_neither_hopeless_nor_saturated(main_job):
    embedding, words = mean(main_job["embedding"]["ridge"]), mean(main_job["words"]["ridge"])
    assert 0.75 <= embedding <= 0.95
    assert 0.08 <= words <= 0.2


def test_digits69_has_its_known_baseline(bench, test_data, tmp_path):
    code, _, err = bench(
        "run", "--suite", "digits69", "--data", test_data, "--method", "ridge,shuffled,mean", "--seeds", 5,
        "--json", "out.json",
    )  # fmt: skip
    assert code == 0, err
    found = {}
    for o in json.loads((tmp_path / "out.json").read_text()):
        found.setdefault(o["method"], []).append({k: m["value"] for k, m in o["metrics"].items()})
    assert found["ridge"][0]["two_way"] >= 0.90
    assert found["ridge"][0]["pixcorr"] >= 0.70
    shuffled = [f["two_way"] for f in found["shuffled"]]
    assert all(0.38 <= value <= 0.66 for value in shuffled)
    assert 0.44 <= sum(shuffled) / 5 <= 0.56
    assert found["mean"][0]["pixcorr"] == pytest.approx(0.655, abs=0.005)


def test_miyawaki2008_runs_on_both_subjects(bench, test_data, tmp_path):
    code, _, err = bench(
        "run", "--suite", "miyawaki2008", "--data", test_data, "--method", "ridge", "--json", "out.json"
    )
    assert code == 0, err
    found = {o["subject"]: o["metrics"]["two_way"]["value"] for o in json.loads((tmp_path / "out.json").read_text())}
    assert found["S1"] > 0.9
    assert found["S2"] > 0.9
    assert "seen stimuli" in (tmp_path / "runs/leaderboards/miyawaki2008/reconstruction.md").read_text()


@pytest.mark.slow
def test_images_are_retrieved_ten_times_better_than_by_chance(job_folder):
    objects = json.loads((job_folder / "out.json").read_text())
    top1 = {o["method"]: o["metrics"]["top1"] for o in objects if o["track"] == "embedding"}
    chance = top1["ridge"]["chance"]
    learnt = max(v["value"] for k, v in top1.items() if k not in CONTROLS | {"ridge"})
    assert min(top1["ridge"]["value"], learnt) >= 10 * chance


@pytest.mark.slow
def test_the_ladders_of_the_main_job(job_folder):
    """True features are recognised, predicted ones better than a derangement; intervals over 120 items."""
    found = {}
    for path in (job_folder / "runs" / "mini" / "synthetic-scenes").glob("*/*/scores.json"):
        scores = json.loads(path.read_text())
        if "ladder" in scores:
            found[path.parent.parent.name] = scores
    assert set(found) == {"brain-diffuser", "brain2clip", "mindeye", "mindeye-bagging"}
    for method, scores in found.items():
        own, rungs = scores["tracks"]["reconstruction"], scores["ladder"]["rungs"]
        assert rungs["true features"]["judge_two_way"]["value"] >= 0.95, method
        assert rungs["true features"]["clip_two_way"]["value"] >= 0.95, method
        assert abs(rungs["derangement"]["judge_two_way"]["value"] - 0.5) < 0.06, method
        half = 1.98 * sqrt(1 / 12 / 120)
        assert own["judge_two_way"]["value"] - half > rungs["derangement"]["judge_two_way"]["value"], method
        assert scores["ladder"]["stage"] == "regression", method
    l1 = found["mindeye-bagging"]["ladder"]["l1"]
    assert max(v for k, v in l1.items() if "@" not in k) < l1["latents 1@mean"]  # better than the mean latent
