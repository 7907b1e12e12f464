"""The JSON schema of params that the repository ships for editors."""

import json

import jsonschema
import pytest

from helpers.studies import ROOT, STUDIES, load
from vit_registers.params.study import Params

SCHEMA = ROOT / "workflow/schemas/params.schema.json"


def test_it_is_that_of_the_classes() -> None:
    assert json.loads(SCHEMA.read_text()) == Params.model_json_schema(), "run `make schema`"


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_of_the_repository_fits(name: str) -> None:
    jsonschema.validate(load(name).model_dump(mode="json"), json.loads(SCHEMA.read_text()))
