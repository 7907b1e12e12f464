"""Settings of what single tokens know."""

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from vit_registers.params.experiments import ExperimentParams, MeasureConfig


class SingleTokens(ExperimentParams):
    """What single tokens know: outlier (high-norm) patches against normal ones (darcet2024, bach2025).

    Outliers are the artifacts where detection found some, else patches above ``high_percentile`` of the pooled norms.
    Of the first ``images`` dense images one half trains the probes and the other tests them. ``seeds``: draws of one
    token of each kind from every image. ``hidden`` are channels of the MLP that reconstructs pixels; ``lr`` to
    ``batch_size`` are those of AdamW for it and for the position probe.
    """

    images: Annotated[int, Field(ge=4)]
    high_percentile: Annotated[float, Field(gt=0.0, lt=100.0)]
    seeds: Annotated[list[int], Field(min_length=1)]
    hidden: PositiveInt
    lr: PositiveFloat
    weight_decay: Annotated[float, Field(ge=0.0)]
    epochs: PositiveInt
    batch_size: PositiveInt


class Config(MeasureConfig):
    """Probes of the tokens of one model on one data set."""

    dataset: str
    model: str
    settings: SingleTokens
