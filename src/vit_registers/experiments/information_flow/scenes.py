"""Scenes of the explorer: who attends to whom, what tokens hold by block, and patches nearest to registers."""

from typing import Any

import altair as alt
import pandas as pd

from vit_registers.experiments.information_flow.figures import FROM, with_registers_first
from vit_registers.experiments.information_flow.figures_nearest import with_nearest
from vit_registers.views import style
from vit_registers.views.arrays import Arrays
from vit_registers.views.scenes.charts import choice, inline
from vit_registers.views.scenes.widgets import Chart, Choice, Framed, Pictures
from vit_registers.views.study import Condition, Estimate, Study, estimate

COLOURS = [style.ITSELF, style.REGISTERS, style.PATCHES]  # of the groups, in the order of FROM
PERCENT = 100.0


def attention_by_group(study: Study, arrays: object) -> Chart | None:
    """Bars of the shares of a block: from each group to each; a slider of blocks that plays."""
    models = with_registers_first(study, "attention_by_group")
    rows: list[dict[str, Any]] = []
    for condition in models:
        for _, row in study.rows_of(condition, "attention_by_group").iterrows():
            said = {"from": FROM[row["group"]], "to": FROM[row["target"]], "block": int(row["layer"])}
            rows.append({"model": study.model_label(condition), **said, **_shares(estimate(row))})
    if not rows:
        return None
    depth = 1 + max(row["block"] for row in rows)
    model, block = choice("model", rows[0]["model"]), choice("block", 0)
    base = alt.Chart(inline(rows)).transform_filter((alt.datum.model == model) & (alt.datum.block == block))
    colour = alt.Color("to:N", title="to", scale=alt.Scale(domain=list(FROM.values()), range=COLOURS))
    bars = base.mark_bar().encode(
        x=alt.X("share:Q", title="share of attention (%)", scale=alt.Scale(domain=[0, 100])),
        y=alt.Y("from:N", title="from", sort=list(FROM.values())),
        yOffset=alt.YOffset("to:N", sort=list(FROM.values())),
        color=colour,
        tooltip=["from:N", "to:N", "block:Q", *(alt.Tooltip(f"{n}:Q", format=".2f") for n in ("share", "low", "high"))],
    )
    ends = base.mark_rule(strokeWidth=1.5).encode(
        x="low:Q", x2="high:Q", y=alt.Y("from:N", sort=list(FROM.values())),
        yOffset=alt.YOffset("to:N", sort=list(FROM.values())),
    )  # fmt: skip
    chart = alt.layer(bars, ends).add_params(model, block).properties(width=520, height=260)
    choices = [_models(study, models), _blocks(depth)]
    return Chart(chart.to_dict(), choices)


def probe_by_block(study: Study, arrays: object) -> Chart | None:
    """Lines by block: what a probe on each token names, and what [CLS] gives to each register."""
    models = [c for c in with_registers_first(study, "token_probe") if study.has(c, "token_probe")]
    rows = [row for condition in models for row in _by_block(study, condition)]
    if not rows:
        return None
    model = choice("model", rows[0]["model"])
    base = alt.Chart(inline(rows)).transform_filter(alt.datum.model == model)
    panels = []
    for panel in dict.fromkeys(row["panel"] for row in rows):
        mine = base.transform_filter(alt.datum.panel == panel)
        x = alt.X("block:Q", title="block", axis=alt.Axis(tickMinStep=1, format="d"))
        y = alt.Y("share:Q", title=f"{panel} (%)")
        colour = alt.Color("token:N", title=None, sort=None)
        told = ["token:N", "block:Q", *(alt.Tooltip(f"{n}:Q", format=".2f") for n in ("share", "low", "high"))]
        lines = mine.transform_filter(alt.datum.block >= 0)
        area = alt.Y("low:Q", title=f"{panel} (%)")
        parts = [
            lines.mark_line(point=True).encode(x=x, y=y, color=colour, tooltip=told),
            lines.mark_area(opacity=0.2).encode(x=x, y=area, y2="high:Q", color=alt.Color("token:N", legend=None)),
        ]
        if any(row["panel"] == panel and row["block"] < 0 for row in rows):
            level = mine.transform_filter(alt.datum.block < 0)
            parts.append(level.mark_rule(strokeDash=[4, 4]).encode(y="share:Q"))
        drawn = alt.layer(*parts)
        panels.append(drawn.properties(width=520, height=200))
    return Chart(alt.vconcat(*panels).add_params(model).to_dict(), [_models(study, models)])


def nearest_to_registers(study: Study, arrays: Arrays) -> Pictures | None:
    """Rows of pictures for each register of each model."""
    groups = {}
    for condition, found in with_nearest(study, arrays).items():
        grid = (int(found["grid"][0]), int(found["grid"][1]))
        rows = {}
        for register, pictures in enumerate(found["nearest_pictures"]):
            ids, cells = found["nearest_ids"][register], found["nearest_cells"][register]
            rows[f"register {register + 1}"] = [
                Framed(picture, grid, (int(y), int(x)), str(name))
                for picture, name, (y, x) in zip(pictures, ids, cells, strict=True)
            ]
        groups[study.model_label(condition)] = rows
    return Pictures(groups) if groups else None


def _models(study: Study, models: list[Condition]) -> Choice:
    return Choice("model", "Model", [(label, label) for label in map(study.model_label, models)])


def _blocks(depth: int) -> Choice:
    return Choice("block", "Block", [(block, str(block)) for block in range(depth)], slider=True, plays=True)


def _shares(found: Estimate) -> dict[str, float | None]:
    """A share with its interval in percent."""
    values = {"share": found.value, "low": found.low, "high": found.high}
    return {name: None if value is None else PERCENT * value for name, value in values.items()}


def _by_block(study: Study, condition: Condition) -> list[dict[str, Any]]:
    """Numbers of each token at each block; block -1 is what they are compared with."""
    label, rows = study.model_label(condition), []
    panels = {
        "class by a probe": ("token_probe", {}),
        "attention from [CLS]": ("attention_to_register", {"group": "cls"}),
    }
    for panel, (metric, axes) in panels.items():
        for _, row in study.rows_of(condition, metric, **axes).iterrows():
            token = "[CLS]" if pd.isna(row["item"]) else f"register {int(row['item'])}"
            said = {"model": label, "panel": panel, "token": token, "block": int(row["layer"])}
            rows.append({**said, **_shares(estimate(row))})
    chance = study.estimate(condition, "token_probe_chance")
    if chance.value is not None:
        rows.append({"model": label, "panel": "class by a probe", "token": "chance", "block": -1, **_shares(chance)})
    return rows
