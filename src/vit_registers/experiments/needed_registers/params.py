"""Settings of needed registers: none; and which models they are measured in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from vit_registers.models.bases import WrittenModel
from vit_registers.params.experiments import MeasureConfig

if TYPE_CHECKING:
    from vit_registers.params.study import Params


def asked(params: Params, model: str) -> bool:
    """Whether something was written into a model, it is what such a model was made from, or a run names it for this.

    In every other model nothing is known of what artifacts hold, and what its own head says is only asked for by name.
    """
    if any(model in run.models and "needed_registers" in (run.experiments or []) for run in params.study.runs):
        return True
    used = [params.models[name] for name in params.models_used()]
    bases = {each.base for each in used if isinstance(each, WrittenModel)}
    return isinstance(params.models[model], WrittenModel) or model in bases


class Config(MeasureConfig):
    """The conditions of a model; ``base``: the one it was made from, where the study measures that as well."""

    dataset: str
    model: str
    conditions: list[str]
    base: str | None

    @classmethod
    def pick(cls, params: Params, settings: Any, **axes: str) -> Self:
        """See :class:`MeasureConfig`."""
        return cls(**cls.common(params, settings, **axes), base=params.reference(axes["dataset"], axes["model"]))
