"""Tables of object discovery: every condition, and LOST under every setting."""

from dataclasses import replace

from vit_registers.views.latex_tables import Cell, Column, Table
from vit_registers.views.rows import CONDITION, CORLOC, KEYS, MODEL, by_condition, row_of
from vit_registers.views.study import Study


def lost_corloc(study: Study) -> Table:
    """CorLoc of both methods under every condition, and of boxes that look at no image."""
    columns = [MODEL, CONDITION, replace(CORLOC, title="LOST (%)"), Column("dino_seg", "DINO-seg (%)")]
    table = Table(columns, KEYS, long=True, heading=MODEL.key)
    for dataset in study.datasets:
        condition = next(c for c in study.baselines if c.dataset == dataset)
        for kind in ("centre", "random"):
            label = f"{kind} box" if len(study.datasets) == 1 else f"{kind} box on {dataset}"
            row: dict[str, Cell] = {
                "dataset": dataset,
                "model_label": label.capitalize(),
                "condition_label": "no model",
            }
            table.add(row | {"corloc": study.estimate(condition, "lost", f"corloc_{kind}_box")})
    return by_condition(study, table)


def lost_sweep(study: Study) -> Table:
    """The setting of LOST that was chosen for every model, and what it and the one of params reach on other images."""
    columns = [
        MODEL,
        Column("setting", "Chosen", r">{\raggedright\arraybackslash}p{3.6cm}"),
        Column("corloc_on_choice", "Chosen on (%)"),
        Column("corloc", "Others (%)"),
        Column("corloc_default", "Default there (%)"),
        Column("corloc_gain", "Gain (points)", signed=True, p=True),
    ]
    table = Table(columns, KEYS[:2], empty="this study sweeps over no settings")
    for condition in study.baselines:
        if study.measured_rows(condition).empty:
            continue
        row = row_of(study, condition, ())
        for column in columns[2:]:
            row[column.key] = study.estimate(condition, "lost_sweep", column.key)
        row["setting"] = study.remark(condition, "lost_sweep", "corloc") or ""
        table.add(row)
    return table


def lost_grid(study: Study) -> Table:
    """CorLoc of every model under every setting, on the images to choose on; a column for each model."""
    rows = study.rows[study.rows["metric"].str.startswith("corloc[")]
    swept = [c for c in study.baselines if not study.measured_rows(c).empty]
    columns = [Column("block", "Block", "r"), Column("setting", "Setting")]
    columns += [Column(f"{c.dataset}/{c.model}", study.model_label(c)) for c in swept]
    table = Table(columns, empty="this study sweeps over no settings")
    for layer, metric in sorted(set(zip(rows["layer"], rows["metric"], strict=True))):
        row: dict[str, Cell] = {"block": int(layer), "setting": metric.removeprefix("corloc")[1:-1]}
        for condition in swept:
            row[f"{condition.dataset}/{condition.model}"] = study.estimate(
                condition, "lost_sweep", metric, layer=int(layer)
            )
        table.add(row)
    return table
