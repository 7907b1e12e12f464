"""Settings of classification."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from vit_registers.params.base import Strict
from vit_registers.params.experiments import ExperimentParams, MeasureConfig

if TYPE_CHECKING:
    from vit_registers.params.study import Params


class Probe(Strict):
    """Linear probe of kukade2025: AdamW, cosine to ``final_lr``, best epoch by validation loss.

    ``lr_changes``: with every ``step``, or only with every ``epoch`` as in the authors' notebooks, which also go to a
    ``final_lr`` of 1e-5 where the text says 1e-4.
    """

    features: Annotated[list[Literal["cls", "appended", "patch_mean", "cls+patch_mean"]], Field(min_length=1)]
    seeds: Annotated[list[int], Field(min_length=1)]
    lr: PositiveFloat
    final_lr: PositiveFloat
    lr_changes: Literal["step", "epoch"] = "step"
    weight_decay: Annotated[float, Field(ge=0.0)]
    epochs: PositiveInt
    batch_size: PositiveInt
    clip_norm: PositiveFloat
    validation_share: Annotated[float, Field(gt=0.0, lt=1.0)]


class LinearEvaluation(Strict):
    """DINOv2's linear evaluation: SGD heads for every learning rate on [CLS] of the last ``blocks``, with and without
    the mean patch. ``blocks`` above 1 need ``extraction.cls_blocks``. Learning rates are for batches of 256.
    """

    blocks: Annotated[list[PositiveInt], Field(min_length=1)]
    learning_rates: Annotated[list[PositiveFloat], Field(min_length=1)]
    epochs: PositiveInt
    batch_size: PositiveInt


class Knn(Strict):
    """Weighted nearest neighbours on L2-normalised features, as DINOv2 evaluates."""

    k: PositiveInt
    temperature: PositiveFloat


class Classification(ExperimentParams):
    """The class of an image by heads on its features; ``linear_evaluation``: null for linear probe and kNN alone."""

    probe: Probe
    linear_evaluation: LinearEvaluation | None
    knn: Knn

    def check(self, params: Params) -> None:
        """As many blocks of [CLS] have to be kept as linear evaluation reads."""
        wanted, kept = self.linear_evaluation, params.extraction.cls_blocks
        if wanted is not None and max(wanted.blocks) > max(1, kept):
            raise ValueError(
                f"linear_evaluation.blocks: {max(wanted.blocks)} blocks, but extraction.cls_blocks keeps {kept}; "
                "raise it"
            )


class Config(MeasureConfig):
    """Heads on cached features of every condition of one model on one data set."""

    dataset: str
    model: str
    conditions: list[str]
    settings: Classification
