"""A metric's code does not change without a higher version; see tests/golden/make_sources.py."""

import dataclasses
import json
from functools import partial

import pytest

from metrics import ranking
from metrics.table import METRICS
from tests.golden import make_sources
from tests.golden.make_sources import faults, harness_hash, source_hash, sources, update


def test_no_metric_changed_without_a_higher_version():
    found = list(faults(json.loads(make_sources.FILE.read_text("utf-8")), sources(METRICS)))
    assert not found, "\n".join(found)


def edited(old, new, module="metrics.ranking"):
    """Return a reader of the package in which a text of one module is another."""

    def read(name):
        text = make_sources._read(name)
        if name == module:
            assert old in text
            text = text.replace(old, new)
        return text

    return read


COUNTED = {
    "the function": ("np.clip((k - greater) / tied, 0, 1)", "np.clip((k - greater) / tied, 0, 2)", "metrics.ranking"),
    "a helper": ("scores[part] > own[part]", "scores[part] >= own[part]", "metrics.ranking"),
    "a helper of another module": ("step = max(1, size", "step = max(2, size", "metrics.vectors"),
    "a constant": ("_BLOCK = 2**21", "_BLOCK = 2**20", "metrics.vectors"),
    "an input check": ("_LARGEST_EXACT_INTEGER = 2**53", "_LARGEST_EXACT_INTEGER = 2**52", "metrics.validate"),
    "a default value": ("size: int = _BLOCK", "size: int = 7", "metrics.vectors"),
    "an import": ("import numpy as np", "import scipy as np", "metrics.ranking"),
}
NOT_COUNTED = {
    "a docstring": ("Expected top-5 credit, see `topk`.", "Something else.", "metrics.ranking"),
    "a comment": ("greater, tied, _ = _counts(f", "# why\n    greater, tied, _ = _counts(f", "metrics.ranking"),
    "layout": (
        "np.clip((k - greater) / tied, 0, 1)",
        "np.clip(\n        (k - greater) / (tied), 0, 1)",
        "metrics.ranking",
    ),
    "another function": ("return 1 + greater + (tied - 1) / 2", "return 0", "metrics.ranking"),
    "a type hint": ("target: np.ndarray, k: int)", "target, k)", "metrics.ranking"),
}


@pytest.mark.parametrize("what", COUNTED)
def test_what_can_change_a_value_counts(what):
    assert source_hash(METRICS["top5"], edited(*COUNTED[what])) != source_hash(METRICS["top5"])


@pytest.mark.parametrize("what", NOT_COUNTED)
def test_what_cannot_does_not(what):
    assert source_hash(METRICS["top5"], edited(*NOT_COUNTED[what])) == source_hash(METRICS["top5"])


SCORING, PERCEPTUAL = "benchmark.scoring", "benchmark.pretrained.perceptual"
PIXELS = {"pixcorr", "ssim[mindeye]"}
NETWORKS = {"alexnet2_two_way", "effnet_b[mindeye]", "lpips", "clip_two_way[brain-diffuser]"}
OTHERS = {"top1", "caption_top1", "cosine", "bleu1", "collapse", "pearson_dim", "image_retrieval"}
BY_FEATURES = {*NETWORKS, "clip_two_way", "judge_two_way"}
EVERY = PIXELS | BY_FEATURES | OTHERS
# Outside of the package metrics: old text, new text, module, and which of the metrics above it can change.
AROUND = {
    "the resize to the stimuli's size": ("[height, width], interpolation=bicubic, antialias=True", "[height, width]",
                                         SCORING, PIXELS | BY_FEATURES | {"cosine"}),
    "the summary": ('metric.aggregate == "median"', 'metric.aggregate != "mean"', SCORING, EVERY),
    "the candidates of a rank": ("np.asarray(given)[:, [column", "given[:, [column", SCORING, {"top1"}),
    "what is ranked by": ('"embedding": "cosine"', '"embedding": "pearson"', SCORING, EVERY),
    "who is compared with whom": ("self.part.items.block == block", "self.part.items.block != ''", SCORING,
                                  BY_FEATURES | {"cosine"}),
    "the scores of candidates": ("_SCREEN, _SCREEN_SLOPE = 1e-6", "_SCREEN, _SCREEN_SLOPE = 0", "metrics.retrieval",
                                 {"top1", "caption_top1"}),
    "the corpus": ("ends = np.cumsum([len(", "ends = np.cumsum([1 + len(", SCORING, {"bleu1"}),
    "which centre": ("true.mean(0, dtype=np.float64)", "true.mean(0)", SCORING, BY_FEATURES),
    "the size a network sees": ('"effnet-b1": (240, 224, 255)', '"effnet-b1": (240, 224, 256)', PERCEPTUAL,
                                NETWORKS - {"lpips"}),
    "the size before": ("_STORED = 256", "_STORED = 255", PERCEPTUAL, NETWORKS),
    "antialiasing": ("antialias=False", "antialias=True", PERCEPTUAL, NETWORKS),
    "PIL's filter": ("Resampling.BILINEAR", "Resampling.BICUBIC", PERCEPTUAL, NETWORKS),
    "LPIPS' division": ("1e-8 + x.square()", "1e-10 + x.square()", PERCEPTUAL, {"lpips"}),
    "the centre crop": ("center_crop(pixels", "resize(pixels", "benchmark.pretrained.clip",
                        {*NETWORKS, "clip_two_way"}),
    "the judge's pooling": ("(2, 3)).flatten", "(3, 3)).flatten", "benchmark.pretrained.judge", {"judge_two_way"}),
}  # fmt: skip


@pytest.mark.parametrize("what", AROUND)
def test_what_brings_predictions_to_a_metric_counts_for_those_it_can_change(what):
    *change, expected = AROUND[what]
    read = edited(*change)
    changed = {n for n in EVERY if harness_hash(METRICS[n], read) != harness_hash(METRICS[n])}
    assert changed == expected


def test_the_network_the_layer_and_the_published_files_count(monkeypatch):
    before = harness_hash(METRICS["effnet_b"])
    monkeypatch.setitem(make_sources.FEATURES, "effnet_b", make_sources.FEATURES["effnet_b[brain-diffuser]"])
    assert harness_hash(METRICS["effnet_b"]) != before
    (file,) = make_sources.hub.MODELS["swav"].files
    other = dataclasses.replace(make_sources.hub.MODELS["swav"], files=(dataclasses.replace(file, sha256="0"),))
    before = harness_hash(METRICS["swav"])
    monkeypatch.setitem(make_sources.hub.MODELS, "swav", other)
    assert harness_hash(METRICS["swav"]) != before


def test_code_around_a_metric_is_said_to_be_so():
    old = {"m": {"version": 1, "source": "a", "harness": "b"}}
    (found,) = faults(old, {"m": {"version": 1, "source": "a", "harness": "c"}})
    assert found.startswith("what brings predictions to the code of m changed and its version is still 1")


@pytest.mark.parametrize(
    "change", [{"kind": "texts"}, {"aggregate": "median"}, {"gallery": "published-all"}, {"features": "clip"}]
)
def test_fields_that_decide_a_value_count(change):
    changed = dataclasses.replace(METRICS["top5"], **change)
    assert source_hash(changed) != source_hash(METRICS["top5"])
    assert source_hash(dataclasses.replace(METRICS["top5"], definition="?")) == source_hash(METRICS["top5"])


def test_bound_arguments_count_and_nameless_functions_are_refused():
    three, four = (dataclasses.replace(METRICS["top5"], function=partial(ranking.topk, k=k)) for k in (3, 4))
    assert source_hash(three) != source_hash(four)
    assert source_hash(three) == source_hash(dataclasses.replace(three))
    with pytest.raises(ValueError, match="expected one with a name"):
        source_hash(dataclasses.replace(METRICS["top5"], function=lambda scores, target: scores))


@pytest.mark.parametrize(
    ("old", "new", "says", "refused"),
    [
        ((1, "a"), (1, "a"), None, False),
        ((1, "a"), (1, "b"), "changed and its version is still 1", True),
        ((1, "a"), (2, "b"), "has version 2, recorded is 1", False),
        ((1, "a"), (2, "a"), "has version 2, recorded is 1", False),
        ((2, "a"), (1, "a"), "went back", True),
        (None, (1, "a"), "is not recorded", False),
        ((1, "a"), None, "not registered any more", False),
    ],
)
def test_what_is_said_and_what_is_recorded(old, new, says, refused):
    def table(pair):
        return {"m": dict(zip(("version", "source"), pair, strict=True))} if pair else {}

    found = list(faults(table(old), table(new)))
    assert [says in text for text in found] == ([True] if says else [])
    content, left = update(table(old), table(new))
    assert (left == ["m"]) is refused
    assert content == (table(old) if refused else table(new))


def test_same_values_accepts_changed_code_and_never_a_lower_version():
    old, new = {"m": {"version": 1, "source": "a"}}, {"m": {"version": 1, "source": "b"}}
    assert update(old, new, ["m"]) == update(old, new, ["all"]) == (new, [])
    assert update(old, new, ["other"]) == (old, ["m"])
    lower = {"m": {"version": 0, "source": "b"}}
    assert update(old, lower, ["all"]) == (old, ["m"])
