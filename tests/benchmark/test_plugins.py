"""Adapters from outside: what they may be, and what is said where they are not."""

import json

import numpy as np
import pytest

from benchmark.errors import BenchError
from benchmark.registry import Registry
from benchmark.spec import source_hash

HEAD = "from dataclasses import dataclass\nimport numpy as np\nfrom benchmark import Method, Predictions\n"
BODY = """
    name, tracks = "mine", frozenset({"embedding"})
    def train(self, train, *, seed, device, workdir):
        self.space, self.y = train.space, train.target().mean(0)
    def predict(self, fmri):
        return Predictions(embeddings={self.space: np.repeat(self.y[None], len(fmri), 0)})
"""


@pytest.fixture
def plugin(tmp_path):
    def write(text, name="mine.py"):
        path = tmp_path / name
        path.write_text(HEAD + text)
        return path

    return write


@pytest.fixture
def run(bench, tiny, tmp_path):
    def call(path, *more):
        arguments = ["--dataset", "tiny", "--data", tiny, "--subject", "S1", "--plugin", path, "--json", "out.json"]
        code, out, err = bench("run", *arguments, *(more or ("--method", "mine")))
        objects = json.loads((tmp_path / "out.json").read_text()) if (tmp_path / "out.json").exists() else []
        return code, out, err, objects

    return call


def test_own_parameters_and_presets(plugin, run):
    path = plugin(
        "@dataclass(frozen=True)\nclass P:\n    shift: float = 0.0\n"
        "class Mine(Method):" + BODY + "        \n    Params, presets = P, {'far': {'shift': 9.0}}\n"
    )
    code, _, err, objects = run(path, "--method", "mine,mine:default,mine:far")
    assert code == 0, err
    assert [(o["preset"], o["status"]) for o in objects] == [("default", "ok"), ("far", "ok")]


def test_no_method_can_give_itself_the_truth(plugin, run):
    text = BODY.replace("self.space, self.y", "self.oracle = True; self.space, self.y")
    text = text.replace(
        "def predict(self, fmri):", "def predict(self, fmri, truth=None):\n        assert truth is None"
    )
    code, _, err, _ = run(plugin("class Mine(Method):" + text))
    assert code == 0, err


def test_a_helper_module_of_the_adapter_counts(tmp_path, monkeypatch):
    package = tmp_path / "my_decoder"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "adapter.py").write_text("from .net import SHIFT\nimport numpy\n")
    (package / "net.py").write_text("SHIFT = 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    from benchmark import spec

    before = source_hash("my_decoder.adapter:X")
    assert {"my_decoder.adapter", "my_decoder.net"} <= set(spec.closure(["my_decoder.adapter:X"]))
    (package / "net.py").write_text("SHIFT = 7\n")
    assert source_hash("my_decoder.adapter:X") != before


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "class Mine(Method):" + BODY.replace('frozenset({"embedding"})', '"words"'),
            "tracks is 'words', expected a set",
        ),
        ("class Mine(Method):" + BODY.replace('"mine"', '"../../evil"'), "expected a name of letters"),
        ("class Mine(Method):" + BODY.replace('"mine"', '"ridge"'), "method 'ridge' is registered twice"),
        ("class Mine(Method):" + BODY + "    Params = int\n", "Params and its presets must be a dataclass"),
        (
            "class Mine(Method):" + BODY + "    supports = staticmethod(lambda dataset: True)\n",
            "supports returned True, expected text or None",
        ),
        ("class Mine(Method):" + BODY + "    supports = staticmethod(lambda dataset: 1 / 0)\n", "supports raised"),
        ("import sys\nsys.exit(3)\n", "cannot be imported (SystemExit"),
    ],
)
def test_faults_are_one_sentence(plugin, run, tmp_path, text, sentence):
    code, out, err, _ = run(plugin(text))
    assert code == 2
    assert sentence in err
    assert "Traceback" not in err + out
    assert not (tmp_path / "runs").exists()


def test_a_wrong_return_value_is_named(plugin, run):
    text = BODY.replace("return Predictions(", "return dict(")
    code, _, _, objects = run(plugin("class Mine(Method):" + text))
    assert code == 1
    assert objects[0]["reason"] == "predict: predict returned dict, expected benchmark.Predictions"


def test_the_same_plugin_twice_and_a_second_name_are_no_fault(plugin, tmp_path):
    path = plugin("class Mine(Method):" + BODY + "Best = Mine\n")
    assert Registry([path, tmp_path / "." / "mine.py"]).get("method", "mine")
    with pytest.raises(BenchError, match="registered twice"):
        Registry([path, plugin("class Mine(Method):" + BODY, "other.py")])


def test_a_reason_to_skip_is_asked_again(plugin, run, tmp_path):
    flag = tmp_path / "flag"
    there = f"__import__('os').path.exists({str(flag)!r})"
    text = f"    supports = staticmethod(lambda dataset: None if {there} else 'no flag')\n"
    path = plugin("class Mine(Method):" + BODY + text)
    assert [(o["status"], o["reason"]) for o in run(path)[3]] == [("skipped", "no flag")]
    flag.touch()
    assert [o["status"] for o in run(path)[3]] == ["ok"]


def test_an_adapter_reaches_no_test_trial_through_its_arrays(tmp_path):
    from benchmark.data import folder, prepare
    from tests.helpers.make_folder import make_folder

    data = folder.load(make_folder(tmp_path / "d", unit="run", average=()), tmp_path / "cache")
    fold, *_ = prepare.folds(data, folder.read_splits(tmp_path / "d")["main"], "S1")
    train = prepare.train_set(fold, {"embedding"}, "latent")
    base = train.fmri.data if train.fmri.data.base is None else train.fmri.data.base
    assert not isinstance(base, np.memmap)
    assert base.size == train.fmri.data.size
    train.fmri.data[0] = 0
