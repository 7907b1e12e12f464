"""Figures of many panels: a grid of plots, or blocks of square cells with pictures and maps over them."""

import math
import textwrap
from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vit_registers.views import style

LINE, TITLE = 0.13, 0.2  # inches for a line of a heading, and for the title of a block
HEIGHT = 7.9  # inches: what is higher leaves no room for its caption
HIGHEST = 7.4  # inches of all rows of a grid together, which has a legend over it
# Statistics of patch norms: what a legend says of them, and their lines.
NORM_STATISTICS: dict[str, tuple[str, Literal["-", "--", ":"]]] = {
    "norm_median": ("median", "-"),
    "norm_p99": ("99th percentile", "--"),
    "norm_max": ("largest of an image, mean", ":"),
}


def wrapped(label: str, width: int) -> str:
    """A label on lines of at most ``width`` characters, a new one after each comma."""
    parts = label.replace(", ", ",\n").splitlines()
    return "\n".join(line for part in parts for line in textwrap.wrap(part, width))


def grid(counts: Sequence[int], height: float, most: int = 5, sharex: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure as wide as the text with panels in sections on rows of their own of ``height`` inches.

    ``counts``: panels of each section, ``most`` in a row. Rows are lower where there are too many for a page.
    """
    columns = min(most, max(counts))
    rows = [math.ceil(count / columns) for count in counts]
    height = min(height, HIGHEST / sum(rows))
    figure = Figure(figsize=(style.WIDTH, sum(rows) * height + 0.35), layout="constrained")
    axes = figure.subplots(sum(rows), columns, squeeze=False, sharex=sharex, sharey=True)
    panels: list[Axes] = []
    for section, count in enumerate(counts):
        flat = list(axes[sum(rows[:section]) : sum(rows[: section + 1])].flat)
        for i, panel in enumerate(flat):
            if i >= count:
                panel.remove()
                continue
            panel.tick_params(labelbottom=i + columns >= count, labelleft=i % columns == 0)
            panels.append(panel)
    return figure, panels


def stacked(
    blocks: Sequence[tuple[str, int, int]], cell: float, lines: int = 2
) -> tuple[Figure, list[list[list[Axes]]]]:
    """A figure of blocks of square cells, one under another: for each block, its axes by row and column.

    ``blocks`` are (title, rows, columns), ``cell`` the side of a cell in inches, ``lines`` those of the headings.
    """
    columns = max(block[2] for block in blocks)
    width = columns * cell
    heights = [rows * cell + LINE * lines + 0.05 + (TITLE if title else 0) for title, rows, _ in blocks]
    figure = Figure(figsize=(width, sum(heights)))
    gap = 0.03 * cell
    axes: list[list[list[Axes]]] = []
    top = sum(heights)
    for (title, rows, count), height in zip(blocks, heights, strict=True):
        if title:
            figure.text(0.5, (top - 0.06) / sum(heights), title, ha="center", va="top", fontsize=8, weight="bold")
        bottom = top - height
        block = []
        for row in range(rows):
            y = bottom + (rows - 1 - row) * cell
            place = [((i * cell + gap) / width, (y + gap) / sum(heights)) for i in range(count)]
            size = ((cell - 2 * gap) / width, (cell - 2 * gap) / sum(heights))
            line = [figure.add_axes((x, y0, *size)) for x, y0 in place]
            for panel in line:
                style.blank(panel)
            block.append(line)
        axes.append(block)
        top = bottom
    return figure, axes


def cell_side(blocks: Sequence[tuple[str, int, int]], most: float) -> float:
    """The side of a cell, at most ``most`` inches, with which titled blocks with headings of a line fill a page."""
    rows, columns = sum(block[1] for block in blocks), max(block[2] for block in blocks)
    return min(style.WIDTH / columns, (HEIGHT - len(blocks) * (LINE + 0.05 + TITLE)) / rows, most)


def heat(axes: Axes, values: np.ndarray, shape: tuple[int, int], top: float | None = None) -> None:
    """A map of patches (h,w) spread over the pixels of the image, from zero to ``top`` (its own largest if None)."""
    extent = (0, shape[1], shape[0], 0)
    axes.imshow(values.astype(float), cmap=style.MAP, vmin=0, vmax=top, extent=extent, aspect="auto")


def picture(axes: Axes, image: np.ndarray) -> None:
    """An image (H,W) or (H,W,3) over which maps and boxes can be drawn in its pixels."""
    axes.imshow(image, aspect="auto", extent=(0, image.shape[1], image.shape[0], 0))
