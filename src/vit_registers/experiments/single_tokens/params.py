"""Settings of what single tokens know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, PositiveFloat, PositiveInt

from vit_registers.params.experiments import ExperimentParams, MeasureConfig

if TYPE_CHECKING:
    from vit_registers.params.study import Params


class SingleTokens(ExperimentParams):
    """What single tokens know: outlier (high-norm) patches against normal ones (darcet2024, bach2025).

    Probes are trained on ``extraction.train_dense_images`` and tested on the first ``images`` dense images. Outliers
    are the artifacts where detection found some, else patches above ``high_percentile`` of the pooled norms; beside
    them, for the class, the patch of largest norm of every image. ``seeds``: draws of one token of each kind from every
    image. ``hidden`` are channels of the MLP that reconstructs pixels; ``lr``, falling to zero by a cosine over all
    ``epochs``, ``weight_decay`` and ``batch_size`` (tokens) are those of AdamW for it. All other probes have no
    settings: they are in closed form or trained to convergence.
    """

    images: Annotated[int, Field(ge=4)]
    high_percentile: Annotated[float, Field(gt=0.0, lt=100.0)]
    seeds: Annotated[list[int], Field(min_length=1)]
    hidden: PositiveInt
    lr: PositiveFloat
    weight_decay: Annotated[float, Field(ge=0.0)]
    epochs: PositiveInt
    batch_size: PositiveInt

    def check(self, params: Params) -> None:
        """There are training images to train probes on."""
        if not params.extraction.train_dense_images:
            raise ValueError(
                "its probes need tokens of training images; set extraction.train_dense_images, or leave single_tokens "
                "out (null)"
            )


class Config(MeasureConfig):
    """Probes of the tokens of one model on one data set.

    ``reference``: the model that this one was made from, whose tokens at the same patches are probed as well.
    """

    dataset: str
    model: str
    reference: str | None
    settings: SingleTokens

    @classmethod
    def pick(cls, params: Params, settings: SingleTokens, **axes: str) -> Self:
        """With the model's reference."""
        return cls(**cls.common(params, settings, **axes), reference=params.reference(axes["dataset"], axes["model"]))
