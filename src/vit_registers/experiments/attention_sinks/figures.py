"""The figure of attention sinks by block."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from vit_registers.views import style
from vit_registers.views.arrays import Arrays
from vit_registers.views.panels import grid, wrapped
from vit_registers.views.study import Condition, Study

CLASSES = {  # by what a sink writes: words and colour
    "no-op": ("sink writes nothing", style.ITSELF),
    "broadcast": ("sink broadcasts", style.BEFORE),
    "neither": ("sink does neither", style.PATCHES),
}


def sinks_by_block(study: Study, arrays: Arrays) -> Figure:
    """A panel for every model as it is."""
    shown = [c for c in study.baselines if len(study.series(c, "sink_share"))]
    if not shown:
        return style.message("no sinks were looked for")
    figure, axes = grid([len(shown)], 1.45)
    for panel, condition in zip(axes, shown, strict=True):
        _panel(study, panel, condition)
    figure.supxlabel("block", fontsize=7)
    figure.supylabel("share of heads, of attention", fontsize=7)
    handles: list[Patch | Line2D] = [Patch(color=color, label=text) for text, color in CLASSES.values()]
    handles.append(Line2D([], [], color="black", linewidth=0.8, label="attention on one token"))
    handles.append(Line2D([], [], color="black", marker="o", markersize=3, linestyle="", label="sinks on patches"))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), handlelength=1.2, columnspacing=1.0)
    return figure


def _panel(study: Study, panel: Axes, condition: Condition) -> None:
    """Bars of heads with a sink by what it writes, a line of attention, dots of heads whose sink is a patch."""
    share = study.series(condition, "sink_share")
    layers = share.index
    bottom = np.zeros(len(layers))
    for name, (_, color) in CLASSES.items():
        series = study.series(condition, "sink_events", sink_class=name, group=None)
        heights = series.reindex(layers, fill_value=0.0).to_numpy()
        panel.bar(layers, heights, bottom=bottom, width=1.0, color=color, edgecolor="white", linewidth=0.4)
        bottom += heights
    panel.plot(layers, share.to_numpy(), color="black", linewidth=0.8)
    patches = [study.series(condition, "sink_events", sink_class="all", group=g) for g in ("patches", "artifacts")]
    panel.plot(layers, sum(each.reindex(layers).to_numpy() for each in patches), "o", color="black", markersize=3)
    panel.set(title=wrapped(study.model_label(condition), 20), ylim=(0, 1), xlim=(min(layers) - 0.5, max(layers) + 0.5))
    panel.grid(False)
    panel.set_xticks(list(layers)[:: max(1, -(-len(layers) // 6))])
