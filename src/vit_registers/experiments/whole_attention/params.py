"""How many images, whether head by head, and how much a condition of a model may take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import PositiveFloat, PositiveInt

from vit_registers.interventions.kinds.test_time_registers import TestTimeRegisters
from vit_registers.params.bases import Intervention
from vit_registers.params.condition import BASELINE
from vit_registers.params.experiments import ExperimentParams, MeasureConfig
from vit_registers.params.kinds import KindsIn
from vit_registers.params.statistics import Gallery

if TYPE_CHECKING:
    from vit_registers.params.study import Params


class WholeAttention(ExperimentParams):
    """Attention between all tokens of ``images`` gallery images, of every head or as the ``mean`` over heads.

    A condition takes images x blocks x heads x tokens^2 values; more than ``limit_mb`` are refused: with 1,374 tokens
    one image of a ViT-L has 45 million of them, mean over heads.
    """

    images: PositiveInt
    heads: Literal["all", "mean"]
    limit_mb: PositiveFloat


class Config(MeasureConfig):
    """One model on one data set: as it is, and with test-time registers as the paper describes them."""

    dataset: str
    model: str
    device: str
    precision: str
    gallery: Gallery
    settings: WholeAttention
    interventions: dict[str, Annotated[Intervention, KindsIn("vit_registers.interventions.kinds")] | None]

    @classmethod
    def pick(cls, params: Params, settings: Any, **axes: str) -> Self:
        """With the interventions of the pair that are test-time registers."""
        names = params.conditions(axes["dataset"], axes["model"])
        chosen = {name: params.interventions.get(name) for name in names if name == BASELINE or _moves(params, name)}
        precision = params.extraction_of(axes["dataset"]).precision
        return cls(**cls.common(params, settings, **axes), precision=precision, interventions=chosen)


def _moves(params: Params, name: str) -> bool:
    intervention = params.interventions[name]
    return isinstance(intervention, TestTimeRegisters) and intervention.as_described
