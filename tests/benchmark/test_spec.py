import dataclasses
import json

import pytest

from benchmark.spec import RunSpec, closure, digest, run_id, score_id, source_hash

SPEC = RunSpec("mini", "synthetic-scenes", "subj01", "synthetic-scenes-v1", "ridge", "default", {"penalties": (1.0,)})
PARTS = {"source": "s", "task": {"embedding": "clip"}, "fingerprint": "f", "split": "c", "weights": ""}


def test_the_id_is_stable_and_json_round_trips():
    assert run_id(SPEC, **PARTS) == run_id(dataclasses.replace(SPEC), **PARTS)
    assert json.loads(json.dumps(SPEC.to_json()))["params"] == {"penalties": [1.0]}


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"params": {"penalties": (2.0,)}}, {"subject": "subj02"}, {"preset": "x"}, {"profile": "full"}],
)
def test_every_part_of_the_specification_changes_the_id(change):
    assert run_id(dataclasses.replace(SPEC, **change), **PARTS) != run_id(SPEC, **PARTS)


@pytest.mark.parametrize("name", PARTS)
def test_code_data_split_and_weights_change_the_id(name):
    assert run_id(SPEC, **PARTS | {name: "other"}) != run_id(SPEC, **PARTS)


def test_a_metric_version_changes_the_score_id_only():
    run = run_id(SPEC, **PARTS)
    assert score_id(run, {"embedding": [["two_way", 1]]}) != score_id(run, {"embedding": [["two_way", 2]]})


def test_what_cannot_be_written_as_json_is_refused():
    with pytest.raises(TypeError, match="object cannot be part of a run specification"):
        digest(object())


def test_the_closure_follows_imports_inside_functions_and_public_names(tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text("def f():\n    from methods.ridge import Ridge\n    return Ridge\n")
    found = closure([f"{plugin}:f"])
    assert {"mine.py", "methods.ridge", "benchmark.ridge", "benchmark.api", "benchmark.data.prepare"} <= set(found)
    assert "benchmark.cli" not in found
    plugin.write_text("from benchmark import Method\n")
    assert "benchmark.api" in closure([f"{plugin}:f"])


def test_the_source_hash_changes_with_the_adapter_and_not_with_its_place(tmp_path):
    texts = ["x = 1\n", "x = 1\n", "x = 2\n"]
    hashes = []
    for i, text in enumerate(texts):
        folder = tmp_path / str(i)
        folder.mkdir()
        (folder / "plugin.py").write_text(text)
        hashes.append(source_hash(f"{folder / 'plugin.py'}:x"))
    assert hashes[0] == hashes[1] != hashes[2]
