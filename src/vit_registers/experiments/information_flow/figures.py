"""Figures of attention between groups of tokens by block, and of when attention and content arrive."""

from collections.abc import Iterable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from vit_registers.views import style
from vit_registers.views.arrays import Arrays
from vit_registers.views.panels import grid, wrapped
from vit_registers.views.study import Condition, Study

FROM = {"cls": "[CLS]", "registers": "registers", "patches": "patches"}
TO = {"cls": style.ITSELF, "registers": style.REGISTERS, "patches": style.PATCHES}
FLOWS = 4  # models shown at most, each with a row of three panels
COLUMNS = 3  # models shown at most, each with a column of two panels
LINES = 8  # registers shown at most


def with_registers_first(study: Study, metric: str) -> list[Condition]:
    """Models as they are that a metric was measured of by block, those with most registers first."""
    measured = [c for c in study.baselines if study.rows_of(c, metric)["layer"].notna().any()]
    counts = {c: study.rows_of(c, "attention_to_register")["item"].nunique() for c in measured}
    registers = {c: counts[c] or study.plan.registers.get(c.model, 0) for c in measured}
    return sorted(measured, key=lambda c: (-registers[c], not study.is_natural(c.model)))


def attention_flow(study: Study, arrays: Arrays) -> Figure:
    """A row of panels for each model: what [CLS], registers and patches attend to."""
    models = with_registers_first(study, "attention_by_group")[:FLOWS]
    if not models:
        return style.message("no attention was measured")
    figure, panels = grid([3] * len(models), 1.25, most=3, sharex=False)
    for row, condition in enumerate(models):
        rows = study.rows_of(condition, "attention_by_group")
        for column, (group, name) in enumerate(FROM.items()):
            panel = panels[3 * row + column]
            mine = rows[rows["group"] == group]
            for target, color in TO.items():
                line(panel, mine[mine["target"] == target], color)
            panel.set(ylim=(0.0, 1.0), title=f"from {name}" if row == 0 else "")
            if mine.empty:
                style.blank(panel)
                panel.text(0.5, 0.5, f"no {name}", ha="center", va="center", transform=panel.transAxes, style="italic")
        panels[3 * row].set_ylabel(wrapped(study.model_label(condition), 18))
    figure.supxlabel("block", fontsize=7)
    handles = [Line2D([], [], color=color, label=f"to {FROM[target]}") for target, color in TO.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def line(panel: Axes, rows: Any, color: str, label: str | None = None) -> None:
    """Values by block with their intervals shaded."""
    rows = rows[rows["value"].notna()].sort_values("layer")
    if rows.empty:
        return
    blocks = rows["layer"].astype(int)
    panel.plot(blocks, rows["value"].astype(float), color=color, marker="o", markersize=2, label=label)
    panel.fill_between(blocks, rows["low"].astype(float), rows["high"].astype(float), color=color, alpha=0.25)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))


def attention_and_content(study: Study, arrays: Arrays) -> Figure:
    """A column of two panels for each model with registers: attention above, content below."""
    models = [c for c in with_registers_first(study, "token_probe") if study.has(c, "attention_to_register")]
    if not models:
        return style.message("no model of this study has registers that were looked at by block")
    models = models[:COLUMNS]
    figure = Figure(figsize=(style.WIDTH, 3.4), layout="constrained")
    axes = figure.subplots(2, len(models), squeeze=False, sharex="col", sharey="row")
    shown = 0
    for (above, below), condition in zip(axes.T, models, strict=True):
        given = study.rows_of(condition, "attention_to_register", group="cls")
        probed = study.rows_of(condition, "token_probe")
        items = sorted(probed["item"].dropna().unique())[:LINES]
        shown = max(shown, len(items))
        colors = dict(zip(items, style.categories(max(len(items), 1)), strict=False))
        for item, color in colors.items():
            line(above, given[given["item"] == item], color)
            line(below, probed[probed["item"] == item], color)
        line(below, probed[probed["group"] == "cls"], "black")
        _rings(above, given, study.rows_of(condition, "attention_onset", group="cls"), colors)
        _rings(below, probed, study.rows_of(condition, "content_onset"), {**colors, None: "black"})
        for panel, metric in ((above, "attention_to_one_uniform"), (below, "token_probe_chance")):
            level = study.estimate(condition, metric).value
            if level is not None:
                panel.axhline(level, color="black", linestyle="--", linewidth=0.7)
        above.set_title(wrapped(study.model_label(condition), 24))
        below.set_xlabel("block")
    axes[0, 0].set_ylabel("attention from [CLS]")
    axes[1, 0].set_ylabel("class by a probe")
    axes[1, 0].set_ylim(0.0, 1.02)
    figure.legend(handles=_handles(shown), loc="outside upper center", ncols=min(shown + 1, 9))
    return figure


def _handles(registers: int) -> Iterable[Line2D]:
    colors = style.categories(max(registers, 1))
    return [
        Line2D([], [], color="black", label="[CLS]"),
        *(Line2D([], [], color=colors[i], label=f"register {i + 1}") for i in range(registers)),
    ]


def _rings(panel: Axes, values: Any, onsets: Any, colors: dict[Any, str]) -> None:
    """A ring around the value at the onset of each token."""
    for item, color in colors.items():
        mine = onsets[onsets["item"].isna() if item is None else onsets["item"] == item]
        mine = mine[mine["value"].notna()]
        if mine.empty:
            continue
        block = int(mine["value"].iloc[0])
        at = values[values["item"].isna() if item is None else values["item"] == item]
        height = at.loc[at["layer"] == block, "value"].astype(float)
        panel.plot([block], height, "o", markersize=6, markerfacecolor="none", markeredgecolor=color)
