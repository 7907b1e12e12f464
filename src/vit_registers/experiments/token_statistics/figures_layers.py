"""Figures of numbers by layer and of distributions: norms, attention of [CLS], histograms of norms."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from vit_registers.views import style
from vit_registers.views.arrays import histogram
from vit_registers.views.study import Condition, Study

_Dashes = Literal["-", "--", ":"]
HIGHEST = 7.4  # inches of all rows of panels together
STATISTICS: dict[str, tuple[str, _Dashes]] = {
    "norm_median": ("median", "-"),
    "norm_p99": ("99th percentile", "--"),
    "norm_max": ("largest of an image, mean", ":"),
}
SHARES = {
    "cls_to_patches": ("patches", style.PATCHES),
    "cls_to_registers": ("registers", style.REGISTERS),
    "cls_to_appended": ("appended tokens", style.APPENDED),
    "cls_to_cls": ("[CLS] itself", style.ITSELF),
}


def sections(study: Study) -> list[list[Condition]]:
    """The models as they are, then those that neurons were moved in: control, before and after test-time registers.

    A model that only serves as a control is shown as one.
    """
    treated: list[Condition] = []
    for before in study.treated:
        after = study.after(before)
        control = study.control(after) if after else None
        treated += [c for c in (control, before, after) if c is not None and c not in treated]
    controls = {(c.dataset, c.model) for c in treated}
    untreated = [c for c in study.untreated if (c.dataset, c.model) not in controls]
    return [section for section in (untreated, treated) if section]


def grid(counts: Sequence[int], height: float, most: int = 5, sharex: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure as wide as the text with panels in sections on rows of their own of ``height`` inches.

    Rows are lower where there are too many for a page.
    """
    columns = min(most, max(counts))
    rows = [math.ceil(count / columns) for count in counts]
    height = min(height, HIGHEST / sum(rows))
    figure = Figure(figsize=(style.WIDTH, sum(rows) * height + 0.35), layout="constrained")
    axes = figure.subplots(sum(rows), columns, squeeze=False, sharex=sharex, sharey=True)
    panels: list[Axes] = []
    for section, count in enumerate(counts):
        flat = list(axes[sum(rows[:section]) : sum(rows[: section + 1])].flat)
        for i, panel in enumerate(flat):
            if i >= count:
                panel.remove()
                continue
            panel.tick_params(labelbottom=i + columns >= count, labelleft=i % columns == 0)
            panels.append(panel)
    return figure, panels


def _title(study: Study, condition: Condition) -> str:
    """Model over condition; a model that is only shown as it is needs no second line."""
    model = study.model_label(condition)
    return model if condition in study.untreated else f"{model}\n{study.conditions[condition.name]}"


def _blocks(axes: Axes, layers: Sequence[int]) -> None:
    """Whole numbers on the axis of blocks, not more than fit."""
    step = max(1, math.ceil(len(layers) / 6))
    axes.set_xticks(list(layers)[::step])


def norms_by_layer(study: Study, readouts: Path) -> Figure:
    """Median, 99th percentile and largest patch norm by block."""
    panels: list[tuple[str, list[tuple[Condition, str, str]]]] = []
    measured = [c for c in study.untreated if len(study.series(c, "norms", "norm_median"))]
    other = [c for c in measured if c.model in study.cfg.sizes or c.model in study.cfg.resized]
    usual = [c for c in measured if c not in other]
    for title, shown in (("Models as they are", usual), ("Of another size, as they are", other)):
        colors = style.ordered(len(shown))
        if shown:
            panels.append((title, [(c, color, study.model_label(c)) for c, color in zip(shown, colors, strict=True)]))
    for before in study.treated:
        after = study.after(before)
        control = study.control(after) if after else None
        lines = [(before, style.BEFORE, f"before: {study.conditions[before.name]}")]
        if after:
            lines.append((after, style.AFTER, f"after: {study.conditions[after.name]}"))
        if control:
            lines.append((control, style.CONTROL, f"control: {study.label(control)}"))
        panels.append((study.model_label(before), lines))
    if not panels:
        return style.message("no norms were measured")
    figure, axes = grid([len(panels)], 2.9, most=3)
    for panel, (title, lines) in zip(axes, panels, strict=True):
        handles = []
        for condition, color, label in lines:
            # the control is drawn broad and pale, so that a line that falls on it leaves it to be seen
            control_line = color == style.CONTROL
            look = {"linewidth": 3.2, "alpha": 0.35, "zorder": 1} if control_line else {"zorder": 2}
            for metric, (_, dashes) in STATISTICS.items():
                series = study.series(condition, "norms", metric)
                panel.plot(series.index, series.to_numpy(), dashes, color=color, **look)
            _blocks(panel, list(study.series(condition, "norms", "norm_median").index))
            handles.append(Line2D([], [], color=color, label=label, **look))
        panel.set(title=title, xlabel="block", yscale="log")
        panel.tick_params(labelbottom=True)  # a legend stands between it and the panel below
        style.plain_log(panel.yaxis, (1.0, 2.0, 5.0))
        panel.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.17), handlelength=1.4)
    axes[0].set_ylabel("L2 norm of patch tokens")
    handles = [Line2D([], [], color="#444444", linestyle=dashes, label=text) for text, dashes in STATISTICS.values()]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


def cls_attention_by_layer(study: Study, readouts: Path) -> Figure:
    """Where the attention of [CLS] goes, by block, as shares of one; and its largest weight on one patch."""
    shown = [[c for c in s if len(study.series(c, "attention", "cls_to_patches"))] for s in sections(study)]
    shown = [section for section in shown if section]
    if not shown:
        return style.message("no attention of a [CLS] token was measured")
    figure, axes = grid([len(section) for section in shown], 1.45)
    for panel, condition in zip(axes, itertools.chain(*shown), strict=True):
        shares = {name: study.series(condition, "attention", name) for name in SHARES}
        layers = shares["cls_to_patches"].index
        bottom = np.zeros(len(layers))
        for name, (_, color) in SHARES.items():
            heights = shares[name].reindex(layers, fill_value=0.0).to_numpy()
            panel.bar(layers, heights, bottom=bottom, width=1.0, color=color, edgecolor="white", linewidth=0.4)
            bottom += heights
        peak = study.series(condition, "attention", "cls_peak")
        panel.plot(peak.index, peak.to_numpy(), "o-", color="black", markersize=2.2, linewidth=0.8)
        panel.set(title=_title(study, condition), ylim=(0, 1), xlim=(layers.min() - 0.5, layers.max() + 0.5))
        panel.grid(False)
        _blocks(panel, list(layers))
    figure.supxlabel("block", fontsize=7)
    figure.supylabel("attention of [CLS]", fontsize=7)
    handles: list[Patch | Line2D] = [Patch(color=color, label=text) for text, color in SHARES.values()]
    handles.append(
        Line2D([], [], color="black", marker="o", markersize=2.2, linewidth=0.8, label="largest on one patch")
    )
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), handlelength=1.2, columnspacing=1.2)
    return figure


TOKENS = {
    "patches": ("patches", style.PATCHES),
    "registers": ("registers", style.REGISTERS),
    "appended": ("appended tokens", style.APPENDED),
}


def _steps(axes: Axes, counts: pd.DataFrame, color: str, filled: bool) -> None:
    """A histogram as a step line: share of the tokens of its type in each bin. Bins without tokens have no row."""
    counts = counts.sort_values("bin_left")
    left, right = counts["bin_left"].to_numpy(), counts["bin_right"].to_numpy()
    shares = counts["count"].to_numpy() / counts["count"].sum()
    gaps = np.flatnonzero(right[:-1] < left[1:])  # bins before which a stretch of empty ones ends
    edges = np.insert(np.append(left, right[-1]), gaps + 1, right[gaps])
    look = {"linewidth": 0.0} if filled else {"linewidth": 0.8, "edgecolor": color}
    axes.stairs(
        np.insert(shares, gaps + 1, 0.0), edges, fill=True, facecolor=f"{color}{'ff' if filled else '77'}", **look
    )


def _distributions(study: Study, readouts: Path, quantity: str) -> tuple[Figure, dict[Condition, Axes]] | None:
    """Histograms of the types of tokens at the last block, a panel per condition; None where nothing was measured."""
    tables = {c: histogram(readouts, c, quantity) for section in sections(study) for c in section}
    shown = [[c for c in section if len(tables[c])] for section in sections(study)]
    shown = [section for section in shown if section]
    if not shown:
        return None
    figure, axes = grid([len(section) for section in shown], 1.45, sharex=True)
    panels = dict(zip(itertools.chain(*shown), axes, strict=True))
    for condition, panel in panels.items():
        table = tables[condition]
        for name, (_, color) in TOKENS.items():
            counts = table[table["token"] == name]
            if counts["count"].sum():
                _steps(panel, counts, color, filled=name == "patches")
        panel.set(title=_title(study, condition), xscale="log", yscale="log")
    figure.supylabel("share of tokens", fontsize=7)
    return figure, panels


def norm_distributions(study: Study, readouts: Path) -> Figure:
    """Histograms of token norms at the last block, with the threshold that makes a patch an artifact."""
    drawn = _distributions(study, readouts, "norm")
    if drawn is None:
        return style.message("no norms were measured")
    figure, panels = drawn
    for condition, panel in panels.items():
        threshold = study.estimate(Condition(condition.dataset, condition.model), "detection", "threshold").value
        if threshold is not None:
            panel.axvline(threshold, color="black", linestyle="--", linewidth=0.8)
        style.plain_log(panel.xaxis, (1.0, 3.0))
    figure.supxlabel("L2 norm at the last block", fontsize=7)
    handles: list[Patch | Line2D] = [Patch(color=color, label=text) for text, color in TOKENS.values()]
    handles.append(Line2D([], [], color="black", linestyle="--", linewidth=0.8, label="threshold"))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def attention_distributions(study: Study, readouts: Path) -> Figure:
    """Histograms of the attention that [CLS] gives to single tokens at the last block, by type of token."""
    drawn = _distributions(study, readouts, "attention")
    if drawn is None:
        return style.message("no attention of a [CLS] token was measured")
    figure, _ = drawn
    figure.supxlabel("share of the attention of [CLS] on one token at the last block", fontsize=7)
    handles = [Patch(color=color, label=text) for text, color in TOKENS.values()]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure
