"""Settings of attention sinks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import NonNegativeFloat, PositiveFloat, model_validator

from vit_registers.params.experiments import ExperimentParams, MeasureConfig
from vit_registers.params.passes import SINK_ATTENTION, SINK_QUERIES

if TYPE_CHECKING:
    from vit_registers.params.study import Params


class AttentionSinks(ExperimentParams):
    """What a sink is called by what it writes (fesser2026).

    Ratio: norm of what it writes over the mean of what all other tokens write. Up to ``no_op`` the sink writes nothing;
    from ``broadcast`` on it writes much, and the same to all if the stable rank of what its head writes is at most
    ``stable_rank``.
    """

    no_op: NonNegativeFloat = 0.2
    broadcast: PositiveFloat = 0.5
    stable_rank: PositiveFloat = 1.5

    @model_validator(mode="after")
    def _classes_are_apart(self) -> Self:
        if self.no_op >= self.broadcast:
            raise ValueError(f"no_op: expected less than broadcast ({self.broadcast:g}), got {self.no_op:g}")
        return self

    @property
    def attention(self) -> float:
        """Share of its attention that a query gives to a sink, at least."""
        return SINK_ATTENTION

    @property
    def queries(self) -> float:
        """Share of the queries that have to, for a sink event."""
        return SINK_QUERIES

    def check(self, params: Params) -> None:
        """Refuse a study that keeps no attention to look for sinks in."""
        if not params.extraction.sink_images:
            raise ValueError(
                "no_op: sinks are looked for in no image; raise extraction.sink_images, or drop the experiment"
            )


class Config(MeasureConfig):
    """Attention of one model on one data set, by condition."""

    dataset: str
    model: str
    conditions: list[str]
    settings: AttentionSinks
