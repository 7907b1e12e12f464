"""What views need of params: which conditions there are, in which order, and under which names."""

from collections import Counter
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from vit_registers.params.base import Strict
from vit_registers.params.bases import Intervention
from vit_registers.params.condition import BASELINE
from vit_registers.params.kinds import KindsIn
from vit_registers.params.study import Comparison, Further, Params, Run, StandsFor


class Plan(Strict):
    """A study as its tables and figures see it.

    ``models`` and ``conditions``: what readers see in place of keys. ``made``: how a model was made, ``kinds`` by which
    kind of source; of a resized one, what holds of its base (``bases``). ``registers``: number of registers of the
    models trained here, ``other_size`` those of these that have another size than their recipe's; ``unlearned``: models
    in which nothing was learnt, baselines of the others. ``stated``: what params say where a claim states a setting.
    ``limit``: images of each split of a first look, whose numbers are no results; None where the study has all.
    """

    title: str
    limit: int | None = None
    runs: list[Run]
    detections: list[Further]
    comparisons: list[Comparison]
    interventions: dict[str, Annotated[Intervention, KindsIn("vit_registers.interventions.kinds")]]
    models: dict[str, str]
    conditions: dict[str, str]
    made: dict[str, str]
    kinds: dict[str, str]
    bases: dict[str, str]
    resized: list[str]
    registers: dict[str, int]
    other_size: list[str]
    unlearned: list[str] = Field(default=[])
    confidence: float
    stands_for: StandsFor = StandsFor()
    stated: dict[str, str | int | float] = Field(default={})


def plan(params: Params) -> Plan:
    """The plan of a study."""
    used = {name: params.models[name] for name in params.models_used()}
    trained = {name: model for name, model in used.items() if model.step == "train"}
    interventions = {name: params.interventions[name] for run in params.study.runs for name in run.interventions}
    return Plan(
        title=params.title,
        limit=params.limit,
        runs=params.study.runs,
        detections=params.study.detections,
        comparisons=params.study.comparisons,
        interventions=interventions,
        models=_distinct({name: model.label(name, params) for name, model in used.items()}),
        conditions={BASELINE: BASELINE} | _distinct({name: value.label() for name, value in interventions.items()}),
        made={name: params.models[_origin(params, name)].made for name in used},
        kinds={name: str(params.models[_origin(params, name)].kind) for name in used},  # type: ignore[attr-defined]
        bases={name: model.made_from for name, model in used.items() if model.made_from is not None},
        resized=[name for name, model in used.items() if model.step == "resize"],
        registers={name: model.registers for name, model in trained.items()},  # type: ignore[attr-defined]
        other_size=[name for name, model in trained.items() if model.architecture.given],  # type: ignore[attr-defined]
        unlearned=[name for name in used if not params.models[_origin(params, name)].learned],
        confidence=params.statistics.confidence,
        stands_for=params.study.stands_for,
        stated={claim: _plain(params.stated(path)) for claim, path in params.study.stands_for.protocol.items()},
    )


def _origin(params: Params, name: str) -> str:
    """The model itself; of a resized one, what it was made from."""
    model = params.models[name]
    return model.made_from if model.step == "resize" and model.made_from is not None else name


def _plain(stated: object) -> str | int | float:
    """A number as it is, all else as text."""
    return stated if isinstance(stated, int | float) and not isinstance(stated, bool) else str(stated)


def _distinct(labels: Mapping[str, str]) -> dict[str, str]:
    """The same labels; where several keys share one, the key stands behind it."""
    times = Counter(labels.values())
    return {key: label if times[label] == 1 else f"{label} ({key})" for key, label in labels.items()}
