"""Named, versioned sets of dataset x split x track x metrics, each with its ranked column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


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

# Natural pictures: what they show, by CLIP, beside their pixels.
NATURAL = Track(("clip_two_way", "clip_similarity", *_PICTURE), ranked="clip_two_way")

# Generated scenes have a true description, and a judge trained on such descriptions.
SCENES = Track(
    ("judge_two_way", "attribute_accuracy", *_PICTURE, "clip_two_way", "clip_similarity"), ranked="judge_two_way"
)


def embedding(space: str) -> Track:
    """Return the embedding track for a target space."""
    return Track(("two_way", *_IDENTIFICATION, *_VECTOR), ranked="two_way", space=space)


def words(space: str) -> Track:
    """Return the words track for a word-vector space."""
    return Track((*_IDENTIFICATION[:3], "pairwise_2v2", *_IDENTIFICATION[3:], *_VECTOR), ranked="top5", space=space)


_SCENES = ("subj01", "subj02", "subj03", "subj04")
_WORDS = ("W01", "W02", "W03", "W04", "W05", "W06")


def _nsd(name: str, split: str, summary: str) -> Suite:
    tracks = {"embedding": embedding("clip"), "reconstruction": NATURAL}
    published = ("subj01", "subj02", "subj05", "subj07")  # those who completed all sessions
    return Suite(name, "1.0", f"natural scenes, {summary}", (Task("nsd", split, published[:1], tracks, published),))


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
        _nsd("nsd", "nsd-982", "sessions 1-37, the 982 shared pictures held out, repeats averaged"),
        _nsd("nsd-single", "nsd-982-single", "sessions 1-37, the 982 shared pictures held out, single trials"),
        _nsd("nsd-1000", "nsd-1000", "all 40 sessions, the 1000 shared pictures held out, repeats averaged"),
        _nsd("nsd-1000-single", "nsd-1000-single", "all 40 sessions, the 1000 shared pictures held out, single trials"),
    )
}


def folder_suite(name: str, header: Mapping, subjects: tuple[str, ...], split: str) -> Suite:
    """Return the suite of a folder dataset, from the tracks its header declares."""
    make = {"words": words, "embedding": embedding}
    tracks = {
        track: make[track](options["space"]) if track in make else RECONSTRUCTION
        for track, options in header["tracks"].items()
    }
    return Suite(name, header.get("version", "1.0"), f"folder dataset {name}", (Task(name, split, subjects, tracks),))
