"""bench compare on the runs of a small folder dataset."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from benchmark.cli import cli
from tests.helpers.make_folder import make_folder

RUN = ("run", "--dataset", "tiny", "--json", "out.json")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Runs of two methods and two subjects."""
    root = tmp_path_factory.mktemp("made")
    data = make_folder(root / "tiny", image_size=16)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("BENCH_CACHE", str(root / "cache"))
        result = CliRunner().invoke(cli, [*RUN, "--data", str(data), "--method", "ridge,mean"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return root


@pytest.fixture
def store(made, tmp_path):
    shutil.copytree(made / "runs", tmp_path / "runs")
    shutil.copy(made / "out.json", tmp_path)
    return tmp_path / "runs"


def places(bench, tmp_path, *arguments):
    code, out, err = bench("compare", *arguments, "--json", "compared.json")
    assert code == 0, err
    return json.loads((tmp_path / "compared.json").read_text()), out


def test_differences_are_those_of_the_boards(bench, store, tmp_path):
    (place,), out = places(bench, tmp_path, "ridge", "mean")
    scores = json.loads((tmp_path / "out.json").read_text())
    for found in place["comparisons"]:
        for method, side in (("ridge", "a"), ("mean", "b")):
            rows = [r for r in scores if r["method"] == method and r["track"] == found["track"]]
            expected = np.mean([r["metrics"][found["metric"]]["value"] for r in rows])
            assert found[side] == pytest.approx(expected)
        assert found["items"]["value"] == pytest.approx(found["a"] - found["b"], abs=1e-9)
    assert {c["track"] for c in place["comparisons"]} == {"embedding", "reconstruction", "words"}
    assert not {"pearson_dim", "collapse", "r2"} & {c["metric"] for c in place["comparisons"]}
    assert "where they differ most" in out
    assert "within these subjects only" in out


def test_one_metric_of_one_track(bench, store, tmp_path):
    (place,), out = places(bench, tmp_path, "ridge", "mean", "--track", "embedding", "--metric", "cosine")
    (found,) = place["comparisons"]
    assert (found["track"], found["metric"], found["items"]["n"]) == ("embedding", "cosine", 4)
    gaps = [abs(a - b) for _, a, b in found["most"]]
    assert gaps == sorted(gaps, reverse=True)
    assert len(gaps) == 4
    assert "cosine: where they differ most" in out


def test_a_method_with_itself_does_not_differ(bench, store, tmp_path):
    (place,), _ = places(bench, tmp_path, "ridge", "ridge", "--metric", "two_way")
    for found in place["comparisons"]:
        assert (found["items"]["value"], found["items"]["p"]) == (0, 1)


def test_a_run_id_stands_for_its_run(bench, store, tmp_path):
    run = next(store.glob("tiny/tiny/ridge/*/spec.json")).parent
    (place,), _ = places(bench, tmp_path, run.name, "mean")
    assert place["subjects"] == [json.loads((run / "spec.json").read_text())["subject"]]


def test_subjects_that_one_lacks_are_left_out_and_named(bench, tiny, tmp_path):
    bench(*RUN, "--data", tiny, "--method", "ridge")
    bench(*RUN, "--data", tiny, "--method", "mean", "--subject", "S1")
    (place,), out = places(bench, tmp_path, "ridge", "mean")
    assert place["subjects"] == ["S1"]
    assert "left out: S2" in out


def change(store, method, name, edit):
    for path in store.glob(f"tiny/tiny/{method}/*/{name}"):
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))


def test_other_metric_versions_are_refused(bench, store):
    change(store, "mean", "scores.json", lambda s: s["tracks"]["embedding"]["two_way"].update(version=99))
    code, _, err = bench("compare", "ridge", "mean")
    assert code == 2
    assert "two_way was scored in different versions" in err
    assert err.count("\n") == 1
    assert bench("compare", "ridge", "mean", "--metric", "cosine")[0] == 0


@pytest.mark.parametrize(("fact", "word"), [("dataset_fingerprint", "dataset"), ("split_checksum", "split")])
def test_other_data_are_refused(bench, store, fact, word):
    change(store, "mean", "provenance.json", lambda p: p.update({fact: "other"}))
    code, _, err = bench("compare", "ridge", "mean")
    assert code == 2
    assert f"differ in their {word}" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ridge", "nosuch"), "nosuch: no such run"),
        (("ridge", "mean:nosuch"), "mean:nosuch: no such run"),
        (("ridge", "*"), r"*: no such run"),
        (("ridge", ""), "no such run"),
        (("ridge", "mean", "--metric", "nosuch"), "--metric nosuch: no score per item"),
        (("ridge", "mean", "--track", "nosuch"), "--track nosuch: no score per item"),
        (("ridge", "mean", "--store", "elsewhere"), "--store elsewhere: no such folder"),
    ],
)
def test_what_is_not_there_is_named(bench, store, arguments, message):
    code, _, err = bench("compare", *arguments)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


def test_items_that_differ_and_damaged_scores_are_refused(bench, store):
    import pyarrow.parquet

    path = next(store.glob("tiny/tiny/mean/*/scores.parquet"))
    table = pyarrow.parquet.read_table(path)
    pyarrow.parquet.write_table(table.slice(1), path)
    code, _, err = bench("compare", "ridge", "mean")
    assert code == 2
    assert "differ in 1 items" in err
    path.write_bytes(b"damaged")
    code, _, err = bench("compare", "ridge", "mean")
    assert code == 2
    assert "scores.parquet: cannot be read" in err
