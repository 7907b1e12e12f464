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
    "reconstruction_linear_l2": "pixels, linear, L2 norm",
    "reconstruction_linear_r2": "pixels, linear, R2 (%)",
    "reconstruction_mlp_l2": "pixels, MLP, L2 norm",
    "reconstruction_mlp_r2": "pixels, MLP, R2 (%)",
}
GROUPS = {"normal": "Normal", "outlier": "Outlier", "matched": "Matched"}
PROBES = (None, "pooled", "own")
# By kind of token: its column, and whether all images have one.
KINDS = {"cls": "[CLS]", "registers": "Register", "highest": "Highest", "other": "Another"}
APART = {"outlier": "Outlier", "normal": "Normal"}
ALL, BOTH = "All images (%)", "Images with both (%)"


def _difference(group: str, against: str) -> dict[str, Any]:
    return {"group": group, "reference_group": against}


def outliers(study: Study, condition: Condition) -> str:
    """What the outlier patches of a model are."""
    return "artifacts" if study.estimate(condition, "outliers_are_artifacts").value else "top norms"


def local_information(study: Study) -> Table:
    """Neighbours, position and pixels of outlier and of normal patches of every model as it is, by probe."""
    columns = [
        MODEL,
        Column("measure", "Of a patch"),
        Column("probe", "Probe"),
        replace(OUTLIERS, printed=False),  # said over the rows of a model
        *(Column(group, title) for group, title in GROUPS.items()),
        Column("difference", "Outlier less normal", signed=True, p=True),
        Column("matched_difference", "Outlier less matched", signed=True),  # its p, in the tidy table, has no room
    ]
    table = Table(columns, KEYS[:2], heading=MODEL.key)
    for condition in study.baselines:
        first = True
        for metric, label in LOCAL.items():
            for probe in PROBES:
                rows = study.rows_of(condition, metric)
                if rows[rows["probe"].isna() if probe is None else rows["probe"] == probe].empty:
                    continue  # cosines need no probe, an MLP is fitted to all tokens alone
                row = row_of(study, condition, (), first)
                row |= {"outliers": outliers(study, condition), "measure": label, "probe": probe}
                for group in GROUPS:
                    cell = study.estimate(condition, metric, group=group, probe=probe)
                    row[group] = replace(cell, n=None)  # that of the difference: images with both kinds
                for name, against in (("difference", "normal"), ("matched_difference", "matched")):
                    row[name] = study.estimate(condition, metric, probe=probe, **_difference("outlier", against))
                table.add(row, rule=first)
                first = False
    return table


def token_classification(study: Study) -> Table:
    """Class of the image from one token of each kind, and whether an outlier patch knows more than a normal one."""
    top1, deviation = "token_class_top1", "token_class_top1_sd"
    columns = [
        MODEL,
        replace(OUTLIERS, printed=False),
        *(
            Column(f"top1_{kind}", title, top1, {"group": kind}, interval=False, group=ALL)
            for kind, title in KINDS.items()
        ),
        Column(
            "highest_difference",
            "Highest less another (points)",
            top1,
            _difference("highest", "other"),
            signed=True,
            p=True,
        ),
        *(
            Column(f"top1_{kind}", title, top1, {"group": kind}, group=BOTH, interval=False)
            for kind, title in APART.items()
        ),
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
        if not study.has(condition, top1):
            continue  # the experiment did not run on this model
        row = row_of(study, condition, columns) | {"outliers": outliers(study, condition)}
        for kind in APART:  # the difference says on how many images
            row[f"top1_{kind}"] = replace(study.estimate(condition, top1, group=kind), n=None)
        table.add(row)
    return table
