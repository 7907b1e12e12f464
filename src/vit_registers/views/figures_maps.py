"""Figures of single images: attention and norm maps, and the steps of LOST."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vit_registers.views import style
from vit_registers.views.arrays import Arrays, lost_steps, maps
from vit_registers.views.panels import heat, picture, stacked
from vit_registers.views.study import Condition, Study

ROWS = 4  # gallery images shown of each model


def _wrapped(name: str) -> str:
    """A name over a map, on as many lines as it needs."""
    return "\n".join(textwrap.wrap(name.replace("_", "_ "), 13)).replace("_ ", "_")


def _map_columns(study: Study, readouts: Path, before: Condition) -> list[tuple[str, Arrays, str]]:
    """Heading, arrays and kind of map of every column after the picture: the same kind before beside after."""
    after = study.after(before)
    control = study.control(after) if after else None
    sides = [("control", control), ("before", before), ("after", after)]
    found = [(side, maps(readouts, c)) for side, c in sides if c is not None]
    columns = [(f"attention\n{side}", arrays, "cls") for side, arrays in found if "cls" in arrays]
    columns += [(f"norm\n{side}", arrays, "norms") for side, arrays in found if "norms" in arrays and side != "control"]
    columns += [
        ("attention of\nregister", arrays, "appended")
        for side, arrays in found
        if "appended" in arrays and side == "after"
    ]
    return columns


def _map(arrays: Arrays, kind: str, row: int) -> np.ndarray:
    """The map (h,w) of one image at the last block; of appended tokens, that of the first."""
    values = arrays[kind][row]
    where: dict[str, tuple[int, ...]] = {"norms": (), "cls": (-1,), "appended": (-1, 0)}
    return np.asarray(values[where[kind]])


def attention_maps(study: Study, readouts: Path) -> Figure:
    """Attention of [CLS] and patch norms at the last block: a block of rows per model with artifacts.

    A study without such a model shows the attention of [CLS] in every model beside the picture.
    """
    if study.treated:
        found = [(study.model_label(c), _map_columns(study, readouts, c)) for c in study.treated]
    else:
        found = []
        for dataset in study.datasets:
            loaded = [(c, maps(readouts, c)) for c in study.baselines if c.dataset == dataset]
            columns = [(_wrapped(study.models[c.model]), a, "cls") for c, a in loaded if "cls" in a]
            title = "" if len(study.datasets) == 1 else dataset
            found += [(title, columns[i : i + 6]) for i in range(0, len(columns), 6)]
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
            for panel, (_, arrays, kind) in zip(line[1:], columns, strict=True):
                heat(panel, _map(arrays, kind, row), image.shape[:2], float(tops[kind]))
        for panel, heading in zip(block[0], ["input", *(heading for heading, _, _ in columns)], strict=True):
            panel.set_title(heading)
    return figure


def attention_by_block(study: Study, readouts: Path) -> Figure:
    """Attention of [CLS] over the patches block by block, two gallery images: control, before and after.

    Of the first model with artifacts; a study without one shows its first model as it is.
    """
    before = (study.treated or study.baselines)[0]
    sides: list[tuple[str, Condition | None]] = [("", before)]
    if study.treated:
        after = study.after(before)
        sides = [("control", study.control(after) if after else None), ("before", before), ("after", after)]
    found = [(side, maps(readouts, c)) for side, c in sides if c is not None]
    found = [(side, arrays) for side, arrays in found if "cls" in arrays]
    if not found:
        return style.message("no attention of a [CLS] token was measured")
    images, depth = found[0][1]["images"][:2], found[0][1]["cls"].shape[1]
    shapes = [(side, len(images), 1 + depth) for side, _ in found]
    figure, blocks = stacked(shapes, min(style.WIDTH / (1 + depth), 0.9), 1)
    for (_, arrays), block in zip(found, blocks, strict=True):
        for row, line in enumerate(block):
            picture(line[0], images[row])
            for layer, panel in enumerate(line[1:]):
                # one scale per image and block: the sides can be compared by eye
                top = max(float(other["cls"][row, layer].max()) for _, other in found)
                heat(panel, arrays["cls"][row, layer], images[row].shape[:2], top)
        for panel, heading in zip(block[0], ["input", *(f"block {i}" for i in range(depth))], strict=True):
            panel.set_title(heading)
    return figure


def _frame(axes: Axes, box: np.ndarray, color: str, dashed: bool = False) -> None:
    """A box [x0, y0, x1, y1] in pixels; nothing where it is absent (NaN)."""
    if np.isfinite(box).all():
        x0, y0, x1, y1 = box
        axes.add_patch(
            Rectangle(
                (x0, y0),
                x1 - x0,
                y1 - y0,
                fill=False,
                edgecolor=color,
                linewidth=1.4,
                linestyle="--" if dashed else "-",
            )
        )


def _four_steps(line: Sequence[Axes], arrays: Arrays, row: int) -> None:
    """Degree, seed with expansion, mask, and box with the truth, of one image."""
    (height, width), (rows, columns) = arrays["sizes"][row], arrays["grids"][row]
    image = arrays["images"][row][:height, :width]
    heat(line[0], arrays["degree"][row][:rows, :columns], (height, width))
    grey = np.repeat(image.mean(axis=-1, keepdims=True), 3, axis=-1) / 255
    for panel, name in ((line[1], "kept"), (line[2], "mask")):
        picture(panel, 0.35 + 0.65 * grey)
        chosen = np.ma.masked_equal(arrays[name][row][:rows, :columns].astype(float), 0)
        panel.imshow(chosen, cmap="Blues", vmin=0, vmax=1.4, alpha=0.6, extent=(0, width, height, 0), aspect="auto")
    y, x = divmod(int(arrays["seed"][row]), columns)
    line[1].plot(
        (x + 0.5) * width / columns,
        (y + 0.5) * height / rows,
        "*",
        color=style.FOUND,
        markersize=7,
        mec="white",
        mew=0.5,
    )
    picture(line[3], image)
    for truth in arrays["truth"][row]:
        _frame(line[3], truth, style.TRUTH, dashed=True)
    _frame(line[3], arrays["box"][row], style.FOUND)


def lost_figure(study: Study, readouts: Path) -> Figure:
    """LOST step by step on gallery images: the first model with artifacts before and after test-time registers.

    A study without such a model shows the first model as it is.
    """
    before = (study.treated or study.baselines)[0]
    sides = [("before", before), ("after", study.after(before))] if study.treated else [("", before)]
    found = [(side, c, lost_steps(readouts, c)) for side, c in sides if c is not None]
    found = [(side, c, arrays) for side, c, arrays in found if arrays]
    if not found:
        return style.message("LOST was not run")
    rows = min(ROWS, len(found[0][2]["images"]))
    figure, blocks = stacked([("", rows, 1 + 4 * len(found))], min(style.WIDTH / (1 + 4 * len(found)), 1.2))
    headings = ["input"]
    for side, _, _ in found:
        headings += [f"{side}\n{name}".strip() for name in ("degree", "seed, kept", "mask", "box")]
    for row, line in enumerate(blocks[0]):
        picture(line[0], found[0][2]["images"][row])
        for i, (_, _, arrays) in enumerate(found):
            _four_steps(line[1 + 4 * i : 5 + 4 * i], arrays, row)
    for panel, heading in zip(blocks[0][0], headings, strict=True):
        panel.set_title(heading)
    return figure
