"""Runs as one file for others: written, read without trust, and scored again before they join the records."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import stat
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from benchmark import card as cards
from benchmark import external, records
from benchmark.data.files import write_atomic
from benchmark.errors import BenchError
from benchmark.plan import Planned, Request
from benchmark.provenance import now
from benchmark.registry import NAME, Entry, Registry
from benchmark.regress import FLOOR
from benchmark.store import Run, Store

TAG = "submitted"
LISTS = ("items", "class_ids", "captions")
# What scoring reads; folds and names as `benchmark.worker.save` writes them.
_MEMBER = re.compile(
    r"(?P<run>[0-9a-f]{16})/(?:card\.json|predictions/(?P<fold>(?!\.)[^/\\:\0]+)/"
    r"(?P<file>(?:images|class_scores|embeddings\.(?!\.)[^/\\:\0]+)\.npy|(?:items|class_ids|captions)\.json))"
)
_TAG_TEXT = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ,.()/-]{0,59}")
MAX_MEMBER, MAX_TOTAL, MAX_JSON, MAX_MEMBERS = 2 << 30, 8 << 30, 64 << 20, 100_000  # bytes; members
_FILTERS = ("suite", "dataset", "subject", "split", "method", "preset", "profile", "seed")


@dataclass(frozen=True)
class Submitted:
    """A run of a bundle: its card, and its predictions' members by fold."""

    card: Mapping[str, Any]
    folds: Mapping[str, Mapping[str, zipfile.ZipInfo]]

    @property
    def label(self) -> str:
        return cards.label(self.card)


def choose(store: Path, text: str) -> list[Path]:
    """Return the finished runs that a text stands for.

    Parameters
    ----------
    store : Path
    text : str
        A run directory, the id of a run, ``method[:preset]``, or ``name=value,...`` of suite, dataset, subject, split,
        method, preset, profile, seed.

    Raises
    ------
    BenchError
        None found, or one of them did not finish.
    """
    if (Path(text) / "status.json").is_file():
        folders = [Path(text)]
    else:
        if not store.is_dir():
            raise BenchError(f"--store {store}: no such folder, expected the run directories of bench run")
        shelf = Store(store)
        items = [item for item in records.from_store(shelf) if _wanted(item, text)]
        folders = [store / i["suite"] / i["dataset"] / i["method"] / i["run_id"] for i in items]
    if not folders:
        raise BenchError(
            f"--submit {text}: no such run in {store}, expected a run directory, a run id, method[:preset] or "
            f"name=value of {', '.join(_FILTERS)}"
        )
    for folder in folders:
        run = Run(folder)
        if not run.whole or run.status["status"] != "ok" or not run.has_predictions or not run.scores:
            raise BenchError(f"{folder}: no run that finished and was scored, expected only such with --submit {text}")
    return folders


def _wanted(item: Mapping[str, Any], text: str) -> bool:
    if "=" not in text:
        preset = "" if item["preset"] == "default" else f":{item['preset']}"
        return text in (item["run_id"], item["method"] + preset)
    pairs = [part.partition("=") for part in text.split(",")]
    if bad := [name for name, _, _ in pairs if name.strip() not in _FILTERS]:
        raise BenchError(f"--submit {text}: unknown name {bad[0]!r}, expected {', '.join(_FILTERS)}")
    return all(str(item[name.strip()]) == value.strip() for name, _, value in pairs)


def write(out: Path, folders: Sequence[Path]) -> int:
    """Write a bundle of run directories; the same runs give the same bytes. Returns its size."""

    def fill(file: IO[bytes]) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for folder in sorted(folders, key=lambda f: f.name):
                card = cards.read(folder)
                _add(archive, f"{card['run_id']}/{cards.CARD}", (cards.dumps(card)).encode())
                for path in sorted((folder / "predictions").rglob("*")):
                    name = f"{card['run_id']}/{path.relative_to(folder).as_posix()}"
                    if path.is_file() and _MEMBER.fullmatch(name):
                        _add(archive, name, path)

    write_atomic(out, fill)
    return out.stat().st_size


def _add(archive: zipfile.ZipFile, name: str, content: bytes | Path) -> None:
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
    info.file_size = len(content) if isinstance(content, bytes) else content.stat().st_size
    with archive.open(info, "w", force_zip64=info.file_size > 1 << 30) as target:
        if isinstance(content, bytes):
            target.write(content)
            return
        with content.open("rb") as source:
            while block := source.read(1 << 20):
                target.write(block)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a bundle; whatever a damaged archive raises becomes a ``BenchError``."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (BenchError, KeyboardInterrupt):
        raise
    except OSError as error:
        raise BenchError(f"{path}: cannot be read ({error.strerror or error}), expected a bundle") from None
    except Exception as error:  # zipfile and zlib each have their own errors for a damaged archive
        raise BenchError(f"{path}: damaged ({type(error).__name__}: {error}), expected a bundle") from None


def read(path: Path, archive: zipfile.ZipFile) -> list[Submitted]:
    """Return the runs of a bundle; only names and sizes as `write` makes them are let in, and nothing is written.

    Raises
    ------
    BenchError
        A strange path, another or a second file, a link, a member or all too large, a card or predictions missing.
    """
    found: dict[str, dict[str, dict[str, zipfile.ZipInfo]]] = {}
    infos = archive.infolist()
    if len(infos) > MAX_MEMBERS or sum(info.file_size for info in infos) > MAX_TOTAL:
        raise BenchError(f"{path}: more than {MAX_MEMBERS} members or {MAX_TOTAL >> 30} GB, expected less")
    cards_of: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = info.orig_filename
        match = _MEMBER.fullmatch(name)
        if match is None or info.filename != name:
            raise BenchError(f"{path}: member {name!r}, expected only cards and predictions, as --submit writes them")
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG) or info.flag_bits & 1:
            raise BenchError(f"{path}: member {name!r} is a link or encrypted, expected a plain file")
        limit = MAX_JSON if name.endswith(".json") else MAX_MEMBER
        if info.file_size > limit:
            raise BenchError(f"{path}: member {name!r} has {info.file_size} bytes, expected at most {limit}")
        place = found.setdefault(match["run"], {})
        if match["fold"] is None:
            place, key = cards_of, match["run"]
        else:
            place, key = place.setdefault(match["fold"], {}), match["file"]
        if key in place:
            raise BenchError(f"{path}: member {name!r} is there twice, expected once")
        place[key] = info
    if not found:
        raise BenchError(f"{path}: holds no run, expected a bundle of bench leaderboard --submit")
    return [_submitted(path, archive, run, cards_of.get(run), folds) for run, folds in sorted(found.items())]


def _submitted(path: Path, archive: zipfile.ZipFile, run: str, info, folds) -> Submitted:
    if info is None or not folds:
        raise BenchError(f"{path}: run {run} has no {'predictions' if info else cards.CARD}, expected both")
    card = cards.parse(archive.read(info), f"{path}: {info.filename}")
    where = f"{path}: {cards.label(card)}"
    if card["run_id"] != run or card["status"] != "ok":
        raise BenchError(f"{where}: run {card['run_id']} {card['status']}, expected {run} ok")
    for name in ("method", "preset"):
        if not NAME.fullmatch(card["spec"][name]):
            raise BenchError(f"{where}: {name} {card['spec'][name]!r}, expected letters, digits, '.', '_' and '-'")
    if bad := [tag for tag in card["tags"] if not _TAG_TEXT.fullmatch(tag)]:
        raise BenchError(f"{where}: tag {bad[0]!r}, expected plain words")
    if card["date"] > now():
        raise BenchError(f"{where}: made at {card['date']}, expected a time that is past")
    return Submitted(card, folds)


def verify(
    path: Path, archive: zipfile.ZipFile, run: Submitted, registry: Registry, request: Request, scratch: Path
) -> dict[str, Any]:
    """Score a run's predictions again with this code, and return the record that joins the others.

    Its values, columns and facts of the data are of this scoring; what is taken over from the card is who made the
    predictions, when, how and at what cost.

    Raises
    ------
    BenchError
        Another dataset or split, other test items, NaN, a metric of another version, scores that do not agree.
    """
    from benchmark import rerun, runner

    planned = _planned(run, registry, request)
    where = f"{path}: {run.label}"
    staged = scratch / "staged" / run.card["run_id"]
    _stage(where, archive, run, planned, staged, request.device)
    options = {**planned.job.options, "staged": str(staged), "figures": False, "ladder": "off"}
    item = dataclasses.replace(planned, job=dataclasses.replace(planned.job, options=options))
    session = runner.Session(Store(scratch / "store"), runner.Limits(), predict=external.place)
    done = runner.run_all([item], session)[0]
    if done.status["status"] != "ok":
        raise BenchError(f"{where}: cannot be scored ({done.status['reason']}), expected predictions as runs make them")
    here = records.record(done)
    cells = rerun.compare(run.card, cards.of(here), FLOOR)
    for cell in cells:
        if cell.why and not _excused(cell, run.card, here):
            there, value = (("–" if v is None else f"{v:.6g}") for v in (cell.card, cell.now))
            raise BenchError(
                f"{where}: {cell.track} {cell.metric} is {there} in the bundle and {value} from its predictions here "
                f"({cell.why}), expected the same to {FLOOR:g}"
            )
    for track, columns in here["columns"].items():
        if run.card["scores"].get(track, {}).get(columns["ranked"], {}).get("value") is None:
            raise BenchError(f"{where}: no {columns['ranked']} of the {track} track, expected what rows are ranked by")
    return _record(run.card, here, planned)


def _planned(run: Submitted, registry: Registry, request: Request) -> Planned:
    """Return the plan of the same test, with an adapter that runs nothing of the bundle's or the method's code."""
    from benchmark import rerun

    card, name = run.card, f"{run.card['spec']['method']}-{TAG}-{run.card['run_id'][:8]}"
    meta = {"tracks": tuple(sorted(card["tracks"])), "source": external.TAG}
    registry.add(Entry("method", name, "benchmark.external:External", "--accept", meta=meta))
    spec = {**card["spec"], "method": name, "preset": "default", "params": {}}
    return rerun.find(registry, {**card, "spec": spec, "ladder": "off"}, request)


def _stage(where: str, archive, run: Submitted, planned: Planned, folder: Path, device: str) -> None:
    """Read the predictions of every fold, check them as a run's own are, and write them where scoring looks."""
    from benchmark import worker
    from benchmark.data import prepare
    from benchmark.data.locate import load
    from benchmark.frozen import Source

    job = planned.job
    folds = prepare.folds(load(job.dataset, job.root, job.cache), job.split, job.spec.subject)
    if odd := sorted({fold.name for fold in folds} ^ set(run.folds)):
        raise BenchError(f"{where}: folds differ from the split's in {odd[0]!r}, expected {len(folds)} of them")
    space = next((t.space for t in job.tracks.values() if t.space), None)
    models = Source(job.spec.profile, job.cache, job.weights, device)
    for fold in folds:
        given, ids = _predictions(where, archive, run.folds[fold.name]), prepare.test_items(fold).ids
        if given.pop("items", None) != [str(i) for i in ids]:
            raise BenchError(f"{where}: the predictions of fold {fold.name} are for other items than the split's test")
        try:
            from benchmark.api import Predictions

            checked = worker.validate(Predictions(**given), len(ids), frozenset(job.tracks), space)
        except BenchError as error:
            raise BenchError(f"{where}: fold {fold.name}: {error}") from None
        worker.save(checked, folder / fold.name, ids)
        if space is not None:
            np.save(folder / fold.name / "centre.npy", external.centre(fold, space, models))


def _predictions(where: str, archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo]) -> dict[str, Any]:
    """Return the fields of `benchmark.Predictions` of one fold, and its items; nothing is unpickled."""
    fields: dict[str, Any] = {"embeddings": {}}
    for name, info in members.items():
        if name.endswith(".json"):
            value = cards.load(archive.read(info), f"{where}: {name}")
            if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
                raise BenchError(f"{where}: {name} is no list of texts, expected one")
            fields[name.removesuffix(".json")] = np.array(value) if name == "class_ids.json" else value
            continue
        try:
            with archive.open(info) as file:
                rows = np.lib.format.read_array(file, allow_pickle=False)
        except (ValueError, EOFError, TypeError, SyntaxError, MemoryError) as error:
            raise BenchError(f"{where}: {name} cannot be read ({error}), expected an array of numbers") from None
        if rows.dtype.kind not in "fiu":
            raise BenchError(f"{where}: {name} holds {rows.dtype}, expected numbers")
        stem = name.removesuffix(".npy")
        if stem.startswith("embeddings."):
            fields["embeddings"][stem.removeprefix("embeddings.")] = rows
        else:
            fields[stem] = rows
    return fields


def _excused(cell, card: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    """Whether a score is only there on one side, for want of a network's weights or of the metric itself."""
    scores = [side["scores"].get(cell.track, {}).get(cell.metric) for side in (card, here)]
    if None in scores:
        return True
    return (cell.card is None) != (cell.now is None) and any(score.get("undefined") for score in scores)


def _record(card: Mapping[str, Any], here: Mapping[str, Any], planned: Planned) -> dict[str, Any]:
    spec, code, machine, cost = card["spec"], card["code"], card["machine"], card["cost"]
    own = [tag for tag in here["tags"] if tag not in (external.TAG, external.UNSTATED)]
    return {
        **{k: v for k, v in here.items() if k not in ("notes", "ladder", "figures")},
        **{name: spec[name] for name in ("method", "preset", "params", "profile", "seed")},
        **{name: card[name] for name in ("run_id", "date", "versions", "control")},
        **{name: code[name] for name in ("commit", "dirty", "source")},
        **{name: machine[name] for name in ("hardware", "device", "threads")},
        **{name: cost.get(name) for name in ("seconds", "cpu_seconds", "peak_mb")},
        "ladder_asked": card["ladder"],
        "preparation": [],
        "tags": list(dict.fromkeys([*own, *card["tags"], TAG])),
    }


def check_place(path: Path, item: Mapping[str, Any], there: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a record that would replace one of the board's own, or take other rows' ranks by widening the board."""
    board = [r for r in there if all(r[k] == item[k] for k in ("suite", "dataset", "split"))]
    old = next((r for r in board if records.key(r) == records.key(item)), None)
    if old is not None and TAG not in (old["tags"] or ()):
        raise BenchError(
            f"{path}: {item['method']} {item['subject']} seed {item['seed']} is among the records already, made here; "
            "expected another method, preset or seed"
        )
    for name in ("subject", "seed"):
        known = sorted({r[name] for r in board})
        if known and item[name] not in known:
            raise BenchError(
                f"{path}: {item['method']} has {name} {item[name]}, which no row of the board has, expected "
                f"{', '.join(map(str, known))}"
            )
