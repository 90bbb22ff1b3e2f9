"""Boards made from runs: right columns, nothing stale ranked, nothing damaged trusted."""

import json
import shutil

import numpy as np
import pytest

from tests.helpers.make_folder import make_folder

RUN = ("run", "--dataset", "tiny", "--method", "ridge,mean", "--subject", "S1", "--json", "out.json")


def board(root, track="embedding"):
    return (root / f"runs/leaderboards/tiny/{track}.md").read_text()


def ranked(root, track="embedding"):
    rows = json.loads((root / f"runs/leaderboards/tiny/{track}.json").read_text())["rows"]
    return {r["method"]: (r["rank"], r["missing"]) for r in rows}


def test_folder_datasets_are_ranked_by_the_stated_metric(bench, tiny, tmp_path):
    bench(*RUN, "--data", tiny)
    for track, metric in (("embedding", "two_way"), ("reconstruction", "two_way"), ("words", "top5")):
        assert f"Ranked by **{metric}** ↑. 4 test items of 1 subject (S1)" in board(tmp_path, track)
    bench("leaderboard")
    assert "Ranked by **top5** ↑" in board(tmp_path, "words")


def test_old_data_are_not_ranked_beside_new(bench, tiny, tmp_path):
    bench(*RUN, "--data", tiny)
    bench("run", "--dataset", "tiny", "--method", "cosine-mlp", "--subject", "S1", "--data", tiny)
    np.save(tiny / "S1/responses.npy", np.load(tiny / "S1/responses.npy") * 2)
    bench("run", "--dataset", "tiny", "--method", "ridge", "--subject", "S1", "--data", tiny)
    found = ranked(tmp_path)
    assert found["ridge"] == (1, [])
    assert found["cosine-mlp"] == (None, ["the current data"])


def test_the_table_shows_the_runs_that_were_asked_for(bench, tiny, tmp_path):
    """Also where code went back, and the newer run of a specification is another one's."""
    plugin = tmp_path / "mine.py"
    text = (
        "from benchmark import Method, Predictions\nSCALE = 1.0\n"
        "class Mine(Method):\n    name, tracks = 'mine', frozenset({'embedding'})\n"
        "    def train(self, train, *, seed, device, workdir): self.y = train.target()\n"
        "    def predict(self, fmri): return Predictions(embeddings={'latent': self.y[:len(fmri)] * SCALE})\n"
    )
    values = []
    for version in (text, text.replace("1.0", "3.0"), text):
        plugin.write_text(version)
        __import__("sys").modules.pop(
            next((m for m in __import__("sys").modules if m.startswith("bench_plugin_mine")), ""), None
        )
        bench(
            "run", "--dataset", "tiny", "--data", tiny, "--subject", "S1", "--plugin", plugin, "--method", "mine",
            "--json", "out.json",
        )  # fmt: skip
        (o,) = json.loads((tmp_path / "out.json").read_text())
        (row,) = json.loads((tmp_path / "runs/leaderboards/tiny/embedding.json").read_text())["rows"]
        assert row["metrics"]["l1"]["value"] == o["metrics"]["l1"]["value"]
        values.append(o["metrics"]["l1"]["value"])
    assert values[0] == values[2] != values[1]


@pytest.mark.parametrize("damage", ["status.json", "scores.json", "provenance.json", "predictions"])
def test_a_damaged_run_is_made_again_and_stops_nobody(bench, tiny, tmp_path, damage):
    bench(*RUN, "--data", tiny)
    (ridge,) = (p.parent for p in (tmp_path / "runs/tiny/tiny/ridge").rglob("status.json"))
    path = ridge / damage
    shutil.rmtree(path) if path.is_dir() else path.write_text("{")
    code, out, err = bench("run", "--dataset", "tiny", "--method", "mean", "--subject", "S1", "--data", tiny)
    assert code == 0, err
    code, out, err = bench(*RUN, "--data", tiny)
    assert code == 0, err
    assert "2 runs, 1 kept from before, 0 failed" in out
    assert (ridge / "predictions").is_dir()


def test_boards_of_other_datasets_stay(bench, tmp_path):
    for name in ("one", "two"):
        root = make_folder(tmp_path / name, image_size=16)
        header = json.loads((root / "dataset.json").read_text())
        (root / "dataset.json").write_text(json.dumps(header | {"name": name}))
        bench("run", "--dataset", name, "--data", root, "--method", "mean", "--subject", "S1")
    index = (tmp_path / "runs/leaderboards/README.md").read_text()
    assert "one/embedding.md" in index
    assert "two/embedding.md" in index


def test_data_that_is_a_folder_dataset_needs_no_name(bench, tiny, tmp_path, monkeypatch):
    assert bench("run", "--data", tiny, "--method", "mean", "--subject", "S1")[0] == 0
    monkeypatch.setenv("BENCH_DATA", str(tiny))
    assert "1 kept" in bench("run", "--method", "mean", "--subject", "S1")[1]


@pytest.mark.parametrize("name", ["synthetic-words", "mini", "leaderboards"])
def test_a_name_of_benchs_own_is_refused(bench, tiny, tmp_path, name):
    header = json.loads((tiny / "dataset.json").read_text())
    (tiny / "dataset.json").write_text(json.dumps(header | {"name": name}))
    code, _, err = bench("run", "--dataset", name, "--data", tiny, "--method", "mean")
    assert code == 2
    assert 'expected another "name"' in err
    assert not (tmp_path / "runs").exists()


def test_two_folders_of_one_name_are_refused(bench, tmp_path):
    for folder in ("a", "b"):
        make_folder(tmp_path / "data" / folder, image_size=16)
    code, _, err = bench("run", "--dataset", "tiny", "--data", tmp_path / "data", "--method", "mean")
    assert code == 2
    assert "has that name too" in err


def test_check_of_a_folder_without_records_is_bad_input(bench):
    code, _, err = bench("leaderboard", "--check", "--boards", "nowhere")
    assert code == 2
    assert "holds no records" in err


def test_a_board_of_runs_shows_every_picture_it_links(bench, tiny, tmp_path):
    code, _, err = bench(*RUN, "--data", tiny)
    assert code == 0, err
    folder = tmp_path / "runs/leaderboards/tiny"
    text = board(tmp_path, "reconstruction")
    links = [part.partition(")")[0] for part in text.split("](pictures/")[1:]]
    assert {link.rpartition("/")[2] for link in links} == {
        "scores.png", "cost.png", "grid.png", "ridge-reconstructed.png", "ridge-retrieved.png", "ridge-ranks.png",
    }  # fmt: skip
    assert all((folder / "pictures" / link).is_file() for link in links)
    assert "embedding/ranks.png)" in board(tmp_path)
