"""Which ablations of single registers add up to which ablation of all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from vit_registers.interventions.kinds.ablate import Ablate
from vit_registers.params.base import Strict
from vit_registers.params.experiments import ExperimentParams, MeasureConfig

if TYPE_CHECKING:
    from vit_registers.params.study import Params


class TokenAblation(ExperimentParams):
    """None: what is replaced stands under ``interventions``."""


class Joint(Strict):
    """A condition in which all registers are replaced, and by number of the register those in which it alone is."""

    condition: str
    single: dict[int, str]


def joints(params: Params, names: list[str]) -> list[Joint]:
    """Ablations of all registers among some conditions, with those of single ones that differ in nothing else."""
    ablations = {name: kind for name in names if isinstance(kind := params.interventions.get(name), Ablate)}
    registers = {name: kind for name, kind in ablations.items() if kind.tokens == "registers"}
    found = []
    for name, kind in registers.items():
        if kind.only is None:
            alike = {
                other: one.only[0]
                for other, one in registers.items()
                if one.only is not None and len(one.only) == 1 and one.model_copy(update={"only": None}) == kind
            }
            if alike:
                found.append(Joint(condition=name, single={item: other for other, item in alike.items()}))
    return found


def single(params: Params, model: str) -> bool:
    """Whether registers of a model are replaced one by one, and all together."""
    runs = [run for run in params.study.runs if model in run.models]
    return any(joints(params, list(run.interventions)) for run in runs)


class Config(MeasureConfig):
    """Joint and single ablations of one model on one data set; ``sources``: measures that keep values of it."""

    dataset: str
    model: str
    joints: list[Joint]
    sources: dict[str, list[str]]

    @classmethod
    def pick(cls, params: Params, settings: Any, **axes: str) -> Self:
        """The ablations of the pair, and what was measured of it image by image."""
        from vit_registers.pipeline import steps  # which reads params itself

        sources = steps.compared_by_image(params, axes["dataset"], [axes["model"]])
        found = joints(params, params.conditions(axes["dataset"], axes["model"]))
        own: dict[str, Any] = {"joints": found, "sources": sources}
        return cls(**cls.common(params, settings, **axes), **own)
