import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from benchmark import cli
from tests.helpers.make_folder import make_folder

# Time says nothing of a law, and a busy machine fails deadlines.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of the real recordings; tests that need it are skipped where it is not given."""
    value = os.environ.get("BENCH_TEST_DATA")
    if not value:
        pytest.skip("BENCH_TEST_DATA is not set")
    return Path(value)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """No test reads or writes the user's caches or data."""
    monkeypatch.delenv("BENCH_DATA", raising=False)
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def tiny(tmp_path) -> Path:
    """A small valid folder dataset named ``tiny``."""
    return make_folder(tmp_path / "tiny", image_size=16)


@pytest.fixture
def bench(capsys, monkeypatch, tmp_path):
    """Call the command line in this process; returns exit code, standard output and standard error."""

    def call(*arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["bench", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return call
