"""The figure of norms while models train."""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vit_registers.report import style
from vit_registers.report.figures_layers import STATISTICS, grid
from vit_registers.report.study import Condition, Study


def norms_by_epoch(study: Study, readouts: Path) -> Figure:
    """Median, 99th percentile and largest patch norm at the last block, after every epoch of every training."""
    rows = study.rows[study.rows["readout"] == "training"]
    trained = [name for name in study.cfg.registers if (rows["model"] == name).any()]
    if not trained:
        return style.message("no model of this study was trained by the pipeline")
    figure, axes = grid([len(trained)], 1.7)
    for panel, name in zip(axes, trained, strict=True):
        mine = rows[rows["model"] == name]
        epochs = sorted(set(mine["intervention"].str.removeprefix("epoch ").astype(int)))
        dataset = str(mine["dataset"].iloc[0])
        for metric, (_, dashes) in STATISTICS.items():
            at = [study.estimate(Condition(dataset, name, f"epoch {e}"), "training", metric).value for e in epochs]
            panel.plot(epochs, [value or float("nan") for value in at], dashes, color=style.PATCHES)
        panel.set(title=study.models[name].removeprefix("ViT "), xlabel="epoch", yscale="log")
        panel.set_xticks(epochs[:: max(1, len(epochs) // 4)])
        style.plain_log(panel.yaxis, (1.0, 2.0, 5.0))
    axes[0].set_ylabel("L2 norm of patch tokens")
    handles = [Line2D([], [], color=style.PATCHES, linestyle=look, label=text) for text, look in STATISTICS.values()]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure
