"""Every metric gives the values that were pinned for it; see tests/golden/make.py."""

import json
from pathlib import Path

import numpy as np
import pytest

from metrics.table import METRICS

GOLDEN = Path(__file__).parents[1] / "golden"
FILES = {path.stem: json.loads(path.read_text("utf-8")) for path in GOLDEN.glob("*.json") if "_" not in path.stem}
NEED_WEIGHTS = ()  # metrics whose function cannot be called without a network's weights
ARGUMENTS = {
    "vectors": ("true", "predicted"),
    "images": ("true", "predicted"),
    "dimensions": ("true", "predicted"),
    "captions": ("true", "predicted"),
    "set": ("predicted",),
    "scores": ("scores", "target"),
    "categories": ("scores", "target"),
    "texts": ("scores", "target"),
    "hubs": ("scores",),
    "pools": ("predicted", "candidates", "target"),
}


def inputs(file):
    content = FILES[file]["inputs"]
    if not isinstance(content, str):
        return content
    cases = {}
    with np.load(GOLDEN / content, allow_pickle=False) as arrays:
        for key in arrays.files:
            case, _, part = key.partition("/")
            cases.setdefault(case, {})[part] = arrays[key]
    return cases


def pinned():
    for file, content in FILES.items():
        for case, values in content["values"].items():
            for metric in sorted(values.keys() & METRICS.keys()):
                yield pytest.param(file, case, metric, id=f"{metric}-{case}")


@pytest.mark.parametrize(("file", "case", "name"), list(pinned()))
def test_a_metric_gives_its_pinned_values(file, case, name):
    metric, parts = METRICS[name], inputs(file)[case]
    arguments = [parts[argument] for argument in ARGUMENTS[metric.kind]]
    value = metric.function(*arguments, **({"centre": parts["centre"]} if metric.centred else {}))
    if metric.kind == "captions":  # of a corpus score only the mean over items is defined
        value = np.mean(value, keepdims=True)
    expected = FILES[file]["values"][case][name]
    assert value.dtype == np.float64
    np.testing.assert_allclose(value, expected, rtol=0, atol=FILES[file]["tolerance"] * max(1, np.abs(expected).max()))


def test_every_metric_is_pinned():
    names = {metric for content in FILES.values() for values in content["values"].values() for metric in values}
    left = [m for m in METRICS if m not in names and not METRICS[m].lacks and m not in NEED_WEIGHTS]
    assert not left, f"add {', '.join(left)} to PINNED in tests/golden/make.py and run python -m tests.golden.make"


def test_every_golden_file_is_read():
    used = {f"{name}.json" for name in FILES}
    used |= {content["inputs"] for content in FILES.values() if isinstance(content["inputs"], str)}
    code = {"__init__.py", "make.py", "make_sources.py", "metric_sources.json"}
    there = {path.name for path in GOLDEN.iterdir() if path.is_file()}
    assert there - code == used
    assert all(set(inputs(file)) == set(content["values"]) for file, content in FILES.items())


def test_tolerances_are_tight():
    assert all(0 < content["tolerance"] <= 5e-6 for content in FILES.values())
