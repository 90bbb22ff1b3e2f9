"""Training of the low-level network, the ROI ablation, MindEye's low-level branch, black pictures."""

import copy
import csv

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from benchmark.api import item_seeds
from benchmark.errors import BenchError
from benchmark.figures import loss_curves, write_test_log
from benchmark.worker import validate
from methods import _mindeye_net as net
from methods._mindeye_fit import Plan, error, fit, predicted
from methods._torch import Pace, autocast
from methods.mindeye import MindEye
from methods.mindeye_bagging import ROI_SETS, MindEyeBagging
from tests.methods.stand_ins import SIZE, Img2Img, Versatile, make_pictures

SMALL = {"hidden": 16, "map_channels": 8, "blocks": (8, 8, 8), "epochs": 3, "similarity": 5}
MEMBERS = (("none", 3, 16), ("set1", 3, 32))
TINY = {"hidden": 16, "projector": 8, "n_blocks": 1, "heads": 2, "epochs": 3, "batch": 20, "samples": 2}
LOW = {"low_hidden": 16, "low_map": 8, "low_blocks": (8, 8, 8), "low_epochs": 3}


def bagged(made, folder, preset="default", **overrides):
    cls = MindEyeBagging
    method = cls(cls.make_params("mini", preset, {**SMALL, "members": MEMBERS, **overrides}))
    method.train(made[0], seed=0, device="cpu", workdir=folder)
    return method


def minded(made, folder, preset="with-low-level"):
    method = MindEye(MindEye.make_params("mini", preset, {**TINY, **LOW}))
    method.train(made[0], seed=0, device="cpu", workdir=folder)
    return method


def problem(n=40, n_voxels=12):
    """Return a network, responses, latents, the row of each, rows to fit and to validate on."""
    torch.manual_seed(1)
    x, y = torch.randn(n, n_voxels), torch.randn(n, 4, 8, 8)
    rows = np.arange(n)
    return net.LowLevel(n_voxels, (4, 8, 8), 16, 8, (8, 8, 8)), x, y, torch.from_numpy(rows), rows[8:], rows[:8]


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


# ---------------------------------------------------------------- the loop


def test_the_loop_equals_a_bare_one():
    """Same seeds, plain PyTorch: the same losses and the same weights."""
    ours, x, y, target, rows, held = problem()
    theirs = copy.deepcopy(ours)
    torch.manual_seed(5)
    done = fit(ours, x, y, target, rows, held, Plan(3, 12, 1e-3, 1e-2), np.random.default_rng(7))

    torch.manual_seed(5)
    named = list(theirs.named_parameters())
    groups = [
        {"params": [p for _, p in named if p.ndim > 1], "weight_decay": 1e-2},
        {"params": [p for _, p in named if p.ndim < 2], "weight_decay": 0.0},
    ]
    adam = torch.optim.AdamW(groups, lr=1e-3)
    cycle = torch.optim.lr_scheduler.OneCycleLR(adam, 1e-3, total_steps=9, pct_start=0.3, final_div_factor=1000)
    rng, losses, states = np.random.default_rng(7), [], []
    for _ in range(3):
        order, values = rng.permutation(rows), []
        theirs.train()
        for start in range(0, 32, 12):
            some = order[start : start + 12]
            loss = F.l1_loss(theirs(x[some]), y[some])
            adam.zero_grad()
            loss.backward()
            adam.step()
            cycle.step()
            values.append(loss.item() * len(some))
        theirs.eval()
        with torch.no_grad():
            losses.append((sum(values) / 32, (theirs(x[held]) - y[held]).abs().mean().item()))
        states.append(copy.deepcopy(theirs.state_dict()))
    np.testing.assert_allclose([row[1:] for row in done.curve], losses, rtol=1e-5)
    best = int(np.argmin([value for _, value in losses]))
    assert done.epoch == best + 1
    assert done.pace.steps == 9
    for name, values in ours.state_dict().items():
        torch.testing.assert_close(values, states[best][name], rtol=1e-5, atol=1e-6)
    assert error(ours, x, y, target, torch.from_numpy(held), batch=3) == pytest.approx(done.validation, rel=1e-5)


def test_the_best_epoch_is_kept_not_the_last():
    """A rate so high that the later epochs are worse."""
    ours, x, y, target, rows, held = problem()
    seen = {}
    plan = Plan(8, 4, 0.3, 0.0)
    done = fit(
        ours, x, y, target, rows, held, plan, np.random.default_rng(0), lambda e, n: seen.update({e: predicted(n, x)})
    )
    assert done.validation == min(value for _, _, value in done.curve) < done.curve[-1][2]
    assert list(seen) == list(range(1, 9))
    np.testing.assert_array_equal(predicted(ours, x, batch=7).shape, seen[1].shape)
    np.testing.assert_allclose(predicted(ours, x), seen[done.epoch], rtol=1e-5, atol=1e-6)


def test_nothing_to_validate_on_and_divergence_are_errors():
    ours, x, y, target, rows, _ = problem()
    with pytest.raises(BenchError, match="nothing to validate on"):
        fit(ours, x, y, target, rows, rows[:0], Plan(1, 8, 1e-3, 0.0), np.random.default_rng(0))
    with pytest.raises(BenchError, match="no epoch has a finite validation loss"):
        fit(ours, x * torch.nan, y, target, rows, rows[:4], Plan(1, 8, 1e-3, 0.0), np.random.default_rng(0))


def test_bf16_is_for_cuda_and_unknown_precisions_are_errors():
    with autocast("cpu", "bf16"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    for make in (lambda: autocast("cpu", "fp8"), lambda: MindEye(MindEye.Params(precision="fp8"))):
        with pytest.raises(BenchError, match="precision must be one of float32, bf16"):
            make()
    for bad in ({"draw": "x"}, {"roi_mode": "x"}, {"precision": "x"}):
        with pytest.raises(BenchError, match="must be one of"):
            MindEyeBagging(MindEyeBagging.Params(**bad))
    with pytest.raises(BenchError, match="unknown ROI set 'set9'"):
        MindEyeBagging(MindEyeBagging.Params(members=(("set9", 1, 16),)))


def test_the_pace_is_known(tmp_path):
    pace = Pace()
    with pace(6):
        pass
    pace.seconds = 2.0
    expected = {"steps": 6, "seconds": 2.0, "steps_per_second": 3.0, "precision": "float32", "compiled": False}
    assert pace.facts("cpu", "bf16", False) == expected
    assert pace.facts("cuda:1", "bf16", False)["precision"] == "bf16"
    made = make_pictures()
    facts = bagged(made, tmp_path).training
    assert facts["networks"] == 2
    assert facts["steps"] == 3 * (4 + 2)  # 54 training stimuli in batches of 16 and 32
    assert facts["steps_per_second"] > 0
    facts = minded(made, tmp_path).training
    assert (facts["steps"], facts["low level"]["steps"]) == (3 * 3, 3 * 2)


# ---------------------------------------------------------------- snapshots and the ablation


def test_snapshots_are_on_disk_until_the_prediction(tmp_path):
    made = make_pictures()
    method = bagged(made, tmp_path, snapshots=2)
    names = sorted(path.name for path in (tmp_path / "snapshots").iterdir())
    assert names == ["1-0001.pt", "1-0003.pt", "2-0001.pt", "2-0003.pt"]
    found = method.predict(made[1])
    assert not (tmp_path / "snapshots").exists()
    epochs = {name for name in found.intermediates if "@epoch" in name}
    assert epochs == {f"latents {k}@epoch {epoch}" for k in (1, 2) for epoch in (1, 3)}
    again = method.predict(made[1])  # without the curve, otherwise the same
    assert (again.images == found.images).all()
    assert not any("@epoch" in name for name in again.intermediates)


def test_the_ablation_has_every_roi_set_at_every_batch_size():
    full, mini = (MindEyeBagging.make_params(profile, "roi-ablation") for profile in ("full", "mini"))
    assert set(full.members) == {(name, 3, batch) for name in ROI_SETS for batch in (16, 32, 64)}
    assert len(full.members) == 12
    assert full.members == mini.members
    assert full.epochs == 50 > mini.epochs
    assert MindEyeBagging.make_params("mini", "roi-ablation", {"epochs": 7}).epochs == 7


def test_the_ablation_draws_the_best_member_only(tmp_path):
    made = make_pictures()
    method = bagged(made, tmp_path, "roi-ablation", epochs=2)
    assert method.candidates == ""
    found = method.predict(made[1])
    best = found.notes["best member by validation"]
    assert best == 1 + int(np.argmin([member["validation"] for member in method.members]))
    np.testing.assert_array_equal(found.features["chosen"], found.features[f"latents {best}"])
    _, pictures, captions = method._guided(found.features["chosen"], item_seeds(0, 7), made[0].models)
    assert (found.images == pictures).all()
    assert list(found.captions) == captions
    assert not any(name.startswith("member") for name in found.intermediates)
    assert set(method.stimulus_features(made[2], made[0].models)) == {"chosen", "latents 1", "latents 2"}


def test_curves_of_all_members_are_in_one_picture(tmp_path):
    import matplotlib.image

    made = make_pictures()
    found = bagged(made, tmp_path, "roi-ablation", epochs=3).predict(made[1])
    with open(tmp_path / "train_log.csv", newline="") as file:
        header = next(csv.reader(file))
    names = ("member 1 none batch 16", "member 2 set1 batch 32")
    assert header == ["epoch", *(f"{name} {side}_loss" for name in names for side in ("train", "val"))]
    assert loss_curves(tmp_path)
    without = matplotlib.image.imread(tmp_path / "loss.png")
    write_test_log(tmp_path, {name: 0.5 for name in found.intermediates if "@epoch" in name})
    assert loss_curves(tmp_path)
    assert (
        without.shape != (picture := matplotlib.image.imread(tmp_path / "loss.png")).shape or (without != picture).any()
    )
    assert picture.shape[1] > 1.5 * picture.shape[0]  # two panels


def test_similarity_is_what_its_columns_say(tmp_path):
    made = make_pictures()
    train, models = made[0], made[0].models
    method = bagged(made, tmp_path)
    lines = table(tmp_path / "similarity.csv")
    assert [(line["rois"], line["batch"]) for line in lines] == [("none", "16"), ("set1", "32")]
    rows, held = train.holdout(0.1, 0)
    latents = models.load("kl").encode(train.stimuli.images)
    clip, kl = models.load("clip"), models.load("kl")
    for number, line in enumerate(lines, 1):
        member = method.members[number - 1]
        assert int(line["epoch"]) == member["epoch"]
        assert float(line["validation L1"]) == pytest.approx(member["validation"], abs=1e-5)
        guess = method.predict_features(train.fmri)[f"latents {number}"]
        assert float(line["train L1"]) == pytest.approx(np.abs(guess[rows] - latents[rows]).mean(), abs=1e-5)
        assert (line["train stimuli"], line["validation stimuli"]) == ("5", "5")
        few = np.sort(np.random.default_rng(0).permutation(held)[:5])
        alike = clip.encode_image(kl.decode(guess[few])) @ clip.encode_image(train.stimuli.images[few]).T
        assert float(line["validation similarity"]) == pytest.approx(np.diag(alike).mean(), abs=1e-4)
        others = alike[~np.eye(5, dtype=bool)].mean()
        assert float(line["validation chance"]) == pytest.approx(others, abs=1e-4)
    other = tmp_path / "none"
    other.mkdir()
    bagged(made, other, similarity=0)
    assert not (other / "similarity.csv").exists()


def test_a_dataset_without_the_rois_of_one_member_is_said():
    from benchmark.api import DatasetInfo

    info = DatasetInfo("made", frozenset({"reconstruction"}), "stimulus", 1, rois=("early", "V1v"), has_images=True)
    assert "none of the ROIs of set2" in MindEyeBagging(MindEyeBagging.make_params("mini", "roi-ablation")).supports(
        info
    )
    assert MindEyeBagging().supports(info) is None


# ---------------------------------------------------------------- MindEye's low-level branch


def test_pictures_start_from_the_low_level_picture(tmp_path, monkeypatch):
    made, calls = make_pictures(), []
    original = Versatile.generate

    def spy(self, *args, **options):
        calls.append(options)
        return original(self, *args, **options)

    monkeypatch.setattr(Versatile, "generate", spy)
    method = minded(made, tmp_path)
    assert method.pretrained == ("clip", "versatile", "kl")
    found = method.predict(made[1])
    low = made[0].models.load("kl").decode(found.features["latents"])
    assert (found.intermediates["low level"] == low).all()
    assert len(calls) == 2
    assert all((options["start"] == low).all() and options["strength"] == 0.85 for options in calls)
    mean = method.stimulus_features(made[0].stimuli, made[0].models)["latents"].mean(0)
    np.testing.assert_allclose(
        found.intermediates["latents@mean"], np.broadcast_to(mean, (7, *mean.shape)), rtol=1e-4, atol=1e-5
    )
    calls.clear()
    plain = minded(made, tmp_path, "default")
    assert plain.pretrained == ("clip", "versatile") == MindEye.pretrained
    assert set(plain.predict(made[1]).features) == {"prior", "retrieval"}
    assert all("start" not in options for options in calls)


def test_the_low_level_branch_leaves_the_other_one_alone(tmp_path):
    made = make_pictures()
    a, b = (minded(made, tmp_path, preset).predict_features(made[1]) for preset in ("default", "with-low-level"))
    np.testing.assert_array_equal(a["prior"], b["prior"])
    np.testing.assert_array_equal(a["retrieval"], b["retrieval"])


def test_embeddings_alone_need_no_low_level_branch(tmp_path):
    made = make_pictures(tracks=("embedding",))
    method = minded(made, tmp_path)
    assert method.low is None
    assert method.predict(made[1]).images is None


# ---------------------------------------------------------------- black pictures


@pytest.mark.parametrize("n_black", [0, 1, 7])
def test_black_pictures_are_counted(n_black, tmp_path, monkeypatch):
    made = make_pictures()
    original = Img2Img.generate

    def generate(self, captions, start, *args, **options):
        pictures = original(self, captions, start, *args, **options)
        pictures[:n_black] = 0
        return pictures

    monkeypatch.setattr(Img2Img, "generate", generate)
    found = bagged(made, tmp_path).predict(made[1])
    assert found.images.shape == (7, SIZE, SIZE, 3)
    checked = validate(found, 7, frozenset({"reconstruction"}), None)
    assert checked.notes.get("black pictures", 0) == n_black
    assert "best member by validation" in checked.notes


def test_a_voter_whose_picture_is_not_a_number_loses(tmp_path, monkeypatch):
    made = make_pictures()
    method = bagged(made, tmp_path)
    features = method.predict_features(made[1])
    clip, n_calls = made[0].models.load("clip"), []
    original = type(clip).encode_image

    def encode(self, images):
        n_calls.append(1)
        found = original(self, images)
        return found * np.nan if len(n_calls) == 2 else found  # the first member's final pictures

    monkeypatch.setattr(type(clip), "encode_image", encode)
    found = method.generate(features, item_seeds(0, 7), made[0].models)
    assert (found.images == found.intermediates["member 2"]).all()


def test_members_may_come_from_json(tmp_path):
    """Lists, as a file of parameters or the command line gives them."""
    made = make_pictures()
    method = bagged(made, tmp_path, members=[["set1", 3, 16]])
    other = bagged(made, tmp_path, members=(("set1", 3, 16),))
    data = made[1]
    assert (method.predict(data).images == other.predict(data).images).all()
