"""Figures of single images: attention and norms before and after, block by block, and register by register."""

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from vit_registers.experiments.token_statistics.figures_layers import measured
from vit_registers.views import style
from vit_registers.views.arrays import Arrays, ByName
from vit_registers.views.panels import cell_side, heat, picture, stacked
from vit_registers.views.study import Condition, Study

ROWS = 4  # gallery images shown of each model
REGISTERS = 8  # shown of each model
SLOT_ROWS = 10  # of the figure of register slots, which its models share
COLORS = [color for i, color in enumerate(style.categories(10)) if i != 7]  # less the grey one
OTHERS = "#d0d0d0"
Column = tuple[str, ByName, str]  # heading, arrays, kind of map


def _wrapped(name: str) -> str:
    """A name over a map, on as many lines as it needs."""
    return "\n".join(textwrap.wrap(name.replace("_", "_ "), 13)).replace("_ ", "_")


def _sides(study: Study, arrays: Arrays, before: Condition) -> list[tuple[str, ByName]]:
    """Arrays of the control, and of a model before and after test-time registers, as far as there are any."""
    after = study.after(before)
    control = study.control(after) if after else None
    sides = [("control", control), ("before", before), ("after", after)]
    return [(side, arrays.of(c)) for side, c in sides if c is not None]


def _map_columns(study: Study, arrays: Arrays, before: Condition) -> list[Column]:
    """Every column after the picture: maps of the same kind before beside after."""
    found = _sides(study, arrays, before)
    columns = [(f"attention\n{side}", maps, "cls") for side, maps in found if "cls" in maps]
    columns += [(f"norm\n{side}", maps, "norms") for side, maps in found if "norms" in maps and side != "control"]
    columns += [
        ("attention of\nregister", maps, "appended") for side, maps in found if "appended" in maps and side == "after"
    ]
    return columns


def _of_every_model(study: Study, arrays: Arrays) -> list[tuple[str, list[Column]]]:
    """Attention of [CLS] in every model as it is, six models a block, by data set."""
    found: list[tuple[str, list[Column]]] = []
    for dataset in study.datasets:
        loaded = [(c, arrays.of(c)) for c in measured(study, study.baselines) if c.dataset == dataset]
        columns = [(_wrapped(study.models[c.model]), maps, "cls") for c, maps in loaded if "cls" in maps]
        title = "" if len(study.datasets) == 1 else dataset
        found += [(title, columns[i : i + 6]) for i in range(0, len(columns), 6)]
    return found


def _map(maps: ByName, kind: str, row: int) -> np.ndarray:
    """The map (h,w) of one image at the last block; of appended tokens, that of the first."""
    where: dict[str, tuple[int, ...]] = {"norms": (), "cls": (-1,), "appended": (-1, 0)}
    return np.asarray(maps[kind][row][where[kind]])


def attention_maps(study: Study, arrays: Arrays) -> Figure:
    """Attention of [CLS] and patch norms at the last block: a block of rows per model with artifacts.

    A study without such a model shows the attention of [CLS] in every model beside the picture.
    """
    if treated := measured(study, study.with_artifacts):
        found = [(study.model_label(c), _map_columns(study, arrays, c)) for c in treated]
    else:
        found = _of_every_model(study, arrays)
    found = [(title, columns) for title, columns in found if columns]
    if not found:
        return style.message("no attention of a [CLS] token was measured")
    most = max(1, min(ROWS, 2 * ROWS // len(found)))  # so that pictures stay large where there are many models
    rows = [min(most, len(columns[0][1]["images"])) for _, columns in found]
    shapes = [(title, n, 1 + len(columns)) for (title, columns), n in zip(found, rows, strict=True)]
    cell = min(style.WIDTH / max(shape[2] for shape in shapes), 6.4 / sum(rows), 0.95)
    lines = max(heading.count("\n") + 1 for _, columns in found for heading, _, _ in columns)
    figure, blocks = stacked(shapes, cell, lines)
    for (_, columns), block in zip(found, blocks, strict=True):
        for row, line in enumerate(block):
            image = columns[0][1]["images"][row]
            picture(line[0], image)
            # one scale per row and kind: before and after can be compared by eye
            tops = {kind: max(_map(a, k, row).max() for _, a, k in columns if k == kind) for _, _, kind in columns}
            for panel, (_, maps, kind) in zip(line[1:], columns, strict=True):
                heat(panel, _map(maps, kind, row), image.shape[:2], float(tops[kind]))
        for panel, heading in zip(block[0], ["input", *(heading for heading, _, _ in columns)], strict=True):
            panel.set_title(heading)
    return figure


def attention_by_block(study: Study, arrays: Arrays) -> Figure:
    """Attention of [CLS] over the patches block by block, two gallery images: control, before and after.

    Of the first model with artifacts; a study without one shows its first model as it is.
    """
    if treated := measured(study, study.with_artifacts):
        found = _sides(study, arrays, treated[0])
    else:
        found = [("", arrays.of(c)) for c in measured(study, study.baselines)[:1]]
    found = [(side, maps) for side, maps in found if "cls" in maps]
    if not found:
        return style.message("no attention of a [CLS] token was measured")
    images, depth = found[0][1]["images"][:2], found[0][1]["cls"].shape[1]
    shapes = [(side, len(images), 1 + depth) for side, _ in found]
    figure, blocks = stacked(shapes, min(style.WIDTH / (1 + depth), 0.9), 1)
    for (_, maps), block in zip(found, blocks, strict=True):
        for row, line in enumerate(block):
            picture(line[0], images[row])
            for layer, panel in enumerate(line[1:]):
                # one scale per image and block: the sides can be compared by eye
                top = max(float(other["cls"][row, layer].max()) for _, other in found)
                heat(panel, maps["cls"][row, layer], images[row].shape[:2], top)
        for panel, heading in zip(block[0], ["input", *(f"block {i}" for i in range(depth))], strict=True):
            panel.set_title(heading)
    return figure


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


def _slot_row(line: list[Axes], maps: ByName, row: int, shown: int) -> None:
    """One image: as it is, attention of [CLS] where there is one, of each register shown, and who wins each patch."""
    image = maps["images"][row]
    picture(line[0], image)
    rest = line[1:]
    if "cls" in maps:
        heat(rest[0], maps["cls"][row, -1], image.shape[:2])
        rest = rest[1:]
    for panel, one, color in zip(rest, maps["registers"][row, -1][:shown], COLORS, strict=False):
        heat(panel, one, image.shape[:2])
        _framed(panel, color)
    _won(rest[-1], image, maps["winners"][row], shown)


def register_slots(study: Study, arrays: Arrays) -> Figure:
    """Gallery images, where [CLS] and each register look at the last block, and the register that looks most at each
    patch (darcet2024, Fig. 9): a block of rows per model with registers, every map on its own scale from zero.
    """
    found = [(study.model_label(c), arrays.of(c)) for c in measured(study, study.baselines)]
    found = [(label, maps) for label, maps in found if "winners" in maps]
    if not found:
        return style.message("no model of this study has registers")
    shown = [min(REGISTERS, maps["registers"].shape[2]) for _, maps in found]
    rows = min(ROWS, max(1, SLOT_ROWS // len(found)))
    shapes = [
        (label, min(rows, len(maps["images"])), 2 + ("cls" in maps) + n)
        for (label, maps), n in zip(found, shown, strict=True)
    ]
    figure, blocks = stacked(shapes, cell_side(shapes, 0.95), 1)
    for (_, maps), block, n in zip(found, blocks, shown, strict=True):
        for row, line in enumerate(block):
            _slot_row(line, maps, row, n)
        names = ["input", *["[CLS]"] * ("cls" in maps), *(str(i + 1) for i in range(n)), "winner"]
        for panel, name in zip(block[0], names, strict=True):
            panel.set_title(name)
    return figure
