"""The run specification and the ids derived from it."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

PROJECT_PACKAGES = ("benchmark", "methods", "metrics")

# What every prediction passes through, whatever the adapter imports.
SHARED_MODULES = ("benchmark.api", "benchmark.data.prepare")


@dataclass(frozen=True)
class RunSpec:
    """Everything a run is asked for; the only thing that travels.

    Attributes
    ----------
    suite, dataset, subject, split, method, preset : str
    params : mapping
        The adapter's parameters after profile and preset.
    profile : str
        ``"mini"`` or ``"full"``.
    seed : int
    """

    suite: str
    dataset: str
    subject: str
    split: str
    method: str
    preset: str
    params: Mapping[str, Any] = field(default_factory=dict)
    profile: str = "mini"
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary that ``json`` can write."""
        return json.loads(json.dumps(asdict(self), sort_keys=True, default=_plain))

    @property
    def key(self) -> str:
        """Hash of the specification alone: the same request, whatever the code."""
        return digest(self.to_json())

    @property
    def label(self) -> str:
        """Short name for people."""
        preset = "" if self.preset == "default" else f":{self.preset}"
        return f"{self.method}{preset} on {self.dataset}/{self.subject} seed {self.seed}"


def digest(value: Any, length: int = 16) -> str:
    """Return the leading hex digits of the SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def run_id(spec: RunSpec, *, source: str, task: Mapping[str, Any], fingerprint: str, split: str, weights: str) -> str:
    """Return the id of a run: specification, code, data, split and weights.

    Parameters
    ----------
    spec : RunSpec
    source : str
        ``source_hash`` of the adapter.
    task : mapping
        What the suite asks of a prediction: tracks and target spaces.
    fingerprint, split, weights : str
        Checksums of the dataset, the split and the pretrained weights (empty where none).
    """
    parts = {"source": source, "task": task, "data": fingerprint, "split": split, "weights": weights}
    return digest({"spec": spec.to_json(), **parts})


def score_id(run: str, metric_versions: Mapping[str, Any]) -> str:
    """Return the id of a run's scores; it changes with a metric's version, the run id does not."""
    return digest({"run": run, "metrics": metric_versions})


def source_hash(*targets: str) -> str:
    """Return a hash over the source of the targets and of every project module they import.

    The closure is static: imports anywhere in the text count, also inside functions. Installed packages
    are covered by the versions in the provenance instead.

    Parameters
    ----------
    *targets : str
        ``"module:object"`` or ``"/file.py:object"``: an adapter, a dataset's loader.
    """
    return digest({name: _file_digest(path) for name, path in closure(targets).items()}, 64)


def closure(targets: Iterable[str]) -> dict[str, Path]:
    """Return the project source files reachable from the targets, by module name."""
    todo = [*SHARED_MODULES, *(target.rpartition(":")[0] for target in targets)]
    seen: dict[str, Path] = {}
    while todo:
        name = todo.pop()
        path = Path(name) if name.endswith(".py") else _source(name)
        name = path.name if name.endswith(".py") and path else name
        if path is None or name in seen:
            continue
        seen[name] = path
        todo += _imports(name, path)
    return seen


@cache
def _imports(name: str, path: Path) -> tuple[str, ...]:
    """Names of the modules a file imports (``from package import module`` resolved), relative ones too."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*parts, *([node.module] if node.module else [])])
            names += [module, *(f"{module}.{alias.name}" for alias in node.names)]
            if module == "benchmark":  # public names are re-exported lazily
                from benchmark import EXPORTS

                names += [EXPORTS[alias.name] for alias in node.names if alias.name in EXPORTS]
    return tuple(n for n in names if n and _followed(n.partition(".")[0]))


@cache
def _followed(package: str) -> bool:
    """Whether a top-level package is the project's or the user's own: neither installed nor Python's."""
    if package in PROJECT_PACKAGES:
        return True
    path = None if package in sys.builtin_module_names else _source(package)
    places = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return path is not None and not any(path.resolve().is_relative_to(place) for place in places)


@cache
def _source(module: str) -> Path | None:
    """Source file of a module; None for a name that is no module."""
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, AttributeError, ValueError):
        return None
    return Path(found.origin) if found and found.origin and found.origin.endswith(".py") else None


def _file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be part of a run specification")
