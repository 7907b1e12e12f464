"""The figure of patch norms by the size of models."""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vit_registers.experiments.token_statistics.figures_layers import STATISTICS
from vit_registers.views import style
from vit_registers.views.study import Condition, Study

MARKERS = {"norm_median": "o", "norm_p99": "s", "norm_max": "^"}


def _natural(study: Study, condition: Condition) -> bool:
    """Whether a model is as its training left it, at its own size, and has no registers."""
    planted = study.nature(condition.model) in ("tagged", "planted")
    registers = len(study.series(condition, "norms", "norm_registers"))
    return not planted and condition.model not in study.cfg.resized and not registers


def norms_by_size(study: Study, readouts: Path) -> Figure:
    """Median, 99th percentile and largest patch norm at the outlier layer by number of parameters, no registers."""
    sizes = {c: study.estimate(c, "detection", "parameters").value for c in study.baselines if _natural(study, c)}
    shown = sorted((size, c) for c, size in sizes.items() if size is not None)
    if not shown:
        return style.message("no model of this study is without registers and planting")
    figure = Figure(figsize=(style.WIDTH, 2.4), layout="constrained")
    axes = figure.subplots()
    models = []
    for (size, condition), color in zip(shown, style.ordered(len(shown)), strict=True):
        layer = study.estimate(condition, "detection", "outlier_layer").value
        at = int(layer) if layer is not None else None
        norms = [study.estimate(condition, "norms", metric, layer=at).value for metric in STATISTICS]
        axes.plot([size] * len(norms), [value or float("nan") for value in norms], color=color, linewidth=0.8)
        for marker, value in zip(MARKERS.values(), norms, strict=True):
            axes.plot([size], [value or float("nan")], marker, color=color, markersize=4)
        label = f"{study.model_label(condition)} ({size / 1e6:.3g} M)"
        models.append(Line2D([], [], color=color, marker="o", markersize=4, linewidth=0.8, label=label))
    axes.set(xlabel="parameters", ylabel="L2 norm of patch tokens", xscale="log", yscale="log")
    axes.margins(x=0.15, y=0.15)
    style.plain_log(axes.xaxis, (1.0, 2.0, 5.0))
    style.plain_log(axes.yaxis, (1.0, 2.0, 3.0, 5.0, 7.0))
    looks = [(text, MARKERS[metric]) for metric, (text, _) in STATISTICS.items()]
    kinds = [Line2D([], [], color="#444444", marker=m, markersize=4, linestyle="", label=text) for text, m in looks]
    figure.legend(handles=[*kinds, *models], loc="outside right upper")
    return figure
