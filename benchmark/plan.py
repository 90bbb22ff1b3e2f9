"""From the command line's words to a list of runs, with everything checked before the first starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark import protocol
from benchmark.data import folder, prepare, splits
from benchmark.data.base import Dataset
from benchmark.data.locate import FOLDER_TARGET, find, folder_name, load
from benchmark.errors import BenchError
from benchmark.frozen import checksums
from benchmark.registry import Entry, Registry, resolve, unknown
from benchmark.spaces import FEATURES, SPACES
from benchmark.spec import RunSpec, digest, run_id, score_id, source_hash
from benchmark.suites import Suite, Task, folder_suite
from benchmark.worker import Job

PROFILES = ("mini", "full")


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    Attributes
    ----------
    suite, dataset, split : str or None
    methods : tuple of str
        ``name``, ``name:preset`` or ``all``.
    subjects : tuple of str
        Empty: the subjects of the main job; ``("all",)``: those of the published boards.
    seeds : tuple of int
    profile : str
    data : Path or None
    cache : Path
    weights : Path or None
        Folder of pretrained weights.
    overrides : mapping
        Values of the adapter's parameters, over those of profile and preset.
    """

    suite: str | None = None
    dataset: str | None = None
    split: str | None = None
    methods: tuple[str, ...] = ("all",)
    subjects: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    profile: str = "mini"
    device: str = "auto"
    threads: int = 1
    data: Path | None = None
    cache: Path = Path()
    weights: Path | None = None
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    ladder: str = "on"


@dataclass(frozen=True)
class Planned:
    """A run that is going to be there: its ids, its job, or why it is skipped."""

    spec: RunSpec
    id: str
    score_id: str
    job: Job
    facts: Mapping[str, Any]
    skip: str | None = None


def plan(registry: Registry, request: Request, on_step=lambda text: None) -> list[Planned]:
    """Return the runs of a request; every fault of the input is raised here, before anything runs."""
    if request.profile not in PROFILES:
        raise unknown("profile", request.profile, PROFILES)
    if not (request.suite or request.dataset) and request.data and (name := folder_name(request.data)):
        request = dataclasses.replace(request, dataset=name)  # --data is itself a folder dataset
    suite = choose_suite(registry, request)
    methods = list(_methods(registry, request.methods))
    runs: list[Planned] = []
    subjects: dict[str, None] = {}
    for task in suite.tasks:
        if request.dataset and task.dataset != request.dataset:
            continue
        on_step(f"preparing {task.dataset}")
        runs += _plan_task(registry, request, suite, task, methods, subjects, on_step)
    if request.dataset and all(task.dataset != request.dataset for task in suite.tasks):
        raise unknown(f"dataset of suite {suite.name}", request.dataset, [task.dataset for task in suite.tasks])
    for subject in request.subjects:
        if subject != "all" and subject not in subjects:
            raise unknown(f"subject of suite {suite.name}", subject, subjects)
    if not runs:
        raise BenchError(
            f"--method {','.join(request.methods)}: none of them stands in a track of suite {suite.name}; "
            "bench list methods shows the tracks of each"
        )
    return runs


def choose_suite(registry: Registry, request: Request) -> Suite:
    """Return the suite asked for, the one that has the dataset, or that of a folder dataset."""
    if request.split and (request.suite or not request.dataset):
        raise BenchError(f"--split {request.split}: a suite has its own splits, expected --dataset with it")
    if request.suite:
        return registry.get("suite", request.suite).load()
    if not request.dataset:
        return registry.get("suite", "mini").load()
    for entry in registry.entries("suite"):
        suite = entry.load()
        tasks = [task for task in suite.tasks if task.dataset == request.dataset]
        if tasks and request.split:  # a dataset may be in a suite with several splits
            chosen = tuple(task for task in tasks if task.split == request.split)
            if not chosen:
                raise unknown(f"split of dataset {request.dataset}", request.split, [task.split for task in tasks])
            return dataclasses.replace(suite, tasks=chosen)
        if tasks:
            return suite
    target, root = find(registry, request.dataset, request.data)
    if target != FOLDER_TARGET:
        raise BenchError(f"dataset {request.dataset} is in no suite; name one with --suite")
    header = folder.read_header(root)
    names = list(folder.read_splits(root))
    if not names or not header.get("tracks"):
        raise BenchError(f"{root / 'dataset.json'}: a run needs tracks and splits, expected at least one of each")
    split = request.split or names[0]
    if split not in names:
        raise unknown(f"split of dataset {request.dataset}", split, names)
    return folder_suite(request.dataset, header, tuple(header["subjects"]), split)


def load_with_split(registry: Registry, request: Request) -> tuple[Dataset, splits.Split]:
    """Return the dataset asked for, and the split asked for, that of its suite, or the first of its header."""
    suite = choose_suite(registry, request)
    return load_task(registry, request, next(task for task in suite.tasks if task.dataset == request.dataset))


def load_task(registry: Registry, request: Request, task: Task) -> tuple[Dataset, splits.Split]:
    """Return the dataset and the split of a suite's task."""
    target, root = find(registry, task.dataset, request.data)
    return load(target, root, request.cache), _split(registry, request, task, target, root)


def _methods(registry: Registry, names: Sequence[str]) -> Iterator[tuple[Entry, str]]:
    seen = set()
    for text in names:
        name, _, preset = text.partition(":")
        for entry in registry.entries("method") if name == "all" else [registry.get("method", name)]:
            presets = getattr(entry.load(), "presets", {}) if preset else {}
            if preset and preset not in ("default", *presets):
                raise unknown(f"preset of {entry.name}", preset, ["default", *presets])
            chosen = preset if presets.get(preset) else "default"  # a preset without changes is the default
            if (entry.name, chosen) in seen:
                continue
            seen.add((entry.name, chosen))
            yield entry, chosen


def _plan_task(registry, request, suite: Suite, task: Task, methods, subjects, on_step) -> Iterator[Planned]:
    target, root = find(registry, task.dataset, request.data)
    dataset = load(target, root, request.cache)
    split = _split(registry, request, task, target, root)
    subjects |= dict.fromkeys(dataset.subjects)
    for subject in _subjects(request, task, dataset):
        on_step(f"checking {task.dataset}/{subject}")
        checked = prepare.preflight(dataset, split, subject, request.cache)
        for entry, preset in methods:
            tracks = {name: track for name, track in task.tracks.items() if name in entry.tracks}
            if not tracks:
                continue
            cls = entry.load()
            params = _params(entry, cls, request.profile, preset, request.overrides)
            method = _made(entry, cls, params)
            own = getattr(method, "tags", ())
            info = dataset.info(frozenset(tracks), split.unit)
            names = dict.fromkeys(m for track in tracks.values() for m in track.metrics)
            metrics = {name: registry.get("metric", name) for name in names}
            records = {name: e.load() for name, e in metrics.items()}
            models = {name: FEATURES[m.features][0] for name, m in records.items() if m.features}
            judges = _sums(models.values(), request)
            versions = {n: [m.version, m.protocol, judges.get(models.get(n), "")] for n, m in records.items()}
            needed = [SPACES[t.space][0] for t in tracks.values() if t.space in SPACES]
            needed += getattr(method, "pretrained", ())
            weights = _sums(needed, request)
            source = entry.meta.get("source") or source_hash(entry.target, target)
            oracle = bool(getattr(method, "oracle", False))
            marks = ["oracle"] if oracle and "leaky selection" not in own else []
            asked = {name: track.space for name, track in tracks.items()}
            if "reconstruction" in tracks and request.ladder == "full":
                asked["ladder"] = "full"  # the method is trained twice
            for seed in request.seeds:
                spec = RunSpec(
                    suite=suite.name,
                    dataset=task.dataset,
                    subject=subject,
                    split=split.name,
                    method=entry.name,
                    preset=preset,
                    params=params,
                    profile=request.profile,
                    seed=seed,
                )
                run = run_id(
                    spec,
                    source=source,
                    task=asked,
                    fingerprint=dataset.fingerprint,
                    split=split.checksum,
                    weights=digest(weights) if weights else "",
                )
                scored = {track: [[m, *versions[m]] for m in t.metrics] for track, t in tracks.items()}
                scores = score_id(run, scored | ({"ladder": "off"} if request.ladder == "off" else {}))
                yield Planned(
                    spec=spec,
                    id=run,
                    score_id=scores,
                    skip=_reason(entry, method, info),
                    facts={
                        "suite_version": suite.version,
                        "dataset_version": dataset.version,
                        "dataset_fingerprint": dataset.fingerprint,
                        "split_checksum": split.checksum,
                        "split_unit": split.unit,
                        "folds": protocol.facts(split, subject),
                        "weights": {**weights, **judges},
                        "columns": {n: {"metrics": t.metrics, "ranked": t.ranked} for n, t in tracks.items()},
                        "source": source,
                        "ladder_asked": request.ladder,
                        "control": bool(getattr(cls, "control", False)),
                        "tags": [*dataset.tags, *checked.tags, *own, *marks],
                    },
                    job=Job(
                        spec=spec,
                        params=params,
                        method=entry.target,
                        dataset=target,
                        split=split,
                        tracks=tracks,
                        metrics={name: e.target for name, e in metrics.items()},
                        root=root,
                        cache=request.cache,
                        scratch=Path(),
                        device=request.device,
                        threads=request.threads,
                        weights=request.weights,
                        oracle=oracle,
                        options={
                            "score_id": scores,
                            "figures": not getattr(cls, "control", False),
                            "ladder": request.ladder,
                        },
                    ),
                )


def _split(registry: Registry, request: Request, task: Task, target: str, root: Path | None) -> splits.Split:
    """Return a task's split: from the folder, derived by the dataset's own function, or from the package."""
    if target == FOLDER_TARGET:
        return folder.read_splits(root)[task.split]
    derive = registry.get("dataset", task.dataset).meta.get("splits")
    if derive is None:
        return splits.builtin(task.split)
    return splits.derived(resolve(derive)(task.split, root, request.cache))


def _params(entry: Entry, cls: Any, profile: str, preset: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of an adapter's parameters by name; empty for a class without ``Params``."""
    if not hasattr(cls, "Params"):
        return {}
    try:
        params = cls.make_params(profile, preset, *([changes] if changes else []))
        return {field.name: getattr(params, field.name) for field in dataclasses.fields(params)}
    except (TypeError, AttributeError) as error:
        raise BenchError(
            f"method {entry.name!r} in {entry.origin}: Params and its presets must be a dataclass with defaults and "
            f"changes of its fields ({error})"
        ) from error


def _made(entry: Entry, cls: Any, params: Mapping[str, Any]) -> Any:
    """Return an adapter as a run makes it."""
    try:
        return cls(cls.Params(**params)) if hasattr(cls, "Params") else cls()
    except Exception as error:
        raise BenchError(f"method {entry.name!r} in {entry.origin}: making it raised {error!r}") from error


def _reason(entry: Entry, method: Any, info: Any) -> str | None:
    """Return why a method cannot run on a dataset, in its own words."""
    try:
        reason = method.supports(info) if hasattr(method, "supports") else None
    except Exception as error:
        raise BenchError(f"method {entry.name!r} in {entry.origin}: supports raised {error!r}") from error
    if reason is not None and not isinstance(reason, str):
        raise BenchError(
            f"method {entry.name!r} in {entry.origin}: supports returned {reason!r}, expected text or None"
        )
    return reason


def _sums(models, request: Request) -> dict[str, str]:
    """Return the checksums of pretrained weights; what is missing is said before any work starts."""
    return checksums(models, request.profile, request.weights)


def _subjects(request: Request, task: Task, dataset: Dataset) -> tuple[str, ...]:
    if not request.subjects:
        return task.subjects
    if request.subjects == ("all",):
        return task.published_subjects or task.subjects
    return tuple(s for s in request.subjects if s in dataset.subjects)
