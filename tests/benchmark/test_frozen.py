import numpy as np
import pytest

from benchmark.api import Stimuli
from benchmark.data import scenes as sc
from benchmark.errors import BenchError
from benchmark.frozen import Source, checksums, of_pictures, with_space

SCENES = sc.sample(np.random.default_rng(5), 6)
STIMULI = Stimuli(
    np.array([f"s{i}" for i in range(6)]), images=sc.render(SCENES), attributes=sc.attributes(SCENES), embeddings={}
)


@pytest.fixture
def source(tmp_path):
    return Source("mini", tmp_path)


def test_a_space_is_computed_once_and_only_where_it_is_missing(source, tmp_path):
    found = with_space(STIMULI, "clip", source)
    assert found.embeddings["clip"].shape[0] == 6
    np.testing.assert_allclose(np.linalg.norm(found.embeddings["clip"], axis=1), 1, rtol=1e-3)
    np.testing.assert_array_equal(found.embeddings["clip"], with_space(STIMULI, "clip", source).embeddings["clip"])
    own = Stimuli(STIMULI.ids, embeddings={"clip": np.ones((6, 2))})
    assert with_space(own, "clip", source) is own
    assert with_space(own, None, source) is own
    assert with_space(own, "glove", source) is own
    with pytest.raises(BenchError, match="space clip: the dataset has no images"):
        with_space(Stimuli(STIMULI.ids), "clip", source)


def test_true_pictures_are_read_right_and_grey_ones_are_not(source):
    true, read = of_pictures("judge-read", STIMULI, STIMULI.images, source)
    assert true.shape == read.shape == (6, 19)
    assert (true == read).mean() > 0.9
    _, grey = of_pictures("judge-read", STIMULI, np.full_like(STIMULI.images, 128), source)
    assert (true == grey).mean() < (true == read).mean()


@pytest.mark.parametrize("kind", ["clip", "judge"])
def test_features_of_the_same_picture_are_the_same(source, kind):
    true, predicted = of_pictures(kind, STIMULI, np.array(STIMULI.images), source)
    np.testing.assert_allclose(true, predicted, atol=1e-4)


def test_missing_weights_are_said_with_name_and_size_before_any_work(tmp_path):
    assert checksums([], "full", None) == {}
    assert set(checksums(["judge"], "full", tmp_path)) == {"judge"}
    with pytest.raises(BenchError, match=r"ViT-L-14/open_clip_model.safetensors \(1.71 GB"):
        checksums(["clip", "judge"], "full", tmp_path)


def test_a_run_that_lacks_weights_is_refused_and_nothing_is_written(bench, tmp_path):
    (tmp_path / "none").mkdir()
    code, _, err = bench("run", "--profile", "full", "--weights", "none", "--dataset", "synthetic-scenes")
    assert code == 2
    assert "not found in none: ViT-L-14/open_clip_model.safetensors (1.71 GB" in err
    assert not (tmp_path / "runs").exists()
