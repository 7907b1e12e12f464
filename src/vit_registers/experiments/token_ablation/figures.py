"""The heat map of token ablations."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vit_registers.experiments.token_ablation.tables import TASKS, ablations, change
from vit_registers.views import style
from vit_registers.views.study import Condition, Estimate, Study

POINTS = 100.0
ROW, HEADING = 0.26, 0.75  # inches of a condition, and of what stands over and under a model's map
DARK = 0.6  # of the largest change: from there on numbers are white


def token_ablation(study: Study, arrays: object) -> Figure:
    """A map for each model: conditions by tasks, coloured and labelled by the change in points."""
    found = ablations(study)
    if not found:
        return style.message("no tokens were replaced in a model of this study")
    heights = [ROW * len(conditions) + HEADING for conditions in found.values()]
    figure = Figure(figsize=(style.WIDTH, min(sum(heights), 7.8)), layout="constrained")
    panels = figure.subplots(len(found), 1, squeeze=False, height_ratios=heights)[:, 0]
    values = {before: _changes(study, conditions) for before, conditions in found.items()}
    top = max((float(np.nanmax(np.abs(each))) for each in values.values() if np.isfinite(each).any()), default=1.0)
    for panel, (before, conditions) in zip(panels, found.items(), strict=True):
        _map(panel, values[before], top)
        panel.set_yticks(range(len(conditions)), [study.conditions[c.name] for c in conditions])
        panel.set_xticks(range(len(TASKS)), [str(task.group) for task in TASKS])
        panel.set_title(study.model_label(before), weight="bold")
    return figure


def _changes(study: Study, conditions: list[Condition]) -> np.ndarray:
    """Changes in points (conditions, tasks); NaN where there is none."""
    cells = [[change(study, condition, task) for task in TASKS] for condition in conditions]
    values = [[cell.value if isinstance(cell, Estimate) else None for cell in row] for row in cells]
    return POINTS * np.array(values, dtype=float)


def _map(panel: Axes, values: np.ndarray, top: float) -> None:
    panel.imshow(np.ma.masked_invalid(values), cmap="RdBu", vmin=-top, vmax=top, aspect="auto")
    panel.grid(visible=False)
    panel.tick_params(length=0)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            color = "white" if abs(value) > DARK * top else "black"
            panel.text(column, row, f"{value:+.1f}", ha="center", va="center", color=color)
