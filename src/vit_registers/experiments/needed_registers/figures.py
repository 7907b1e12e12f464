"""The figure of doses: what is left of the class and of the patches by how much is moved."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vit_registers.experiments.needed_registers.doses import ALL, FACTOR, NEURONS, TOKENS, Dose, curves
from vit_registers.experiments.needed_registers.tables import AT_ARTIFACTS, OWN_HEAD, base, planted
from vit_registers.views import style
from vit_registers.views.arrays import Arrays
from vit_registers.views.study import Condition, Estimate, Study
from vit_registers.views.table import Column

VARIED = (NEURONS, TOKENS, FACTOR)
ROWS = ((OWN_HEAD, "own head, top-1"), (AT_ARTIFACTS, "cosine of patches at artifacts"))


def dose_response(study: Study, arrays: Arrays) -> Figure:
    """A row for the model's own head and one for patches, a column for all that is varied, a line a model."""
    shown = {before: curves(study, before) for before in planted(study)}
    shown = {before: doses for before, doses in shown.items() if doses}
    if not shown:
        return style.message("no planted model of this study was measured at more than one dose")
    varied = [name for name in VARIED if any(name in doses for doses in shown.values())]
    figure = Figure(figsize=(style.WIDTH, 3.1), layout="constrained")
    axes = figure.subplots(len(ROWS), len(varied), sharey="row", sharex="col", squeeze=False)
    colors = dict(zip(shown, style.categories(len(shown)), strict=True))
    for (column, label), panels in zip(ROWS, axes, strict=True):
        for name, panel in zip(varied, panels, strict=True):
            amounts = sorted({dose.amount for doses in shown.values() for dose in doses.get(name, [])})
            for before, doses in shown.items():
                _line(study, panel, column, amounts, doses.get(name, []), colors[before])
                _references(study, panel, column, before, colors[before])
            panel.set_xticks(range(len(amounts)))
            panel.set_xticklabels(["all" if amount == ALL else f"{amount:g}" for amount in amounts])
            panel.grid(axis="x", visible=False)
        panels[0].set_ylabel(label)
    for name, panel in zip(varied, axes[-1], strict=True):
        panel.set_xlabel(name)
    handles = [axes[0][0].plot([], [], "o-", color=colors[c], markersize=3)[0] for c in shown]
    figure.legend(handles, [study.model_label(c) for c in shown], loc="outside upper center", ncols=len(shown))
    return figure


def _estimate(study: Study, condition: Condition, column: Column) -> Estimate:
    assert column.metric is not None
    return study.estimate(condition, column.metric, **dict(column.where))


def _line(study: Study, panel: Axes, column: Column, amounts: list[float], doses: list[Dose], color: str) -> None:
    """One model's line with its interval as a band."""
    measured = [(amounts.index(dose.amount), _estimate(study, dose.condition, column)) for dose in doses]
    points = [(x, e.value, e.low, e.high) for x, e in measured if e.value is not None]
    if points:
        x, value, low, high = zip(*points, strict=True)
        panel.plot(x, value, "o-", color=color, markersize=3)
        panel.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)


def _references(study: Study, panel: Axes, column: Column, before: Condition, color: str) -> None:
    """Levels of the model that was planted into, and of the cleared model."""
    for condition, dashes in ((base(study, before), "--"), (study.cleared(before), ":")):
        value = None if condition is None else _estimate(study, condition, column).value
        if value is not None:
            panel.axhline(value, linestyle=dashes, color=color, linewidth=0.8)
