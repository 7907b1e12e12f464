"""Rows of tables: which readout and metric a column shows, and the cells of one condition."""

from collections.abc import Iterable

from vit_registers.views.latex_tables import Cell, Column, Table
from vit_registers.views.study import Condition, Study

KEYS = ("dataset", "model", "condition")
MODEL = Column("model_label", "Model")
CONDITION = Column("condition_label", "Condition")
TOP1_CLS = Column("top1_cls", "Top-1 (%), [CLS]")
TOP1_PATCHES = Column("top1_patch_mean", "Top-1 (%), mean patch")
KNN = Column("knn_cls", "kNN (%), [CLS]")
CORLOC = Column("corloc", "CorLoc (%)")
SHARE = Column("artifact_share", "Artifact patches (%)", decimals=2)
NORMS = [
    Column("norm_median", "Median", "r", group="Patch norm at the last block"),
    Column("norm_p99", "99th pct.", "r", group="Patch norm at the last block"),
    Column("norm_max", "Largest", "r", group="Patch norm at the last block"),
]
WHERE = {
    "top1_cls": ("probe[cls]", "top1"),
    "top3_cls": ("probe[cls]", "top3"),
    "macro_f1_cls": ("probe[cls]", "macro_f1"),
    "macro_precision_cls": ("probe[cls]", "macro_precision"),
    "macro_recall_cls": ("probe[cls]", "macro_recall"),
    "auc_cls": ("probe[cls]", "auc"),
    "top1_appended": ("probe[appended]", "top1"),
    "top1_patch_mean": ("probe[patch_mean]", "top1"),
    "top1_cls+patch_mean": ("probe[cls+patch_mean]", "top1"),
    "kept_cls": ("kept[cls]", "top1"),
    "knn_cls": ("knn[cls]", "top1"),
    "linear_evaluation": ("linear_evaluation", "top1"),
    "corloc": ("lost", "corloc"),
    "dino_seg": ("dino_seg", "corloc"),
    **{
        f"{metric}_{head}": (f"dense[{head}]", metric)
        for metric in ("miou", "pixel_accuracy", "rmse")
        for head in ("refit", "kept")
    },
    "zero_shot": ("zero_shot", "top1"),
    "zero_shot_top3": ("zero_shot", "top3"),
    "norm_median": ("norms", "norm_median"),
    "norm_p99": ("norms", "norm_p99"),
    "norm_max": ("norms", "norm_max"),
    "artifact_rate_max": ("positions", "artifact_rate_max"),
    "artifacts_on_border": ("positions", "artifacts_on_border"),
    "border_positions": ("positions", "border_positions"),
    "register_cosine": ("attention", "register_cosine"),
    "cls_register_cosine": ("attention", "cls_register_cosine"),
    "cls_to_artifacts": ("attention", "cls_to_artifacts"),
    "object_area": ("slots", "object_area"),
    "object_cls": ("slots", "object_attention[cls]"),
    "object_spread": ("slots", "object_spread"),
    "object_spread_next_image": ("slots", "object_spread_next_image"),
    "winning": ("slots", "winning"),
}


def row_of(study: Study, condition: Condition, columns: Iterable[Column], first: bool = True) -> dict[str, Cell]:
    """Keys, labels and what was measured of one condition; the model's name only where ``first``."""
    row: dict[str, Cell] = {"dataset": condition.dataset, "model": condition.model, "condition": condition.name}
    row["model_label"] = study.model_label(condition) if first else ""
    row["condition_label"] = study.conditions[condition.name]
    for column in columns:
        if column.key in WHERE:
            row[column.key] = study.estimate(condition, *WHERE[column.key])
    return row


def by_condition(study: Study, table: Table) -> Table:
    """All conditions of all models, a thin rule between models."""
    for condition in study.planned:
        first = condition in study.baselines
        table.add(row_of(study, condition, table.columns, first), rule=first)
    return table
