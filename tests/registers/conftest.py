"""A model whose register neurons are known, and one without any."""

import pytest

from helpers import by_hand


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    return by_hand.make(tmp_path_factory.mktemp("study"), "tiny")
