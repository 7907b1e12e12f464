"""Figures of object discovery: the steps of LOST on single images, and CorLoc under every setting."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vit_registers.experiments.object_discovery.tables import words
from vit_registers.views import style
from vit_registers.views.arrays import Arrays, ByName
from vit_registers.views.panels import heat, picture, stacked
from vit_registers.views.study import Condition, Study

COLUMNS = 3
ROWS = 4  # gallery images shown


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


def _four_steps(line: Sequence[Axes], maps: ByName, row: int) -> None:
    """Degree, seed with expansion, mask, and box with the truth, of one image."""
    (height, width), (rows, columns) = maps["sizes"][row], maps["grids"][row]
    image = maps["images"][row][:height, :width]
    heat(line[0], maps["degree"][row][:rows, :columns], (height, width))
    grey = np.repeat(image.mean(axis=-1, keepdims=True), 3, axis=-1) / 255
    for panel, name in ((line[1], "kept"), (line[2], "mask")):
        picture(panel, 0.35 + 0.65 * grey)
        chosen = np.ma.masked_equal(maps[name][row][:rows, :columns].astype(float), 0)
        panel.imshow(chosen, cmap="Blues", vmin=0, vmax=1.4, alpha=0.6, extent=(0, width, height, 0), aspect="auto")
    y, x = divmod(int(maps["seed"][row]), columns)
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
    for truth in maps["truth"][row]:
        _frame(line[3], truth, style.TRUTH, dashed=True)
    _frame(line[3], maps["box"][row], style.FOUND)


def lost_steps(study: Study, arrays: Arrays) -> Figure:
    """LOST step by step on gallery images: the first model with artifacts before and after test-time registers.

    A study without such a model shows the first model as it is.
    """
    measured = [c for c in study.baselines if not study.rows_of(c, "corloc", head="lost").empty]
    if not measured:
        return style.message("LOST was not run")
    with_artifacts = [c for c in measured if c in study.with_artifacts]
    before = (with_artifacts or measured)[0]
    sides = [("before", before), ("after", study.after(before))] if with_artifacts else [("", before)]
    found = [(side, c, arrays.of(c)) for side, c in sides if c is not None]
    found = [(side, c, maps) for side, c, maps in found if maps]
    if not found:
        return style.message("LOST was not run")
    rows = min(ROWS, len(found[0][2]["images"]))
    figure, blocks = stacked([("", rows, 1 + 4 * len(found))], min(style.WIDTH / (1 + 4 * len(found)), 1.2))
    headings = ["input"]
    for side, _, _ in found:
        headings += [f"{side}\n{name}".strip() for name in ("degree", "seed, kept", "mask", "box")]
    for row, line in enumerate(blocks[0]):
        picture(line[0], found[0][2]["images"][row])
        for i, (_, _, maps) in enumerate(found):
            _four_steps(line[1 + 4 * i : 5 + 4 * i], maps, row)
    for panel, heading in zip(blocks[0][0], headings, strict=True):
        panel.set_title(heading)
    return figure


def _grid(study: Study, condition: Condition) -> pd.DataFrame:
    """CorLoc (%) by projection and block (rows) and by what is done to similarities (columns).

    Raw settings come first, then normalised ones by bias; within each, uncentred before centred.
    """
    rows = study.rows_of(condition, "corloc_at_setting").sort_values(["normalised", "centred", "bias"])
    said = rows.apply(words, axis=1)
    table = pd.DataFrame({"row": rows["feature"] + " " + rows["layer"].astype(str), "column": said})
    table["value"] = 100.0 * rows["value"].astype(float)
    return table.pivot_table(index="row", columns="column", values="value")[list(dict.fromkeys(said))]


def lost_settings(study: Study, arrays: Arrays) -> Figure:
    """CorLoc of every model as it is under every setting of LOST, on the images that the setting was chosen on."""
    swept = [c for c in study.baselines if len(study.rows_of(c, "corloc_at_setting"))]
    if not swept:
        return style.message("this study sweeps over no settings of LOST, or its images have no boxes")
    grids = [_grid(study, condition) for condition in swept]
    top = max(float(grid.max().max()) for grid in grids)
    rows = -(-len(swept) // COLUMNS)
    height = min(0.125 * max(len(grid) for grid in grids) + 0.2, 6.4 / rows)
    figure = Figure(figsize=(style.WIDTH, rows * height + 1.4), layout="constrained")
    panels = figure.subplots(rows, COLUMNS, squeeze=False, sharex=True, sharey=True)
    for i, panel in enumerate(panels.flat):
        if i >= len(swept):
            panel.set_visible(False)
            continue
        panel.tick_params(length=0)
        sns.heatmap(grids[i], ax=panel, vmin=0.0, vmax=top, cmap=style.MAP, cbar=False, xticklabels=1, yticklabels=1)
        best = np.unravel_index(int(np.nanargmax(grids[i].to_numpy())), grids[i].shape)
        panel.plot(best[1] + 0.5, best[0] + 0.5, marker="*", color=style.FOUND, markersize=5, markeredgewidth=0)
        panel.set(title=study.model_label(swept[i]), xlabel="", ylabel="")
        panel.tick_params(axis="y", rotation=0)
        panel.tick_params(axis="x", rotation=90)
    image = panels.flat[0].collections[0]
    figure.colorbar(image, ax=panels, label="CorLoc (%)", shrink=0.6, aspect=30)
    return figure
