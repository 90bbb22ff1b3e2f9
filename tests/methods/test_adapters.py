"""What every registered adapter owes: shapes, finite numbers, determinism, untouched inputs, small sets."""

import copy
import dataclasses
import inspect

import numpy as np
import pytest
import torch

from benchmark.api import DatasetInfo, Method, Stimuli
from benchmark.errors import BenchError
from benchmark.registry import resolve
from methods.table import METHODS
from tests.methods.made import make_scenes, make_words

BRAIN2WORD = [name for name in METHODS if name.startswith("brain2word")]
ALL = {name: resolve(entry["target"]) for name, entry in METHODS.items()}
# Those that need frozen models are tried with stand-ins in test_picture_methods.py.
CLASSES = {name: cls for name, cls in ALL.items() if not cls.pretrained}


def with_rois(made):
    """The same with ROIs: two that overlap, an empty one, and voxels that belong to none."""
    train, test, rest = made
    column = np.arange(train.fmri.data.shape[1])
    rois = {"a": column < 15, "b": (column >= 10) & (column < 36), "none": column < 0}
    fmri, test = (dataclasses.replace(f, rois=rois) for f in (train.fmri, test))
    return dataclasses.replace(train, fmri=fmri), test, rest


KINDS = {
    "words": make_words,
    "rois": lambda: with_rois(make_words()),
    "leave-words-out": lambda: make_words(unit="stimulus", n_subjects=1),
    "one-training-subject": lambda: make_words(n_subjects=1),
    "embedding": lambda: make_scenes(tracks=("embedding",)),
    "reconstruction": lambda: make_scenes(tracks=("reconstruction",), shape=(6, 6, 1)),
    "both": make_scenes,
}
SMALL = {
    "cosine-mlp": {"epochs": 2},
    "brain2word-base": {"hidden": (16, 8), "epochs": 2},
    "brain2word-roi": {"epochs": 2},
    "brain2word-autoencoder": {"hidden": (8,), "epochs": 2},
    "brain2word-meanreg": {"hidden": (8,), "epochs": 2, "rounds": 2, "round_epochs": 1},
}


def info(train):
    s = train.stimuli
    return DatasetInfo(
        name="made",
        tracks=train.tracks,
        unit=train.unit,
        n_subjects=2,
        spaces=tuple(s.embeddings),
        rois=tuple(train.fmri.rois),
        has_images=s.images is not None,
        has_words=s.words is not None,
    )


def truth_of(made):
    train, _, rest = made
    return rest if isinstance(rest, Stimuli) else train.stimuli.take(rest)


def make(cls, preset="default"):
    return cls(cls.make_params("mini", preset, SMALL.get(cls.name)))


def run(cls, made, workdir, seed=0, fmri=None, preset="default"):
    method = make(cls, preset)
    method.train(made[0], seed=seed, device="cpu", workdir=workdir)
    truth = {"truth": truth_of(made)} if method.oracle else {}
    return method.predict(made[1] if fmri is None else fmri, **truth)


def arrays(predictions):
    found = {f"vectors {k}": v for k, v in predictions.embeddings.items()}
    found |= {"images": predictions.images, "scores": predictions.class_scores}
    return {name: np.asarray(v) for name, v in found.items() if v is not None}


CASES = [
    (name, kind, preset)
    for name, cls in CLASSES.items()
    for kind, made in KINDS.items()
    for preset in ("default", *cls.presets)
    if make(cls, preset).supports(info(made()[0])) is None
]


@pytest.mark.parametrize(("name", "kind", "preset"), CASES)
def test_shapes_finite_numbers_determinism_and_untouched_inputs(name, kind, preset, tmp_path):
    made = KINDS[kind]()
    train, test, _ = made
    for values in (train.fmri.data, test.data, *train.stimuli.embeddings.values(), train.stimulus):
        values.setflags(write=False)
    before = copy.deepcopy(made)
    predictions = run(CLASSES[name], made, tmp_path, preset=preset)
    n = len(test)
    if train.tracks & {"words", "embedding"}:
        assert predictions.embeddings[train.space].shape == (n, train.target().shape[1])
    if "reconstruction" in train.tracks & CLASSES[name].tracks:
        assert predictions.images.dtype == np.uint8
        assert predictions.images.shape == (n, *train.stimuli.images.shape[1:])
    if predictions.class_scores is not None:
        assert predictions.class_scores.shape == (n, len(predictions.class_ids))
        assert set(predictions.class_ids) <= set(train.stimuli.ids)
    again = arrays(run(CLASSES[name], KINDS[kind](), tmp_path, preset=preset))
    for field, values in arrays(predictions).items():
        assert np.isfinite(values).all()
        np.testing.assert_array_equal(values, again[field])
    for old, new in zip(before[:2], made[:2], strict=True):
        fmri_old, fmri_new = (getattr(x, "fmri", x) for x in (old, new))
        np.testing.assert_array_equal(fmri_old.data, fmri_new.data)
    np.testing.assert_array_equal(before[0].stimulus, train.stimulus)
    if train.stimuli.images is not None:
        np.testing.assert_array_equal(before[0].stimuli.images, train.stimuli.images)


@pytest.mark.parametrize(("name", "kind"), sorted({case[:2] for case in CASES if case[0] != "oracle"}))
def test_one_test_item_gets_what_it_gets_among_others(name, kind, tmp_path):
    made = KINDS[kind]()
    whole = arrays(run(CLASSES[name], made, tmp_path))
    one = arrays(run(CLASSES[name], made, tmp_path, fmri=made[1].take(np.array([0]))))
    for field, values in one.items():
        assert len(values) == 1
        np.testing.assert_allclose(values, whole[field][:1], rtol=1e-4, atol=1e-4 if field != "images" else 1)


@pytest.mark.parametrize("name", CLASSES)
def test_very_few_rows(name, tmp_path):
    cls = CLASSES[name]
    words = make_words(n_words=2, n_subjects=2, n_scans=1)
    scenes = make_scenes(n_train=3, tracks=("embedding",))
    for made in (words, scenes):
        if make(cls).supports(info(made[0])) is None:
            assert all(np.isfinite(v).all() for v in arrays(run(cls, made, tmp_path)).values())


@pytest.mark.parametrize("name", [n for n in CLASSES if n not in SMALL])
def test_one_training_row(name, tmp_path):
    made = make_scenes(n_train=1)
    assert all(np.isfinite(v).all() for v in arrays(run(CLASSES[name], made, tmp_path)).values())


@pytest.mark.parametrize("name", SMALL)
def test_networks_refuse_one_training_row_in_a_sentence(name, tmp_path):
    with pytest.raises(BenchError, match=name):
        run(CLASSES[name], with_rois(make_words(n_words=1, n_subjects=1, n_scans=1)), tmp_path)


@pytest.mark.parametrize("name", ["cosine-mlp", "shuffled", "noise-input", "chance", *BRAIN2WORD])
def test_the_seed_matters_and_torch_is_left_as_it_was(name, tmp_path):
    words = with_rois(make_words())
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, second = (arrays(run(CLASSES[name], words, tmp_path, seed=seed)) for seed in (0, 1))
    assert any((first[field] != second[field]).any() for field in first)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", CLASSES)
def test_metadata_agrees_with_the_table(name):
    cls, entry = CLASSES[name], METHODS[name]
    assert issubclass(cls, Method)
    assert cls.name == name
    assert (cls.tracks, cls.control, cls.oracle) == (
        frozenset(entry["tracks"]),
        entry.get("control", False),
        entry.get("oracle", False),
    )
    assert entry["summary"]
    assert inspect.getdoc(cls)
    for profile in ("full", "mini"):
        for preset in ("default", *cls.presets):
            cls.make_params(profile, preset)


def test_supports_gives_reasons():
    pictures = DatasetInfo("p", frozenset({"reconstruction"}), "stimulus", 1, has_images=True)
    scenes = DatasetInfo("s", frozenset({"embedding"}), "stimulus", 1, spaces=("d",), has_images=True)
    bare = DatasetInfo("b", frozenset({"words"}), "subject", 2, has_words=True)
    assert "embedding space" in CLASSES["cosine-mlp"].supports(pictures)
    assert "no words" in make(CLASSES["brain2word-base"]).supports(scenes)
    assert "no word vectors" in make(CLASSES["brain2word-base"]).supports(bare)
    assert "embedding space" in CLASSES["ridge"].supports(bare)
    assert CLASSES["ridge"].supports(pictures) is CLASSES["ridge"].supports(scenes) is None
