"""Checks of the stimuli: pictures on both sides, target tables, captions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmark.checkup._recording import (
    FAULT,
    OK,
    SIDE,
    TRANSDUCTIVE,
    UNCHECKED,
    WARNING,
    Finding,
    Recording,
    of,
    standard,
)
from benchmark.checkup._responses import scaled_shares
from benchmark.data import splits
from benchmark.data.scan import embedding_faults
from benchmark.errors import BenchError

MAX_PICTURES = 10_000
ALIKE = 0.98  # near-duplicates: correlation of pictures of 16 x 16
MANY_ALIKE = 0.05  # share of the test pictures from which near-duplicates are a fault


def pictures(recording: Recording, drawn: dict[str, Any]) -> Iterator[Finding]:
    """Look for one picture, or nearly one, on both sides of a split over stimuli."""
    images, ids = recording.stimuli.images, recording.stimuli.ids
    if images is None:
        yield Finding("pictures", UNCHECKED, "Not checked: no pictures.")
        return
    (train, test), shown = recording.sides(), recording.shown
    digests = dict(zip(shown.tolist(), splits.image_digests(images, shown), strict=True))
    if recording.unit != "stimulus":
        text = f"Not checked: a split over {recording.unit}s tests on pictures it trained on."
        yield Finding("pictures", UNCHECKED, text)
    else:
        in_train = {digests[s]: s for s in train.tolist()}
        same = [(in_train[digests[s]], s) for s in test.tolist() if digests[s] in in_train]
        if same:
            a, b = same[0]
            text = f"{of(len(same), len(test))} test pictures are trained on, byte for byte ({ids[b]} is {ids[a]})."
            yield Finding("pictures", FAULT, text, len(same) / len(test))
        near, best = _near(recording, drawn, train, test, {b for _, b in same})
        if near:
            a, b, r = near[0]
            share = len(near) / len(test)
            text = f"{of(len(near), len(test))} test pictures are nearly those of training: {ids[b]} and {ids[a]} "
            text += f"correlate at {r:.3f} as {SIDE} x {SIDE} pixels."
            yield Finding("pictures", FAULT if share >= MANY_ALIKE else WARNING, text, share)
        if not same and not near:
            text = f"No picture is on both sides; the closest two correlate at {best:.3f} as {SIDE} x {SIDE} pixels."
            yield Finding("pictures", OK, text, best)
    twins = len(shown) - len(set(digests.values()))
    if twins and not (recording.unit == "stimulus" and same):
        text = f"{of(twins, len(shown))} pictures are those of other stimuli, byte for byte."
        yield Finding("pictures", WARNING, text, twins / len(shown))


def _near(recording, drawn, train, test, known) -> tuple[list[tuple[int, int, float]], float]:
    """Return the test pictures that a training picture is nearly equal to, the closest first, and the best other r."""
    images = recording.stimuli.images
    if len(train) > MAX_PICTURES:
        train = np.sort(recording.rng.choice(train, MAX_PICTURES, replace=False))
    a, b = (standard(recording.small[np.searchsorted(recording.shown, rows)], axis=1) for rows in (train, test))
    r = b @ a.T / a.shape[1]
    partner, value = r.argmax(axis=1), r.max(axis=1)
    drawn["pictures"] = value, [images[train[partner[value.argmax()]]], images[test[value.argmax()]]]
    order = np.argsort(-value)
    pairs = [(int(train[partner[i]]), int(test[i]), float(value[i])) for i in order if int(test[i]) not in known]
    return [p for p in pairs if p[2] > ALIKE and _close(images, p)], pairs[0][2] if pairs else 1.0


def _close(images: np.ndarray, pair: tuple[int, int, float]) -> bool:
    """Return whether two pictures are alike at full size too: plain ones are at 16 x 16 where they are not the same."""
    a, b = (np.asarray(images[row], np.float64).ravel() for row in pair[:2])
    return bool(np.ptp(a) and np.ptp(b) and np.corrcoef(a, b)[0, 1] > ALIKE - 0.08)


def targets(recording: Recording) -> Iterator[Finding]:
    """Look at the target tables: numbers, constant and copied rows, scaling over all stimuli."""
    stimuli = recording.stimuli
    faults = [Finding("targets", FAULT, f"The {fault}.") for fault in embedding_faults(stimuli)]
    yield from faults
    (train, test), shown = recording.sides(), recording.shown
    told, transductive = [], TRANSDUCTIVE in recording.dataset.tags
    for name, table in stimuli.embeddings.items() if not faults else ():
        values = np.asarray(table[shown], np.float32)
        sd = values.std(axis=0, dtype=np.float64)
        if not (sd > 0).any():
            yield Finding("targets", FAULT, f"Targets {name!r} are the same for every stimulus.", 1.0)
            continue
        of_test = values[np.isin(shown, test)]
        copies = 1 - len(np.unique(of_test, axis=0)) / len(of_test)
        if copies and len(np.unique(values, axis=0)) > 0.5 * len(values):  # else they are classes
            text = f"{copies:.0%} of test stimuli have the target in {name!r} of another one."
            yield Finding("targets", WARNING, text, copies)
        scaled = max(scaled_shares(v)[0] for v in (values, np.asarray(table, np.float32)))
        by_train = scaled_shares(values[np.isin(shown, train)])[0]
        if scaled > 0.5 and by_train < 0.5 and recording.unit == "stimulus" and not transductive:
            text = f"{scaled:.0%} of the dimensions of {name!r} are z-scored over all stimuli, those of test too."
            yield Finding("targets", WARNING, text, scaled)
        told.append(f"{name} ({values.shape[1]} dimensions, {np.mean(sd == 0):.0%} constant)")
    if stimuli.images is not None:
        pixels = recording.small.reshape(len(shown), -1, SIDE * SIDE)
        flat = (np.ptp(pixels, axis=2) < 1e-3).all(axis=1)
        if flat.any():
            text = f"{of(flat.sum(), len(shown))} pictures show one colour and nothing else."
            yield Finding("targets", WARNING, text, float(flat.mean()))
    if told:
        yield Finding("targets", OK, f"Targets are finite and vary: {', '.join(told)}.", float(len(told)))


def captions(recording: Recording, clip: Any) -> Iterator[Finding]:
    """Ask CLIP whether a picture's own caption fits it better than the captions of other pictures."""
    stimuli = recording.stimuli
    if stimuli.captions is None or stimuli.images is None:
        return
    rows = np.sort(recording.rng.choice(recording.shown, min(200, len(recording.shown)), replace=False))
    texts = [stimuli.captions[row][0] for row in rows]
    if clip is None or len(rows) < 4:
        yield Finding("captions", UNCHECKED, "Not checked: no CLIP to read them with.")
        return
    try:
        text, image = clip.encode_text(texts), clip.encode_image(np.asarray(stimuli.images[rows]))
    except BenchError as error:
        yield Finding("captions", UNCHECKED, f"Not checked: {error}.")
        return
    similar = image @ text.T
    own = similar.diagonal()[:, None]
    other = np.array(texts)[:, None] != np.array(texts)
    two_way = float(((own > similar) + 0.5 * (own == similar))[other].mean())
    verdict = FAULT if two_way < 0.6 else WARNING if two_way < 0.75 else OK
    does = "prefers" if verdict == OK else "hardly prefers"
    text = f"CLIP {does} a picture's own caption to another's: two-way {two_way:.3f} over {len(rows)} pictures."
    yield Finding("captions", verdict, text, two_way)
