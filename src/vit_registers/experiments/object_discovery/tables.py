"""Tables of object discovery: every condition, and LOST under every setting."""

from typing import Any

import pandas as pd

from vit_registers.views.columns import CONDITION, KEYS, MODEL, by_condition, row_of
from vit_registers.views.study import Study, estimate
from vit_registers.views.table import Cell, Column, Table

LOST = Column("corloc", "LOST (%)", "corloc", {"head": "lost"})
DINO_SEG = Column("dino_seg", "DINO-seg (%)", "corloc", {"head": "dino_seg"})
PROJECTIONS = {"q": "queries", "k": "keys", "v": "values"}
SETTING = ["layer", "feature", "centred", "normalised", "bias"]


def lost_corloc(study: Study) -> Table:
    """CorLoc of both methods under every condition, and of boxes that look at no image."""
    table = Table([MODEL, CONDITION, LOST, DINO_SEG], KEYS, heading=MODEL.key)
    for dataset in study.datasets:
        condition = next(c for c in study.baselines if c.dataset == dataset)
        for kind in ("centre", "random"):
            label = f"{kind} box" if len(study.datasets) == 1 else f"{kind} box on {dataset}"
            row: dict[str, Cell] = {
                "dataset": dataset,
                "model_label": label.capitalize(),
                "condition_label": "no model",
            }
            table.add(row | {"corloc": study.estimate(condition, f"corloc_{kind}_box")})
    return by_condition(study, table)


def words(setting: Any) -> str:
    """What is done to the similarities of LOST under a setting: ``centred, normalised, -0.2``, or ``raw``."""
    said = ["centred"] * bool(setting["centred"]) + ["normalised"] * bool(setting["normalised"])
    return ", ".join(said + [f"{setting['bias']:g}"] * bool(setting["normalised"])) or "raw"


def lost_sweep(study: Study) -> Table:
    """The setting of LOST that was chosen for every model, and what it and the one of params reach on other images."""
    columns = [
        MODEL,
        Column("setting", "Chosen", alignment=r">{\raggedright\arraybackslash}p{3.6cm}"),
        Column("corloc_on_choice", "Chosen on (%)", "corloc_of_choice", {"group": "chosen on"}),
        Column("corloc", "Others (%)", "corloc_of_choice", {"group": "chosen"}),
        Column("corloc_default", "Default there (%)", "corloc_of_choice", {"group": "default"}),
        Column("gain", "Gain (points)", signed=True, p=True),
    ]
    table = Table(columns, KEYS[:2], empty="this study sweeps over no settings")
    for condition in study.baselines:
        rows = study.rows_of(condition, "corloc_of_choice", group="chosen")
        if rows.empty:
            continue
        row = row_of(study, condition, columns)
        gain = rows[rows["reference_group"].notna()]
        if len(gain):
            setting = rows[rows["reference_group"].isna()].iloc[0]
            row["setting"] = f"block {setting['layer']}: {PROJECTIONS[setting['feature']]}, {words(setting)}"
            row["gain"] = estimate(gain.iloc[0])
        table.add(row)
    return table


def lost_grid(study: Study) -> Table:
    """CorLoc of every model under every setting, on the images to choose on; a column for each model."""
    rows = study.metric_rows("corloc_at_setting")
    swept = [c for c in study.baselines if study.has(c, "corloc_at_setting")]
    columns = [
        Column("layer", "Block", alignment="r"),
        Column("feature", "Projection"),
        Column("setting", "Similarities"),
    ]
    columns += [Column(f"{c.dataset}/{c.model}", study.model_label(c)) for c in swept]
    table = Table(columns, empty="this study sweeps over no settings")
    for key, of_setting in rows.groupby(SETTING, sort=True):
        setting: pd.Series[Any] = pd.Series(dict(zip(SETTING, key, strict=True)))
        row: dict[str, Cell] = {"layer": int(setting["layer"]), "feature": PROJECTIONS[setting["feature"]]}
        row["setting"] = words(setting)
        for condition in swept:
            mine = of_setting[(of_setting["dataset"] == condition.dataset) & (of_setting["model"] == condition.model)]
            row[f"{condition.dataset}/{condition.model}"] = estimate(mine.iloc[0]) if len(mine) else None
        table.add(row)
    return table
