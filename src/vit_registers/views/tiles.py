"""Figures of many small pictures and maps: sections of labelled rows, all on one axes, so that hundreds are cheap."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from vit_registers.views import style
from vit_registers.views.panels import HEIGHT, LINE, TITLE

SMALLEST = 0.3  # inches of the side of a tile: on a map of 16 x 16 patches each has more than a point
GAP = 0.03  # of a side, between tiles
APART = 0.25  # inches between sections side by side
NOTE = 0.115  # inches for what stands below a tile
SMALL = 7  # points of a note


Extent = tuple[float, float, float, float]  # left, right, bottom and top of a tile, in inches of the figure


@dataclass(frozen=True)
class Tile:
    """A picture (H, W, 3) from 0 to 255, or a map (h, w) from zero to ``top`` (its own largest if None).

    With a ``bottom`` its scale is logarithmic, from there to ``top``. ``note`` stands below it; ``over`` draws over it.
    """

    values: np.ndarray
    top: float | None = None
    bottom: float | None = None
    note: str = ""
    over: Callable[[Axes, Extent], None] | None = None


@dataclass(frozen=True)
class Row:
    """Tiles side by side; None leaves a place empty."""

    label: str
    tiles: Sequence[Tile | None]

    @property
    def noted(self) -> bool:
        """Whether something stands below its tiles."""
        return any(tile is not None and tile.note for tile in self.tiles)


@dataclass(frozen=True)
class Section:
    """Rows under a title, with a heading over each column."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Row]

    @property
    def over(self) -> float:
        """Inches over its rows."""
        title = TITLE + LINE * self.title.count("\n") if self.title else 0.0
        return title + LINE * max(heading.count("\n") + 1 for heading in self.headings) + 0.05

    def below(self, side: float) -> float:
        """Inches of its rows, with tiles of so many."""
        return sum(side + NOTE * row.noted for row in self.rows) + 0.02


@dataclass(frozen=True)
class Layout:
    """Sections in columns of tiles with a ``side`` of so many inches, under ``over`` inches of headings each.

    ``places`` are the columns of the sections.
    """

    sections: Sequence[Section]
    places: Sequence[int]
    over: float
    side: float

    def tops(self) -> tuple[list[float], float]:
        """Where each section begins, and where the longest column ends, in inches from the top."""
        heights, tops = [0.0] * (max(self.places) + 1), []
        for section, place in zip(self.sections, self.places, strict=True):
            tops.append(heights[place])
            heights[place] += self.over + section.below(self.side)
        return tops, max(heights)


def _laid_out(sections: Sequence[Section], label: float, most: float, least: float) -> Layout:
    """As many columns as leave tiles of the ``least`` side; each section goes to the one that is shortest so far."""
    wide = max(len(section.headings) for section in sections)
    over = max(section.over for section in sections)
    beside = int((style.WIDTH + APART) // (label + wide * least + APART))
    heights, places = [0.0] * max(1, min(beside, len(sections))), []
    for section in sections:
        places.append(heights.index(min(heights)))
        heights[places[-1]] += over + section.below(least)
    sides = [most, ((style.WIDTH + APART) / len(heights) - APART - label) / wide]
    for column in set(places):
        mine = [section for section, place in zip(sections, places, strict=True) if place == column]
        fixed = sum(over + section.below(0.0) for section in mine)
        sides.append((HEIGHT - fixed) / sum(len(section.rows) for section in mine))
    return Layout(sections, places, over, min(sides))


def drawn(sections: Sequence[Section], label: float = 0.0, most: float = 0.95, least: float = SMALLEST) -> Figure:
    """The sections; ``label`` are the inches of the labels of rows, ``most`` and ``least`` those of the side of a tile.

    Sections stand side by side where tiles of the ``least`` side allow it. Where there are more than fit a page with
    tiles of :data:`SMALLEST`, the first are shown, and how many are not.
    """
    shown = len(sections)
    layout = _laid_out(sections, label, most, least)
    while shown > 1 and layout.side < SMALLEST:
        shown -= 1
        layout = _laid_out(sections[:shown], label, most, least)
    wide = label + max(len(section.headings) for section in layout.sections) * layout.side + APART
    tops, end = layout.tops()
    width, height = (max(layout.places) + 1) * wide - APART, end + (LINE + 0.05) * (shown < len(sections))
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    style.blank(axes)
    axes.set(xlim=(0.0, width), ylim=(height, 0.0), autoscale_on=False)
    for section, place, top in zip(layout.sections, layout.places, tops, strict=True):
        _section(axes, section, place * wide + label, top + layout.over, layout.side)
    if shown < len(sections):
        said = f"{len(sections) - shown} more do not fit the page"
        axes.text(width / 2, height - 0.04, said, ha="center", style="italic")
    return figure


def _section(axes: Axes, section: Section, left: float, y: float, side: float) -> None:
    """One section, the upper left corner of its first tile at ``left`` and ``y``."""
    gap, over = GAP * side, y - 0.03
    for place, heading in enumerate(section.headings):
        axes.text(left + (place + 0.5) * side, over, heading, ha="center", va="bottom")
    title = over - LINE * max(heading.count("\n") + 1 for heading in section.headings) - 0.02
    middle = left + len(section.headings) * side / 2
    axes.text(middle, title, section.title, ha="center", va="bottom", fontsize=8, weight="bold")
    for row in section.rows:
        if row.label:
            axes.text(left - 0.06, y + side / 2, row.label, ha="right", va="center")
        for place, tile in enumerate(row.tiles):
            if tile is not None:
                x = left + place * side
                _tile(axes, tile, (x + gap, x + side - gap, y + side - gap, y + gap))
                if tile.note:
                    axes.text(x + side / 2, y + side, tile.note, ha="center", va="top", fontsize=SMALL)
        y += side + NOTE * row.noted


def _tile(axes: Axes, tile: Tile, extent: Extent) -> None:
    if tile.values.ndim == 3:
        axes.imshow(tile.values, extent=extent, aspect="auto")
    else:
        values = tile.values.astype(float)
        scale = Normalize(0.0, tile.top) if tile.bottom is None else LogNorm(tile.bottom, tile.top, clip=True)
        axes.imshow(values, cmap=style.MAP, norm=scale, extent=extent, aspect="auto")
    if tile.over is not None:
        tile.over(axes, extent)


def spread(count: int, most: int) -> list[int]:
    """Of ``count`` things ``most`` at most, spread evenly, the first and the last among them."""
    return [round(i) for i in np.linspace(0, count - 1, min(count, most))]


def chunks(count: int, most: int) -> list[slice]:
    """``count`` things in as few parts of at most ``most`` as there can be, these as equal as possible."""
    parts = math.ceil(count / most)
    ends = [round(i * count / parts) for i in range(parts + 1)] if parts else []
    return [slice(a, b) for a, b in itertools.pairwise(ends)]
