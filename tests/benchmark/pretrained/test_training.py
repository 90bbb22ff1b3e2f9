"""Training: repeatable, resumable after a kill, on scenes that no built-in dataset shows."""

import csv
import dataclasses
import json
import types

import numpy as np
import pytest
import torch

from benchmark.data import scenes as worlds
from benchmark.errors import BenchError
from benchmark.pretrained import hub
from benchmark.pretrained.training import captioner, clip, common, judge
from benchmark.pretrained.training.__main__ import main


def small(task, **changes):
    """The task with a short schedule and small batches."""
    settings = dataclasses.replace(task.DEFAULTS, **{"batch": 8, "warmup": 10, "checkpoint_every": 1e9} | changes)
    return types.SimpleNamespace(**{**vars(task), "DEFAULTS": settings})


def test_training_pictures_are_disjoint_from_all_built_in_stimuli():
    drawn = worlds.concatenate([common.draw(judge.DEFAULTS.seed, step, 200).scenes for step in range(10)])
    drawn = worlds.concatenate([drawn, common.held_out(500)[0]])
    assert not worlds.is_reserved(drawn).any()
    # What datasets draw from is reserved, so no key is in both, whatever the number of steps.
    for pool in ("train", "test"):
        own = worlds.sample(np.random.default_rng(0), 500, pool=pool)
        assert worlds.is_reserved(own).all()
        assert not np.isin(worlds.key_hash(own), worlds.key_hash(drawn)).any()


def test_batches_depend_on_seed_and_step_alone():
    a, b, c = common.draw(5, 17, 4), common.draw(5, 17, 4), common.draw(5, 18, 4)
    np.testing.assert_array_equal(a.images, b.images)
    assert a.rng.random() == b.rng.random()
    assert not np.array_equal(a.images, c.images)


def test_a_resumed_training_ends_where_an_unbroken_one_does(tmp_path):
    task = small(judge)
    task.evaluate = lambda module, rng: {"weight": next(module.parameters()).sum().item()}
    whole = common.train(task, "judge", tmp_path / "whole", steps=6)
    common.train(task, "judge", tmp_path / "broken", steps=6, stop_after=4)
    with (tmp_path / "broken" / "judge.csv").open("a") as file:
        file.write("5,1.0,9,9,9,9,9\n")  # logged, but killed before the checkpoint
    resumed = common.train(task, "judge", tmp_path / "broken", steps=6, resume=True)
    assert (tmp_path / "whole" / "judge.safetensors").read_bytes() == (
        tmp_path / "broken" / "judge.safetensors"
    ).read_bytes()
    assert whole["held_out"] == resumed["held_out"]
    rows = list(csv.DictReader((tmp_path / "broken" / "judge.csv").open()))
    assert [int(row["step"]) for row in rows] == [4, 6]


def test_a_not_finite_loss_is_an_error(tmp_path):
    task = small(judge)
    task.loss = lambda module, batch: (next(module.parameters()).sum() * float("nan"), {})
    with pytest.raises(BenchError, match="not finite at step 0"):
        common.train(task, "judge", tmp_path, steps=2)


def test_steps_must_be_positive(tmp_path, capsys):
    assert main(["judge", "--out", str(tmp_path), "--steps", "0"]) == 2
    assert "--steps must be at least 1" in capsys.readouterr().err


@pytest.mark.parametrize(("task", "name"), [(clip, "clip"), (judge, "judge"), (captioner, "captioner")])
def test_fifty_steps_lower_the_loss_and_export_loads(tmp_path, task, name):
    threads = torch.get_num_threads()
    quick = small(task, average=0.9)
    del quick.evaluate
    common.train(quick, name, tmp_path, steps=50)
    torch.set_num_threads(threads)
    hub.load(name, "mini", tmp_path)
    description = json.loads((tmp_path / f"{name}.json").read_text())
    assert description["steps"] == 50
    assert description["sha256"] == hub.checksum(name, "mini", tmp_path)
    module = task.build(description["config"])
    before, after = [], []
    for step in range(3):
        batch = common.draw(1, step, 32)
        torch.manual_seed(0)
        with torch.no_grad():
            before.append(task.loss(module, batch)[0].item())
    # The read-outs are not exported, so the trained module comes from the checkpoint.
    module.load_state_dict(torch.load(tmp_path / f"{name}.checkpoint.pt", weights_only=True)["module"])
    for step in range(3):
        batch = common.draw(1, step, 32)
        torch.manual_seed(0)
        with torch.no_grad():
            after.append(task.loss(module, batch)[0].item())
    assert np.mean(after) < 0.9 * np.mean(before)
