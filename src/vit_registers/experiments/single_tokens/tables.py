"""Tables of what single tokens know: high-norm patches against ordinary ones."""

from dataclasses import replace

from vit_registers.views.rows import KEYS, MODEL, row_of
from vit_registers.views.study import Condition, Study
from vit_registers.views.table import Column, Table

HIGH = Column("kind", "High")
KINDS = ("cls", "register", "high", "normal")
LOCAL = {
    "neighbour_cosine": "cosine to neighbours",
    "position_top1": "position, top-1 (%)",
    "position_l2": "position, distance",
    "reconstruction_linear": "pixels, linear, error",
    "reconstruction_mlp": "pixels, MLP, error",
}


def _kind(study: Study, condition: Condition) -> str:
    """What the high patches of a model are."""
    return "artifacts" if study.estimate(condition, "information", "high_are_artifacts").value else "top norms"


def local_information(study: Study) -> Table:
    """Neighbours, position and pixels of high-norm and of normal patches of every model as it is."""
    columns = [
        MODEL,
        Column("measure", "Of a patch"),
        HIGH,
        Column("normal", "Normal patches"),
        Column("high", "High ones"),
        Column("difference", "High less normal", signed=True, p=True),
    ]
    table = Table(columns, KEYS[:2], long=True, heading=MODEL.key)
    for condition in study.baselines:
        rows = study.measured_rows(condition)
        first = True
        for metric, label in LOCAL.items():
            if not rows["metric"].str.startswith(f"{metric}[").any():
                continue  # neighbours are kept where extraction says so
            row = row_of(study, condition, (), first) | {"kind": _kind(study, condition)}
            row["measure"] = label
            for kind in ("normal", "high"):
                cell = study.estimate(condition, "information", f"{metric}[{kind}]")
                row[kind] = replace(cell, n=None)  # that of the difference says it: images with both kinds
            row["difference"] = study.estimate(condition, "information", f"{metric}_difference", reference="normal")
            table.add(row, rule=first)
            first = False
    return table


def token_classification(study: Study) -> Table:
    """Class of the image from one token of each kind, and whether a high-norm patch knows more than a normal one."""
    columns = [
        MODEL,
        HIGH,
        Column("class_top1[cls]", "[CLS] (%)"),
        Column("class_top1[register]", "Register (%)"),
        Column("class_top1[high]", "High (%)"),
        Column("class_top1[normal]", "Normal (%)"),
        *(Column(f"class_top1_std[{kind}]", f"{kind}, sd of draws (points)", printed=False) for kind in KINDS),
        Column("class_top1_difference", "High less normal (points)", signed=True, p=True),
    ]
    table = Table(columns, KEYS[:2])
    for condition in study.baselines:
        row = row_of(study, condition, ()) | {"kind": _kind(study, condition)}
        for column in columns[2:]:
            reference = "normal" if column.key == "class_top1_difference" else None
            row[column.key] = study.estimate(condition, "information", column.key, reference=reference)
        table.add(row)
    return table
