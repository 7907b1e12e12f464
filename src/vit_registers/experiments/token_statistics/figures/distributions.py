"""Figures of distributions over tokens: of norms where detection looks, and of the attention of [CLS] at the end."""

import itertools
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from vit_registers.experiments.token_statistics.figures.layers import TARGETS, measured, sections, title
from vit_registers.views import style
from vit_registers.views.arrays import Arrays, ByName
from vit_registers.views.panels import grid
from vit_registers.views.study import Condition, Study

TOKENS = {kind: TARGETS[kind] for kind in ("patches", "registers", "appended")}


def _steps(axes: Axes, counts: np.ndarray, edges: np.ndarray, color: str, filled: bool) -> None:
    """A histogram as a step line, from the first to the last bin that has tokens: share of the tokens of its kind."""
    there = np.flatnonzero(counts)
    bins = slice(there[0], there[-1] + 1)
    look = {"linewidth": 0.0} if filled else {"linewidth": 0.8, "edgecolor": color}
    shares, edges = counts[bins] / counts.sum(), edges[there[0] : there[-1] + 2]
    axes.stairs(shares, edges, fill=True, facecolor=f"{color}{'ff' if filled else '77'}", **look)


def _distributions(study: Study, arrays: Arrays, quantity: str) -> tuple[Figure, dict[Condition, Axes]] | None:
    """Histograms of the kinds of tokens, a panel per condition; None where nothing was measured."""
    found: dict[Condition, ByName] = {}
    shown: list[list[Condition]] = []
    for section in sections(study):
        mine = {c: arrays.of(c) for c in measured(study, section)}
        mine = {c: of_condition for c, of_condition in mine.items() if f"histogram/{quantity}/patches" in of_condition}
        found |= mine
        shown += [list(mine)] if mine else []
    if not shown:
        return None
    figure, axes = grid([len(section) for section in shown], 1.45, sharex=True)
    panels = dict(zip(itertools.chain(*shown), axes, strict=True))
    for condition, panel in panels.items():
        for kind, (_, color) in TOKENS.items():
            counts = found[condition].get(f"histogram/{quantity}/{kind}")
            if counts is not None:
                _steps(panel, counts, found[condition][f"edges_{quantity}"], color, filled=kind == "patches")
        panel.set(title=title(study, condition), xscale="log", yscale="log")
    figure.supylabel("share of tokens", fontsize=7)
    return figure, panels


def _marked(study: Study, panels: dict[Condition, Axes], metric: str, axis: str, label: str) -> Line2D:
    """A triangle over each panel at the number of each kind of token, which stands on the ``axis``; for the legend."""
    for condition, panel in panels.items():
        for kind, (_, color) in TOKENS.items():
            at: dict[str, Any] = {axis: kind}
            value = study.estimate(condition, metric, **at).value
            if value is not None:
                over = panel.get_xaxis_transform()
                look = {"color": color, "markersize": 5, "markeredgecolor": "black", "markeredgewidth": 0.5}
                panel.plot([value], [0.95], "v", transform=over, **look)
    return Line2D([], [], color="white", marker="v", markeredgecolor="black", linestyle="", label=label)


def norm_distributions(study: Study, arrays: Arrays) -> Figure:
    """Histograms of token norms at the block that detection looks at, with the threshold that makes an artifact."""
    drawn = _distributions(study, arrays, "norm")
    if drawn is None:
        return style.message("no norms were measured")
    figure, panels = drawn
    for condition, panel in panels.items():
        threshold = study.estimate(Condition(condition.dataset, condition.model), "detection_threshold").value
        if threshold is not None:
            panel.axvline(threshold, color="black", linestyle="--", linewidth=0.8)
        style.plain_log(panel.xaxis, (1.0,), most=4)
    figure.supxlabel("L2 norm at the block that detection looks at", fontsize=7)
    handles: list[Patch | Line2D] = [Patch(color=color, label=text) for text, color in TOKENS.values()]
    handles.append(_marked(study, panels, "token_norm_median", "group", "median"))
    handles.append(Line2D([], [], color="black", linestyle="--", linewidth=0.8, label="threshold"))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def attention_distributions(study: Study, arrays: Arrays) -> Figure:
    """Histograms of the attention that [CLS] gives to single tokens at the last block, by kind of token."""
    drawn = _distributions(study, arrays, "attention")
    if drawn is None:
        return style.message("no attention of a [CLS] token was measured")
    figure, panels = drawn
    figure.supxlabel("share of the attention of [CLS] on one token at the last block", fontsize=7)
    handles: list[Patch | Line2D] = [Patch(color=color, label=text) for text, color in TOKENS.values()]
    handles.append(_marked(study, panels, "attention_in_any_head", "target", "largest in any head, median"))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure
