"""What the params of every experiment have, and the part of params that a measure's job gets."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import GetCoreSchemaHandler, create_model
from pydantic_core import CoreSchema

from vit_registers.params.base import Strict
from vit_registers.params.statistics import Statistics

if TYPE_CHECKING:
    from vit_registers.params.study import Params


class ExperimentParams(Strict):
    """Settings of one experiment, under its name in ``experiments`` of params.

    ``compares``: whether it is what ``study.comparisons`` are for.
    """

    compares: ClassVar[bool] = False

    def check(self, params: Params) -> None:
        """Raise ValueError, opened by the key below the experiment's, where other params do not fit these."""


class MeasureConfig(Strict):
    """What a job of a measure gets of params: tracked by value, so that a changed setting redoes what depends on it.

    Subclasses say what else a measure needs, in :meth:`pick`.
    """

    seed: int
    statistics: Statistics

    @classmethod
    def pick(cls, params: Params, settings: Any, **axes: str) -> Self:
        """The part of ``params`` for the job at ``axes`` (data set, model); ``settings`` are the experiment's own."""
        return cls(**cls.common(params, settings, **axes))

    @classmethod
    def common(cls, params: Params, settings: Any, **axes: str) -> dict[str, Any]:
        """Values of the fields that are called as in params: seed, statistics, settings, axes and conditions."""
        values: dict[str, Any] = {"seed": params.seed, "statistics": params.statistics, "settings": settings, **axes}
        if "conditions" in cls.model_fields:
            values["conditions"] = params.conditions(axes["dataset"], axes["model"])
        for name in ("device", "gallery"):
            values[name] = getattr(params, name)
        if "extraction" in cls.model_fields:
            values["extraction"] = params.extraction_of(axes["dataset"])
        return {name: value for name, value in values.items() if name in cls.model_fields}


@dataclass(frozen=True)
class FoundExperiments:
    """Annotation of a field: the experiments that are there, with their params; absent ones are off."""

    package: str = "vit_registers.pipeline.experiment"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Schema of a model with a field for every experiment."""
        experiments = importlib.import_module(self.package).found()
        fields: dict[str, Any] = {name: (each.experiment.params | None, None) for name, each in experiments.items()}
        return handler.generate_schema(create_model("Experiments", __base__=Strict, **fields))
