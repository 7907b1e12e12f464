"""The figure of correspondence by block."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vit_registers.views import style
from vit_registers.views.study import Condition, Study

METRIC = "block_correspondence"


def correspondence_by_layer(study: Study, arrays: object) -> Figure:
    """A line for each model as it is, over its blocks, with what pixels find where models see the images alike."""
    shown = [c for c in study.baselines if len(study.series(c, METRIC, group=None))]
    if not shown:
        return style.message("patches of blocks were not kept, or no second view has passed")
    figure = Figure(figsize=(style.WIDTH, 2.6), layout="constrained")
    panel = figure.subplots()
    for condition, color in zip(shown, style.categories(len(shown)), strict=True):
        _line(panel, study, condition, color)
    pixels = {study.estimate(c, "correspondence_baseline", group=None, baseline="pixels").value for c in shown}
    for value in pixels - {None}:
        panel.axhline(100.0 * float(value or 0.0), color="#444444", linestyle=":", label="raw pixels")
    layers = sorted({layer for c in shown for layer in study.series(c, METRIC, group=None).index})
    panel.set(xlabel="block", ylabel="patches found (%)", xticks=layers)
    panel.set_ylim(bottom=0.0)
    handles, labels = panel.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))  # pixels of models that see the images otherwise have a line each
    figure.legend(once.values(), once.keys(), loc="outside right upper")
    return figure


def _line(panel: Axes, study: Study, condition: Condition, color: str) -> None:
    """Shares by block in percent, with their intervals."""
    rows = study.rows_of(condition, METRIC, group=None).sort_values("layer")
    layers = rows["layer"].astype(int).to_numpy()
    value, low, high = (100.0 * rows[name].astype(float).to_numpy() for name in ("value", "low", "high"))
    panel.plot(layers, value, "o-", color=color, markersize=2.5, label=study.model_label(condition))
    panel.fill_between(layers, low, high, color=color, alpha=0.2, linewidth=0)
