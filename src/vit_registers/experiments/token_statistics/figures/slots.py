"""The figure of where [CLS] and registers look at the last block, by number of registers."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from vit_registers.experiments.token_statistics.figures.layers import measured
from vit_registers.views import gallery, style
from vit_registers.views.arrays import Arrays, ByName
from vit_registers.views.panels import cell_side, heat, picture, stacked
from vit_registers.views.study import Study

ROWS = 4  # gallery images shown of each model
REGISTERS = 8  # shown of each model
SLOT_ROWS = 7  # of the whole figure, which its models share
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


def _count(maps: ByName) -> int:
    """Registers of a model that are shown."""
    return min(REGISTERS, maps["registers"].shape[2]) if "registers" in maps else 0


def _names(maps: ByName) -> list[str]:
    """Headings of the columns of a model: one without registers has no winner."""
    registers = [str(i + 1) for i in range(_count(maps))]
    return ["input", *["[CLS]"] * ("cls" in maps), *registers, *["winner"] * bool(registers)]


def _slot_row(line: list[Axes], maps: ByName, row: int) -> None:
    """One image: as it is, attention of [CLS] where there is one, of each register shown, and who wins each patch."""
    image, shown = maps["images"][row], _count(maps)
    picture(line[0], image)
    rest = line[1:]
    if "cls" in maps:
        heat(rest[0], maps["cls"][row, -1], image.shape[:2])
        rest = rest[1:]
    if not shown:
        return
    for panel, one, color in zip(rest, maps["registers"][row, -1][:shown], COLORS, strict=False):
        heat(panel, one, image.shape[:2])
        _framed(panel, color)
    _won(rest[-1], image, maps["winners"][row], shown)


def _found(study: Study, arrays: Arrays) -> list[tuple[str, ByName]]:
    """Models with registers, and the trained or released ones of the usual size without any, that have a [CLS]; by data
    set and number of registers. Nothing where there are no registers to show.
    """
    plan = study.plan
    found: list[tuple[tuple[int, int], str, ByName]] = []
    for condition in measured(study, study.baselines):
        maps, model = arrays.of(condition), condition.model
        comparable = study.is_natural(model) and model not in plan.resized and model not in plan.other_size
        if "registers" in maps or ("cls" in maps and comparable):
            count = maps["registers"].shape[2] if "registers" in maps else 0
            found.append(((study.datasets.index(condition.dataset), count), study.model_label(condition), maps))
    found.sort(key=lambda each: each[0])
    return [(label, maps) for _, label, maps in found] if any(_count(maps) for _, _, maps in found) else []


def register_slots(study: Study, arrays: Arrays) -> Figure:
    """Gallery images, where [CLS] and each register look at the last block, and the register that looks most at each
    patch (darcet2024, Figures 8 and 9; bach2025, Fig. 7): a block of rows for each model, from those without registers
    to those with most, every map on its own scale from zero.
    """
    found = _found(study, arrays)
    if not found:
        return style.message("no model of this study has registers")
    rows = min(ROWS, max(1, SLOT_ROWS // len(found)))
    images = [gallery.shown([maps], rows) for _, maps in found]
    shapes = [(label, len(mine), len(_names(maps))) for (label, maps), mine in zip(found, images, strict=True)]
    figure, blocks = stacked(shapes, cell_side(shapes, 0.7), 1)
    for (_, maps), mine, block in zip(found, images, blocks, strict=True):
        for image, line in zip(mine, block, strict=True):
            _slot_row(line, maps, image)
        for panel, name in zip(block[0], _names(maps), strict=True):
            panel.set_title(name)
    return figure
