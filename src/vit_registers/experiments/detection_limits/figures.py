"""The figure of the limits of detection."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vit_registers.experiments.detection_limits.tables import FILTERS, NOTHING, measured
from vit_registers.views import style
from vit_registers.views.arrays import Arrays
from vit_registers.views.study import Condition, Study

PANELS = {"planted_recall": "recall (%)", "planted_precision": "precision (%)"}
MARKERS = {"off": "o", "absolute": "s"}


def detection_limits(study: Study, arrays: Arrays) -> Figure:
    """Recall and precision by the activation of planted neurons, a line for every score and filter."""
    found = measured(study, "planted_recall")
    if not found:
        return style.message(NOTHING)
    condition = found[0]
    ranked = list(dict.fromkeys(study.rows_of(condition, "planted_recall")["ranked"]))
    figure = Figure(figsize=(style.WIDTH, 1.4 * len(ranked) + 0.5), layout="constrained")
    panels = figure.subplots(len(ranked), len(PANELS), squeeze=False, sharex=True, sharey=True)
    for line, blocks in zip(panels, ranked, strict=True):
        for panel, (metric, label) in zip(line, PANELS.items(), strict=True):
            _lines(study, condition, panel, metric, blocks)
            panel.set(ylabel=label, title=f"ranked: {blocks}", xscale="log", ylim=(-3, 103))
            style.plain_log(panel.xaxis, (1.0, 2.0, 5.0))
            chance = study.rows_of(condition, "planted_chance", seed=None)["value"]
            panel.axhline(100.0 * float(chance.mean()), color=style.CONTROL, linestyle=":", linewidth=0.8)
    for panel in panels[-1]:
        panel.set_xlabel("activation of the planted neurons at artifacts")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    return figure


def _lines(study: Study, condition: Condition, panel: Axes, metric: str, blocks: str) -> None:
    rows = study.rows_of(condition, metric, seed=None, ranked=blocks)
    scores = list(dict.fromkeys(rows["score"]))
    for (score, how), of_setting in rows.groupby(["score", "sparsity"], sort=False):
        color = style.categories(len(scores))[scores.index(score)]
        line = of_setting.sort_values("activation")
        y, low, high = (100.0 * line[side].astype(float).to_numpy() for side in ("value", "low", "high"))
        panel.errorbar(
            line["activation"].astype(float),
            y,
            (y - low, high - y),
            color=color,
            marker=MARKERS[str(how)],
            linestyle="-" if how == "off" else "--",
            markersize=3,
            capsize=1.5,
            label=f"{score}, filter: {FILTERS[str(how)]}",
        )
