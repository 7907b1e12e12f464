"""The table of classification: every head under every condition."""

from vit_registers.views.columns import CONDITION, KEYS, MODEL, by_condition
from vit_registers.views.study import Study
from vit_registers.views.table import Column, Table

ON_CLS = {"feature": "cls", "head": "refitted"}
TOP1 = "Top-1 of the linear probe (%)"
COLUMNS = (
    MODEL,
    CONDITION,
    Column("top1_cls", "[CLS]", "top1", ON_CLS, group=TOP1),
    Column("top3_cls", "Top-3 (%), [CLS]", "top3", ON_CLS, printed=False),
    Column("macro_f1_cls", "Macro F1 (%), [CLS]", "macro_f1", ON_CLS, printed=False),
    Column("macro_precision_cls", "Macro precision (%), [CLS]", "macro_precision", ON_CLS, printed=False),
    Column("macro_recall_cls", "Macro recall (%), [CLS]", "macro_recall", ON_CLS, printed=False),
    Column("auc_cls", "AUC, [CLS]", "auc", ON_CLS, printed=False),
    Column("top1_patch_mean", "Mean patch", "top1", {"feature": "patch_mean", "head": "refitted"}, group=TOP1),
    Column("top1_cls+patch_mean", "Both (%)", "top1", {"feature": "cls+patch_mean", "head": "refitted"}, printed=False),
    Column("top1_appended", "Appended", "top1", {"feature": "appended", "head": "refitted"}, group=TOP1),
    Column("frozen_cls", "Frozen head (%), [CLS]", "top1", {"feature": "cls", "head": "frozen"}, printed=False),
    Column("knn_cls", "kNN (%), [CLS]", "top1", {"feature": "cls", "head": "knn"}),
    Column("linear_evaluation", "Linear eval. (%)", "top1", {"head": "linear_evaluation"}),
)


def probe(study: Study) -> Table:
    """Linear probes and nearest neighbours under every condition; further metrics on [CLS] are in the CSV."""
    return by_condition(study, Table(COLUMNS, KEYS, heading=MODEL.key))
