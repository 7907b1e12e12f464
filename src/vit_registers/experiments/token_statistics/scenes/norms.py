"""The scene of the explorer of norms by block, in numbers."""

from typing import Any

import altair as alt

from vit_registers.experiments.token_statistics.figures.layers import measured
from vit_registers.views.panels import NORM_STATISTICS
from vit_registers.views.scenes.charts import choice, inline
from vit_registers.views.scenes.widgets import Chart, Choice
from vit_registers.views.study import AS_IT_IS, Condition, Study

CONTROLS = ("model", "first", "second")


def norm_statistics(study: Study, arrays: object) -> Chart | None:
    """Lines by block of two conditions of a model, on a logarithmic scale."""
    models = sorted(measured(study, study.baselines), key=lambda c: not study.found(c))  # with artifacts first
    if not models:
        return None
    rows = [row for before in models for row in _rows(study, before)]
    labels = list(dict.fromkeys(row["condition"] for row in rows))
    shown = {"model": study.model_label(models[0]), "first": AS_IT_IS, "second": labels[min(1, len(labels) - 1)]}
    model, first, second = (choice(name, shown[name]) for name in CONTROLS)
    one_of = (alt.datum.condition == first) | (alt.datum.condition == second)
    base = (
        alt.Chart(inline(rows))
        .transform_filter((alt.datum.model == model) & one_of)
        .encode(
            x=alt.X("block:Q", axis=alt.Axis(tickMinStep=1, format="d")),
            y=alt.Y("norm:Q", title="L2 norm of patch tokens", scale=alt.Scale(type="log")),
            color=alt.Color("condition:N", title=None, sort=labels, legend=alt.Legend(labelLimit=320)),
            tooltip=["condition:N", "statistic:N", "block:Q", alt.Tooltip("norm:Q", format=".4g")],
        )
    )
    statistics = [text for text, _ in NORM_STATISTICS.values()]
    dashes = alt.StrokeDash("statistic:N", title=None, sort=statistics, legend=alt.Legend(symbolStrokeColor="gray"))
    lines = alt.layer(base.mark_line().encode(strokeDash=dashes), base.mark_circle(opacity=1))
    chart = lines.add_params(model, first, second).properties(width=520, height=320)
    choices = [
        Choice("model", "Model", [(label, label) for label in map(study.model_label, models)]),
        Choice("first", "Condition", [(label, label) for label in labels]),
        Choice("second", "Beside it", _second_first(labels)),
    ]
    return Chart(chart.to_dict(), choices)


def _second_first(labels: list[str]) -> list[tuple[str, str]]:
    """The labels, one that is not the first in front."""
    return [(label, label) for label in [*labels[1:2], labels[0], *labels[2:]]]


def _rows(study: Study, before: Condition) -> list[dict[str, Any]]:
    """Every statistic of every condition of a model at every block; norms of zero have no logarithm."""
    rows = []
    for condition in measured(study, study.of(before.dataset, before.model)):
        label = study.condition_label(condition)
        said = {"model": study.model_label(before), "condition": label}
        for metric, (text, _) in NORM_STATISTICS.items():
            for block, norm in study.series(condition, metric).items():
                rows.append({**said, "statistic": text, "block": block, "norm": float(norm) or None})
    return rows
