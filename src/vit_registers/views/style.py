"""One look for all figures: sizes, fonts, colours, and files with the same bytes for the same content."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")  # no display is asked for, whatever the machine has

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from vit_registers.core.files import replacing
from vit_registers.views.scenes.encode import COLOURS

WIDTH = 6.5  # inches: the text width of the report, so that 7 pt in a figure are 7 pt on paper
DPI = 200
_COLORS = sns.color_palette("colorblind").as_hex()  # told apart with every common colour blindness
BEFORE, AFTER, CONTROL = _COLORS[3], _COLORS[0], "#222222"
PATCHES, REGISTERS, APPENDED, ITSELF = _COLORS[9], _COLORS[2], _COLORS[1], _COLORS[7]
TRUTH, FOUND = _COLORS[2], _COLORS[3]
MAP = COLOURS
_RC = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same on every machine
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "figure.titlesize": 8,
    "axes.linewidth": 0.6,
    "grid.linewidth": 0.4,
    "lines.linewidth": 1.2,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "axes.titlepad": 3,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # text in the PDF stays text
    "image.interpolation": "none",
}


@contextmanager
def styled() -> Iterator[None]:
    """Draw in this block with the look of the report, and leave matplotlib's settings as they were."""
    look: Any = {**sns.axes_style("whitegrid"), **sns.plotting_context("paper"), **_RC}
    with mpl.rc_context(look):
        yield


def ordered(count: int) -> list[str]:
    """Colours for things that have an order, light to dark, also told apart in grey."""
    return list(sns.color_palette("flare", n_colors=count).as_hex())


def categories(count: int) -> list[str]:
    """Colours for things without an order."""
    return list(sns.color_palette("colorblind", n_colors=count).as_hex())


def plain_log(axis: Axis, steps: tuple[float, ...], most: int = 12) -> None:
    """A logarithmic axis that writes 20 and 500, at ``steps`` of every decade, of fewer if beyond ``most``."""
    axis.set_major_locator(LogLocator(base=10.0, subs=steps, numticks=most))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_locator(NullLocator())


def blank(axes: Axes) -> None:
    """An axes that only holds a picture."""
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def message(text: str) -> Figure:
    """A figure that says in words why there is nothing to show."""
    figure = Figure(figsize=(WIDTH, 0.6))
    figure.text(0.5, 0.5, text, ha="center", va="center", style="italic")
    return figure


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write ``name.pdf`` and ``name.png`` to ``folder``; neither holds a date."""
    with replacing(folder / f"{name}.pdf") as temporary:
        figure.savefig(temporary, metadata={"CreationDate": None})
    with replacing(folder / f"{name}.png") as temporary:
        figure.savefig(temporary, dpi=DPI)
