"""Figures of what goes by epoch while models train: norms, and how alike the attention of registers is."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from vit_registers.experiments.token_statistics.figures_layers import STATISTICS, grid
from vit_registers.views import style
from vit_registers.views.study import Condition, Study, trained

FEW = 20  # epochs whose points are marked


def _epochs(rows: pd.DataFrame) -> list[int]:
    """The epochs that rows of trainings are about, ascending."""
    return sorted(set(rows["intervention"].str.removeprefix("epoch ").astype(int)))


def norms_by_epoch(study: Study, readouts: Path) -> Figure:
    """Median, 99th percentile and largest patch norm at the last block, after every epoch of every training."""
    rows = study.rows[study.rows["readout"] == "training"]
    shown = [name for name in trained(study) if (rows["model"] == name).any()]
    if not shown:
        return style.message("no model of this study was trained by the pipeline")
    figure, axes = grid([len(shown)], 1.7)
    for panel, name in zip(axes, shown, strict=True):
        mine = rows[rows["model"] == name]
        epochs = _epochs(mine)
        dataset = str(mine["dataset"].iloc[0])
        for metric, (_, dashes) in STATISTICS.items():
            at = [study.estimate(Condition(dataset, name, f"epoch {e}"), "training", metric).value for e in epochs]
            panel.plot(epochs, [value or float("nan") for value in at], dashes, color=style.PATCHES)
        panel.set(title=study.models[name].removeprefix("ViT "), xlabel="epoch", yscale="log")
        panel.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        panel.tick_params(labelbottom=True)  # of every panel: trainings may differ in length
        style.plain_log(panel.yaxis, (1.0, 2.0, 5.0))
    axes[0].set_ylabel("L2 norm of patch tokens")
    handles = [Line2D([], [], color=style.PATCHES, linestyle=look, label=text) for text, look in STATISTICS.values()]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


def register_cosine_by_epoch(study: Study, readouts: Path) -> Figure:
    """Mean cosine between the maps of registers, and of [CLS] with them, after every epoch (bach2025, Fig. 10).

    A line for each model with two registers or more, its interval as a band.
    """
    rows = study.rows[(study.rows["readout"] == "training") & (study.rows["metric"] == "register_cosine")]
    shown = [name for name in trained(study) if (rows["model"] == name).any()]
    if not shown:
        return style.message("no model of this study was trained with two registers or more")
    figure = Figure(figsize=(style.WIDTH, 2.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    sides = (("register_cosine", "registers, pair by pair", "-"), ("cls_register_cosine", "[CLS] and registers", "--"))
    for panel, (metric, title, dashes) in zip(panels, sides, strict=True):
        for name, color in zip(shown, style.ordered(len(shown)), strict=True):
            mine = rows[rows["model"] == name]
            epochs, dataset = _epochs(mine), str(mine["dataset"].iloc[0])
            at = [study.estimate(Condition(dataset, name, f"epoch {e}"), "training", metric) for e in epochs]
            value, low, high = ([getattr(cell, part) for cell in at] for part in ("value", "low", "high"))
            panel.plot(epochs, value, dashes, color=color, marker="o" if len(epochs) <= FEW else "", markersize=2.5)
            panel.fill_between(epochs, low, high, color=color, alpha=0.2, linewidth=0)
        panel.set(title=title, xlabel="epoch")
        panel.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    panels[0].set_ylabel("cosine of attention maps")
    labels = [study.models[name].removeprefix("ViT ") for name in shown]
    handles = [Line2D([], [], color=c, label=t) for c, t in zip(style.ordered(len(shown)), labels, strict=True)]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(shown), 5))
    return figure
