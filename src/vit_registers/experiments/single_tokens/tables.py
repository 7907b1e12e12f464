"""Tables of what single tokens know: outlier patches against normal ones."""

from dataclasses import replace
from typing import Any

from vit_registers.views.columns import KEYS, MODEL, row_of
from vit_registers.views.study import Condition, Study
from vit_registers.views.table import Column, Table

OUTLIERS = Column("outliers", "Outliers")
LOCAL = {
    "neighbour_cosine": "cosine to neighbours",
    "position_top1": "position, top-1 (%)",
    "position_l2": "position, distance",
    "reconstruction_linear": "pixels, linear, error",
    "reconstruction_linear_l2": "pixels, linear, L2 norm",
    "reconstruction_linear_r2": "pixels, linear, R2",
    "reconstruction_mlp": "pixels, MLP, error",
    "reconstruction_mlp_r2": "pixels, MLP, R2",
}
GROUPS = {"normal": "Normal", "outlier": "Outlier", "matched": "Matched"}
PROBES = {"pooled": "Pooled probe", "own": "Own probes"}
# By kind of token: its column, and whether all images have one.
KINDS = {"cls": "[CLS]", "registers": "Register", "highest": "Highest norm", "other": "Another"}
APART = {"outlier": "Outlier", "normal": "Normal"}
BOTH = "Images with both (%)"


def _difference(group: str, against: str) -> dict[str, Any]:
    return {"group": group, "reference_group": against}


def _outliers(study: Study, condition: Condition) -> str:
    """What the outlier patches of a model are."""
    return "artifacts" if study.estimate(condition, "outliers_are_artifacts").value else "top norms"


def local_information(study: Study) -> Table:
    """Neighbours, position and pixels of outlier and of normal patches of every model as it is."""
    columns = [
        MODEL,
        Column("measure", "Of a patch"),
        OUTLIERS,
        *(
            Column(f"{probe}_{group}", title, group=heading)
            for probe, heading in PROBES.items()
            for group, title in GROUPS.items()
        ),
        Column("difference", "Pooled: outlier less normal", signed=True, p=True),
        Column("own_difference", "Own: outlier less normal", signed=True, p=True, printed=False),
        Column("matched_difference", "Own: outlier less matched", signed=True, p=True),
    ]
    table = Table(columns, KEYS[:2], heading=MODEL.key)
    for condition in study.baselines:
        first = True
        for metric, label in LOCAL.items():
            if study.rows_of(condition, metric).empty:
                continue  # neighbours are kept where extraction says so
            row = row_of(study, condition, (), first) | {"outliers": _outliers(study, condition), "measure": label}
            # Cosines to neighbours need no probe: they stand with what all tokens share.
            of = {"pooled": None if metric == "neighbour_cosine" else "pooled", "own": "own"}
            for probe in PROBES:
                for group in GROUPS:
                    cell = study.estimate(condition, metric, group=group, probe=of[probe])
                    row[f"{probe}_{group}"] = replace(cell, n=None)  # that of the difference: images with both kinds
            against_normal = _difference("outlier", "normal")
            row["difference"] = study.estimate(condition, metric, probe=of["pooled"], **against_normal)
            row["own_difference"] = study.estimate(condition, metric, probe="own", **against_normal)
            matched = _difference("outlier", "matched")
            row["matched_difference"] = study.estimate(condition, metric, probe="own", **matched)
            table.add(row, rule=first)
            first = False
    return table


def token_classification(study: Study) -> Table:
    """Class of the image from one token of each kind, and whether an outlier patch knows more than a normal one."""
    top1, deviation = "token_class_top1", "token_class_top1_sd"
    columns = [
        MODEL,
        OUTLIERS,
        *(Column(f"top1_{kind}", f"{title} (%)", top1, {"group": kind}) for kind, title in KINDS.items()),
        Column(
            "highest_difference",
            "Highest less another (points)",
            top1,
            _difference("highest", "other"),
            signed=True,
            p=True,
        ),
        *(Column(f"top1_{kind}", title, top1, {"group": kind}, group=BOTH) for kind, title in APART.items()),
        *(
            Column(f"top1_{kind}_sd", f"{title}, sd of draws (points)", deviation, {"group": kind}, printed=False)
            for kind, title in {**KINDS, **APART}.items()
        ),
        Column(
            "difference", "Outlier less normal (points)", top1, _difference("outlier", "normal"), signed=True, p=True
        ),
    ]
    table = Table(columns, KEYS[:2])
    for condition in study.baselines:
        if study.rows_of(condition, top1).empty:
            continue  # the experiment did not run on this model
        table.add(row_of(study, condition, columns) | {"outliers": _outliers(study, condition)})
    return table
