"""The figure of how far conditions move the attention of [CLS], block by block."""

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from vit_registers.views import style
from vit_registers.views.arrays import Arrays
from vit_registers.views.panels import wrapped
from vit_registers.views.study import Condition, Study

MODELS, CONDITIONS = 2, 8  # shown at most: models, of each conditions


def attention_divergence(study: Study, arrays: Arrays) -> Figure:
    """A panel for each of the models with most conditions, with a line for each."""
    measured = {c: _measured(study, c) for c in study.baselines}
    models = sorted((c for c in measured if measured[c]), key=lambda c: -len(measured[c]))[:MODELS]
    if not models:
        return style.message("no condition of this study moves attention between as many tokens")
    figure = Figure(figsize=(style.WIDTH, 2.8), layout="constrained")
    panels = figure.subplots(1, len(models), squeeze=False, sharey=True)[0]
    names = dict.fromkeys(c.name for before in models for c in measured[before][:CONDITIONS])
    colors = dict(zip(names, style.categories(len(names)), strict=True))
    for panel, before in zip(panels, models, strict=True):
        for condition in measured[before][:CONDITIONS]:
            color = colors[condition.name]
            rows = study.rows_of(condition, "attention_divergence").sort_values("layer")
            blocks, values = rows["layer"].astype(int), rows["value"].astype(float)
            panel.plot(blocks, values, color=color, marker="o", markersize=2)
            panel.fill_between(blocks, rows["low"].astype(float), rows["high"].astype(float), color=color, alpha=0.25)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.set(title=wrapped(study.model_label(before), 40), xlabel="block")
    panels[0].set_ylabel("divergence (bits)")
    handles = [Line2D([], [], color=color, label=study.conditions[name]) for name, color in colors.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _measured(study: Study, before: Condition) -> list[Condition]:
    """Conditions of a model that move its attention, those that move it most first."""
    largest = {}
    for condition in study.of(before.dataset, before.model):
        series = study.series(condition, "attention_divergence")
        if len(series) and series.max() > 0.0:
            largest[condition] = float(series.max())
    return sorted(largest, key=lambda c: -largest[c])
