"""Settings of the limits of detection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from vit_registers.params.base import Name
from vit_registers.params.bases import known
from vit_registers.params.experiments import ExperimentParams, MeasureConfig
from vit_registers.params.passes import Loading
from vit_registers.params.spread_planting import SpreadPlanting

if TYPE_CHECKING:
    from vit_registers.params.study import Params


class DetectionLimits(ExperimentParams):
    """Models planted into the tagged model ``base``, one for each of ``activations`` and ``seeds``.

    Each is looked at on ``images`` images of detection's split, with the threshold of detection.
    """

    base: Name
    planting: SpreadPlanting
    activations: Annotated[list[PositiveFloat], Field(min_length=1)]
    images: PositiveInt
    seeds: Annotated[list[NonNegativeInt], Field(min_length=1)]

    def check(self, params: Params) -> None:
        """The base has to be there, and where a run has it, artifacts have to be looked for."""
        known("base", self.base, params.models, "model")
        runs = any(model == self.base for _, model in params.pairs())
        if runs and not params.detection_of(self.base).finds:
            raise ValueError("base: detection.threshold_rule percentile finds no artifacts; switch this experiment off")


class Config(MeasureConfig, Loading):
    """The plantings, and how they are looked at."""

    dataset: str
    model: str
    device: str
    batch_size: int | Literal["auto"]
    memory_mb: int
    precision: str
    split: str
    threshold_rule: str
    threshold: float
    outlier_layer: int | str
    minimum_share: float
    sparsity_tokens: str
    settings: DetectionLimits

    @classmethod
    def pick(cls, params: Params, settings: DetectionLimits, **axes: str) -> Self:
        """What of detection a planting meets: how artifacts are found, not how many neurons are taken."""
        passes = {
            name: getattr(params.extraction_of(axes["dataset"]), name)
            for name in ("batch_size", "memory_mb", "precision", *Loading.model_fields)
        }
        detection = params.detection_of(axes["model"])
        rules = ("split", "threshold_rule", "threshold", "outlier_layer", "minimum_share", "sparsity_tokens")
        own: dict[str, Any] = passes | {name: getattr(detection, name) for name in rules}
        return cls(**cls.common(params, settings, **axes), **own)
