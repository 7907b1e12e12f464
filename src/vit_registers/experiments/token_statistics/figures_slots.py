"""The figure of registers that look at different regions."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from vit_registers.views import style
from vit_registers.views.arrays import Arrays, maps
from vit_registers.views.panels import cell_side, heat, picture, stacked
from vit_registers.views.study import Study

REGISTERS = 8  # shown of each model
ROWS, ALL_ROWS = 4, 10  # gallery images shown of each model, and rows of the figure that these share
COLORS = [color for i, color in enumerate(style.categories(10)) if i != 7]  # less the grey one
OTHERS = "#d0d0d0"


def _won(axes: Axes, image: np.ndarray, winners: np.ndarray, shown: int) -> None:
    """Each patch in the colour of the register that attends most to it, over the image in grey."""
    colors = np.array([to_rgb(color) for color in [*COLORS[:shown], OTHERS]])
    grey = np.repeat(image.mean(axis=-1, keepdims=True), 3, axis=-1) / 255
    picture(axes, grey)
    extent = (0, image.shape[1], image.shape[0], 0)
    axes.imshow(colors[np.minimum(winners, shown)], extent=extent, aspect="auto", alpha=0.75)


def _framed(axes: Axes, color: str) -> None:
    for spine in axes.spines.values():
        spine.set(visible=True, color=color, linewidth=1.4)


def _row(line: list[Axes], arrays: Arrays, row: int, shown: int) -> None:
    """One image: as it is, attention of [CLS] where there is one, of each register shown, and who wins each patch."""
    image = arrays["images"][row]
    picture(line[0], image)
    rest = line[1:]
    if "cls" in arrays:
        heat(rest[0], arrays["cls"][row, -1], image.shape[:2])
        rest = rest[1:]
    for panel, one, color in zip(rest, arrays["registers"][row, -1][:shown], COLORS, strict=False):
        heat(panel, one, image.shape[:2])
        _framed(panel, color)
    _won(rest[-1], image, arrays["winners"][row], shown)


def register_slots(study: Study, readouts: Path) -> Figure:
    """Gallery images, where [CLS] and each register look at the last block, and the register that looks most at each
    patch (darcet2024, Fig. 9): a block of rows per model with registers, every map on its own scale from zero.
    """
    found = [(study.model_label(c), maps(readouts, c)) for c in study.baselines]
    found = [(label, arrays) for label, arrays in found if "winners" in arrays]
    if not found:
        return style.message("no model of this study has registers")
    shown = [min(REGISTERS, arrays["registers"].shape[2]) for _, arrays in found]
    rows = min(ROWS, max(1, ALL_ROWS // len(found)))
    shapes = [
        (label, min(rows, len(arrays["images"])), 2 + ("cls" in arrays) + n)
        for (label, arrays), n in zip(found, shown, strict=True)
    ]
    figure, blocks = stacked(shapes, cell_side(shapes, 0.95), 1)
    for (_, arrays), block, n in zip(found, blocks, shown, strict=True):
        for row, line in enumerate(block):
            _row(line, arrays, row, n)
        names = ["input", *["[CLS]"] * ("cls" in arrays), *(str(i + 1) for i in range(n)), "winner"]
        for panel, name in zip(block[0], names, strict=True):
            panel.set_title(name)
    return figure
