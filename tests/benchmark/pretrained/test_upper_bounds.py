"""The shipped models reach the aims of ``bench doctor --models``."""

import pytest

from benchmark import doctor
from benchmark.pretrained import hub


@pytest.mark.slow
@pytest.mark.parametrize("name", doctor.MODELS)
def test_every_aim_is_reached(name):
    checks = list(doctor.check_models(lambda model: hub.load(model, "mini"), (name,)))
    assert checks
    assert [check for check in checks if not check.passed] == []
