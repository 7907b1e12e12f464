"""The figure of register counts."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vit_registers.experiments.register_count.tables import MIOU, RMSE
from vit_registers.views import style
from vit_registers.views.arrays import Arrays
from vit_registers.views.columns import CORLOC, KNN, TOP1_CLS
from vit_registers.views.study import Condition, Estimate, Study
from vit_registers.views.table import Column

# Tasks of darcet2024 (Fig. 8) and bach2025; what a panel says over its axis.
PANELS: list[tuple[Column, str]] = [
    (TOP1_CLS, "linear probe,\ntop-1 (%)"),
    (KNN, "nearest neighbours,\ntop-1 (%)"),
    (CORLOC, "LOST,\nCorLoc (%)"),
    (MIOU, "segmentation,\nmIoU (%)"),
    (RMSE, "depth, RMSE\n(lower is better)"),
]


def _bars(estimate: Estimate) -> tuple[float, float, float]:
    """Value, shares in percent, and how far the interval reaches below and above it."""
    scale = 100.0 if estimate.of is not None and estimate.of.format == "percent" else 1.0
    value = estimate.value or 0.0
    low, high = (value if end is None else end for end in (estimate.low, estimate.high))
    return scale * value, scale * (value - low), scale * (high - value)


def _points(panel: Axes, study: Study, column: Column, conditions: list[Condition], counts: list[int]) -> bool:
    """Draw what a panel shows, a colour for each data set; whether there was anything."""
    registers, drawn = study.plan.registers, False
    assert column.metric is not None
    for dataset, color in zip(study.datasets, style.categories(len(study.datasets)), strict=True):
        of_dataset = [c for c in conditions if c.dataset == dataset]
        measured = [(c, study.estimate(c, column.metric, **dict(column.where))) for c in of_dataset]
        points = [(counts.index(registers[c.model]), *_bars(e)) for c, e in measured if e.value is not None]
        if points:
            x, y, below, above = zip(*points, strict=True)
            panel.errorbar(x, y, (below, above), fmt="o", color=color, markersize=3.5, capsize=2, label=dataset)
        drawn |= bool(points)
    return drawn


def register_count(study: Study, arrays: Arrays) -> Figure:
    """Every task, with intervals over images, by the number of registers a model was trained with."""
    conditions = study.by_count
    if not conditions:
        return style.message("no model of this study was trained with a chosen number of registers")
    counts = sorted({study.plan.registers[c.model] for c in conditions})
    figure = Figure(figsize=(style.WIDTH, 2.1), layout="constrained")
    axes = figure.subplots(1, len(PANELS))
    for panel, (column, label) in zip(axes, PANELS, strict=True):
        panel.set(title=label, xticks=range(len(counts)), xlim=(-0.5, len(counts) - 0.5))
        panel.set_xticklabels([str(count) for count in counts])
        panel.grid(axis="x", visible=False)
        if not _points(panel, study, column, conditions, counts):
            panel.set(yticks=[])
            panel.text(0.5, 0.5, "not measured", ha="center", va="center", style="italic", transform=panel.transAxes)
    figure.supxlabel("registers", fontsize=7)
    named = {label: handle for panel in axes for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    if len(named) > 1:
        figure.legend(named.values(), named.keys(), loc="outside upper center", ncols=len(named))
    return figure
