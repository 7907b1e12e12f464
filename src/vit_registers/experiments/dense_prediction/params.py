"""Settings of dense prediction."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from vit_registers.params.experiments import ExperimentParams, MeasureConfig


class DensePrediction(ExperimentParams):
    """Segmentation and depth by linear heads on patch tokens (DINOv2's dense evaluation, darcet2024).

    Of the dense images ``train_share`` trains the heads and the others test them. Segmentation: AdamW with a cosine to
    zero over ``epochs`` of batches of ``batch_size`` images; of the pixels one of ``every`` in each row and column
    counts in the loss, all of them in the score. Depth: ridge regression, ``ridge`` being a share of the mean squared
    channel.
    """

    train_share: Annotated[float, Field(gt=0.0, lt=1.0)]
    epochs: PositiveInt
    batch_size: PositiveInt
    lr: PositiveFloat
    weight_decay: Annotated[float, Field(ge=0.0)]
    every: PositiveInt
    ridge: PositiveFloat


class Config(MeasureConfig):
    """Segmentation and depth of one model on one data set, under every condition."""

    dataset: str
    model: str
    conditions: list[str]
    settings: DensePrediction
