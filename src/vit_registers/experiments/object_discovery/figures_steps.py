"""The figure of the steps of LOST on single images."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vit_registers.views import gallery, style
from vit_registers.views.arrays import Arrays, ByName
from vit_registers.views.panels import wrapped
from vit_registers.views.study import FOUND, Condition, Study
from vit_registers.views.tiles import Extent, Row, Section, Tile, drawn

FEW, IMAGES, MORE_IMAGES = 3, 2, 4  # gallery images shown of many models, and of a few
Over = Callable[[Axes, Extent], None]  # draws over a tile


def _box(box: np.ndarray, shape: tuple[int, int], color: str, dashed: bool = False) -> Over:
    """A box [x0, y0, x1, y1] in pixels of a picture of ``shape``; nothing where it is absent (NaN)."""

    def draw(axes: Axes, extent: Extent) -> None:
        left, right, bottom, top = extent
        if np.isfinite(box).all():
            x, y = (right - left) / shape[1], (bottom - top) / shape[0]
            corner, size = (left + box[0] * x, top + box[1] * y), ((box[2] - box[0]) * x, (box[3] - box[1]) * y)
            dashes = "--" if dashed else "-"
            axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=color, linewidth=1.2, linestyle=dashes))

    return draw


def _star(patch: int, grid: tuple[int, int]) -> Over:
    """A star on a patch."""

    def draw(axes: Axes, extent: Extent) -> None:
        left, right, bottom, top = extent
        y, x = divmod(patch, grid[1])
        at = left + (x + 0.5) / grid[1] * (right - left), top + (y + 0.5) / grid[0] * (bottom - top)
        axes.plot(*at, "*", color=style.FOUND, markersize=6, mec="white", mew=0.5)

    return draw


def _all(several: Sequence[Over]) -> Over:
    """One after another."""

    def draw(axes: Axes, extent: Extent) -> None:
        for each in several:
            each(axes, extent)

    return draw


def _chosen(image: np.ndarray, patches: np.ndarray) -> np.ndarray:
    """A pale grey picture (H, W, 3) with the chosen ``patches`` (h, w) in blue."""
    height, width = image.shape[:2]
    rows, columns = (np.arange(n) * count // n for n, count in zip((height, width), patches.shape, strict=True))
    where = patches[rows][:, columns].astype(bool)
    pale = 0.35 + 0.65 * image.mean(axis=-1, keepdims=True) / 255
    return np.where(where[..., None], 0.4 * pale + 0.6 * np.array(to_rgb(style.AFTER)), np.repeat(pale, 3, axis=-1))


def _steps(maps: ByName, row: int) -> Row:
    """The picture, the degree of its patches, the seed with its expansion, the mask, and the box with the truth."""
    (height, width), (rows, columns) = maps["sizes"][row], maps["grids"][row]
    image = maps["images"][row][:height, :width]
    shape, grid = (int(height), int(width)), (int(rows), int(columns))
    own = {name: maps[name][row][:rows, :columns] for name in ("degree", "kept", "mask")}
    boxes = [_box(truth, shape, style.TRUTH, dashed=True) for truth in maps["truth"][row]]
    boxes.append(_box(maps["box"][row], shape, style.FOUND))
    seed = _star(int(maps["seed"][row]), grid)
    tiles = [
        Tile(image),
        Tile(own["degree"]),
        Tile(_chosen(image, own["kept"]), over=seed),
        Tile(_chosen(image, own["mask"])),
        Tile(image, over=_all(boxes)),
    ]
    return Row("", tiles)


def _shown(study: Study) -> list[tuple[str, Condition]]:
    """Every model that LOST was run on as it is, and beside those that neurons were moved in test-time registers."""
    found: list[tuple[str, Condition]] = []
    for before in study.baselines:
        if not study.has(before, "corloc", head="lost"):
            continue
        label = study.model_label(before)
        found.append((f"{label}, {FOUND}" if study.found(before) else label, before))
        after = study.after(before) if before in study.with_artifacts else None
        if after is not None:
            found.append((study.label(after), after))
    return found


def lost_steps(study: Study, arrays: Arrays) -> Figure:
    """LOST step by step on gallery images, in models with artifacts, before and after test-time registers, and in those
    without (darcet2024, Fig. 13).
    """
    found = [(label, condition.dataset, arrays.of(condition)) for label, condition in _shown(study)]
    found = [(label, dataset, maps) for label, dataset, maps in found if maps]
    if not found:
        return style.message("LOST was not run")
    rows = IMAGES if len(found) > FEW else MORE_IMAGES
    images = {
        dataset: gallery.shown((maps for _, on, maps in found if on == dataset), rows) for dataset in study.datasets
    }
    sections = []
    for label, dataset, maps in found:
        lines = [_steps(maps, image) for image in images[dataset]]
        sections.append(Section(wrapped(label, 28), ["input", "degree", "kept", "mask", "box"], lines))
    return drawn(sections)
