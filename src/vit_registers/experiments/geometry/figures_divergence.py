"""The figure of how far conditions move the attention of [CLS], block by block."""

from matplotlib.figure import Figure
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
        return style.message("no condition of this study left the tokens of a model with [CLS] as many as they were")
    figure = Figure(figsize=(style.WIDTH, 2.9), layout="constrained")
    panels = figure.subplots(1, len(models), squeeze=False, sharey=True)[0]
    for panel, before in zip(panels, models, strict=True):
        shown = measured[before][:CONDITIONS]
        for condition, color in zip(shown, style.categories(len(shown)), strict=True):
            rows = study.rows_of(condition, "attention_divergence").sort_values("layer")
            blocks, values = rows["layer"].astype(int), rows["value"].astype(float)
            panel.plot(blocks, values, color=color, marker="o", markersize=2, label=study.conditions[condition.name])
            panel.fill_between(blocks, rows["low"].astype(float), rows["high"].astype(float), color=color, alpha=0.25)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.set(title=wrapped(study.model_label(before), 40), xlabel="block")
        panel.legend(loc="upper left", fontsize=6)
    panels[0].set_ylabel("divergence (bits)")
    return figure


def _measured(study: Study, before: Condition) -> list[Condition]:
    """Conditions of a model whose attention was compared, those that move it most first."""
    of_model = [c for c in study.of(before.dataset, before.model) if len(study.series(c, "attention_divergence"))]
    return sorted(of_model, key=lambda c: -float(study.series(c, "attention_divergence").max()))
