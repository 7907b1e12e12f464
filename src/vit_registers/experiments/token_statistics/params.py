"""What token statistics need of params; they have no settings of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from vit_registers.params.experiments import MeasureConfig
from vit_registers.params.statistics import Gallery

if TYPE_CHECKING:
    from vit_registers.params.study import Params


class Config(MeasureConfig):
    """Tokens of one model on one data set, by layer and condition; by grid position where detection looked.

    ``reference``: the model that this one was made from, whose attention to the same patches is measured as well.
    """

    dataset: str
    model: str
    reference: str | None
    conditions: list[str]
    gallery: Gallery

    @classmethod
    def pick(cls, params: Params, settings: Any, **axes: str) -> Self:
        """With the model's reference."""
        return cls(**cls.common(params, settings, **axes), reference=params.reference(axes["dataset"], axes["model"]))
