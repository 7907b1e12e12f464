"""Settings of the cost of registers."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, NonNegativeInt

from vit_registers.params.base import Strict
from vit_registers.params.experiments import ExperimentParams, MeasureConfig


class CountedArchitecture(Strict):
    """One of timm's architectures; ``arguments`` go to timm, e.g. ``{img_size: 224}``."""

    name: str
    arguments: dict[str, Any] = Field(default={})


class RegisterCost(ExperimentParams):
    """What registers cost, counted without weights; ``architectures`` by label, none is always among ``registers``."""

    registers: Annotated[list[NonNegativeInt], Field(min_length=1)]
    architectures: Annotated[dict[str, CountedArchitecture], Field(min_length=1)]


class Config(MeasureConfig):
    """All architectures with all numbers of registers."""

    settings: RegisterCost
