"""Tables of the limits of detection: a row for every way to rank neurons, a column for every activation."""

from dataclasses import replace
from typing import Any

from vit_registers.views.columns import KEYS, MODEL
from vit_registers.views.study import Condition, Study, estimate
from vit_registers.views.table import Column, Table

SETTING = ["ranked", "score", "sparsity"]
FILTERS = {"off": "none", "signed": "signed", "absolute": "magnitude"}
NOTHING = "this study plants no neurons that are hard to detect"


def recall(study: Study) -> Table:
    """Recall by activation."""
    return _by_activation(study, "planted_recall", "Recall (%) at activation", ())


def precision(study: Study) -> Table:
    """Precision of the shortest list that holds all planted neurons, by activation."""
    return _by_activation(study, "planted_precision", "Precision (%) at activation", ())


def decoys(study: Study) -> Table:
    """Share of decoys of each kind among the first, by activation."""
    return _by_activation(study, "decoys_taken", "Decoys (%) at activation", ("group",))


def measured(study: Study, metric: str) -> list[Condition]:
    """Models into which neurons were planted."""
    return [c for c in study.baselines if study.has(c, metric)]


def _by_activation(study: Study, metric: str, title: str, further: tuple[str, ...]) -> Table:
    """Rows by setting and ``further`` axes, the mean over plantings at every activation."""
    rows = study.metric_rows(metric, seed=None)
    activations = sorted(rows["activation"].dropna().unique(), reverse=True)
    columns = [
        MODEL,
        Column("ranked", "Ranked"),
        Column("score", "Score"),
        Column("sparsity", "Filter"),
        *(Column(axis, "Decoys") for axis in further),
        *(Column(f"at_{a:g}", f"{a:g}", metric, alignment="r", group=title) for a in activations),
    ]
    table = Table(columns, KEYS[:2], empty=NOTHING)
    for condition in measured(study, metric):
        own = study.rows_of(condition, metric, seed=None)
        for place, (key, of_setting) in enumerate(own.groupby([*SETTING, *further], sort=True)):
            row: dict[str, Any] = {"dataset": condition.dataset, "model": condition.model}
            row |= dict(zip([*SETTING, *further], key, strict=True))
            row["model_label"] = study.model_label(condition) if place == 0 else ""
            row["sparsity"] = FILTERS[str(row["sparsity"])]
            for _, one in of_setting.iterrows():
                row[f"at_{one['activation']:g}"] = replace(estimate(one), n=None, low=None, high=None)
            table.add(row, rule=place > 0 and row["ranked"] != table.rows[-1]["ranked"])
    return table
