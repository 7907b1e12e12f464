"""The figure of register counts."""

from pathlib import Path

from matplotlib.figure import Figure

from vit_registers.views import style
from vit_registers.views.study import Condition, Estimate, Study, counted, registers

READOUTS = {
    ("probe[cls]", "top1"): "linear probe, top-1 (%)",
    ("knn[cls]", "top1"): "nearest neighbours, top-1 (%)",
    ("lost", "corloc"): "LOST, CorLoc (%)",
}


def _bars(estimate: Estimate) -> tuple[float, float, float]:
    """Value in percent and how far the interval reaches below and above it."""
    value = 100 * (estimate.value or 0.0)
    low = value if estimate.low is None else 100 * estimate.low
    high = value if estimate.high is None else 100 * estimate.high
    return value, value - low, high - value


def register_count(study: Study, readouts: Path) -> Figure:
    """Accuracy and CorLoc, with intervals over images, by the number of registers a model was trained with."""
    conditions = counted(study)
    if not conditions:
        return style.message("no model of this study was trained with a chosen number of registers")
    counts = sorted({registers(study, c) for c in conditions})
    figure = Figure(figsize=(style.WIDTH, 2.1), layout="constrained")
    axes = figure.subplots(1, len(READOUTS))
    colors = dict(zip(study.datasets, style.categories(len(study.datasets)), strict=True))
    for panel, ((readout, metric), label) in zip(axes, READOUTS.items(), strict=True):
        for dataset in study.datasets:
            of_dataset = [c for c in conditions if c.dataset == dataset]
            measured: list[tuple[Condition, Estimate]] = [(c, study.estimate(c, readout, metric)) for c in of_dataset]
            points = [(counts.index(registers(study, c)), *_bars(e)) for c, e in measured if e.value is not None]
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
