"""Settings of dense prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from vit_registers.params.experiments import ExperimentParams, MeasureConfig

if TYPE_CHECKING:
    from vit_registers.params.study import Params


class DensePrediction(ExperimentParams):
    """Segmentation and depth by linear heads on patch tokens (DINOv2's dense evaluation, darcet2024).

    Of the dense images ``train_share`` trains the heads and the others test them. Null trains them on the
    ``extraction.train_dense_images`` of split ``train`` and tests on all dense images, as is published of ADE20K and
    NYU; then conditions are tested with the heads of the model as it is alone. Segmentation: AdamW with a cosine to
    zero over ``epochs`` of batches of ``batch_size`` images; of the pixels one of ``every`` in each row and column
    counts in the loss, all of them in the score. Depth: ridge regression, ``ridge`` being a share of the mean squared
    channel.
    """

    train_share: Annotated[float, Field(gt=0.0, lt=1.0)] | None
    epochs: PositiveInt
    batch_size: PositiveInt
    lr: PositiveFloat
    weight_decay: Annotated[float, Field(ge=0.0)]
    every: PositiveInt
    ridge: PositiveFloat

    def check(self, params: Params) -> None:
        """There are training images to train heads on, where dense images are not split."""
        if self.train_share is None and not params.extraction.train_dense_images:
            raise ValueError(
                "train_share: null trains heads on images of split train; set extraction.train_dense_images or a share"
            )


class Config(MeasureConfig):
    """Segmentation and depth of one model on one data set, under every condition."""

    dataset: str
    model: str
    conditions: list[str]
    settings: DensePrediction
