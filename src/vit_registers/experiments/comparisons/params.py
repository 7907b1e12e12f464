"""What comparisons are made from; which conditions are compared stands in the study, beside its runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from vit_registers.params.base import Strict
from vit_registers.params.experiments import ExperimentParams, MeasureConfig

if TYPE_CHECKING:
    from vit_registers.params.study import Params


class Condition(Strict):
    """A model under an intervention."""

    model: str
    intervention: str

    def __str__(self) -> str:
        """As people write it."""
        return f"{self.model}/{self.intervention}"


class Pair(Strict):
    """``a`` is compared with ``b``; what was asked by that changes no number and is left out."""

    a: Condition
    b: Condition


class Config(MeasureConfig):
    """Paired differences on one data set; ``sources``: measures that keep values by image, with the compared models."""

    dataset: str
    pairs: list[Pair]
    sources: dict[str, list[str]]

    @classmethod
    def pick(cls, params: Params, settings: ExperimentParams, **axes: str) -> Self:
        """The comparisons whose both models ran on the data set, and what was measured of these."""
        from vit_registers.pipeline import experiment, steps  # which read params themselves

        ran = {model for dataset, model in params.pairs() if dataset == axes["dataset"]}
        mine = [c for c in params.study.comparisons if {c.a.model, c.b.model} <= ran]
        compared = {side.model for c in mine for side in (c.a, c.b)}
        sources: dict[str, list[str]] = {}
        for name, (_, measure) in experiment.measures().items():
            jobs = steps.steps()[name].jobs(params) if measure.images else []
            here = {job["model"] for job in jobs if job["dataset"] == axes["dataset"]}
            if here & compared:
                sources[name] = sorted(here & compared)
        pairs = [
            Pair(
                a=Condition(model=c.a.model, intervention=c.a.intervention),
                b=Condition(model=c.b.model, intervention=c.b.intervention),
            )
            for c in mine
        ]
        return cls(**cls.common(params, settings, **axes), pairs=pairs, sources=sources)
