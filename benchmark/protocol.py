"""How a table's scores were obtained, in words: what is held out, how often, and what a target is ranked among."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from benchmark.data.splits import Split

_NOUN = {"words": "words", "embedding": "stimuli", "reconstruction": "stimuli"}


def facts(split: Split, subject: str) -> dict[str, int]:
    """Return the shape of a split for one subject, as records keep it.

    Returns
    -------
    dict
        ``n``: folds; ``test``, ``train``: ids on each side of a fold (median).
    """
    folds = split.for_subject(subject)
    sides = {side: int(median(len(getattr(fold, side)) for fold in folds)) for side in ("test", "train")}
    return {"n": len(folds), **sides}


def sentences(track: str, unit: str, records: Sequence[Mapping[str, Any]]) -> str:
    """Return the protocol of the records of one table.

    Parameters
    ----------
    track : str
    unit : str
        What the split holds out.
    records : sequence of mapping
        Records of older versions lack ``folds``; what they do not say is left out.
    """
    noun = _NOUN.get(track, "items")
    shape = next((r["folds"] for r in records if r.get("folds")), None)
    seen = f" The {noun} themselves may be seen in training."
    if unit == "subject":
        text = "leave one subject out"
        if shape:
            text += f": each subject is tested by a model trained on {shape['train']} others"
        text += "." + seen
    else:
        units = noun if unit == "stimulus" else f"{unit}s"
        text = f"leave {units} out, within each subject"
        if shape:
            n, test, both = shape["n"], shape["test"], shape["test"] + shape["train"]
            folds = f"{n} folds, each holding" if n > 1 else "one fold, holding"
            text += f": {folds} out {test} of {both} {units}"
        text += "." + (seen if unit == "run" else "")
    if candidates := _candidates(track, records):
        whose = f"held-out {noun} of its fold" if unit == "stimulus" else f"{noun} of the test side"
        text += f" A target is ranked among {candidates:g} candidates: the {whose}."
    return f"Protocol: {text} Items are compared with each other within a fold, and within a condition."


def _candidates(track: str, records: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the mean number of candidates: the chance level of a median rank is (N + 1) / 2."""
    scores = (r["scores"].get(track, {}).get("rank_median", {}) for r in records)
    found = [2 * s["chance"] - 1 for s in scores if s.get("chance")]
    return round(fmean(found), 1) if found else None
