"""Brain2Word through the harness: who is given the truth, what is tagged, ranked and skipped."""

import json

import pytest

from benchmark.plan import Request, plan
from benchmark.registry import Registry
from tests.helpers.make_folder import make_folder

NAMES = ("base", "roi", "autoencoder", "meanreg")


@pytest.fixture
def folder(tmp_path):
    return make_folder(
        tmp_path / "tiny", subjects=("S1", "S2", "S3"), unit="subject", average=(), images=None, captions=False
    )


def test_only_the_published_selection_is_given_the_truth(folder, tmp_path):
    methods = tuple(f"brain2word-{name}{preset}" for name in NAMES for preset in ("", ":published-leaky"))
    request = Request(dataset="tiny", methods=(*methods, "oracle"), data=folder, cache=tmp_path / "cache")
    planned = plan(Registry(), request)
    assert len(planned) == 3 * 9
    for item in planned:
        leaky = item.spec.preset == "published-leaky"
        assert item.job.oracle == (leaky or item.spec.method == "oracle")
        expected = {"leaky selection"} if leaky else {"oracle"} if item.spec.method == "oracle" else set()
        assert expected == set(item.facts["tags"]) & {"leaky selection", "oracle"}
        assert item.skip is None


def test_a_leaky_run_is_listed_without_a_rank(bench, folder, tmp_path):
    methods = "brain2word-roi,brain2word-roi:published-leaky"
    code, out, _ = bench("run", "--dataset", "tiny", "--data", folder, "--method", methods, "--json", "out.json")
    assert code == 0, out
    rows = json.loads((tmp_path / "runs/leaderboards/tiny/words.json").read_text())["rows"]
    found = {row["preset"]: (row["rank"], row["tags"]) for row in rows}
    assert found == {"default": (1, []), "published-leaky": (None, ["leaky selection"])}


def test_classes_alone_are_skipped_where_words_are_left_out(bench, tmp_path):
    folder = make_folder(tmp_path / "tiny", images=None, captions=False)
    methods = "brain2word-base:classification"
    code, _, _ = bench("run", "--dataset", "tiny", "--data", folder, "--method", methods, "--subject", "S1")
    assert code == 0
    (status,) = (tmp_path / "runs").rglob("status.json")
    status = json.loads(status.read_text())
    assert status["status"] == "skipped"
    assert status["reason"] == "a classification-only head cannot name words it was not trained on"
