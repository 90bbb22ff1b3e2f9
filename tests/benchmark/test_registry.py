import subprocess
import sys

import pytest

from benchmark.errors import BenchError
from benchmark.registry import Entry, Registry, resolve


def test_every_built_in_name_loads_and_says_its_own_name():
    registry = Registry()
    for kind in ("method", "metric", "suite"):
        assert registry.names(kind)
        for entry in registry.entries(kind):
            assert entry.load().name == entry.name, entry.target


def test_table_metadata_agrees_with_the_classes():
    for entry in Registry().entries("method"):
        cls = entry.load()
        assert frozenset(entry.meta["tracks"]) == cls.tracks
        assert entry.meta.get("control", False) == cls.control
        assert entry.meta.get("oracle", False) == cls.oracle


def test_every_dataset_has_a_loader_and_real_ones_a_check_and_a_source():
    for entry in Registry().entries("dataset"):
        assert callable(entry.load())
        if not entry.meta.get("generated"):
            assert callable(resolve(entry.meta["check"]))
            assert entry.meta["source"]


@pytest.mark.parametrize(("kind", "name", "near"), [("method", "rigde", "ridge"), ("metric", "two-way", "two_way")])
def test_an_unknown_name_suggests_the_nearest(kind, name, near):
    with pytest.raises(BenchError, match=f"unknown {kind} '{name}', did you mean '{near}'"):
        Registry().get(kind, name)


def test_a_name_registered_twice_names_both_places():
    registry = Registry()
    with pytest.raises(BenchError, match=r"method 'ridge' is registered twice: in methods.table and in elsewhere"):
        registry.add(Entry("method", "ridge", "a:b", "elsewhere"))


def test_a_plugin_is_found_and_its_faults_are_said(tmp_path):
    good = tmp_path / "good.py"
    good.write_text(
        "from benchmark import Method\n"
        "class Mine(Method):\n"
        "    '''My method.'''\n"
        "    name = 'mine'\n"
        "    tracks = frozenset({'words'})\n"
        "class Plain:\n"
        "    name, tracks = 'plain', frozenset({'words'})\n"
        "    def train(self, train, *, seed, device, workdir): ...\n"
        "    def predict(self, fmri): ...\n"
    )
    registry = Registry([good])
    assert registry.get("method", "mine").summary == "My method."
    assert registry.get("method", "plain").meta["tracks"] == ("words",)
    broken, empty = tmp_path / "broken.py", tmp_path / "empty.py"
    broken.write_text("import nothing_of_that_name\n")
    empty.write_text("x = 1\n")
    for path, text in ((broken, "cannot be imported"), (empty, "defines no method"), (tmp_path / "no.py", "no such")):
        with pytest.raises(BenchError, match=text) as caught:
            Registry([path])
        assert str(path) in str(caught.value)


def test_the_light_verbs_import_no_heavy_package():
    code = (
        "import sys\n"
        "from benchmark import cli\n"
        "sys.argv = ['bench', *sys.argv[1:]]\n"
        "try:\n    cli.main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "heavy = {'torch', 'pandas', 'scipy', 'skimage', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    for arguments in (["--help"], ["list"], ["info", "metric", "two_way"], ["info", "suite", "mini"]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
