"""10,000 runs: the bars are 10 seconds and 1 GB for boards of them, 2 seconds for their list."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmark import card, records
from benchmark.store import Run

METHODS, DATASETS, SUBJECTS, SEEDS, ITEMS = 25, 10, 8, 5, 100


def fill(root: Path, methods=METHODS, datasets=DATASETS, subjects=SUBJECTS, seeds=SEEDS, items=ITEMS) -> int:
    """Write run directories as finished runs leave them, without predictions; returns how many."""
    rng = np.random.default_rng(0)
    count = 0
    for d in range(datasets):
        hard = rng.standard_normal(items) * 0.1
        for m in range(methods):
            name = "ridge" if m == 0 else f"method-{m:03d}"
            for s in range(subjects):
                for seed in range(seeds):
                    values = np.clip(0.5 + 0.012 * m + hard + 0.1 * rng.standard_normal((3, items)), 0, 1)
                    _run(root, f"data-{d}", name, f"S{s}", seed, values, f"{count:016x}")
                    count += 1
    return count


def _run(root: Path, dataset: str, method: str, subject: str, seed: int, values: np.ndarray, name: str) -> None:
    folder = root / "speed" / dataset / method / name
    folder.mkdir(parents=True)
    metrics = ("two_way", "top1", "image_retrieval", "cosine", "pixcorr", "ssim", "l1", "rank_accuracy")
    score = {"n": values.shape[1], "chance": 0.5, "higher_is_better": True, "version": 1, "protocol": "bench-1"}
    score |= {"range": [0, 1], "note": ""}
    stimuli = [f"stimulus{i:04d}" for i in range(values.shape[1])]
    kept = {"two_way": values[0], "image_retrieval": (values[1] > 0.5).astype(float)}
    means = dict.fromkeys(metrics, values[2]) | kept
    files = {
        "spec": {
            "suite": "speed", "dataset": dataset, "subject": subject, "split": "s-v1", "method": method,
            "preset": "default", "params": {"alpha": 1.0, "epochs": 20}, "profile": "mini", "seed": seed,
        },
        "status": {"status": "ok", "reason": "", "predicted": True},
        "provenance": {
            "run_id": name, "date": "2026-01-02T03:04:05Z", "commit": "c" * 40, "dirty": False, "seed": seed,
            "versions": {f"package-{i}": "1.2.3" for i in range(15)}, "tracks": ["embedding"], "control": False,
            "hardware": {"cores": 2, "memory_gb": 25.3, "processor": "one", "system": "Linux"}, "threads": 1,
            "device": "cpu", "source": "f" * 64, "suite_version": "1.0", "dataset_version": "1.0", "tags": [],
            "dataset_fingerprint": "a" * 64, "split_checksum": "b" * 64, "split_unit": "stimulus", "weights": {},
            "folds": {"n": 1, "test": values.shape[1], "train": 1000}, "preparation": [{"n_voxels": 5000}],
            "columns": {"embedding": {"metrics": list(metrics), "ranked": "two_way"}}, "peak_mb": 800.5,
            "seconds": {"train": 1.0, "predict": 1.0, "score": 1.0, "overhead": 0.5, "total": 3.5}, "cpu_seconds": 3.0,
        },
        "scores": {
            "score_id": "0" * 16,
            "tracks": {"embedding": {m: score | {"value": round(float(v.mean()), 6)} for m, v in means.items()}},
            "items": {"embedding": {m: dict(zip(stimuli, v.round(6).tolist(), strict=True)) for m, v in kept.items()}},
        },
    }  # fmt: skip
    for file, value in files.items():
        (folder / f"{file}.json").write_text(json.dumps(value, indent=1))
    item = records.record(Run(folder))  # as records.keep and card.write, without waiting for the disk 20,000 times
    (folder / records.RECORD).write_text(json.dumps(item, sort_keys=True))
    (folder / card.CARD).write_text(json.dumps(card.of(item), sort_keys=True, indent=1))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    assert fill(root) == 10_000
    return root


def bench(*arguments) -> tuple[float, float]:
    """Run the command in a process of its own; returns its CPU seconds and the largest resident set so far, in MB."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "benchmark.cli", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, after.ru_maxrss / 1e3


def test_list_of_10000_runs(benchmark, store):
    cpu, peak = benchmark.pedantic(lambda: bench("list", "runs", "--store", store), rounds=3)
    benchmark.extra_info |= {"cpu_seconds": cpu, "peak_mb": peak}
    assert peak < 1000


def test_boards_of_10000_runs(benchmark, store):
    cpu, peak = benchmark.pedantic(lambda: bench("leaderboard", "--store", store), rounds=1)
    benchmark.extra_info |= {"cpu_seconds": cpu, "peak_mb": peak}
    assert peak < 1000
    assert len(list((store / "leaderboards/speed").glob("*.md"))) == 1
