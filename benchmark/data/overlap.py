"""Datasets that show the same pictures: what a model trained on one has seen of another's test side."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import lru_cache
from importlib import resources

import numpy as np

from benchmark.data import nsd_design
from benchmark.data.files import nearest
from benchmark.errors import BenchError

# Splits of NSD's pictures; each tests shared pictures and trains on none of them.
HELD_OUT = {"nsd": tuple(nsd_design.SPLITS), "algonauts2023": ("algonauts-heldout-v1",)}
WITHOUT_NSD_ID = "image-"  # ids of NSD pictures whose number is not known begin so
_SOME = "nsd"  # stands for NSD pictures that were trained on, whichever


@lru_cache(maxsize=1)
def shared_pictures() -> np.ndarray:
    """Return the 1000 pictures that all NSD subjects were to see, (1000,) int: rows of the 73,000, from 0."""
    return np.array(json.loads(resources.files("benchmark.data").joinpath("nsd_shared1000.json").read_text("utf-8")))


def overlap_fault(trained_on: str, trained: Iterable[str], tested_on: str, tested: Iterable[str]) -> str | None:
    """Return why a model must not be scored where stimuli it was trained on are tested, or None.

    Parameters
    ----------
    trained_on, tested_on : str
        What to call both in the sentence, such as ``algonauts2023`` and ``nsd/nsd-982``.
    trained, tested : iterable of str
        Stimulus ids.
    """
    trained, tested = set(trained), set(tested)
    both = sorted(trained & tested)
    if both:
        return (
            f"trained on {trained_on}, which shows {len(both)} of the {len(tested)} stimuli that {tested_on} tests "
            f"({both[0]}{', ...' if both[1:] else ''}), expected a model that never saw them"
        )
    a, b = ({_kind(name) for name in side} for side in (trained, tested))
    if ("known" in a and "unknown" in b) or ("unknown" in a and "known" in b):
        return (
            f"trained on {trained_on}, scored on {tested_on}: both show NSD's pictures, and one of them is a copy "
            "without NSD ids, so which they share cannot be told; expected a copy with them"
        )
    return None


def trained_on_fault(trained_on: str, tested_on: str, tested: Iterable[str]) -> str | None:
    """Return why a model must not be scored, from the name of what it was trained on; no data is read.

    A dataset without a split stands for all of its pictures, and a split for all that any subject trains on.

    Parameters
    ----------
    trained_on : str
        ``DATASET`` or ``DATASET/SPLIT``. Of a copy of ``algonauts2023`` without NSD ids: ``algonauts2023``.
    tested_on : str
        What to call the test side.
    tested : iterable of str
        Stimulus ids.

    Raises
    ------
    BenchError
        For an unknown split of a dataset of NSD's pictures.
    """
    dataset, _, split = trained_on.partition("/")
    if dataset not in HELD_OUT:
        return None
    if split and split not in HELD_OUT[dataset]:
        raise BenchError(f"trained on {trained_on}: unknown split {split!r}, {nearest(split, HELD_OUT[dataset])}")
    tested = set(tested)
    seen = {name for name in tested if _kind(name) == "known"}
    if split:
        seen -= set(nsd_design.stimulus_ids(shared_pictures()).tolist())
    return overlap_fault(trained_on, seen | {_SOME}, tested_on, tested)


def _kind(name: str) -> str | None:
    """Return whether an id is of an NSD picture, its number ``"known"`` or ``"unknown"``; None for others."""
    if name.startswith(WITHOUT_NSD_ID):
        return "unknown"
    return "known" if name == _SOME or re.fullmatch(r"nsd\d{5}", name) else None
