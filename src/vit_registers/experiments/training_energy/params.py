"""Settings of the energy of training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt

from vit_registers.params.base import Strict
from vit_registers.params.experiments import ExperimentParams, MeasureConfig

if TYPE_CHECKING:
    from vit_registers.params.study import Params


Device = Literal["cpu", "cuda", "mps"]


class PublishedEnergy(Strict):
    """What a paper lists: hours of its trainings together, processors at once, energy and carbon as it gives them."""

    hours: PositiveFloat
    processors: PositiveInt
    watts: PositiveFloat
    pue: Annotated[float, Field(ge=1.0)]
    kwh: PositiveFloat
    kg: PositiveFloat


class TrainingEnergy(ExperimentParams):
    """Energy and carbon of trainings: processors x hours x power x PUE x carbon intensity (bach2025).

    Hours are measured; ``watts``, ``pue`` (what the place takes over what its machines take) and ``kg_per_kwh`` are
    assumed. ``watts``: of what one process of a training keeps busy, by the device that it trained on: a GPU, or of a
    CPU the share of one thread. ``published``: tables of papers, by key of the paper.
    """

    watts: Annotated[dict[Device, PositiveFloat], Field(min_length=1)]
    pue: Annotated[float, Field(ge=1.0)]
    kg_per_kwh: PositiveFloat
    published: dict[str, PublishedEnergy]


class Config(MeasureConfig):
    """All models that were trained, and what is assumed."""

    models: list[str]
    settings: TrainingEnergy

    @classmethod
    def pick(cls, params: Params, settings: TrainingEnergy, **axes: str) -> Self:
        """With the models that the study trains."""
        models: list[Any] = [name for name in params.models_used() if params.models[name].step == "train"]
        return cls(**cls.common(params, settings, **axes), models=models)
