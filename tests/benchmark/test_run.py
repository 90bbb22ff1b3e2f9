"""``bench run`` from folder to leaderboard, in processes of its own."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from benchmark.data.locate import cache_dir
from benchmark.plan import Request, plan
from benchmark.registry import Registry
from benchmark.runner import Limits, Session, run_all
from benchmark.store import Store
from tests.helpers.make_folder import make_folder

BAD = Path(__file__).parents[1] / "helpers" / "bad_methods.py"


def planned(tiny, *methods, plugins=(), **more):
    request = Request(dataset="tiny", methods=methods, data=tiny, cache=cache_dir(), subjects=("S1",), **more)
    return plan(Registry(plugins), request)


def statuses(path):
    return {(o["method"], o["track"]): (o["status"], o["reason"]) for o in json.loads(path.read_text())}


def test_the_whole_path_and_its_resume(bench, tiny, tmp_path):
    arguments = ["run", "--dataset", "tiny", "--data", tiny, "--method", "ridge,mean,oracle", "--json", "out.json"]
    code, out, err = bench(*arguments)
    assert code == 0, err
    assert "leaderboards: runs/leaderboards/README.md" in out
    objects = json.loads((tmp_path / "out.json").read_text())
    assert {(o["method"], o["track"], o["subject"]) for o in objects} == {
        (m, t, s)
        for m in ("ridge", "mean", "oracle")
        for t in ("words", "embedding", "reconstruction")
        for s in ("S1", "S2")
    }
    by = {(o["method"], o["track"]): o["metrics"] for o in objects if o["subject"] == "S1"}
    assert by["oracle", "embedding"]["two_way"]["value"] == 1
    assert by["mean", "embedding"]["two_way"]["value"] == pytest.approx(0.5, abs=1e-12)
    assert by["oracle", "reconstruction"]["pixcorr"]["value"] == pytest.approx(1)
    board = (tmp_path / "runs/leaderboards/tiny/embedding.md").read_text()
    assert "| 1 | [ridge](cards/ridge.md#" in board
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("status.json")}
    code, out, _ = bench(*arguments)
    assert code == 0
    assert "6 runs, 6 kept from before, 0 failed" in out
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("status.json")}
    code, out, _ = bench(*arguments, "--force")
    assert "6 runs, 0 kept" in out


def test_a_run_directory_says_everything(bench, tiny, tmp_path):
    bench("run", "--dataset", "tiny", "--data", tiny, "--method", "ridge", "--subject", "S1")
    (folder,) = (p.parent for p in (tmp_path / "runs").rglob("status.json"))
    assert folder.parent == tmp_path / "runs/tiny/tiny/ridge"
    names = {"spec.json", "provenance.json", "status.json", "scores.parquet", "scores.json", "predictions", "log.txt"}
    assert names <= {p.name for p in folder.iterdir()}
    facts = json.loads((folder / "provenance.json").read_text())
    seconds = facts["seconds"]
    assert seconds["overhead"] == pytest.approx(
        seconds["total"] - seconds["features"] - seconds["train"] - seconds["predict"] - seconds["score"]
    )
    assert facts["preloaded"]
    assert facts["peak_mb"] > 20
    assert facts["preparation"][0]["n_voxels"] == 20
    for name in ("commit", "versions", "hardware", "date", "dataset_fingerprint", "split_checksum", "source"):
        assert name in facts


def test_every_way_to_go_wrong_has_its_row(bench, tiny, tmp_path):
    code, _, err = bench(
        "run", "--dataset", "tiny", "--data", tiny, "--subject", "S1", "--plugin", BAD, "--json", "out.json",
        "--method", "fine,raises,nan,wrong-shape,wrong-width,exits,segfaults,hungry,hungry-child,sleeps,mean",
        "--timeout", 8, "--memory-limit", 1,
    )  # fmt: skip
    assert code == 1, err
    found = {m: s for (m, t), s in statuses(tmp_path / "out.json").items() if t == "embedding"}
    assert found["fine"] == ("ok", "")
    assert found["mean"] == ("ok", "")
    assert found["raises"] == ("failed", "train: RuntimeError: the plugin's own message")
    assert found["nan"] == ("failed", "predict: embeddings[latent] holds NaN or infinity in 1 of 4 rows")
    assert found["wrong-shape"] == ("failed", "predict: embeddings[latent] has 3 rows, expected 4, one per test item")
    assert found["wrong-width"] == ("failed", "score: embeddings[latent] has shape (4, 4), expected (4, 5)")
    assert found["exits"] == ("failed", "train: the process ended early with exit code 0")
    assert found["segfaults"] == ("failed", "train: the process died of SIGSEGV")
    assert found["hungry"][0] == found["hungry-child"][0] == "oom"
    assert found["sleeps"] == ("timeout", "train: not finished after 8 s")
    board = (tmp_path / "runs/leaderboards/tiny/embedding.md").read_text()
    for method, (status, _) in found.items():
        assert f"| {method} | S1 | 0 | {status} |" in board or status == "ok"
    log = next((tmp_path / "runs/tiny/tiny/raises").glob("*/log.txt")).read_text()
    assert "Traceback" in log


def test_a_plugin_without_the_base_class_runs(bench, tiny, tmp_path):
    plugin = tmp_path / "plain.py"
    plugin.write_text(
        "from benchmark import Predictions\n"
        "class Plain:\n"
        "    name, tracks = 'plain', frozenset({'embedding'})\n"
        "    def train(self, train, *, seed, device, workdir): self.mean = train.target().mean(0)\n"
        "    def predict(self, fmri): return Predictions(embeddings={'latent': self.mean[None].repeat(len(fmri), 0)})\n"
    )
    code, _, err = bench("run", "--dataset", "tiny", "--data", tiny, "--plugin", plugin, "--method", "plain")
    assert code == 0, err


def test_what_changes_is_run_again_and_only_that(tiny, tmp_path, monkeypatch):
    plugin = tmp_path / "mine.py"
    text = BAD.read_text().replace("class Raises", "class _Raises")
    plugin.write_text(text)
    session = Session(Store(tmp_path / "runs"), Limits())
    items = planned(tiny, "fine", "mean", plugins=[plugin])
    first = run_all(items, session)
    assert [r.status["status"] for r in first] == ["ok", "ok"]

    plugin2 = tmp_path / "changed" / "mine.py"  # the same name, another text
    plugin2.parent.mkdir()
    plugin2.write_text(text + "# changed\n")
    changed = planned(tiny, "fine", "mean", plugins=[plugin2])
    assert changed[0].id != items[0].id
    assert changed[1].id == items[1].id

    assert planned(tiny, "mean", seeds=(1,))[0].id != items[1].id
    np.save(tiny / "latent.npy", np.load(tiny / "latent.npy") + 1)
    assert planned(tiny, "mean")[0].id != items[1].id


def test_a_changed_metric_scores_again_and_never_trains_again(tiny, tmp_path):
    import dataclasses

    session = Session(Store(tmp_path / "runs"), Limits())
    (item,) = planned(tiny, "mean")
    (run,) = run_all([item], session)
    provenance = (run.path / "provenance.json").stat().st_mtime_ns
    scores = json.loads((run.path / "scores.json").read_text())
    later = dataclasses.replace(
        item, score_id="later", job=dataclasses.replace(item.job, options={"score_id": "later"})
    )
    events = []
    session.on_event = lambda kind, planned, text: events.append((kind, text))
    (again,) = run_all([later], session)
    assert ("stage", "score") in events
    assert not any(text.startswith("train") for _, text in events)
    assert again.scores["score_id"] == "later"
    assert again.scores["tracks"] == scores["tracks"]
    assert (run.path / "provenance.json").stat().st_mtime_ns == provenance


def test_two_sessions_share_the_work(tiny, tmp_path):
    items = planned(tiny, "ridge", "mean", "chance", "oracle")
    starts, results = [], []

    def work():
        session = Session(Store(tmp_path / "runs"), Limits())
        session.on_event = lambda kind, item, text: (
            starts.append(item.id) if kind == "stage" and text == "load" else None
        )
        results.append([r.id for r in run_all(items, session)])

    threads = [threading.Thread(target=work) for _ in range(2)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert sorted(starts) == sorted(item.id for item in items)
    assert results == [[item.id for item in items]] * 2


def test_a_stop_keeps_finished_runs_and_leaves_nothing_half(tiny, tmp_path):
    session = Session(Store(tmp_path / "runs"), Limits())
    items = planned(tiny, "mean", "sleeps", plugins=[BAD])

    def interrupt(kind, item, text):
        if item.spec.method == "sleeps" and text == "train":
            session.stop.set()

    session.on_event = interrupt
    with pytest.raises(KeyboardInterrupt):
        run_all(items, session)
    assert [r.id for r in session.store.runs()] == [items[0].id]
    assert not list((tmp_path / "runs/tiny/tiny/sleeps").iterdir())


def test_fail_fast_stops_after_the_first_failure(bench, tiny, tmp_path):
    code, _, _ = bench(
        "run", "--dataset", "tiny", "--data", tiny, "--plugin", BAD, "--method", "raises,fine", "--fail-fast",
        "--jobs", 1, "--subject", "S1", "--json", "out.json",
    )  # fmt: skip
    assert code == 1
    assert set(statuses(tmp_path / "out.json")) == {("raises", "embedding")}


def test_folds_and_held_out_subjects(bench, tmp_path):
    for unit in ("run", "subject"):
        data = make_folder(tmp_path / unit, unit=unit, image_size=16)
        code, _, err = bench(
            "run", "--dataset", "tiny", "--data", data, "--method", "ridge", "--json", "out.json", "--store", unit
        )
        assert code == 0, err
        assert len({o["subject"] for o in json.loads((tmp_path / "out.json").read_text())}) == 2
    board = (tmp_path / "run/leaderboards/tiny/embedding.md").read_text()
    assert "seen stimuli" in board


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--suite", "minni"], "unknown suite 'minni', did you mean 'mini'?"),
        (["--method", "rigde"], "unknown method 'rigde', did you mean 'ridge'?"),
        (["--method", "cosine-mlp:contrast"], "unknown preset of cosine-mlp 'contrast', did you mean 'contrastive'?"),
        (["--subject", "S3"], "unknown subject of suite tiny 'S3', expected one of S1, S2"),
        (["--split", "mian"], "unknown split of dataset tiny 'mian', did you mean 'main'?"),
        (["--profile", "fulll"], "unknown profile 'fulll', did you mean 'full'?"),
        (["--dataset", "tinny"], "unknown dataset 'tinny', did you mean 'tiny'?"),
        (["--data", "nowhere"], "--data nowhere: no such folder"),
        (["--weights", "nowhere"], "--weights nowhere: no such folder"),
        (["--seed", "1", "--seeds", "2"], "--seed and --seeds exclude each other"),
        (["--json", "no/out.json"], "--json no/out.json: its folder is not there"),
        (["--device", "gpu"], "--device gpu: expected auto, cpu, cuda, cuda:N or mps"),
        (["--plugin", "nothing.py"], "nothing.py: no such file; expected a Python file"),
        (["--jobs", "0"], "'--jobs': 0 is not in the range"),
        (["--dataset", "digits69"], "dataset digits69: digit69_28x28.mat not found"),
    ],
)
def test_bad_options_are_one_sentence_and_nothing_is_written(bench, tiny, tmp_path, arguments, sentence):
    code, out, err = bench("run", "--dataset", "tiny", "--data", tiny, "--method", "mean", *arguments)
    assert code == 2
    assert sentence in err
    assert "Traceback" not in err + out
    assert not (tmp_path / "runs").exists()


def _truncate(root):
    path = root / "S1/responses.npy"
    path.write_bytes(path.read_bytes()[:-40])


def _edit(change):
    def plant(root):
        path = root / "S1/responses.npy"
        data = np.load(path)
        np.save(path, change(data))

    return plant


def _nan_row(data):
    data[3] = np.nan
    return data


def _nan_voxel(data):
    data[0, 5] = np.nan
    return data


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (lambda root: (root / "S1/responses.npy").unlink(), ["responses.npy"]),
        (_truncate, ["responses.npy"]),
        (_edit(_nan_row), ["responses.npy", "NaN"]),
        (_edit(_nan_voxel), ["responses.npy", "NaN", "nan_voxels"]),
        (_edit(lambda d: d * 0), ["responses.npy", "no voxel left"]),
        (_edit(lambda d: d[1:]), ["trials.csv"]),
    ],
)
def test_bad_files_are_one_sentence_and_nothing_is_written(bench, tiny, tmp_path, plant, words):
    plant(tiny)
    code, out, err = bench("run", "--dataset", "tiny", "--data", tiny, "--method", "mean")
    assert code == 2, err
    assert all(word in err for word in words), err
    assert "expected" in err
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err + out
    assert not (tmp_path / "runs").exists()


def test_leaderboard_publish_and_check(bench, tiny, tmp_path):
    bench("run", "--dataset", "tiny", "--data", tiny, "--method", "mean,ridge", "--subject", "S1")
    assert bench("leaderboard", "--publish")[0] == 0
    code, out, _ = bench("leaderboard", "--check")
    assert code == 0, out
    assert "as rendered" in out
    path = tmp_path / "leaderboards/tiny/embedding.md"
    path.write_text(path.read_text().replace("ridge", "rigde"))
    code, out, _ = bench("leaderboard", "--check")
    assert code == 1
    assert "embedding.md: differs" in out.replace("\n", "")


def test_list_and_info(bench):
    for kind in ("methods", "metrics", "datasets", "suites"):
        assert bench("list", kind)[0] == 0
    assert "penalties" in bench("info", "method", "ridge")[1]
    assert "chance: 0.5" in bench("info", "metric", "two_way")[1]
    assert "ranked by" in bench("info", "suite", "mini")[1]
    assert "Donders" in bench("info", "dataset", "digits69")[1]
    code, _, err = bench("info", "method", "rigde")
    assert (code, err.strip()) == (2, "error: unknown method 'rigde', did you mean 'ridge'?")


def test_data_check_and_show(bench, tiny, tmp_path):
    code, out, _ = bench("data", "check", tiny.parent)
    assert code == 0
    assert "no fault found" in out
    _truncate(tiny)
    code, out, _ = bench("data", "check", tiny)
    assert code == 2
    assert "responses.npy" in out
    code, _, err = bench("data", "check", tmp_path / "nothing")
    assert code == 2
    assert "no such folder" in err


def test_data_show_writes_a_picture(bench, tiny, tmp_path):
    code, _, err = bench("data", "show", "tiny", "--data", tiny, "--out", "a.png")
    assert code == 0, err
    assert (tmp_path / "a.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_linear_algebra_gets_the_threads_of_the_run():
    """Also that of libraries loaded later; a run's scores are the same whatever the number of cores."""
    script = (
        "import json; from benchmark.worker import use_device; use_device('cpu', 1); import scipy.linalg, torch; "
        "from threadpoolctl import threadpool_info; "
        "print(json.dumps([torch.get_num_threads(), *(p['num_threads'] for p in threadpool_info())]))"
    )
    variables = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=variables)
    threads = json.loads(done.stdout)
    assert len(threads) >= 3
    assert set(threads) == {1}  # the default is one a core
