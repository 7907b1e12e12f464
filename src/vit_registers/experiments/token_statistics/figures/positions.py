"""Figures by grid position: artifacts, norms, and where [CLS] and registers look on average."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vit_registers.experiments.token_statistics.figures.layers import measured
from vit_registers.views import style
from vit_registers.views.arrays import Arrays
from vit_registers.views.panels import wrapped
from vit_registers.views.study import Condition, Study

COLUMNS = 6
FOCUS_COLUMNS = 9  # [CLS] and eight registers
Found = list[tuple[Condition, np.ndarray]]


def _maps(study: Study, arrays: Arrays, conditions: Sequence[Condition], name: str) -> Found:
    """The map, (h, w) or one for each token, of every model as it is that has one."""
    found = [(c, arrays.of(c).get(name)) for c in measured(study, conditions)]
    return [(condition, values) for condition, values in found if values is not None]


def _panels(study: Study, found: Found, bar: float = 0.0) -> tuple[Figure, list[Axes]]:
    """A blank axes under the name of each model, as wide as the page less ``bar`` inches."""
    columns = min(COLUMNS, len(found))
    rows = math.ceil(len(found) / columns)
    cell = (style.WIDTH - bar) / COLUMNS
    figure = Figure(figsize=(min(style.WIDTH, columns * cell + bar), rows * (cell + 0.42) + 0.05), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in axes:
        style.blank(panel)
    for panel in axes[len(found) :]:
        panel.set_visible(False)
    for panel, (condition, _) in zip(axes, found, strict=False):
        panel.set_title(wrapped(study.model_label(condition), 17), fontsize=7)
    return figure, axes[: len(found)]


def artifact_positions(study: Study, arrays: Arrays) -> Figure:
    """How often each grid position is an artifact, on one scale; models with artifacts, and those at another size."""
    found = _maps(study, arrays, study.placed, "artifact_rate")
    if not found:
        return style.message("no artifacts found in any model of this study")
    figure, axes = _panels(study, found, bar=0.7)
    top = max(float(rate.max()) for _, rate in found)
    for panel, (_, rate) in zip(axes, found, strict=True):
        image = panel.imshow(rate, cmap=style.MAP, vmin=0.0, vmax=top)
        panel.set_xlabel(f"at most {rate.max():.2g}")
    bar = figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02, aspect=12)
    bar.set_label("share of images", fontsize=7)
    bar.outline.set_visible(False)  # type: ignore[operator]
    return figure


def norms_by_position(study: Study, arrays: Arrays) -> Figure:
    """Mean patch norm at each grid position in every model, each from its own least to its own largest."""
    found = _maps(study, arrays, study.baselines, "norm_by_position")
    if not found:
        return style.message("no norms were measured")
    figure, axes = _panels(study, found)
    for panel, (_, norm) in zip(axes, found, strict=True):
        panel.imshow(norm, cmap=style.MAP)
        panel.set_xlabel(f"{norm.min():.3g} to {norm.max():.3g}")
    return figure


def positional_focus(study: Study, arrays: Arrays) -> Figure:
    """Attention of [CLS] and of each register over the grid at the last block, mean over images, model by model.

    Of more than eight registers the first eight are shown. Maps of one model share a scale from zero.
    """
    shown = _maps(study, arrays, study.baselines, "focus")
    if not shown:
        return style.message("no model of this study has registers")
    columns = min(FOCUS_COLUMNS, max(len(focus) for _, focus in shown))
    cell = min(style.WIDTH / (FOCUS_COLUMNS + 1.6), 0.8)
    figure = Figure(figsize=(style.WIDTH, len(shown) * cell * 1.35 + 0.1), layout="constrained")
    panels = figure.subplots(len(shown), columns, squeeze=False)
    for line, (condition, focus) in zip(panels, shown, strict=True):
        top = float(focus[:columns].max())
        registers = arrays.of(condition)["registers"].shape[2]
        first = len(focus) - registers  # whether there is a [CLS]
        for i, panel in enumerate(line):
            style.blank(panel)
            if i >= len(focus):
                panel.set_visible(False)
                continue
            panel.imshow(focus[i], cmap=style.MAP, vmin=0.0, vmax=top)
            panel.set_title("[CLS]" if i < first else f"{i - first + 1}", fontsize=7)
        line[0].set_ylabel(study.model_label(condition).removeprefix("ViT "), rotation=0, ha="right", va="center")
    return figure
