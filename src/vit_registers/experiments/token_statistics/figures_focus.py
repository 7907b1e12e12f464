"""The figure of where [CLS] and registers look on average."""

from pathlib import Path

from matplotlib.figure import Figure

from vit_registers.views import style
from vit_registers.views.arrays import maps
from vit_registers.views.study import Study

COLUMNS = 9  # [CLS] and eight registers


def positional_focus(study: Study, readouts: Path) -> Figure:
    """Attention of [CLS] and of each register over the grid at the last block, mean over images, model by model.

    Of more than eight registers the first eight are shown. Maps of one model share a scale from zero.
    """
    found = [(c, maps(readouts, c).get("focus")) for c in study.baselines]
    shown = [(condition, focus) for condition, focus in found if focus is not None]
    if not shown:
        return style.message("no model of this study has registers")
    columns = min(COLUMNS, max(len(focus) for _, focus in shown))
    cell = min(style.WIDTH / (COLUMNS + 1.6), 0.8)
    figure = Figure(figsize=(style.WIDTH, len(shown) * cell * 1.35 + 0.1), layout="constrained")
    panels = figure.subplots(len(shown), columns, squeeze=False)
    for line, (condition, focus) in zip(panels, shown, strict=True):
        top = float(focus[:columns].max())
        registers = study.cfg.registers.get(condition.model, len(focus) - 1)
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
