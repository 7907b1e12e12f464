"""Figures of numbers by epoch while models train: norms, and how similar the attention of registers is."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from vit_registers.experiments.emergence.tables import EMPTY, monitored
from vit_registers.views import style
from vit_registers.views.arrays import Arrays
from vit_registers.views.panels import NORM_STATISTICS, grid, wrapped
from vit_registers.views.study import Study

FEW = 20  # epochs whose points are marked


def _at_last_block(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of one training at the last block, by ascending epoch."""
    return rows[rows["layer"] == rows["layer"].max()].sort_values("epoch")


def norms_by_epoch(study: Study, arrays: Arrays) -> Figure:
    """Median, 99th percentile and largest patch norm at the last block, after every epoch of every training."""
    shown = list(monitored(study, "training_norm_median"))
    if not shown:
        return style.message(EMPTY)
    figure, axes = grid([len(shown)], 1.7)
    for panel, name in zip(axes, shown, strict=True):
        for metric, (_, dashes) in NORM_STATISTICS.items():
            rows = _at_last_block(study.metric_rows(f"training_{metric}", model=name))
            panel.plot(rows["epoch"].astype(int), rows["value"].astype(float), dashes, color=style.PATCHES)
        panel.set(title=wrapped(study.models[name].removeprefix("ViT "), 20), xlabel="epoch", yscale="log")
        panel.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        panel.tick_params(labelbottom=True)  # of every panel: trainings may differ in length
        style.plain_log(panel.yaxis, (1.0, 2.0, 5.0))
    axes[0].set_ylabel("L2 norm of patch tokens")
    looks = NORM_STATISTICS.values()
    handles = [Line2D([], [], color=style.PATCHES, linestyle=look, label=text) for text, look in looks]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


def register_cosine_by_epoch(study: Study, arrays: Arrays) -> Figure:
    """Mean cosine between the maps of registers, and of [CLS] with them, after every epoch (bach2025, Fig. 10).

    A line for each model with two registers or more, its interval as a band.
    """
    shown = list(monitored(study, "training_register_cosine"))
    if not shown:
        return style.message("no model of this study was trained with two registers or more")
    figure = Figure(figsize=(style.WIDTH, 2.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    sides = (("register_cosine", "registers, pair by pair", "-"), ("cls_register_cosine", "[CLS] and registers", "--"))
    for panel, (metric, title, dashes) in zip(panels, sides, strict=True):
        for name, color in zip(shown, style.ordered(len(shown)), strict=True):
            rows = _at_last_block(study.metric_rows(f"training_{metric}", model=name))
            epochs = rows["epoch"].astype(int)
            value, low, high = (rows[part].astype(float) for part in ("value", "low", "high"))
            panel.plot(epochs, value, dashes, color=color, marker="o" if len(epochs) <= FEW else "", markersize=2.5)
            panel.fill_between(epochs, low, high, color=color, alpha=0.2, linewidth=0)
        panel.set(title=title, xlabel="epoch")
        panel.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    panels[0].set_ylabel("cosine of attention maps")
    labels = [study.models[name].removeprefix("ViT ") for name in shown]
    handles = [Line2D([], [], color=c, label=t) for c, t in zip(style.ordered(len(shown)), labels, strict=True)]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(shown), 5))
    return figure
