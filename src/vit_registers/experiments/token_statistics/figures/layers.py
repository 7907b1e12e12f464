"""Figures of numbers by block and by size of models: norms, and where the attention of [CLS] goes."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from vit_registers.views import style
from vit_registers.views.arrays import Arrays
from vit_registers.views.panels import NORM_STATISTICS, grid, wrapped
from vit_registers.views.study import Condition, Study

MARKERS = {"norm_median": "o", "norm_p99": "s", "norm_max": "^"}
TARGETS = {
    "patches": ("patches", style.PATCHES),
    "registers": ("registers", style.REGISTERS),
    "appended": ("appended tokens", style.APPENDED),
    "cls": ("[CLS] itself", style.ITSELF),
}


def measured(study: Study, conditions: Sequence[Condition]) -> list[Condition]:
    """Those of some conditions whose tokens were measured: an experiment need not run on all of a study."""
    return [c for c in conditions if len(study.series(c, "norm_median"))]


def sections(study: Study) -> list[list[Condition]]:
    """The models as they are, then those that neurons were moved in: control, before and after test-time registers.

    A model that only serves as a control is shown as one.
    """
    moved: list[Condition] = []
    for before in measured(study, study.with_artifacts):
        after = study.after(before)
        control = study.control(after) if after else None
        moved += [c for c in (control, before, after) if c is not None and c not in moved]
    controls = {(c.dataset, c.model) for c in moved}
    others = [c for c in measured(study, study.without_artifacts) if (c.dataset, c.model) not in controls]
    return [section for section in (others, moved) if section]


def title(study: Study, condition: Condition) -> str:
    """Model over condition; a model that is only shown as it is needs no second line."""
    model = wrapped(study.model_label(condition), 20)
    return model if condition in study.without_artifacts else f"{model}\n{study.conditions[condition.name]}"


def _blocks(axes: Axes, layers: Sequence[int]) -> None:
    """Whole numbers on the axis of blocks, not more than fit."""
    step = max(1, math.ceil(len(layers) / 6))
    axes.set_xticks(list(layers)[::step])


Line = tuple[Condition, str, str]  # what is drawn, colour, label


def _norm_panels(study: Study) -> list[tuple[str, list[Line]]]:
    """Title and lines of every panel: models as they are, those of another size, and each with artifacts."""
    panels: list[tuple[str, list[Line]]] = []
    shown = measured(study, study.without_artifacts)
    other = [c for c in shown if c.model in study.plan.other_size or c.model in study.plan.resized]
    usual = [c for c in shown if c not in other]
    for heading, conditions in (("Models as they are", usual), ("Of another size, as they are", other)):
        colors = style.ordered(len(conditions))
        lines = [(c, color, study.model_label(c)) for c, color in zip(conditions, colors, strict=True)]
        panels += [(heading, lines)] if lines else []
    for before in measured(study, study.with_artifacts):
        after = study.after(before)
        control = study.control(after) if after else None
        lines = [(before, style.BEFORE, f"before: {study.conditions[before.name]}")]
        if after:
            lines.append((after, style.AFTER, f"after: {study.conditions[after.name]}"))
        if control:
            lines.append((control, style.CONTROL, f"control: {study.label(control)}"))
        panels.append((study.model_label(before), lines))
    return panels


def norms_by_layer(study: Study, arrays: Arrays) -> Figure:
    """Median, 99th percentile and largest patch norm by block."""
    panels = _norm_panels(study)
    if not panels:
        return style.message("no norms were measured")
    figure, axes = grid([len(panels)], 2.9, most=3)
    for panel, (heading, lines) in zip(axes, panels, strict=True):
        handles = []
        for condition, color, label in lines:
            # the control is drawn broad and pale, so that a line that falls on it leaves it to be seen
            control_line = color == style.CONTROL
            look = {"linewidth": 3.2, "alpha": 0.35, "zorder": 1} if control_line else {"zorder": 2}
            for metric, (_, dashes) in NORM_STATISTICS.items():
                series = study.series(condition, metric)
                panel.plot(series.index, series.to_numpy(), dashes, color=color, **look)
            _blocks(panel, list(study.series(condition, "norm_median").index))
            handles.append(Line2D([], [], color=color, label=wrapped(label, 28), **look))
        panel.set(title=heading, xlabel="block", yscale="log")
        panel.tick_params(labelbottom=True)  # a legend stands between it and the panel below
        style.plain_log(panel.yaxis, (1.0, 2.0, 5.0))
        panel.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.17), handlelength=1.4)
    axes[0].set_ylabel("L2 norm of patch tokens")
    handles = [
        Line2D([], [], color="#444444", linestyle=dashes, label=text) for text, dashes in NORM_STATISTICS.values()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


def cls_attention_by_layer(study: Study, arrays: Arrays) -> Figure:
    """Where the attention of [CLS] goes, by block, as shares of one; and its largest weight on one patch."""
    shown = [[c for c in s if len(study.series(c, "cls_attention_peak"))] for s in sections(study)]
    shown = [section for section in shown if section]
    if not shown:
        return style.message("no attention of a [CLS] token was measured")
    figure, axes = grid([len(section) for section in shown], 1.45)
    for panel, condition in zip(axes, itertools.chain(*shown), strict=True):
        peak = study.series(condition, "cls_attention_peak")
        layers = peak.index
        bottom = np.zeros(len(layers))
        for target, (_, color) in TARGETS.items():
            series = study.series(condition, "attention", group="cls", target=target)
            heights = series.reindex(layers, fill_value=0.0).to_numpy()
            panel.bar(layers, heights, bottom=bottom, width=1.0, color=color, edgecolor="white", linewidth=0.4)
            bottom += heights
        panel.plot(layers, peak.to_numpy(), "o-", color="black", markersize=2.2, linewidth=0.8)
        panel.set(title=title(study, condition), ylim=(0, 1), xlim=(layers.min() - 0.5, layers.max() + 0.5))
        panel.grid(False)
        _blocks(panel, list(layers))
    figure.supxlabel("block", fontsize=7)
    figure.supylabel("attention of [CLS]", fontsize=7)
    handles: list[Patch | Line2D] = [Patch(color=color, label=text) for text, color in TARGETS.values()]
    handles.append(
        Line2D([], [], color="black", marker="o", markersize=2.2, linewidth=0.8, label="largest on one patch")
    )
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), handlelength=1.2, columnspacing=1.2)
    return figure


def _without_registers(study: Study, condition: Condition) -> bool:
    """Whether a model is as its training left it, at its own size, and has no registers."""
    registers = len(study.series(condition, "norm_mean", group="registers"))
    return study.is_natural(condition.model) and condition.model not in study.plan.resized and not registers


def norms_by_size(study: Study, arrays: Arrays) -> Figure:
    """Median, 99th percentile and largest patch norm at the outlier layer by number of parameters, no registers."""
    conditions = [c for c in measured(study, study.baselines) if _without_registers(study, c)]
    sizes = {c: study.estimate(c, "parameters").value for c in conditions}
    shown = sorted((size, c) for c, size in sizes.items() if size is not None)
    if not shown:
        return style.message("no model of this study is without registers and planting")
    figure = Figure(figsize=(style.WIDTH, 2.4), layout="constrained")
    axes = figure.subplots()
    models = []
    for (size, condition), color in zip(shown, style.ordered(len(shown)), strict=True):
        layer = study.estimate(condition, "outlier_layer").value
        at = int(layer) if layer is not None else None
        norms = [study.estimate(condition, metric, layer=at).value for metric in NORM_STATISTICS]
        axes.plot([size] * len(norms), [value or float("nan") for value in norms], color=color, linewidth=0.8)
        for marker, value in zip(MARKERS.values(), norms, strict=True):
            axes.plot([size], [value or float("nan")], marker, color=color, markersize=4)
        label = f"{study.model_label(condition)} ({size / 1e6:.3g} M)"
        models.append(Line2D([], [], color=color, marker="o", markersize=4, linewidth=0.8, label=label))
    axes.set(xlabel="parameters", ylabel="L2 norm of patch tokens", xscale="log", yscale="log")
    axes.margins(x=0.15, y=0.15)
    style.plain_log(axes.xaxis, (1.0, 2.0, 5.0))
    style.plain_log(axes.yaxis, (1.0, 2.0, 3.0, 5.0, 7.0))
    looks = [(text, MARKERS[metric]) for metric, (text, _) in NORM_STATISTICS.items()]
    kinds = [Line2D([], [], color="#444444", marker=m, markersize=4, linestyle="", label=text) for text, m in looks]
    figure.legend(handles=[*kinds, *models], loc="outside right upper")
    return figure
