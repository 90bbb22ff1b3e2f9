"""``bench compare A B``: two methods of a store on the same items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmark.board_numbers import number
from benchmark.board_stats import Scores, by_stimulus, compare_items, stimulus_of, subject_values, unit_values
from benchmark.errors import BenchError
from benchmark.stats import MIN_SUBJECTS, Difference, kind_of, paired_subjects, seed_spread
from benchmark.store import Run

SHOWN = 5  # items where the two differ most
# A difference between rows that differ in one of these would not be the methods'.
_SAME = {
    "dataset_fingerprint": "dataset (fingerprint)",
    "split_checksum": "split (checksum)",
}


@dataclass(frozen=True)
class Side:
    """The runs of one method in one place, by subject and seed; the newest where there are several."""

    label: str
    runs: Mapping[tuple[str, int], Run]


@dataclass(frozen=True)
class Comparison:
    """A minus B in one metric of one track.

    Attributes
    ----------
    items : Difference
        Over stimuli pooled within these subjects.
    subjects : Difference or None
        Over subjects; None below three.
    seed_sd : (float or None, float or None)
        Spread over seeds of A and of B.
    most : tuple of (stimulus, A, B)
        Where the two differ most, values averaged over subjects, seeds and conditions.
    """

    track: str
    metric: str
    higher_is_better: bool | None
    a: float
    b: float
    items: Difference
    subjects: Difference | None
    seed_sd: tuple[float | None, float | None]
    most: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True)
class Place:
    """What two methods were compared on."""

    suite: str
    dataset: str
    split: str
    profile: str
    a: str
    b: str
    subjects: tuple[str, ...]
    left_out: tuple[str, ...]
    comparisons: tuple[Comparison, ...]

    def plain(self) -> dict[str, Any]:
        """Return it as what JSON holds."""
        return asdict(self)


def compare(store: Path, a: str, b: str, metric: str | None = None, track: str | None = None) -> list[Place]:
    """Compare two methods wherever both have finished runs.

    Parameters
    ----------
    store : Path
        Folder of the run directories.
    a, b : str
        ``method[:preset]``, or the id of a run.
    metric, track : str, optional
        Only these. Default: all that have a value per item.

    Raises
    ------
    BenchError
        Nothing to compare, or rows of different data, split, suite or metric version.
    """
    sides = [_sides(store, text) for text in (a, b)]
    common = [place for place in sides[0] if place in sides[1]]
    if not common:
        raise BenchError(f"--store {store}: {a} and {b} have no suite, dataset, split and profile in common")
    places = [_place(key, sides[0][key], sides[1][key], metric, track) for key in common]
    places = [place for place in places if place.comparisons]
    if not places:
        wanted = " ".join(f"--{name} {value}" for name, value in (("track", track), ("metric", metric)) if value)
        raise BenchError(f"{wanted or f'{a} and {b}'}: no score per item that both have; expected one of their metrics")
    return places


def _sides(store: Path, text: str) -> dict[tuple, Side]:
    """Return the finished runs that a name or run id stands for, by (suite, dataset, split, profile)."""
    if not store.is_dir():
        raise BenchError(f"--store {store}: no such folder, expected the run directories of bench run")
    method, _, preset = text.partition(":")
    pattern = f"*/*/{method}/*/status.json" if _plain(method) else ""
    runs = [] if not pattern else _whole(store, pattern)
    runs = [run for run in runs if run.spec["preset"] == (preset or "default")]
    if not runs and not preset and _plain(text):
        runs = _whole(store, f"*/*/*/{text}/status.json")
    if not runs:
        raise BenchError(f"{text}: no such run in {store}, expected method[:preset] or a run id")
    finished = [run for run in runs if run.status["status"] == "ok" and run.scores]
    if not finished:
        raise BenchError(f"{text}: no run that finished and was scored, the first says {runs[0].status['reason']!r}")
    found: dict[tuple, dict[tuple[str, int], Run]] = {}
    for run in sorted(finished, key=lambda r: (r.provenance.get("date", ""), r.id)):
        spec = run.spec
        place = tuple(spec[name] for name in ("suite", "dataset", "split", "profile"))
        found.setdefault(place, {})[spec["subject"], spec["seed"]] = run
    return {place: Side(text, runs) for place, runs in sorted(found.items())}


def _plain(name: str) -> bool:
    return bool(name) and not set(name) & set("*?[]/\\") and not name.startswith(".")


def _whole(store: Path, pattern: str) -> list[Run]:
    paths = sorted(store.glob(pattern))
    runs = [Run(p.parent) for p in paths if not p.parent.name.startswith(".")]
    return [run for run in runs if run.whole]


def _place(key: tuple, a: Side, b: Side, metric: str | None, track: str | None) -> Place:
    subjects = [{subject for subject, _ in side.runs} for side in (a, b)]
    shared = sorted(subjects[0] & subjects[1])
    where = "/".join(key[:3])
    if not shared:
        raise BenchError(f"{where}: {a.label} and {b.label} have no subject in common")
    kept = [Side(side.label, {k: run for k, run in side.runs.items() if k[0] in shared}) for side in (a, b)]
    _refuse(where, kept)
    tables = [{k: _table(run) for k, run in side.runs.items()} for side in kept]
    comparisons = tuple(_comparisons(where, kept, tables, metric, track))
    left_out = sorted(subjects[0] ^ subjects[1])
    return Place(*key, a.label, b.label, tuple(shared), tuple(left_out), comparisons)


def _refuse(where: str, sides: Sequence[Side]) -> None:
    """Refuse rows of different data."""
    for name, what in _SAME.items():
        by_subject: dict[str, set] = {}
        for side in sides:
            for (subject, _), run in side.runs.items():
                # a subject's own data may have their own fingerprint
                by_subject.setdefault(subject, set()).add(str(run.provenance.get(name)))
        if odd := [s for s, values in by_subject.items() if len(values) > 1]:
            labels = " and ".join(side.label for side in sides)
            raise BenchError(f"{where}: the runs of {labels} differ in their {what} for {odd[0]}; run the older again")


def _table(run: Run) -> dict[str, Any]:
    """Return the columns of a run's scores."""
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(run.path / "scores.parquet").to_pandas()
    except (OSError, ValueError) as error:
        raise BenchError(f"{run.path / 'scores.parquet'}: cannot be read ({error}); score the run again") from error


def _comparisons(where: str, sides, tables, metric: str | None, track: str | None) -> Iterator[Comparison]:
    first = [next(iter(side.runs.values())).scores["tracks"] for side in sides]
    for name in (t for t in first[0] if t in first[1] and track in (None, t)):
        columns = [c for c in _ordered(next(iter(sides[0].runs.values())), name) if c in first[0][name]]
        for column in (c for c in columns if c in first[1][name] and metric in (None, c)):
            summaries = [[run.scores["tracks"].get(name, {}).get(column) for run in s.runs.values()] for s in sides]
            if any(s is None or s["value"] is None for side in summaries for s in side):
                continue
            versions = {(s.get("version"), s.get("protocol")) for side in summaries for s in side}
            if len(versions) > 1:
                raise BenchError(f"{where}: {column} was scored in different versions ({_say(versions)}); score again")
            kind = _kind(column, tables[0])
            if kind:
                cells = [_scores(t, name, column) for t in tables]
                yield _comparison(name, column, summaries[0][0]["higher_is_better"], kind, cells)


def _ordered(run: Run, track: str) -> list[str]:
    """Return a track's metrics, the ranked one first."""
    asked = (run.provenance.get("columns") or {}).get(track) or {}
    names = dict.fromkeys([*asked.get("metrics", ()), *run.scores["tracks"][track]])
    ranked = asked.get("ranked")
    return [ranked, *(n for n in names if n != ranked)] if ranked in names else list(names)


def _say(versions: set) -> str:
    return ", ".join(sorted(f"{version} {protocol}" for version, protocol in versions))


def _kind(column: str, tables: Mapping) -> str | None:
    """Return how a metric's rows are treated; None where they are no test items (dimensions, or one number a run)."""
    table = next(iter(tables.values()))
    row = table[table["metric"] == column].iloc[0]
    if not row["item"].startswith(f"{row['fold']}/"):
        return None
    return kind_of(column, aggregate="median" if column.startswith("rank_median") else "mean")


def _scores(tables: Mapping[tuple[str, int], Any], track: str, column: str) -> Scores:
    found = {}
    for key, table in tables.items():
        rows = table[(table["track"] == track) & (table["metric"] == column)]
        blocks = table["block"].astype(str).unique()
        items = stimulus_of(rows["item"].astype(str).tolist(), rows["fold"].astype(str).tolist(), blocks)
        found[key] = by_stimulus(items, rows["value"].to_numpy())
    return found


def _comparison(track: str, column: str, higher: bool | None, kind: str, cells: Sequence[Scores]) -> Comparison:
    items = compare_items(*cells, kind)
    by_subject = [subject_values(scores, kind) for scores in cells]
    a, b = (list(values.values()) for values in by_subject)
    units, left = unit_values(cells[0])
    _, right = unit_values(cells[1])
    order = sorted(range(len(units)), key=lambda i: (-abs(left[i] - right[i]), units[i]))[:SHOWN]
    return Comparison(
        track=track,
        metric=column,
        higher_is_better=higher,
        a=float(sum(a) / len(a)),
        b=float(sum(b) / len(b)),
        items=items,
        subjects=paired_subjects(a, b),
        seed_sd=tuple(seed_spread(_means(scores, kind)) for scores in cells),
        most=tuple((units[i], float(left[i]), float(right[i])) for i in order),
    )


def _means(scores: Scores, kind: str) -> dict[tuple[str, int], float]:
    return {key: subject_values({key: values}, kind)[key[0]] for key, values in scores.items()}


def show(console: Any, place: Place, metric: str | None = None) -> None:
    """Print a comparison as tables: one of the metrics, one of the items where the two differ most."""
    from rich import box
    from rich.table import Table

    where = f"{place.suite} · {place.dataset} · split {place.split} · {place.profile}"
    n = len(place.subjects)
    for track in dict.fromkeys(c.track for c in place.comparisons):
        rows = [c for c in place.comparisons if c.track == track]
        title = f"A = {place.a}, B = {place.b}: {where} · {track}"
        table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
        table.add_column("metric", no_wrap=True)
        over_subjects = n >= MIN_SUBJECTS
        heads = ["A", "B", "A − B", "95 % items", "p items", "d_z", "n"]
        heads += ["95 % subjects", "p subjects"] if over_subjects else []
        for head in heads:
            table.add_column(head, justify="right", no_wrap=True)
        for c in rows:
            arrow = {True: " ↑", False: " ↓", None: ""}[c.higher_is_better]
            cells = [number(c.a), number(c.b), _signed(c.items.value), *_cells(c.items)]
            cells += [number(c.items.effect_size), str(c.items.n)]
            table.add_row(c.metric + arrow, *cells, *(_cells(c.subjects) if over_subjects else []))
        console.print(table)
        chosen = next((c for c in rows if c.metric == metric), rows[0])
        _show_most(console, chosen)
        labels = zip((place.a, place.b), chosen.seed_sd, strict=True)
        spread = [f"{label} {number(sd)}" for label, sd in labels if sd is not None]
        if spread:
            console.print(f"SD over seeds of {chosen.metric}: {', '.join(spread)}", highlight=False)
    left_out = f"; left out: {', '.join(place.left_out)}" if place.left_out else ""
    console.print(f"subjects: {', '.join(place.subjects)}{left_out}", highlight=False)
    if n < MIN_SUBJECTS:
        console.print("fewer than three subjects: what is said holds within these subjects only", highlight=False)
    if len(place.comparisons) > 1:
        console.print("p-values are not corrected for the number of metrics shown", highlight=False)


def _show_most(console: Any, chosen: Comparison) -> None:
    from rich import box
    from rich.table import Table

    title = f"{chosen.metric}: where they differ most"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("item")
    for head in ("A", "B", "A − B"):
        table.add_column(head, justify="right", no_wrap=True)
    for item, left, right in chosen.most:
        table.add_row(item, number(left), number(right), _signed(left - right))
    console.print(table)


def _cells(difference: Difference | None) -> list[str]:
    """Return the interval and the p-value as text."""
    if difference is None:
        return ["–", "–"]
    interval = " … ".join(map(_signed, difference.interval)) if difference.interval else "–"
    p = difference.p
    return [interval, "–" if p is None else "< .0001" if p < 1e-4 else f"{p:.4f}"]


def _signed(value: float) -> str:
    return f"{value:+.1f}" if abs(value) >= 10 else f"{value:+.3f}"
