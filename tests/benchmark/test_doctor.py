import numpy as np

from benchmark import doctor
from benchmark.data import scenes as worlds


def test_scenes_of_the_check_are_in_no_models_training():
    assert worlds.is_reserved(doctor.draw(30).scenes).all()


def test_a_small_model_is_checked_and_passes(bench):
    code, out, err = bench("doctor", "--models", "--only", "judge")
    assert code == 0, err
    assert "attributes of clean scenes" in out


def test_a_model_that_does_nothing_fails_its_aims():
    class Still:
        def encode(self, images):
            return images

        def decode(self, images):
            return np.full_like(images, 128)

    (check,) = doctor.check_models(lambda name: Still(), ("kl",))
    assert check.value == 0
    assert not check.passed


def test_unknown_and_damaged_models_are_one_sentence(bench, tmp_path):
    code, _, err = bench("doctor", "--models", "--only", "juge")
    assert (code, err.strip()) == (2, "error: unknown model 'juge', did you mean 'judge'?")
    (tmp_path / "w").mkdir()
    (tmp_path / "w/judge.json").write_text("{}")
    (tmp_path / "w/judge.safetensors").write_bytes(b"short")
    code, _, err = bench("doctor", "--models", "--only", "judge", "--weights", "w")
    assert code == 2
    assert "judge" in err
    assert len(err.strip().splitlines()) == 1
