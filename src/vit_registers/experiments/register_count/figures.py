"""The figure of register counts."""

from matplotlib.figure import Figure

from vit_registers.views import style
from vit_registers.views.arrays import Arrays
from vit_registers.views.columns import CORLOC, KNN, TOP1_CLS
from vit_registers.views.study import Estimate, Study
from vit_registers.views.table import Column

PANELS: list[tuple[Column, str]] = [
    (TOP1_CLS, "linear probe, top-1 (%)"),
    (KNN, "nearest neighbours, top-1 (%)"),
    (CORLOC, "LOST, CorLoc (%)"),
]


def _bars(estimate: Estimate) -> tuple[float, float, float]:
    """Value in percent and how far the interval reaches below and above it."""
    value = 100 * (estimate.value or 0.0)
    low = value if estimate.low is None else 100 * estimate.low
    high = value if estimate.high is None else 100 * estimate.high
    return value, value - low, high - value


def register_count(study: Study, arrays: Arrays) -> Figure:
    """Accuracy and CorLoc, with intervals over images, by the number of registers a model was trained with."""
    conditions = study.by_count
    if not conditions:
        return style.message("no model of this study was trained with a chosen number of registers")
    registers = study.plan.registers
    counts = sorted({registers[c.model] for c in conditions})
    figure = Figure(figsize=(style.WIDTH, 2.1), layout="constrained")
    axes = figure.subplots(1, len(PANELS))
    colors = dict(zip(study.datasets, style.categories(len(study.datasets)), strict=True))
    for panel, (column, label) in zip(axes, PANELS, strict=True):
        assert column.metric is not None
        for dataset in study.datasets:
            of_dataset = [c for c in conditions if c.dataset == dataset]
            measured = [(c, study.estimate(c, column.metric, **dict(column.where))) for c in of_dataset]
            points = [(counts.index(registers[c.model]), *_bars(e)) for c, e in measured if e.value is not None]
            if points:
                x, y, below, above = zip(*points, strict=True)
                panel.errorbar(
                    x, y, (below, above), fmt="o", color=colors[dataset], markersize=3.5, capsize=2, label=dataset
                )
        panel.set(title=label, xlabel="registers", xticks=range(len(counts)), xlim=(-0.5, len(counts) - 0.5))
        panel.set_xticklabels([str(count) for count in counts])
        panel.grid(axis="x", visible=False)
    if len(study.datasets) > 1:
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return figure
