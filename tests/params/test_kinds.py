"""Kinds of data sets, models, recipes and interventions: found by being there, and whole."""

from typing import Literal

import pytest

from helpers.studies import load
from vit_registers.params import bases
from vit_registers.params.kinds import kinds

PACKAGES = {
    "data.sources": bases.DatasetSource,
    "models.sources": bases.ModelSource,
    "training.recipes": bases.Recipe,
    "interventions.kinds": bases.Intervention,
}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_kind_that_is_found_is_whole(package: str) -> None:
    found = kinds(f"vit_registers.{package}", PACKAGES[package])
    assert found
    assert {name: sorted(kind.__abstractmethods__) for name, kind in found.items()} == {name: [] for name in found}


def test_a_kind_that_lacks_a_method_is_refused_when_it_is_made() -> None:
    class Mute(bases.Intervention):
        kind: Literal["mute"] = "mute"

        def label(self) -> str:
            return "mute"

    with pytest.raises(TypeError, match=r"abstract method.*resolve.*sentence"):
        Mute()


def test_the_names_of_the_embedded_study_are_of_kinds_that_are_found() -> None:
    params = load("embedded")
    of = {"models.sources": params.models, "training.recipes": params.recipes, "data.sources": params.datasets}
    for package, named in of.items():
        assert {value.kind for value in named.values()} <= set(kinds(f"vit_registers.{package}", PACKAGES[package]))
