"""Figures of how [CLS] divides its attention, of its way through the blocks, and of the longest register."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vit_registers.experiments.decoupling.tables import by_size
from vit_registers.views import style
from vit_registers.views.arrays import Arrays
from vit_registers.views.panels import grid, wrapped
from vit_registers.views.study import Condition, Study

BINS = 40
MODELS = 8  # lines that a panel has at most
STREAM = "with the skip"


def attention_split(study: Study, arrays: Arrays) -> Figure:
    """A histogram over images for each model with registers."""
    models = by_size(study, "register_share")
    if not models:
        return style.message("no model of this study has [CLS] and registers")
    shares = {c: arrays.of(c)["register_share"] for c in models}
    figure, panels = grid([len(models)], 1.4, sharex=True)
    edges = np.linspace(0.0, 1.0, BINS + 1)
    for condition, panel in zip(models, panels, strict=True):
        panel.hist(shares[condition], bins=list(edges), color=style.REGISTERS, weights=_equal(shares[condition]))
        uniform = study.estimate(condition, "register_share_uniform").value
        assert uniform is not None
        panel.axvline(uniform, color="black", linestyle="--", linewidth=0.8)
        panel.set(title=wrapped(study.model_label(condition), 24), xlim=(0.0, 1.0), xticks=(0.0, 0.5, 1.0))
    figure.supxlabel("share on registers", fontsize=7)
    figure.supylabel("share of images", fontsize=7)
    return figure


def _equal(values: np.ndarray) -> np.ndarray:
    return np.full(len(values), 1.0 / len(values))


def cls_and_skip(study: Study, arrays: Arrays) -> Figure:
    """[CLS] by block against the last, and what it takes from patches against the skip."""
    models = [c for c in study.baselines if study.is_natural(c.model) and _rows(study, c)]
    others = [c for c in study.baselines if _rows(study, c)]
    shown = (models or others)[:MODELS]  # planted models are what they were made from, but for patches
    if not shown:
        return style.message("no [CLS] was kept by layer")
    figure = Figure(figsize=(style.WIDTH, 2.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    top = 0.0
    for condition, color in zip(shown, style.categories(len(shown)), strict=True):
        rows = study.rows_of(condition, "cls_cosine_to_last").sort_values("layer")
        blocks, values = rows["layer"].astype(int), rows["value"].astype(float)
        left.plot(blocks, values, marker="o", markersize=2.5, color=color, label=study.model_label(condition))
        left.fill_between(blocks, rows["low"].astype(float), rows["high"].astype(float), color=color, alpha=0.25)
        both = [study.estimate(condition, "part_norm", part=part, full=STREAM) for part in ("skip", "patches")]
        if both[0].value is not None and both[1].value is not None:
            right.plot(both[0].value, both[1].value, "o", color=color, markersize=5)
            top = max(top, both[0].value, both[1].value)
    left.set(xlabel="block", ylabel="cosine to [CLS] of the last", ylim=(None, 1.02))
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.axline((0.0, 0.0), slope=1.0, color="black", linestyle="--", linewidth=0.6)
    right.set(xlabel="norm of the skip connection", ylabel="norm of what patches give")
    if top:
        right.set(xlim=(0.0, 1.1 * top), ylim=(0.0, 1.1 * top))
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def _rows(study: Study, condition: Condition) -> bool:
    return bool(study.rows_of(condition, "cls_cosine_to_last")["value"].notna().any())


def largest_dimensions(study: Study, arrays: Arrays) -> Figure:
    """Means of the largest dimensions of the longest register, before and after the norm."""
    models = by_size(study, "register_share")
    found = {c: arrays.of(c) for c in models}
    found = {c: of_model for c, of_model in found.items() if "largest_raw" in of_model}
    if not found:
        return style.message("no model of this study has registers")
    figure, panels = grid([len(found)], 1.5, most=4)
    for (condition, of_model), panel in zip(found.items(), panels, strict=True):
        raw, normed = of_model["largest_raw"], of_model["largest_normed"]
        at = np.arange(len(raw))
        top = np.abs(raw).max()
        panel.bar(at - 0.2, np.abs(raw) / top, width=0.4, color=style.BEFORE, label="before the norm")
        panel.bar(at + 0.2, np.abs(normed) / top, width=0.4, color=style.AFTER, label="after the norm")
        name = wrapped(study.model_label(condition), 24)
        panel.set(title=f"{name}\nregister {int(of_model['longest_register'][0])}", xticks=())
    figure.supylabel("absolute mean, over the largest before", fontsize=7)
    figure.supxlabel("dimensions, the largest before the norm first", fontsize=7)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    return figure
