"""What comparisons are made from; which conditions are compared stands in the study, beside its runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, PositiveFloat

from vit_registers.params.base import Strict
from vit_registers.params.bases import known
from vit_registers.params.condition import Condition
from vit_registers.params.experiments import ExperimentParams, MeasureConfig

if TYPE_CHECKING:
    from vit_registers.params.study import Comparison, Params


class Comparisons(ExperimentParams):
    """``margins`` by metric, in its unit: a difference that is shown to be smaller than that counts as none.

    They are to be stated before a study runs. Of a metric without one no equivalence is tested.
    """

    compares: ClassVar[bool] = True

    margins: dict[str, PositiveFloat] = Field(default={})

    def check(self, params: Params) -> None:
        """Margins are of metrics that some measure has."""
        from vit_registers.pipeline import experiment  # which reads params itself

        for name in self.margins:
            known("margins", name, experiment.metrics(), "metric")


class Pair(Strict):
    """``a`` is compared with ``b``; what was asked by that changes no number and is left out.

    ``family``, ``before``: as in the study. ``one_training``: whether both were made from one training.
    ``trainings``: over which pairs of models it is compared; none where it is a comparison of these two alone.
    """

    a: Condition
    b: Condition
    family: str
    one_training: bool
    before: Condition | None = None
    trainings: list[tuple[str, str]] = Field(default=[])

    @property
    def models(self) -> set[str]:
        """Models whose values are needed."""
        sides = [self.a, self.b, *([self.before] if self.before else [])]
        return {side.model for side in sides} | {model for pair in self.trainings for model in pair}


class Config(MeasureConfig):
    """Paired differences on one data set; ``sources``: measures that keep values by image, with the compared models."""

    dataset: str
    pairs: list[Pair]
    sources: dict[str, list[str]]
    settings: Comparisons

    @classmethod
    def pick(cls, params: Params, settings: ExperimentParams, **axes: str) -> Self:
        """The comparisons whose models ran on the data set, and what was measured of these."""
        from vit_registers.pipeline import steps  # which reads params itself

        ran = {model for dataset, model in params.pairs() if dataset == axes["dataset"]}
        mine = [c for c in params.study.comparisons if {side.model for side in c.sides} <= ran]
        pairs = [_pair(params, axes["dataset"], comparison) for comparison in mine]
        compared = {model for pair in pairs for model in pair.models}
        sources = steps.compared_by_image(params, axes["dataset"], compared)
        return cls(**cls.common(params, settings, **axes), pairs=pairs, sources=sources)


def _pair(params: Params, dataset: str, comparison: Comparison) -> Pair:
    return Pair(
        a=comparison.a,
        b=comparison.b,
        before=comparison.before,
        family=comparison.family,
        one_training=params.origin(comparison.a.model) == params.origin(comparison.b.model),
        trainings=params.trained_alike(dataset, comparison) if comparison.trainings else [],
    )
