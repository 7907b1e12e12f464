"""Slices of tables, figures and the report."""

from typing import Annotated, Any

from vit_registers.params import Comparison, OtherSize, Params, ResizedModel, Strict, TrainedModel
from vit_registers.params.bases import Intervention
from vit_registers.params.kinds import KindsIn


class ViewStep(Strict):
    """Tables and figures: which rows, in which order, under which names."""

    title: str
    runs: list[dict[str, Any]]
    detections: list[dict[str, Any]]
    comparisons: list[Comparison]
    interventions: dict[str, Annotated[Intervention, KindsIn("vit_registers.interventions.kinds")]]
    kinds: dict[str, str]
    registers: dict[str, int]
    recipes: dict[str, str]
    sizes: dict[str, OtherSize]
    resized: dict[str, ResizedModel]
    costs: list[str]
    confidence: float


class ReportStep(Strict):
    """The methods text states the params that ran."""

    params: dict[str, Any]


def view(params: Params) -> ViewStep:
    """Slice of ``vit-registers table`` and ``vit-registers figure``."""
    used = params.models_used()
    trained = {name: m for name in used if isinstance(m := params.models[name], TrainedModel)}
    return ViewStep(
        title=params.study.title,
        runs=[run.model_dump() for run in params.study.runs],
        detections=[further.model_dump() for further in params.study.detections],
        comparisons=params.study.comparisons,
        interventions={name: params.interventions[name] for run in params.study.runs for name in run.interventions},
        kinds={name: params.models[name].kind for name in used},
        registers={name: m.registers for name, m in trained.items()},
        recipes={name: m.recipe for name, m in trained.items()},
        sizes={name: m.architecture for name, m in trained.items() if m.architecture.given},
        resized={name: m for name in used if isinstance(m := params.models[name], ResizedModel)},
        costs=list(params.cost.architectures),
        confidence=params.statistics.confidence,
    )


def report(params: Params) -> ReportStep:
    """Slice of ``vit-registers report``: all of it, because the methods text states all of it."""
    return ReportStep(params=params.model_dump(mode="json"))
