"""Made training sets as fixtures."""

import pytest

from tests.methods.made import make_scenes, make_words


@pytest.fixture
def words():
    return make_words()


@pytest.fixture
def scenes():
    return make_scenes()
