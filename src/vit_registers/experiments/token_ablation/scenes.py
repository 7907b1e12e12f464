"""The scene of the explorer of token ablations: the heat map with exact values, raw and as a difference."""

from typing import Any

import altair as alt

from vit_registers.experiments.token_ablation.tables import TASKS, ablations, change, intact
from vit_registers.params.condition import BASELINE
from vit_registers.views.columns import row_of
from vit_registers.views.scenes.charts import choice, inline
from vit_registers.views.scenes.widgets import Chart, Choice
from vit_registers.views.study import Condition, Estimate, Study

POINTS = 100.0
SHOWN = (("change", "change from the model as it is"), ("value", "value"))
DARK = 0.6  # of the end of the scale: from there on numbers are white


def ablation_map(study: Study, arrays: object) -> Chart | None:
    """A map for each model, one at a time: conditions by tasks."""
    found = ablations(study)
    if not found:
        return None
    rows = [row for before, conditions in found.items() for row in _rows(study, before, conditions)]
    models = [study.model_label(before) for before in found]
    choices = [
        Choice("model", "Model", [(label, label) for label in models]),
        Choice("shown", "Shown", SHOWN),
    ]
    return Chart(_chart(rows, models[0]), choices)


def _rows(study: Study, before: Condition, conditions: list[Condition]) -> list[dict[str, Any]]:
    """What every task gives under every condition of a model; in points."""
    rows = []
    for place, condition in enumerate([before, *conditions]):
        first = condition.name == BASELINE
        values = row_of(study, condition, [intact(task) if first else task for task in TASKS])
        for task in TASKS:
            value, changed = values[task.key], None if first else change(study, condition, task)
            row = {"model": study.model_label(before), "condition": study.conditions[condition.name], "place": place}
            rows.append({**row, "task": str(task.group), **_numbers("value", value), **_numbers("change", changed)})
    return rows


def _numbers(name: str, cell: object) -> dict[str, float | int | None]:
    """An estimate with its interval in points; nothing where there is none."""
    if not isinstance(cell, Estimate) or cell.value is None:
        return {name: None}
    ends = {f"{name}_{end}": None if (at := getattr(cell, end)) is None else POINTS * at for end in ("low", "high")}
    return {name: POINTS * cell.value, **ends, f"{name}_p": cell.p_shown, f"{name}_n": cell.n}


def _chart(rows: list[dict[str, Any]], model: str) -> dict[str, Any]:
    """Rectangles coloured by the value or by the change, with the number in them."""
    chosen = choice("model", model)
    shown = choice("shown", SHOWN[0][0])
    top = max((abs(row["change"]) for row in rows if row.get("change") is not None), default=1.0)
    base = (
        alt.Chart(inline(rows))
        .transform_filter(alt.datum.model == chosen)
        .encode(
            x=alt.X("task:N", title=None, sort=None, axis=alt.Axis(labelAngle=-20, orient="top")),
            y=alt.Y("condition:N", title=None, sort=alt.SortField("place"), axis=alt.Axis(labelLimit=320)),
        )
    )
    scales = {
        "change": alt.Scale(scheme="redblue", domain=[-top, top]),
        "value": alt.Scale(scheme="cividis", domain=[0, 100]),
    }
    layers = [_layer(base.transform_filter(shown == name), name, scale, top) for name, scale in scales.items()]
    layered = alt.layer(*layers).resolve_scale(color="independent").add_params(chosen, shown)
    return layered.properties(width=560, height=alt.Step(24)).to_dict()


def _layer(base: Any, name: str, scale: alt.Scale, top: float) -> Any:
    there = alt.datum[name] != None  # noqa: E711  (an expression of Vega)
    told = ["condition:N", "task:N", alt.Tooltip(f"{name}:Q", format="+.3f" if name == "change" else ".3f")]
    told += [alt.Tooltip(f"{name}_{part}:Q", format=".3f") for part in ("low", "high")]
    told += [alt.Tooltip(f"{name}_p:Q", format=".2g"), alt.Tooltip(f"{name}_n:Q")]
    drawn = base.transform_filter(there)
    light = alt.datum[name] < 45 if name == "value" else abs_of(name) > DARK * top
    return alt.layer(
        drawn.mark_rect().encode(color=alt.Color(f"{name}:Q", scale=scale, legend=None), tooltip=told),
        drawn.mark_text(fontSize=11).encode(
            text=alt.Text(f"{name}:Q", format="+.1f" if name == "change" else ".1f"),
            color=alt.condition(light, alt.value("white"), alt.value("black")),
            tooltip=told,
        ),
    )


def abs_of(name: str) -> Any:
    """The size of a number of the row, as an expression of Vega."""
    return alt.expr.abs(alt.datum[name])
