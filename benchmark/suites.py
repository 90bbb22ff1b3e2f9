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
    optional : tuple of str
        Those of ``metrics`` that no row is incomplete for: their networks' weights need not be there.
    """

    metrics: tuple[str, ...]
    ranked: str
    space: str | None = None
    optional: tuple[str, ...] = ()


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
_RETRIEVAL = ("image_retrieval", "brain_retrieval", "top1_csls", "hubness")
_CAPTION_RETRIEVAL = ("caption_top1", "caption_top5", "caption_rank_median")
_CAPTIONS = ("bleu1", "bleu4", "rouge_l", "meteor", "cider")
_PUBLISHED_ALL = ("top1[published-all]", "top5[published-all]", "rank_median[published-all]")
_PICTURE = ("two_way", "pixcorr", "ssim", "l1")
RECONSTRUCTION = Track(_PICTURE, ranked="two_way")

# Generated scenes have a true description, and a judge trained on such descriptions.
SCENES = Track(
    ("judge_two_way", "attribute_accuracy", *_PICTURE, "clip_two_way", "clip_similarity"), ranked="judge_two_way"
)

# Natural pictures: what they show counts more than their pixels. Published numbers compare within their protocol only.
_NETWORKS = ("alexnet2_two_way", "alexnet5_two_way", "inception_two_way", "effnet_b", "swav")
_PUBLISHED = ("pixcorr", "ssim", *_NETWORKS[:3], "clip_two_way", *_NETWORKS[3:])
_OPTIONAL = ("clip_similarity_centred", *_NETWORKS, "lpips")
_OPTIONAL += tuple(f"{name}[{protocol}]" for protocol in ("brain-diffuser", "mindeye") for name in _PUBLISHED)
NATURAL = Track((*_PICTURE, "clip_two_way", "clip_similarity", *_OPTIONAL), "clip_two_way", optional=_OPTIONAL)


def embedding(
    space: str,
    *,
    categories: bool = False,
    captions: bool = False,
    caption_retrieval: bool = False,
    published_all: bool = False,
) -> Track:
    """Return the embedding track for a target space.

    Parameters
    ----------
    space : str
    categories : bool
        Whether the stimuli have an attribute ``category`` (or ``background``).
    captions : bool
        Whether the stimuli have captions; a method need not predict any.
    caption_retrieval : bool
        Whether captions have vectors in the space too, made by the harness's own model of it.
    published_all : bool
        Whether retrieval from a gallery with the training stimuli is shown as well; never ranked.
    """
    more = (*_RETRIEVAL, *(("category_recall",) if categories else ()))
    more += (_CAPTION_RETRIEVAL if caption_retrieval else ()) + (_CAPTIONS if captions else ())
    more += _PUBLISHED_ALL if published_all else ()
    return Track(("two_way", *_IDENTIFICATION, *_VECTOR, *more), ranked="two_way", space=space)


def words(space: str, ranked: str = "top5", *, everything: bool = False) -> Track:
    """Return the words track for a word-vector space; few held-out words are better ranked by rank accuracy.

    With ``everything`` the rank among all words, those of the training side included, is shown as well; never ranked.
    """
    more = ("rank_accuracy_all",) if everything else ()
    ranks = (*_IDENTIFICATION[:3], "pairwise_2v2", *_IDENTIFICATION[3:])
    return Track((*ranks, *_VECTOR, *more), ranked=ranked, space=space)


_SCENES = ("subj01", "subj02", "subj03", "subj04")
_WORDS = ("W01", "W02", "W03", "W04", "W05", "W06")
# those of Brain2Word (Affolter et al. 2020)
_PEREIRA = (
    *("P01", "M02", "M03", "M04", "M05", "M06", "M07", "M08", "M09", "M10"),
    *("M13", "M14", "M15", "M16", "M17"),
)
_BOLD5000 = ("CSI1", "CSI2", "CSI3", "CSI4")
_ALGONAUTS = tuple(f"subj{k:02d}" for k in range(1, 9))
_PICTURES = {"embedding": embedding("clip", categories=True), "reconstruction": NATURAL}
_CAPTIONED = embedding("clip", categories=True, captions=True, caption_retrieval=True)


def _nsd(name: str, split: str, summary: str) -> Suite:
    tracks = {"embedding": embedding("clip"), "reconstruction": NATURAL}
    published = ("subj01", "subj02", "subj05", "subj07")  # those who completed all sessions
    return Suite(name, "1.1", f"natural scenes, {summary}", (Task("nsd", split, published[:1], tracks, published),))


SUITES = {
    suite.name: suite
    for suite in (
        Suite(
            "mini",
            "2.1",
            "built-in generated data: pictures (one subject, four when published) and words (six subjects)",
            (
                Task(
                    "synthetic-scenes",
                    "synthetic-scenes-v1",
                    _SCENES[:1],
                    {
                        "embedding": _CAPTIONED,
                        "reconstruction": SCENES,
                    },
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
            "1.1",
            "180 concepts of fifteen subjects: one subject left out, or ten words of a subject left out",
            (
                Task("pereira2018", "pereira2018-loso-v1", _PEREIRA, {"words": words("glove")}),
                Task(
                    "pereira2018",
                    "pereira2018-lwo-v1",
                    _PEREIRA,
                    {"words": words("glove", "rank_accuracy", everything=True)},
                ),
            ),
        ),
        Suite(
            "bold5000",
            "1.1",
            "natural pictures from ten visual ROIs, the 113 repeated images held out",
            (Task("bold5000", "bold5000-repeated-v1", _BOLD5000, _PICTURES),),
        ),
        Suite(
            "bold5000-coco",
            "1.1",
            "the COCO images of BOLD5000, which have captions; the 45 repeated ones held out",
            (Task("bold5000", "bold5000-coco-v1", _BOLD5000, {**_PICTURES, "embedding": _CAPTIONED}),),
        ),
        Suite(
            "algonauts2023",
            "1.0",
            "natural scenes on the cortical surface, the pictures shared by all NSD subjects held out",
            (
                Task(
                    "algonauts2023",
                    "algonauts-heldout-v1",
                    _ALGONAUTS[:1],
                    {"embedding": embedding("clip"), "reconstruction": NATURAL},
                    _ALGONAUTS,
                ),
            ),
        ),
        _nsd("nsd", "nsd-982", "sessions 1-37, the 982 shared pictures held out, repeats averaged"),
        _nsd("nsd-single", "nsd-982-single", "sessions 1-37, the 982 shared pictures held out, single trials"),
        _nsd("nsd-1000", "nsd-1000", "all 40 sessions, the 1000 shared pictures held out, repeats averaged"),
        _nsd("nsd-1000-single", "nsd-1000-single", "all 40 sessions, the 1000 shared pictures held out, single trials"),
    )
}


def folder_suite(name: str, header: Mapping, subjects: tuple[str, ...], split: str) -> Suite:
    """Return the suite of a folder dataset, from the tracks its header declares."""
    tracks = {track: folder_track(track, options, header["stimuli"]) for track, options in header["tracks"].items()}
    return Suite(name, header.get("version", "1.0"), f"folder dataset {name}", (Task(name, split, subjects, tracks),))


def folder_track(name: str, options: Mapping[str, str], stimuli: Mapping) -> Track:
    """Return a track of a folder dataset; its header may state the metric that rows are ranked by."""
    track = RECONSTRUCTION
    if name == "words":
        track = words(options["space"])
    elif name == "embedding":
        track = embedding(
            options["space"],
            categories="category" in stimuli.get("attributes", {}),
            captions="captions" in stimuli,
            published_all=options.get("gallery") == "published-all",
        )
    return replace(track, ranked=options.get("ranked", track.ranked))


def rankable(name: str) -> tuple[str, ...]:
    """Return the metrics that rows of a folder dataset's track may be ranked by."""
    without_direction = ("collapse", "hubness")
    return tuple(m for m in folder_track(name, {"space": ""}, {}).metrics if m not in without_direction)
