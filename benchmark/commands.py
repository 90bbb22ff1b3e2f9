"""What the verbs do, apart from reading their options."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmark import board_page, records
from benchmark.board_pictures import pictures
from benchmark.data.files import write_atomic
from benchmark.data.locate import FOLDER_HEADER, FOLDER_TARGET, cache_dir, candidates, data_dir, find, load
from benchmark.errors import BenchError
from benchmark.leaderboard import tables as tables_of
from benchmark.registry import Registry, resolve
from benchmark.store import FAILED, Store, write_json
from benchmark.terminal import WIDTH_WITHOUT_TERMINAL, Watch, show_tables

BOARDS_IN_STORE = "leaderboards"
REPORT_IN_STORE = "report"
MINI_TIMEOUT = 900.0  # seconds; small runs take a few, so that one which never returns cannot hold up the rest


def run(
    *, methods, subjects, seed, seeds, jobs, threads, timeout, memory_limit, json_file, plugins, data, store, **more
):
    """Carry out ``bench run``; returns the exit code."""
    from benchmark.plan import Request, plan
    from benchmark.runner import Limits, Session, run_all

    began = time.perf_counter()
    if seed is not None and seeds is not None:
        raise BenchError("--seed and --seeds exclude each other, expected one of them")
    if json_file and not os.access(json_file.resolve().parent, os.W_OK):
        raise BenchError(f"--json {json_file}: its folder is not there or cannot be written, expected one that can")
    if (weights := more["weights"]) and not weights.is_dir():
        raise BenchError(f"--weights {weights}: no such folder, expected the folder of the pretrained weights")
    cores = os.cpu_count() or 1
    jobs = jobs or (min(cores, 8) if more["profile"] == "mini" else 1)
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", more["device"]):
        raise BenchError(f"--device {more['device']}: expected auto, cpu, cuda, cuda:N or mps")
    limits = Limits(
        jobs=jobs,
        timeout=timeout or (MINI_TIMEOUT if more["profile"] == "mini" else None),
        memory_limit=int(memory_limit * 1e9) if memory_limit else None,
        fail_fast=more.pop("fail_fast"),
        force=more.pop("force"),
    )
    request = Request(
        methods=_words(methods),
        subjects=_words(subjects),
        seeds=tuple(range(seeds)) if seeds else (seed or 0,),
        threads=threads or max(1, cores // jobs),
        data=data_dir(data),
        cache=cache_dir(),
        **more,
    )
    console = Console(stderr=True)
    registry = Registry(plugins)
    with console.status("preparing") as status:
        planned = plan(registry, request, on_step=status.update)
    shelf = Store(store)
    with Watch(console, len(planned)) as watch:
        session = Session(shelf, limits, watch)
        runs = run_all(planned, session)
    items = [records.record(r) for r in runs]
    if json_file:
        objects = [f for item in items for f in records.flat(item)]
        write_atomic(json_file, (json.dumps(objects, indent=1, allow_nan=False) + "\n").encode())
    tables_here = {(p.spec.suite, p.spec.dataset, p.spec.split) for p in planned}
    scope = {(p.spec.suite, p.spec.dataset, p.spec.split, p.spec.subject, p.spec.seed, p.spec.profile) for p in planned}
    # Boards of this call cover its subjects and seeds; those of other datasets stay as they are.
    found = {
        records.key(i): i for i in records.from_store(shelf) if _table_of(i) not in tables_here or _scope(i) in scope
    }
    found |= {records.key(i): i for i in items}
    tables = tables_of(sorted(found.values(), key=records.order), _suites(registry))
    out = Console(width=None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL)
    show_tables(out, [t for t in tables if (t.suite, t.dataset, t.split) in tables_here])
    folder = shelf.root / BOARDS_IN_STORE
    board_page.write(folder, board_page.render(tables), pictures(tables), shelf.root)
    failed = sum(i["status"] in FAILED for i in items)
    counts = f"{len(items)} runs, {watch.kept} kept from before, {failed} failed"
    out.print(f"{counts}, {time.perf_counter() - began:.1f} s", highlight=False)
    out.print(f"leaderboards: {folder / 'README.md'}", highlight=False, soft_wrap=True)
    return 1 if failed or len(items) < len(planned) else 0


def score(*, paths, track, name, ids, order, key, trained_on, show_ids, seed, plugins, data, store, **more) -> int:
    """Carry out ``bench score``; returns the exit code."""
    import dataclasses
    import tempfile

    from benchmark import external, external_files
    from benchmark.plan import Request
    from benchmark.runner import Limits, Session, run_all
    from benchmark.worker import use_device

    if ids and order:
        raise BenchError("--ids and --order exclude each other, expected one of them")
    if not paths and not show_ids:
        raise BenchError("no predictions given, expected PATH")
    subjects = (more.pop("subject"),)
    request = Request(subjects=subjects, seeds=(seed,), data=data_dir(data), cache=cache_dir(), **more)
    registry = Registry(plugins)
    task = external.task_of(registry, request)
    files = external_files.Files(paths, ids, order == "split", key)
    if show_ids:
        empty = dataclasses.replace(files, paths=(), ids=None)
        print("\n".join(external.folds_of(external.plan(registry, request, "ids", [*task.tracks], empty, "").job)[2]))
        return 0
    contents = {}
    for given in (external_files.read(path, key) for path in paths):
        found = external.track_of(given, track if len(paths) == 1 or not given.pictures else None, task.tracks)
        if found in contents:
            raise BenchError(f"{given.path}: a second file for the {found} track, expected one")
        contents[found] = given
    planned = external.plan(registry, request, name, [*contents], files, trained_on)
    shelf = Store(store)
    same = {"method": name, "dataset": task.dataset, "split": planned.spec.split, "suite": planned.spec.suite}
    for item in records.from_store(shelf) if store.is_dir() else ():
        if all(item[k] == v for k, v in same.items()) and sorted(item["tracks"]) != sorted(contents):
            raise BenchError(
                f"--name {name}: the store has it in the {' and '.join(item['tracks'])} track, expected another name, "
                "or the files of all its tracks in one call"
            )
    with tempfile.TemporaryDirectory() as folder, Console(stderr=True).status("reading"):
        staged = Path(folder) / "predictions"
        note = external.stage(planned, contents, files, staged, use_device(more["device"], more["threads"]))
        contents.clear()
        job = dataclasses.replace(planned.job, options={**planned.job.options, "staged": str(staged)})
        session = Session(shelf, Limits(), predict=external.place)
        run = run_all([dataclasses.replace(planned, job=job)], session)[0]
    tables = tables_of(records.from_store(shelf), _suites(registry))
    out = Console(width=None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL)
    mine = [t for t in tables if (t.suite, t.dataset, t.split) == _table_of(run.spec)]
    show_tables(out, [t for t in mine if t.track in planned.job.tracks])
    board_page.write(shelf.root / BOARDS_IN_STORE, board_page.render(tables), pictures(tables), shelf.root)
    if note:
        out.print(f"warning: {note}", highlight=False, soft_wrap=True)
    out.print(f"scores: {run.path / 'scores.json'}", highlight=False, soft_wrap=True)
    return 1 if run.status["status"] in FAILED else 0


def regress(*, baseline: Path, store: Path, strict: bool, methods: Sequence[str] = ()) -> int:
    """Carry out ``bench regress``; returns the exit code."""
    from benchmark import regress as guard

    if not store.is_dir():
        raise BenchError(f"--store {store}: no such folder, expected the run directories of bench run")
    items = records.from_store(Store(store), on_damage=_refuse)
    committed, now = guard.read(baseline), guard.rows(items)
    if names := _words(methods):
        if missing := sorted(set(names) - {key[4] for key in committed}):
            raise BenchError(f"--method {missing[0]}: not in {baseline}, expected a method of its records")
        committed, now = ({k: row for k, row in side.items() if k[4] in names} for side in (committed, now))
    report = guard.compare(committed, now)
    print("\n".join(guard.lines(report, strict)))
    return 1 if report.moved or (strict and report.absent) else 0


def leaderboard(
    *, publish, check, suite, boards: Path, plugins, store: Path, submit=None, out=None, accept=None, **folders
) -> int:
    """Carry out ``bench leaderboard``; returns the exit code."""
    if sum(map(bool, (publish, check, submit, accept))) > 1 or bool(submit) != bool(out):
        raise BenchError("expected one of --publish, --check, --submit RUN --out FILE.zip and --accept BUNDLE")
    registry = Registry(plugins)
    if submit or accept:
        from benchmark import exchange

        return exchange.submit(store, submit, out) if submit else exchange.accept(accept, boards, registry, **folders)
    out = Console()
    if check:
        if not (boards / "records").is_dir():
            raise BenchError(f"--boards {boards}: holds no records, expected the folder of published boards")
        items = records.read(boards / "records")
        found = tables_of(items, _suites(registry))
        files = board_page.render(found)
        wrong = board_page.stale(boards, files, pictures(found))
        for name in wrong:
            out.print(f"{boards / name}: differs from what its records give; bench leaderboard --publish renders it")
        _say_older(registry, items, out)
        if not wrong:
            out.print(f"{len(items)} records, {len(files)} files, all as rendered")
        return 1 if wrong else 0
    if not store.is_dir():
        raise BenchError(f"--store {store}: no such folder, expected the run directories of bench run")
    damaged: list[str] = []
    items = records.from_store(Store(store), suite, damaged.append)
    for text in damaged:
        out.print(f"note: a damaged run is left out, bench run makes it again: {text}", highlight=False, soft_wrap=True)
    if not items:
        raise BenchError(f"--store {store}: holds no run{f' of suite {suite}' if suite else ''}")
    if publish:
        dirty = sum(bool(i["dirty"]) for i in items)
        if dirty:
            out.print(f"note: {dirty} runs were made with uncommitted changes")
        records.write(boards / "records", items)
        items = records.read(boards / "records")
    folder = boards if publish else store / BOARDS_IN_STORE
    found = tables_of(items, _suites(registry))
    board_page.write(folder, board_page.render(found), pictures(found), store)
    out.print(f"leaderboards: {folder / 'README.md'}", highlight=False, soft_wrap=True)
    return 0


def report(*, suite: str | None, out: Path | None, everything: bool, plugins, data, store: Path) -> None:
    """Carry out ``bench report``."""
    from functools import partial

    from benchmark import report as explorer
    from benchmark.report_gallery import truth_of

    if not store.is_dir():
        raise BenchError(f"--store {store}: no such folder, expected the run directories of bench run")
    items = records.from_store(Store(store), suite)
    if not items:
        raise BenchError(f"--store {store}: holds no run{f' of suite {suite}' if suite else ''}")
    registry, out = Registry(plugins), out or store / REPORT_IN_STORE
    explorer.refuse_foreign(out)
    find_truth = partial(truth_of, registry, data=data_dir(data), cache=cache_dir())
    with Console(stderr=True).status("reading") as status:
        tables = tables_of(items, _suites(registry))
        page = explorer.write(out, tables, store, find_truth, everything, status.update)
    files = [path for path in out.rglob("*") if path.is_file()]
    print(f"report: {page} ({len(files)} files, {sum(path.stat().st_size for path in files) / 1e6:.1f} MB)")


def compare(*, a: str, b: str, metric: str | None, track: str | None, json_file: Path | None, store: Path) -> None:
    """Carry out ``bench compare``."""
    from benchmark.compare import compare as places_of
    from benchmark.compare import show

    places = places_of(store, a, b, metric, track)
    out = Console(width=None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL)
    for place in places:
        show(out, place, metric)
    if json_file:
        write_json(json_file, [place.plain() for place in places])


def data_check(folder: Path | None, plugins: Sequence[Path], data: str | None) -> int:
    """Print every fault of the datasets below a folder; returns the exit code."""
    registry, place = Registry(plugins), data_dir(str(folder) if folder else data)
    if place is None:
        raise BenchError("no folder given, expected FOLDER, --data DIR or BENCH_DATA")
    checks = [("folder dataset", FOLDER_TARGET, path) for path in candidates(place) if (path / FOLDER_HEADER).exists()]
    for entry in registry.entries("dataset"):
        marker = entry.meta.get("marker")
        checks += [(entry.name, entry.target, p) for p in candidates(place) if marker and next(p.glob(marker), None)]
    if not checks:
        raise BenchError(
            f"{place}: holds no known dataset, expected {FOLDER_HEADER} or the files of one of bench list datasets"
        )
    faults = 0
    for name, target, path in checks:
        found = resolve(target.rpartition(":")[0] + ":check")(path)
        faults += len(found)
        print(f"{path} ({name}): {_count(len(found), 'fault') if found else 'no fault found'}")
        for fault in found:
            print(f"  - {fault}")
    return 2 if faults else 0


def data_show(name: str, subject: str | None, out: Path | None, plugins: Sequence[Path], data: str | None) -> Path:
    """Draw the picture of a dataset's subject; returns its path."""
    from benchmark.data.show import picture
    from benchmark.registry import unknown

    target, root = find(Registry(plugins), name, data_dir(data))
    dataset = load(target, root, cache_dir())
    subject = subject or dataset.subjects[0]
    if subject not in dataset.subjects:
        raise unknown(f"subject of dataset {name}", subject, dataset.subjects)
    path = out or Path(f"{name}-{subject}.png")
    picture(dataset, subject, path)
    return path


def data_import(kind: str, sources: Sequence[Path], out: Path, options: Mapping[str, Any]) -> None:
    """Make a folder dataset and say what is in it."""
    from benchmark.data.imports import import_folder

    content = import_folder(kind, sources, out, options)
    sizes = sorted({responses.shape[1] for responses, _ in content.subjects.values()})
    voxels = f"{sizes[0]} voxels" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]} voxels"
    count = f"{len(content.subjects)} subject{'s' * (len(content.subjects) > 1)}"
    n = len(next(iter(content.stimuli.values())))
    print(f"{out}: {count} ({', '.join(content.subjects)}), {n} stimuli, {voxels}")
    print(f"read from {content.provenance['files']}")
    print(f"bench run --data {shlex.quote(str(out))} runs every method on it")


def data_prepare(*, name: str, **options: Any) -> None:
    """Make a prepared folder of a dataset's released files, with progress, and say where it is."""
    from benchmark.registry import unknown
    from benchmark.terminal import steps

    known = {entry.name: entry.meta["prepare"] for entry in Registry().entries("dataset") if "prepare" in entry.meta}
    if name not in known:
        raise unknown("dataset to prepare", name, known)
    with steps(Console(stderr=True)) as report:
        out = resolve(known[name])(**options, report=report)
    print(f"{out}: dataset {name}, for bench run --data")


def doctor_models(only: Sequence[str], weights: Path | None) -> int:
    """Print the upper bounds of the frozen models; returns the exit code."""
    from rich.table import Table

    from benchmark.doctor import MODELS, check_models
    from benchmark.pretrained import hub
    from benchmark.registry import unknown

    names = _words(only) or tuple(m for m in MODELS if None not in hub.files(m, "mini", weights).values())
    for name in names:
        if name not in MODELS:
            raise unknown("model", name, MODELS)
    hub.require(names, "mini", weights)
    table, failed = Table("model", "from true features", "value", "aim"), 0
    for check in check_models(lambda name: hub.load(name, "mini", weights), names):
        failed += not check.passed
        style = "" if check.passed else "red"
        aim = "" if check.aim is None else f"≥ {check.aim:g}"
        table.add_row(check.model, check.what, f"{check.value:.3f}", aim, style=style)
    Console(width=None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL).print(table)
    missing = [m for m in MODELS if m not in names]
    if missing and not only:
        print(f"not shipped yet: {', '.join(missing)}")
    return 1 if failed else 0


def doctor_data(name: str, *, subjects, split, out: Path, weights: Path | None, plugins, data: str | None) -> int:
    """Print the findings about a dataset's subjects and draw them; returns the exit code."""
    from benchmark.checkup import FAULT, WARNING, check_dataset
    from benchmark.checkup.picture import picture
    from benchmark.plan import Request, load_with_split
    from benchmark.pretrained import hub
    from benchmark.registry import unknown

    request = Request(dataset=name, split=split, data=data_dir(data), cache=cache_dir(), weights=weights)
    dataset, chosen = load_with_split(Registry(plugins), request)
    names = _words(subjects) or dataset.subjects[:1]
    names = dataset.subjects if names == ("all",) else names
    for subject in names:
        if subject not in dataset.subjects:
            raise unknown(f"subject of dataset {name}", subject, dataset.subjects)
    readable = dataset.stimuli.captions is not None and None not in hub.files("clip", "mini", weights).values()
    clip = hub.load("clip", "mini", weights) if readable else None
    console = Console(width=None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL, highlight=False)
    styles, faults = {FAULT: "bold red", WARNING: "yellow", "ok": "green"}, 0
    for subject in names:
        checkup = check_dataset(dataset, chosen, subject, clip)
        console.print(f"{name}, {subject}, split {checkup.split}", style="bold", markup=False)
        for found in checkup.findings:
            console.print(f"{found.verdict:<11} ", style=styles.get(found.verdict), end="")
            console.print(f"{found.check}: {found.sentence}", markup=False, soft_wrap=True)
        n = checkup.count(FAULT)
        faults += n
        path = picture(checkup, out / f"{name}-{subject}-doctor.png")
        counts = f"{_count(n, 'fault')}, {_count(checkup.count(WARNING), 'warning')}"
        console.print(f"{counts}; drawn in {path}", markup=False, soft_wrap=True)
    return 1 if faults else 0


def cache_list() -> None:
    """Print what the feature cache holds."""
    from rich.table import Table

    from benchmark.pretrained.cache import shelves

    table = Table("model", "output", "rows", "shape", "MB", "weights")
    for shelf in shelves(cache_dir()):
        label = shelf.label
        shape = " x ".join(map(str, shelf.shape))
        table.add_row(label.model, label.output, str(shelf.rows), shape, f"{shelf.size / 1e6:.1f}", label.weights[:12])
    Console().print(table)


def cache_verify() -> int:
    """Read every cached row; returns the exit code."""
    from benchmark.pretrained.cache import verify

    problems = verify(cache_dir())
    print("\n".join(problems) if problems else "no fault found")
    return 1 if problems else 0


def cache_clear(model: str | None) -> None:
    """Remove cached features, and say how much that was."""
    from benchmark.pretrained.cache import clear, shelves
    from benchmark.registry import unknown

    known = sorted({shelf.label.model for shelf in shelves(cache_dir())})
    if model and model not in known:
        raise unknown("model in the cache", model, known)
    print(f"{clear(cache_dir(), model) / 1e6:.1f} MB removed")


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def _words(options: Sequence[str]) -> tuple[str, ...]:
    return tuple(word.strip() for option in options for word in option.split(",") if word.strip())


def _refuse(damage: str) -> None:
    raise BenchError(damage)


def _table_of(item: dict[str, Any]) -> tuple:
    return item["suite"], item["dataset"], item["split"]


def _scope(item: dict[str, Any]) -> tuple:
    return tuple(item[name] for name in ("suite", "dataset", "split", "subject", "seed", "profile"))


def _suites(registry: Registry) -> dict[str, Any]:
    return {entry.name: entry.load() for entry in registry.entries("suite")}


def _say_older(registry: Registry, items: Sequence[dict[str, Any]], out: Console) -> None:
    """Say which records were made by other code than today's; that is no error."""
    from benchmark.spec import source_hash

    now, older = {}, {}
    for item in items:
        pair = (item["method"], item["dataset"])
        if pair not in now:
            known = pair[0] in registry.names("method") and pair[1] in registry.names("dataset")
            targets = (registry.get("method", pair[0]).target, registry.get("dataset", pair[1]).target) if known else ()
            now[pair] = source_hash(*targets) if known else item["source"]
        if now[pair] != item["source"]:
            older[pair[0]] = older.get(pair[0], 0) + 1
    for method, n in older.items():
        out.print(f"note: {n} records of {method} were made by older code")
