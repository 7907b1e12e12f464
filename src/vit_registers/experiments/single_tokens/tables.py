"""Tables of what single tokens know: outlier patches against normal ones."""

from dataclasses import replace
from typing import Any

from vit_registers.views.columns import KEYS, MODEL, row_of
from vit_registers.views.study import Condition, Study
from vit_registers.views.table import Column, Table

OUTLIERS = Column("outliers", "Outliers")
KINDS = {"cls": "[CLS]", "registers": "Register", "outlier": "Outlier", "normal": "Normal"}
LOCAL = {
    "neighbour_cosine": "cosine to neighbours",
    "position_top1": "position, top-1 (%)",
    "position_l2": "position, distance",
    "reconstruction_linear": "pixels, linear, error",
    "reconstruction_mlp": "pixels, MLP, error",
}
DIFFERENCE: dict[str, Any] = {"group": "outlier", "reference_group": "normal"}


def _outliers(study: Study, condition: Condition) -> str:
    """What the outlier patches of a model are."""
    return "artifacts" if study.estimate(condition, "outliers_are_artifacts").value else "top norms"


def local_information(study: Study) -> Table:
    """Neighbours, position and pixels of outlier and of normal patches of every model as it is."""
    columns = [
        MODEL,
        Column("measure", "Of a patch"),
        OUTLIERS,
        Column("normal", "Normal patches"),
        Column("outlier", "Outlier patches"),
        Column("difference", "Outlier less normal", signed=True, p=True),
    ]
    table = Table(columns, KEYS[:2], heading=MODEL.key)
    for condition in study.baselines:
        first = True
        for metric, label in LOCAL.items():
            if study.rows_of(condition, metric).empty:
                continue  # neighbours are kept where extraction says so
            row = row_of(study, condition, (), first) | {"outliers": _outliers(study, condition), "measure": label}
            for group in ("normal", "outlier"):
                cell = study.estimate(condition, metric, group=group)
                row[group] = replace(cell, n=None)  # that of the difference says it: images with both kinds
            row["difference"] = study.estimate(condition, metric, **DIFFERENCE)
            table.add(row, rule=first)
            first = False
    return table


def token_classification(study: Study) -> Table:
    """Class of the image from one token of each kind, and whether an outlier patch knows more than a normal one."""
    columns = [
        MODEL,
        OUTLIERS,
        *(Column(f"top1_{kind}", f"{title} (%)", "token_class_top1", {"group": kind}) for kind, title in KINDS.items()),
        *(
            Column(
                f"top1_{kind}_sd",
                f"{title}, sd of draws (points)",
                "token_class_top1_sd",
                {"group": kind},
                printed=False,
            )
            for kind, title in KINDS.items()
        ),
        Column("difference", "Outlier less normal (points)", "token_class_top1", DIFFERENCE, signed=True, p=True),
    ]
    table = Table(columns, KEYS[:2])
    for condition in study.baselines:
        if study.rows_of(condition, "token_class_top1").empty:
            continue  # the experiment did not run on this model
        table.add(row_of(study, condition, columns) | {"outliers": _outliers(study, condition)})
    return table
