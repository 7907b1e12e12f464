"""The figure of the patches that are nearest to each register."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vit_registers.experiments.information_flow.figures import with_registers_first
from vit_registers.views import style
from vit_registers.views.arrays import Arrays, ByName
from vit_registers.views.panels import cell_side, picture, stacked
from vit_registers.views.study import Condition, Study

MODELS, REGISTERS = 2, 4  # shown at most
BOX = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1.0}


def with_nearest(study: Study, arrays: Arrays) -> dict[Condition, ByName]:
    """Models as they are that have registers, those with most first, and the patches nearest to these."""
    models = [c for c in with_registers_first(study, "token_probe") if study.plan.registers.get(c.model, 1)]
    found = {c: arrays.of(c) for c in models}
    return {c: of_model for c, of_model in found.items() if "nearest_pictures" in of_model}


def nearest_patches(study: Study, arrays: Arrays) -> Figure:
    """Blocks of models; rows are registers, columns the patches nearest to them."""
    found = with_nearest(study, arrays)
    shown = list(found)[:MODELS]
    if not shown:
        return style.message("no model of this study has registers")
    shapes = []
    for condition in shown:
        registers, count = found[condition]["nearest_pictures"].shape[:2]
        shapes.append((study.model_label(condition), min(REGISTERS, registers), count))
    figure, blocks = stacked(shapes, cell_side(shapes, 0.9), lines=0)
    for condition, block in zip(shown, blocks, strict=True):
        arrays_of = found[condition]
        grid = arrays_of["grid"]
        for row, line in enumerate(block):
            for column, panel in enumerate(line):
                image = arrays_of["nearest_pictures"][row, column]
                picture(panel, image)
                patch = np.array(image.shape[:2]) / grid
                y, x = arrays_of["nearest_cells"][row, column] * patch
                panel.add_patch(Rectangle((x, y), patch[1], patch[0], fill=False, edgecolor=style.FOUND, linewidth=1.2))
            line[0].text(0.04, 0.04, f"register {row + 1}", transform=line[0].transAxes, fontsize=7, bbox=BOX)
    return figure
