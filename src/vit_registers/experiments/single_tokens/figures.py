"""The figure of what single tokens know: how alike outlier and normal patches are to their neighbours."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from vit_registers.experiments.single_tokens.tables import outliers
from vit_registers.views import style
from vit_registers.views.arrays import Arrays
from vit_registers.views.panels import grid, wrapped
from vit_registers.views.study import Study

GROUPS = {"normal": style.PATCHES, "outlier": style.BEFORE}


def _steps(axes: Axes, counts: np.ndarray, edges: np.ndarray, color: str, filled: bool) -> None:
    """A histogram as shares of its own sum, filled or as a line, from the first to the last bin that has pairs."""
    there = np.flatnonzero(counts)
    bins = slice(there[0], there[-1] + 1)
    axes.stairs(counts[bins] / counts.sum(), edges[there[0] : there[-1] + 2], fill=filled, color=color, linewidth=1.0)


def neighbour_cosines(study: Study, arrays: Arrays) -> Figure:
    """Histograms of the cosines of patch embeddings with their neighbours, outliers over normal patches, model by model
    (darcet2024, Fig. 5a; bach2025, Fig. 6).
    """
    measured = [c for c in study.baselines if study.has(c, "neighbour_cosine")]
    found = [(c, arrays.of(c)) for c in measured]
    if not found:
        return style.message("no cosines of neighbouring patches were measured")
    figure, axes = grid([len(found)], 1.45)
    for panel, (condition, kept) in zip(axes, found, strict=True):
        for group, color in GROUPS.items():
            counts = kept[f"histogram/neighbour_cosine/{group}"]
            if counts.any():
                _steps(panel, counts, kept["edges_neighbour_cosine"], color, filled=group == "normal")
                mean = study.estimate(condition, "neighbour_cosine", group=group).value
                assert mean is not None  # of patches that have neighbours
                look = {"color": color, "markersize": 5, "markeredgecolor": "black", "markeredgewidth": 0.5}
                panel.plot([mean], [0.95], "v", transform=panel.get_xaxis_transform(), **look)
        label = wrapped(study.model_label(condition), 20)
        panel.set(title=f"{label}\noutliers: {outliers(study, condition)}", xlim=(-1.05, 1.05), yscale="log")
    figure.supxlabel("cosine of a patch embedding with that of a neighbour", fontsize=7)
    figure.supylabel("share of pairs", fontsize=7)
    handles: list[Patch | Line2D] = [Patch(color=GROUPS["normal"], label="normal patches")]
    handles.append(Line2D([], [], color=GROUPS["outlier"], linewidth=1.0, label="outlier patches"))
    handles.append(Line2D([], [], color="white", marker="v", markeredgecolor="black", linestyle="", label="mean"))
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure
