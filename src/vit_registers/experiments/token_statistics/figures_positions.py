"""Figures by grid position: how often a position is an artifact, and how large norms are there."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vit_registers.views import style
from vit_registers.views.arrays import maps
from vit_registers.views.study import Condition, Study

COLUMNS = 6
Found = list[tuple[Condition, np.ndarray]]


def _maps(readouts: Path, conditions: Sequence[Condition], name: str) -> Found:
    """The map (h, w) of every model as it is that has one."""
    found = [(c, maps(readouts, c).get(name)) for c in conditions]
    return [(condition, values) for condition, values in found if values is not None]


def _wrapped(label: str) -> str:
    """A label over a map: lines break at commas first."""
    return "\n".join(line for part in label.replace(", ", ",\n").splitlines() for line in textwrap.wrap(part, 17))


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
        panel.set_title(_wrapped(study.model_label(condition)), fontsize=7)
    return figure, axes[: len(found)]


def artifact_positions(study: Study, readouts: Path) -> Figure:
    """How often each grid position is an artifact, on one scale; models with artifacts, and those at another size."""
    found = _maps(readouts, study.placed, "artifact_rate")
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


def norms_by_position(study: Study, readouts: Path) -> Figure:
    """Mean patch norm at each grid position in every model, each from its own least to its own largest."""
    found = _maps(readouts, study.baselines, "norm_by_position")
    if not found:
        return style.message("no norms were measured")
    figure, axes = _panels(study, found)
    for panel, (_, norm) in zip(axes, found, strict=True):
        panel.imshow(norm, cmap=style.MAP)
        panel.set_xlabel(f"{norm.min():.3g} to {norm.max():.3g}")
    return figure
