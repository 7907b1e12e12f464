"""The figure of CorLoc under every setting of LOST."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from vit_registers.experiments.object_discovery.tables import words
from vit_registers.views import style
from vit_registers.views.arrays import Arrays
from vit_registers.views.study import Condition, Study

COLUMNS = 3


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
    swept = [c for c in study.baselines if study.has(c, "corloc_at_setting")]
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
