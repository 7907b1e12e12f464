"""Tables of what else a backbone is asked for: maps read from its patch tokens, and classes told by their names."""

from vit_registers.views.rows import CONDITION, KEYS, MODEL, by_condition, row_of
from vit_registers.views.study import Study
from vit_registers.views.table import Column, Table

HEADS = {"refit": "Refitted", "kept": "Kept"}


def dense(study: Study) -> Table:
    """Segmentation and depth under every condition, by heads refitted to it and by those of the model as it is."""
    columns = [MODEL, CONDITION]
    for metric, group in (("miou", "Segmentation, mIoU (%)"), ("rmse", "Depth, RMSE")):
        columns += [Column(f"{metric}_{head}", title, group=group) for head, title in HEADS.items()]
    for head, title in HEADS.items():
        columns.append(Column(f"pixel_accuracy_{head}", f"Pixels right (%), {title.lower()}", printed=False))
    return by_condition(study, Table(columns, KEYS, long=True, heading=MODEL.key))


def zero_shot(study: Study) -> Table:
    """Classes told by their names, by the models that have a text tower, under every condition."""
    columns = [
        MODEL,
        CONDITION,
        Column("zero_shot", "Zero-shot top-1 (%)"),
        Column("zero_shot_top3", "Top-3 (%)"),
    ]
    table = Table(columns, KEYS, empty="no model of this study has a text tower")
    for condition in study.planned:
        if study.cfg.kinds[condition.model] == "openclip":
            first = condition in study.baselines
            table.add(row_of(study, condition, columns, first), rule=first)
    return table
