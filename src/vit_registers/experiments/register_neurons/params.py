"""What the list of register neurons needs of params; it has no settings of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from vit_registers.params.experiments import MeasureConfig

if TYPE_CHECKING:
    from vit_registers.params.study import Params


class Config(MeasureConfig):
    """One model on every data set on which it was looked at."""

    model: str
    datasets: list[str]

    @classmethod
    def pick(cls, params: Params, settings: Any, **axes: str) -> Self:
        """The data sets of the runs, and the further ones."""
        datasets = [dataset for dataset, model in params.detected_pairs() if model == axes["model"]]
        return cls(**cls.common(params, settings, **axes), datasets=datasets)
