"""The methods that draw pictures, with stand-ins of the frozen models: what each one owes and its own rules."""

import copy
import csv
import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from benchmark.api import DatasetInfo, item_seeds
from benchmark.errors import BenchError
from benchmark.registry import resolve
from methods import _mindeye_net as net
from methods._roi_analysis import features as roi_features
from methods._roi_analysis import patterns
from methods.brain2clip import SCHEMES, Brain2CLIP, _targets
from methods.brain_diffuser import PENALTIES, BrainDiffuser
from methods.mindeye import MindEye
from methods.mindeye_bagging import ROI_SETS, MindEyeBagging, vote
from methods.table import METHODS
from tests.methods.stand_ins import N_IMAGE, SIZE, WIDTH, make_pictures

ALL = {name: resolve(entry["target"]) for name, entry in METHODS.items()}
CLASSES = {name: cls for name, cls in ALL.items() if cls.pretrained}
SMALL = {
    "brain-diffuser": {"epochs": 3},
    "brain2clip": {"epochs": 3, "hidden": (12,)},
    "mindeye": {
        **{"hidden": 16, "projector": 8, "n_blocks": 1, "heads": 2, "epochs": 4, "batch": 20, "samples": 3},
        **{"low_hidden": 16, "low_map": 8, "low_blocks": (8, 8, 8), "low_epochs": 4},
    },
    "mindeye-bagging": {
        "hidden": 16,
        "map_channels": 8,
        "blocks": (8, 8, 8),
        "epochs": 3,
        "members": (("set3", 3, 16), ("set1", 4, 32), ("none", 5, 16)),
    },
}


def fitted(name, made, folder, preset="default", seed=0, **overrides):
    cls = CLASSES[name]
    method = cls(cls.make_params("mini", preset, {**SMALL[name], **overrides}))
    method.train(made[0], seed=seed, device="cpu", workdir=folder)
    return method


def log_of(folder):
    with open(folder / "train_log.csv", newline="") as file:
        return list(csv.reader(file))


def dataset(tracks=("embedding", "reconstruction"), **more):
    common = {"spaces": ("clip",), "rois": ("early", "V1v"), "has_images": True, "has_captions": True} | more
    return DatasetInfo(name="made", tracks=frozenset(tracks), unit="stimulus", n_subjects=1, **common)


PRESETS = [(name, preset) for name, cls in CLASSES.items() for preset in ("default", *cls.presets)]


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_every_preset_gives_pictures_of_the_right_kind(name, preset, tmp_path):
    made = make_pictures()
    if preset in ("roi-set2", "roi-ablation"):
        with pytest.raises(BenchError, match="no voxel is in a ROI of set2"):
            fitted(name, made, tmp_path, preset, members=(("set2", 3, 16),))
        return
    small = {k: v for k, v in SMALL[name].items() if k not in CLASSES[name].presets.get(preset, {})}
    cls = CLASSES[name]
    method = cls(cls.make_params("mini", preset, small))
    method.train(made[0], seed=0, device="cpu", workdir=tmp_path)
    found = method.predict(made[1])
    assert found.images.dtype == np.uint8
    assert found.images.shape == (7, SIZE, SIZE, 3)
    for values in (*found.embeddings.values(), *found.features.values()):
        assert len(values) == 7
        assert np.isfinite(values).all()
    if "embedding" in cls.tracks:
        assert found.embeddings["clip"].shape == (7, WIDTH)
    true = method.stimulus_features(made[2], made[0].models)
    assert {k: v.shape for k, v in true.items()} == {k: v.shape for k, v in found.features.items()}
    if name != "brain-diffuser" or preset in ("mlp", "sgd-ridge"):
        rows = log_of(tmp_path)
        assert len(rows) > 1
        assert np.isfinite(np.array(rows[1:], float)).all()


@pytest.mark.parametrize("name", CLASSES)
def test_the_same_seed_gives_the_same_and_another_seed_another(name, tmp_path):
    made = make_pictures()
    before = copy.deepcopy(made[0].fmri.data), copy.deepcopy(made[0].stimuli.images)
    a, b, c = (fitted(name, made, tmp_path, seed=seed).predict(made[1]) for seed in (0, 0, 1))
    assert (a.images == b.images).all()
    assert (a.images != c.images).any()
    assert (made[0].fmri.data == before[0]).all()
    assert (made[0].stimuli.images == before[1]).all()


@pytest.mark.parametrize("name", CLASSES)
def test_generation_needs_no_training_and_no_other_item(name):
    made = make_pictures()
    method = CLASSES[name](CLASSES[name].make_params("mini", "default", SMALL[name]))
    models = made[0].models
    features, seeds = method.stimulus_features(made[2], models), item_seeds(0, 7)
    whole = method.generate(features, seeds, models)
    some = method.generate({k: v[2:4] for k, v in features.items()}, seeds[2:4], models)
    assert (whole.images[2:4] == some.images).all()


@pytest.mark.parametrize("name", CLASSES)
def test_one_test_item(name, tmp_path):
    made = make_pictures(n_test=1)
    found = fitted(name, made, tmp_path).predict(made[1])
    assert found.images.shape == (1, SIZE, SIZE, 3)
    assert all(np.isfinite(v).all() for v in found.features.values())


def test_reasons_not_to_run():
    for name, cls in CLASSES.items():
        assert cls().supports(dataset()) is None, name
        assert "no pictures" in cls().supports(dataset(has_images=False, spaces=()))
    assert "no captions" in BrainDiffuser().supports(dataset(has_captions=False))
    vision = BrainDiffuser(BrainDiffuser.make_params("full", "vision-only"))
    assert vision.supports(dataset(has_captions=False)) is None
    assert "none of the ROIs" in MindEyeBagging().supports(dataset(rois=("other",)))
    assert MindEyeBagging(MindEyeBagging.make_params("full", "roi-none")).supports(dataset(rois=())) is None
    for cls, bad in (
        (Brain2CLIP, {"scheme": "x"}),
        (BrainDiffuser, {"renormalise": "x"}),
        (BrainDiffuser, {"regression": "x"}),
    ):
        with pytest.raises(BenchError, match="must be one of"):
            cls(cls.Params(**bad))


# ---------------------------------------------------------------- Brain-Diffuser


def test_penalties_of_the_full_profile_are_the_papers():
    made = make_pictures()
    method = BrainDiffuser(BrainDiffuser.make_params("full", "default"))
    method.device = "cpu"
    tables = method.stimulus_features(made[0].stimuli, made[0].models)
    model = method._ridge(made[0].fmri.data, tables, made[0].stimulus)
    assert model.penalties == {"vdvae": 50_000, "image_tokens": 60_000, "text_tokens": 100_000} == PENALTIES
    x = made[0].fmri.data.astype(np.float64)
    z, y = (x - x.mean(0)) / x.std(0), tables["vdvae"].astype(np.float64)
    weights = np.linalg.solve(z.T @ z + 50_000 * np.eye(z.shape[1]), z.T @ (y - y.mean(0)))
    np.testing.assert_allclose(model.predict(made[0].fmri.data)["vdvae"], z @ weights + y.mean(0), atol=1e-4)


@pytest.mark.parametrize("mode", ["out-of-fold", "test-set", "none"])
def test_renormalisation_gives_the_training_spread(mode, tmp_path):
    made = make_pictures(n_train=200, n_test=80)
    method = fitted("brain-diffuser", made, tmp_path, renormalise=mode)
    assert method.tags == (("transductive",) if mode == "test-set" else ())
    predicted = method.predict_features(made[1])["vdvae"]
    target = method.stimulus_features(made[0].stimuli, made[0].models)["vdvae"]
    ratio = predicted.std(0) / target.std(0)
    if mode == "test-set":
        np.testing.assert_allclose(ratio, 1, atol=1e-4)
        np.testing.assert_allclose(predicted.mean(0), target.mean(0), atol=1e-3)
    else:
        assert ratio.mean() < 1 if mode == "none" else abs(ratio.mean() - 1) < 0.1


def test_renormalising_one_item_by_itself_gives_the_training_mean_not_nan(tmp_path):
    made = make_pictures(n_test=1)
    method = fitted("brain-diffuser", made, tmp_path, "published-renormalisation")
    target = method.stimulus_features(made[0].stimuli, made[0].models)["vdvae"]
    np.testing.assert_allclose(method.predict_features(made[1])["vdvae"][0], target.mean(0), atol=1e-4)


def test_presets_cut_layers_tokens_and_voxels(tmp_path):
    made = make_pictures()
    cut = fitted("brain-diffuser", made, tmp_path, "10layer").predict_features(made[1])
    assert cut["vdvae"].shape == (7, 10)  # of 4 layers a third, 10 latents each
    assert cut["image_tokens"].shape == (7, round(N_IMAGE * 77 / 257), WIDTH)
    few = fitted("brain-diffuser", made, tmp_path, "random-voxels")
    assert len(few.columns) == round(50 * 5224 / 15724)
    assert (np.diff(few.columns) > 0).all()


def test_stage_one_stands_beside_the_picture(tmp_path):
    made = make_pictures()
    found = fitted("brain-diffuser", made, tmp_path).predict(made[1])
    assert found.intermediates["stage 1"].shape == (7, SIZE, SIZE, 3)


def test_patterns_of_visual_areas_are_their_own():
    """The published code made V1 to V4 of the face areas' mask."""
    column = np.arange(10)
    rois = {"V1v": column < 2, "V1d": column == 2, "FFA-1": column > 7, "hV4": column < 0, "ecc-4+": column == 5}
    found = patterns(rois)
    assert list(found) == ["faces", "V1", "ecc 4+"]  # an empty ROI is left out
    np.testing.assert_array_equal(found["V1"], [1, 1, 1, 0, 0, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(np.flatnonzero(found["faces"]), [8, 9])


def test_features_of_rois_have_the_stated_lengths():
    rng = np.random.default_rng(0)
    shapes = {"vdvae": (91_168,), "image_tokens": (257, 4), "text_tokens": (77, 4)}
    deviations = {name: rng.standard_normal((3, *shape)) for name, shape in shapes.items()}
    means = {name: 0.1 * rng.standard_normal(shape) for name, shape in shapes.items()}
    found = roi_features(deviations, means, {name: np.ones(shape) for name, shape in shapes.items()})
    assert np.linalg.norm(found["vdvae"], axis=1) == pytest.approx([80] * 3, rel=1e-5)
    for name, length in (("image_tokens", 15), ("text_tokens", 9)):
        moved = (found[name] - means[name]).reshape(3, -1)
        assert np.linalg.norm(moved, axis=1) == pytest.approx([length] * 3, rel=1e-4)
        cosine = (moved * deviations[name].reshape(3, -1)).sum(1)
        assert (cosine > 0).all()


def test_roi_analysis_draws_every_roi_and_changes_nothing_else(tmp_path):
    made = make_pictures()
    plain = fitted("brain-diffuser", made, tmp_path).predict(made[1])
    drawn = fitted("brain-diffuser", made, tmp_path, "roi-analysis").predict(made[1])
    assert (plain.images == drawn.images).all()
    assert (tmp_path / "roi_analysis.png").stat().st_size > 500
    with np.load(tmp_path / "roi_analysis.npz", allow_pickle=False) as found:
        assert set(found) == {"V1"}  # the only group of these ROIs with voxels
        assert found["V1"].shape == (SIZE, SIZE, 3)
    with pytest.raises(BenchError, match="roi_analysis needs"):
        BrainDiffuser(BrainDiffuser.Params(roi_analysis=True, regression="mlp"))


# ---------------------------------------------------------------- MindEye-bagging


def test_the_low_level_network_has_the_published_size():
    with torch.device("meta"):
        network = net.LowLevel(39_548, (4, 64, 64))
        assert network(torch.zeros(2, 39_548)).shape == (2, 4, 64, 64)
    assert sum(p.numel() for p in network.parameters()) == 138_188_228
    assert network.entry[0].weight.numel() == 80_994_304
    assert sum(p.numel() for p in network.decoder.parameters()) == 6_841_668
    assert all(p.requires_grad for p in network.decoder.parameters())


@pytest.mark.parametrize(
    ("similarity", "chosen", "notes"),
    [
        ([[0.1, 0.9], [0.5, 0.2]], [1, 0], {}),
        ([[np.nan, 0.9], [0.5, np.nan]], [1, 0], {}),
        ([[np.nan], [np.nan]], [0], {"votes without a number": 1}),
        ([[-0.5], [-0.2], [-0.9]], [1], {"votes without a positive similarity": 1}),
        ([[0.4], [0.4], [0.1]], [0], {"votes tied": 1}),
        ([[0.0], [0.0]], [0], {"votes tied": 1, "votes without a positive similarity": 1}),
    ],
)
def test_the_vote_is_deterministic_and_says_what_it_met(similarity, chosen, notes):
    found, said = vote(np.array(similarity))
    assert found.tolist() == chosen
    assert said == notes


def test_comparisons_are_there_and_are_what_they_say(tmp_path):
    made = make_pictures()
    method = fitted("mindeye-bagging", made, tmp_path)
    found = method.predict(made[1])
    stages = found.intermediates
    members = np.stack([stages[f"member {k}"] for k in (1, 2, 3)])
    assert all((picture == members[:, i]).all((1, 2, 3)).any() for i, picture in enumerate(found.images))
    assert all((picture == members[:, i]).all((1, 2, 3)).any() for i, picture in enumerate(stages["random pick"]))
    best = found.notes["best member by validation"]
    assert (stages["best member by validation"] == members[best - 1]).all()
    assert (stages["mean latent"] == stages["mean latent"][:1]).all()
    assert {"low level", "mean of latents"} <= set(stages)
    table = method.stimulus_features(made[0].stimuli, made[0].models)["latents 1"]
    np.testing.assert_allclose(stages["latents 1@mean"][0], table.mean(0), rtol=1e-5)
    curve = np.array(log_of(tmp_path)[1:], float)
    for k, member in enumerate(method.members):
        assert member["validation"] == curve[:, 2 + 2 * k].min()  # the best epoch is the validation's
        epoch = int(curve[:, 2 + 2 * k].argmin()) + 1
        np.testing.assert_allclose(
            found.features[f"latents {k + 1}"], stages[f"latents {k + 1}@epoch {epoch}"], atol=1e-5
        )


def test_members_share_one_validation_split(tmp_path, monkeypatch):
    made, seen = make_pictures(), []
    original = MindEyeBagging._fit

    def spy(self, number, mask, data, table, stimulus, fit, held, batch, seeds):
        seen.append((tuple(fit), tuple(held)))
        return original(self, number, mask, data, table, stimulus, fit, held, batch, seeds)

    monkeypatch.setattr(MindEyeBagging, "_fit", spy)
    fitted("mindeye-bagging", made, tmp_path)
    assert len(seen) == 3
    assert len(set(seen)) == 1
    fit, held = seen[0]
    assert not set(fit) & set(held)


@pytest.mark.parametrize("mode", ["zero", "select"])
def test_voxels_outside_the_roi_set_do_not_matter(mode, tmp_path):
    made = make_pictures()
    method = fitted("mindeye-bagging", made, tmp_path, members=(("set1", 3, 16),), roi_mode=mode)
    other = made[1].data.copy()
    other[:, 9:] += 100  # V1v, the only ROI of the set that is there, are the first nine voxels
    changed = method.predict_features(dataclasses.replace(made[1], data=other))
    np.testing.assert_array_equal(changed["latents 1"], method.predict_features(made[1])["latents 1"])
    n_inputs = method.members[0]["net"].entry[0].in_features
    assert n_inputs == (50 if mode == "zero" else 9)


def test_roi_sets_are_those_of_the_document():
    assert [len(ROI_SETS[name]) for name in ("none", "set1", "set2", "set3")] == [0, 10, 12, 7]
    assert MindEyeBagging.Params().members == (
        ("set3", 3, 16),
        ("set1", 2423, 16),
        ("set3", 849, 32),
        ("set3", 1921, 4),
    )


# ---------------------------------------------------------------- MindEye


def _naive_cross_entropy(logits, wanted):
    total = 0.0
    for row, want in zip(logits, wanted, strict=True):
        norm = np.log(np.exp(row - row.max()).sum()) + row.max()
        total -= sum(w * (value - norm) for value, w in zip(row, want, strict=True))
    return total / len(logits)


def _vectors(n=5, d=4):
    rng = np.random.default_rng(3)
    return (x / np.linalg.norm(x, axis=1, keepdims=True) for x in rng.standard_normal((2, n, d)))


def test_softclip_equals_a_naive_loop():
    a, b = _vectors()
    soft = np.exp(b @ b.T / 0.1)
    soft /= soft.sum(1, keepdims=True)
    expected = (_naive_cross_entropy(a @ b.T / 0.1, soft) + _naive_cross_entropy(b @ a.T / 0.1, soft)) / 2
    assert net.softclip(torch.from_numpy(a), torch.from_numpy(b), 0.1).item() == pytest.approx(expected)


def test_bimixco_equals_a_naive_loop():
    a, b = _vectors()
    partner, weight = np.array([2, 0, 1, 4, 3]), np.array([0.7, 1.0, 0.4, 0.9, 0.5])
    wanted = np.zeros((5, 5))
    for i in range(5):
        wanted[i, i] += weight[i]
        wanted[i, partner[i]] += 1 - weight[i]
    columns = wanted.T / wanted.sum(0)[:, None]
    logits = a @ b.T / 0.1
    expected = (_naive_cross_entropy(logits, wanted) + _naive_cross_entropy(logits.T, columns)) / 2
    given = net.bimixco(*(torch.from_numpy(x) for x in (a, b, partner, weight)), 0.1)
    assert given.item() == pytest.approx(expected)


def test_mixing_leaves_a_share_as_it_is():
    x = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    mixed, partner, weight = net.mixed(x, torch.Generator().manual_seed(1))
    same = (mixed == x).all(1)
    assert 0.4 < (weight == 1).float().mean() < 0.65
    assert same[weight == 1].all()
    np.testing.assert_allclose(mixed, weight[:, None] * x + (1 - weight[:, None]) * x[partner])


def test_the_prior_starts_from_its_condition_and_learns_to_correct_it():
    torch.manual_seed(0)
    prior = net.Prior((3, 4), depth=1, heads=2)
    condition = torch.randn(8, 3, 4)
    torch.testing.assert_close(prior.sample(condition, torch.randn(8, 3, 4)), condition / prior.scale)
    adam = torch.optim.Adam(prior.parameters(), lr=3e-3)

    def pairs(n):  # the condition is the target, half as large and moved
        target = F.normalize(torch.randn(n, 3, 4), dim=-1)
        return target, 0.5 * target * prior.scale + 1

    for _ in range(300):
        target, condition = pairs(64)
        loss = prior.loss(condition, target)
        adam.zero_grad()
        loss.backward()
        adam.step()
    prior.eval()
    target, condition = pairs(64)
    drawn = prior.sample(condition, torch.randn(64, 3, 4))
    assert (drawn - target).abs().mean() < 0.5 * (condition / prior.scale - target).abs().mean()


def test_the_sample_most_like_the_retrieval_tokens_is_kept():
    made = make_pictures()
    models = made[0].models
    several = MindEye(MindEye.make_params("mini", "default", SMALL["mindeye"]))
    features, seeds = several.stimulus_features(made[2], models), item_seeds(0, 7)
    found, clip = several.generate(features, seeds, models), models.load("clip")

    def like(pictures):
        a, b = (x.reshape(7, -1) for x in (clip.image_tokens(pictures), features["retrieval"]))
        return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)

    assert (like(found.images) >= like(found.intermediates["first sample"])).all()
    assert (like(found.images) > like(found.intermediates["first sample"])).any()


# ---------------------------------------------------------------- Brain2CLIP


def test_the_target_is_the_closest_caption_of_the_image():
    made = make_pictures()
    stimuli, models = made[2], made[0].models
    found, chosen = _targets(stimuli, models)
    clip = models.load("clip")
    for i, texts in enumerate(stimuli.captions):
        own = clip.encode_image(stimuli.images[i : i + 1])[0]
        scores = {t: float(clip.encode_text([t])[0] @ own) for t in texts if t}
        assert chosen[i] == max(scores, key=scores.get)
        np.testing.assert_allclose(found[i], clip.encode_text([chosen[i]])[0], atol=1e-6)


def test_without_captions_the_image_is_the_target(tmp_path):
    made = make_pictures(captions=False)
    found, chosen = _targets(made[2], made[0].models)
    assert chosen is None
    np.testing.assert_allclose(found, made[2].embeddings["clip"], atol=1e-6)
    predicted = fitted("brain2clip", made, tmp_path).predict(made[1])
    assert predicted.captions is None
    assert predicted.images is not None


@pytest.mark.parametrize("scheme", SCHEMES)
def test_stages_train_what_they_say(scheme, tmp_path):
    made = make_pictures()
    method = fitted("brain2clip", made, tmp_path, scheme=scheme)
    assert (method.net.decoder is not None) == (scheme != "base")
    rows = log_of(tmp_path)[1:]
    assert len(rows) <= 3 * len(SCHEMES[scheme])
    assert [int(r[0]) for r in rows] == list(range(1, len(rows) + 1))


def test_pretraining_leaves_the_autoencoder_as_it_was(tmp_path, monkeypatch):
    made, states = make_pictures(), []
    original = Brain2CLIP._stage

    def spy(self, *args):
        curve = original(self, *args)
        states.append({k: v.clone() for k, v in self.net.trunk.state_dict().items()})
        return curve

    monkeypatch.setattr(Brain2CLIP, "_stage", spy)
    fitted("brain2clip", made, tmp_path, scheme="pretrain")
    first, second = states
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_nearest_caption_and_image_come_from_training(tmp_path):
    made = make_pictures()
    found = fitted("brain2clip", made, tmp_path).predict(made[1])
    texts = {t for several in made[0].stimuli.captions for t in several}
    assert set(found.captions) <= texts
    train = {image.tobytes() for image in made[0].stimuli.images}
    assert all(image.tobytes() in train for image in found.intermediates["nearest image"])


def test_embedding_alone_draws_no_picture(tmp_path):
    made = make_pictures(tracks=("embedding",))
    for name in ("brain2clip", "mindeye"):
        found = fitted(name, made, tmp_path).predict(made[1])
        assert found.images is None
        assert found.embeddings["clip"].shape == (7, WIDTH)
