"""Where weights are looked for, and what is said when they are missing or damaged."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from benchmark.errors import BenchError
from benchmark.pretrained import hub
from benchmark.pretrained.training import common
from benchmark.pretrained.training import judge as task


@pytest.fixture
def weights(tmp_path):
    """An exported judge with random weights."""
    torch.manual_seed(0)
    config = task.config() | {"width": [4, 8, 8]}
    common.save(tmp_path, "judge", task.judge.build(config).state_dict(), {"config": config})
    return tmp_path


def test_loads_from_a_folder(weights):
    judge = hub.load("judge", "mini", weights)
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    assert judge.features(images).shape == (3, 48)


def test_checksum_is_the_files(weights):
    entry = json.loads((weights / "judge.json").read_text())
    assert hub.checksum("judge", "mini", weights) == entry["sha256"]
    assert entry["bytes"] == (weights / "judge.safetensors").stat().st_size


@pytest.mark.parametrize("gone", ["judge.json", "judge.safetensors"])
def test_missing_file_is_named(weights, gone):
    (weights / gone).unlink()
    with pytest.raises(BenchError, match=f"not found in .*{gone}"):
        hub.load("judge", "mini", weights)


def test_truncated_and_changed_files_are_told(weights):
    path = weights / "judge.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-10])
    with pytest.raises(BenchError, match=f"header promises {len(content)}"):
        hub.require(["judge"], "mini", weights)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BenchError, match="sha256 is not the one"):
        hub.require(["judge"], "mini", weights)
    path.write_bytes(b"junk")
    with pytest.raises(BenchError, match="no safetensors file"):
        hub.require(["judge"], "mini", weights)
    path.write_bytes(content)
    hub.require(["judge"], "mini", weights)


def test_broken_description_is_told(weights):
    (weights / "judge.json").write_text("{")
    with pytest.raises(BenchError, match=r"judge\.json \(not valid JSON\)"):
        hub.require(["judge"], "mini", weights)


def test_weights_of_another_architecture_are_told(weights):
    entry = json.loads((weights / "judge.json").read_text())
    entry["config"]["width"] = [4, 8, 16]
    (weights / "judge.json").write_text(json.dumps(entry))
    with pytest.raises(BenchError, match="do not fit the model"):
        hub.load("judge", "mini", weights)


def test_full_checkpoints_are_named_with_size_and_source(tmp_path):
    with pytest.raises(BenchError) as error:
        hub.require(["versatile", "vdvae"], "full", tmp_path)
    text = str(error.value)
    assert "\n" not in text
    for part in (
        "image_unet",
        "ViT-L-14/open_clip_model.safetensors (1.71 GB",
        "vae/diffusion_pytorch_model",
        "500 MB",
    ):
        assert part in text
    assert text.count("open_clip_model") == 2  # path and source, the model itself once


def test_full_file_is_found_and_its_length_checked(tmp_path):
    path = tmp_path / "ViT-L-14" / "open_clip_model.safetensors"
    path.parent.mkdir()
    save_file({"logit_scale": torch.ones(())}, path)
    assert hub.files("clip", "full", tmp_path) == {"ViT-L-14/open_clip_model.safetensors": path}
    hub.require(["clip"], "full", tmp_path)
    with pytest.raises(BenchError, match="do not fit the model"):
        hub.load("clip", "full", tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BenchError, match="damaged"):
        hub.require(["clip"], "full", tmp_path)


@pytest.mark.parametrize(
    ("name", "profile", "message"),
    [
        ("clap", "mini", "no pretrained model is called 'clap'"),
        ("clip", "midi", "profile must be one of"),
        ("judge", "full", "profile mini only"),
        ("clip-h14", "mini", "profile full only"),
    ],
)
def test_unknown_names(name, profile, message):
    with pytest.raises(BenchError, match=message):
        hub.require([name], profile)
