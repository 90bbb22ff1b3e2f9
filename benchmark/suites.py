"""Named, versioned sets of dataset x split x track x metrics, each with its ranked column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Track:
    """How one track of a task is scored.

    Attributes
    ----------
    metrics : tuple of str
        Column order of the leaderboard.
    ranked : str
        The metric that rows are ranked by.
    space : str or None
        Target embedding space (``words`` and ``embedding``).
    """

    metrics: tuple[str, ...]
    ranked: str
    space: str | None = None


@dataclass(frozen=True)
class Task:
    """A dataset with a split, the subjects of the main job, and its tracks."""

    dataset: str
    split: str
    subjects: tuple[str, ...]
    tracks: Mapping[str, Track]
    published_subjects: tuple[str, ...] = ()


@dataclass(frozen=True)
class Suite:
    """A suite; a minor version adds, a major version changes scores."""

    name: str
    version: str
    summary: str
    tasks: tuple[Task, ...] = field(default=())


_IDENTIFICATION = ("top1", "top5", "top10", "rank_median", "rank_accuracy", "mrr")
_VECTOR = ("cosine", "cosine_centred", "r2", "l1", "pearson_dim", "collapse")
_PICTURE = ("two_way", "pixcorr", "ssim", "l1")
RECONSTRUCTION = Track(_PICTURE, ranked="two_way")

# Generated scenes have a true description, and a judge trained on such descriptions.
SCENES = Track(
    ("judge_two_way", "attribute_accuracy", *_PICTURE, "clip_two_way", "clip_similarity"), ranked="judge_two_way"
)

# Natural pictures: what they show counts more than their pixels.
NATURAL = Track((*_PICTURE, "clip_two_way", "clip_similarity"), ranked="clip_two_way")


def embedding(space: str) -> Track:
    """Return the embedding track for a target space."""
    return Track(("two_way", *_IDENTIFICATION, *_VECTOR), ranked="two_way", space=space)


def words(space: str, ranked: str = "top5") -> Track:
    """Return the words track for a word-vector space; few held-out words are better ranked by rank accuracy."""
    return Track((*_IDENTIFICATION[:3], "pairwise_2v2", *_IDENTIFICATION[3:], *_VECTOR), ranked=ranked, space=space)


_SCENES = ("subj01", "subj02", "subj03", "subj04")
_WORDS = ("W01", "W02", "W03", "W04", "W05", "W06")
# those of Brain2Word (Affolter et al. 2020)
_PEREIRA = (
    *("P01", "M02", "M03", "M04", "M05", "M06", "M07", "M08", "M09", "M10"),
    *("M13", "M14", "M15", "M16", "M17"),
)
_BOLD5000 = ("CSI1", "CSI2", "CSI3", "CSI4")
_PICTURES = {"embedding": embedding("clip"), "reconstruction": NATURAL}

SUITES = {
    suite.name: suite
    for suite in (
        Suite(
            "mini",
            "2.0",
            "built-in generated data: pictures (one subject, four when published) and words (six subjects)",
            (
                Task(
                    "synthetic-scenes",
                    "synthetic-scenes-v1",
                    _SCENES[:1],
                    {"embedding": embedding("clip"), "reconstruction": SCENES},
                    _SCENES,
                ),
                Task("synthetic-words", "synthetic-words-v1", _WORDS, {"words": words("vectors")}),
            ),
        ),
        Suite(
            "digits69",
            "1.0",
            "handwritten digits from V1-V3, the given split of 90 / 10",
            (Task("digits69", "digits69-v1", ("S1",), {"reconstruction": RECONSTRUCTION}),),
        ),
        Suite(
            "miyawaki2008",
            "1.0",
            "10 x 10 shapes from V1, runs held out (the shapes themselves are seen in training)",
            (Task("miyawaki2008", "miyawaki2008-v1", ("S1", "S2"), {"reconstruction": RECONSTRUCTION}),),
        ),
        Suite(
            "pereira2018",
            "1.0",
            "180 concepts of fifteen subjects: one subject left out, or ten words of a subject left out",
            (
                Task("pereira2018", "pereira2018-loso-v1", _PEREIRA, {"words": words("glove")}),
                Task("pereira2018", "pereira2018-lwo-v1", _PEREIRA, {"words": words("glove", "rank_accuracy")}),
            ),
        ),
        Suite(
            "bold5000",
            "1.0",
            "natural pictures from ten visual ROIs, the 113 repeated images held out",
            (Task("bold5000", "bold5000-repeated-v1", _BOLD5000, _PICTURES),),
        ),
        Suite(
            "bold5000-coco",
            "1.0",
            "the COCO images of BOLD5000, which have captions; the 45 repeated ones held out",
            (Task("bold5000", "bold5000-coco-v1", _BOLD5000, _PICTURES),),
        ),
    )
}


def folder_suite(name: str, header: Mapping, subjects: tuple[str, ...], split: str) -> Suite:
    """Return the suite of a folder dataset, from the tracks its header declares."""
    tracks = {track: folder_track(track, options) for track, options in header["tracks"].items()}
    return Suite(name, header.get("version", "1.0"), f"folder dataset {name}", (Task(name, split, subjects, tracks),))


def folder_track(name: str, options: Mapping[str, str]) -> Track:
    """Return a track of a folder dataset; its header may state the metric that rows are ranked by."""
    make = {"words": words, "embedding": embedding}
    track = make[name](options["space"]) if name in make else RECONSTRUCTION
    return replace(track, ranked=options.get("ranked", track.ranked))


def rankable(name: str) -> tuple[str, ...]:
    """Return the metrics that rows of a folder dataset's track may be ranked by."""
    return tuple(m for m in folder_track(name, {"space": ""}).metrics if m != "collapse")  # which has no direction
