"""Which retrieval and caption columns a dataset's tracks have, and that a run fills them."""

import json

import pytest

from benchmark.suites import SUITES, embedding, folder_suite
from tests.helpers.make_folder import make_folder

CAPTIONS = {"bleu1", "bleu4", "rouge_l", "meteor", "cider"}


def columns(**stimuli):
    header = {"tracks": {"embedding": {"space": "v"}}, "stimuli": {"table": "t.csv", **stimuli}}
    (task,) = folder_suite("x", header, ("S1",), "main").tasks
    return set(task.tracks["embedding"].metrics)


def test_a_folder_dataset_has_the_columns_that_its_stimuli_allow():
    assert columns() == set(embedding("v").metrics)
    assert columns(captions="c.json") - columns() == CAPTIONS
    assert columns(attributes={"category": "c.npy"}) - columns() == {"category_recall"}
    assert columns(attributes={"depth": "d.npy"}) == columns()


def test_no_track_is_ranked_by_a_gallery_with_training_stimuli():
    for suite in SUITES.values():
        for task in suite.tasks:
            for track in task.tracks.values():
                assert track.ranked in track.metrics
                assert "[published-all]" not in "".join(track.metrics)
                assert "[" not in track.ranked
    assert embedding("v", published_all=True).ranked == "two_way"


@pytest.mark.parametrize("gallery", [None, "published-all"])
def test_a_run_fills_the_columns_and_the_published_gallery_is_asked_for(bench, tmp_path, gallery):
    root = make_folder(tmp_path / "data" / "tiny", image_size=16)
    header = json.loads((root / "dataset.json").read_text())
    if gallery:
        header["tracks"]["embedding"]["gallery"] = gallery
        (root / "dataset.json").write_text(json.dumps(header))
    code, _, err = bench("run", "--dataset", "tiny", "--data", tmp_path / "data", "--method", "mean", "--subject", "S1")
    assert code == 0, err
    (file,) = (tmp_path / "runs").rglob("scores.json")
    found = json.loads(file.read_text())["tracks"]["embedding"]
    reasons = {name: record["reason"] for name, record in found.items() if record["value"] is None}
    expected = dict.fromkeys(CAPTIONS, "not predicted (captions)") | {"meteor": "not computed (Java)"}
    assert reasons == expected
    assert all(found[name]["undefined"] for name in reasons)
    assert found["image_retrieval"]["value"] == found["image_retrieval"]["chance"] == 1 / 4
    published = {name: record for name, record in found.items() if "[" in name}
    assert bool(published) == bool(gallery)
    for record in published.values():
        assert (record["protocol"], record["chance"]) == ("published-all", None)


def test_a_gallery_of_another_name_is_refused(bench, tmp_path):
    root = make_folder(tmp_path / "data" / "tiny", image_size=16)
    header = json.loads((root / "dataset.json").read_text())
    header["tracks"]["embedding"]["gallery"] = "train"
    (root / "dataset.json").write_text(json.dumps(header))
    code, _, err = bench("run", "--dataset", "tiny", "--data", tmp_path / "data", "--method", "mean")
    assert code == 2
    assert "published-all" in err


@pytest.mark.parametrize("name", ["image_retrieval", "hubness", "category_recall", "top1[published-all]", "cider"])
def test_metrics_describe_themselves(bench, name):
    code, out, _ = bench("info", "metric", name)
    assert code == 0
    for word in ("definition", "protocol", "range", "chance", "ties", "source"):
        assert f"  {word}: " in out
