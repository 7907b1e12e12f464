"""Every study of the repository in turn."""

import pytest

from helpers.studies import STUDIES, load
from vit_registers.params.study import Params


@pytest.fixture(params=STUDIES)
def params(request: pytest.FixtureRequest) -> Params:
    """A study of the repository."""
    return load(request.param)
