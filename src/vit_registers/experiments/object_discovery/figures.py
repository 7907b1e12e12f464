"""The figure of LOST's settings."""

from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from vit_registers.views import style
from vit_registers.views.study import Condition, Study

COLUMNS = 3


def _grid(study: Study, condition: Condition) -> pd.DataFrame:
    """CorLoc (%) by feature and block (rows) and by what is done to similarities (columns)."""
    rows = study.measured_rows(condition)
    rows = rows[rows["metric"].str.startswith("corloc[")]
    split = rows["metric"].str.removeprefix("corloc[").str.removesuffix("]").str.split(", ", n=1, expand=True)
    table = pd.DataFrame({"row": split[0] + " " + rows["layer"].astype(str), "column": split[1]})
    table["value"] = 100.0 * rows["value"].astype(float)
    grid = table.pivot_table(index="row", columns="column", values="value")
    return grid[_ordered(grid.columns)].rename(columns={"0": "raw", "centred, 0": "centred"})


def _ordered(columns: pd.Index) -> list[str]:
    """Raw settings first, then normalised ones by bias; within each, uncentred before centred."""

    def key(column: str) -> tuple[bool, bool, float]:
        *words, bias = column.split(", ")
        return "normalised" in words, "centred" in words, float(bias)

    return sorted(columns, key=key)


def lost_settings(study: Study, readouts: Path) -> Figure:
    """CorLoc of every model as it is under every setting of LOST, on the images that the setting was chosen on."""
    swept = [c for c in study.baselines if study.measured(c)]
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
