"""The table of comparisons."""

from typing import Any

from vit_registers.pipeline import experiment
from vit_registers.views.study import Condition, Study
from vit_registers.views.table import Cell, Column, Table

Way = tuple[str, str | None, str | None]  # metric, feature, head
# Of metrics that are measured in several ways, the one that is printed, and what it is called.
USUAL: dict[str, tuple[str, dict[str, str | None]]] = {
    "corloc": ("CorLoc (points)", {"feature": None, "head": "lost"}),
    "top1": ("Top-1 of [CLS] (points)", {"feature": "cls", "head": "refitted"}),
}


def _ways(study: Study) -> list[Way]:
    """Every metric, feature and head of which there are differences: the usual ones, what else is printed, the rest."""
    rows = study.rows[study.rows["reference_intervention"].notna() & study.rows["value"].notna()]
    found = {
        (str(metric), _given(feature), _given(head))
        for metric, feature, head in rows[["metric", "feature", "head"]].itertuples(index=False, name=None)
    }
    usual = list(USUAL)

    def place(way: Way) -> tuple[int, bool, list[str]]:
        known = _printed(way) and way[0] in USUAL
        return usual.index(way[0]) if known else len(usual), not _printed(way), [part or "" for part in way]

    return sorted(found, key=place)


def _given(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _printed(way: Way) -> bool:
    """Headline numbers with a better side are printed, of several ways of measuring them the usual one."""
    metric, feature, head = way
    declared = experiment.metrics()[metric][1]
    usual = USUAL[metric][1] if metric in USUAL else {"feature": feature, "head": head}
    return declared.headline and declared.better is not None and usual == {"feature": feature, "head": head}


def _column(way: Way) -> Column:
    metric, feature, head = way
    declared = experiment.metrics()[metric][1]
    unit = "points" if declared.format == "percent" else declared.unit
    name = ", ".join(part.replace("_", " ") for part in way if part)
    title = USUAL[metric][0] if _printed(way) and metric in USUAL else f"{name} ({unit})"
    where = {"feature": feature, "head": head}
    key = "/".join(part for part in way if part)
    return Column(key, title, metric, where, signed=True, p=True, printed=_printed(way))


def comparisons(study: Study) -> Table:
    """Paired differences, one row per question; those that are not headlines are in the CSV."""
    differences = [_column(way) for way in _ways(study)]
    question = Column("question", "Question: difference", alignment=r">{\raggedright\arraybackslash}p{7.8cm}")
    table = Table([question, *differences], ("dataset", "a", "b"), empty="this study compares nothing", spaced=True)
    for dataset in study.datasets:
        ran = {(c.model, c.name): c for c in study.planned if c.dataset == dataset}
        for comparison in study.plan.comparisons:
            a = ran.get((comparison.a.model, comparison.a.intervention))
            b = ran.get((comparison.b.model, comparison.b.intervention))
            if a is None or b is None:
                continue
            row: dict[str, Cell] = {"dataset": dataset, "a": str(comparison.a), "b": str(comparison.b)}
            row["question"] = _question(study, comparison.question, a, b)
            for column in differences:
                assert column.metric is not None
                row[column.key] = study.estimate(a, column.metric, against=b, **dict(column.where))
            table.add(row)
    return table


def _question(study: Study, question: str, a: Condition, b: Condition) -> str:
    return f"{question[:1].upper()}{question[1:]}:\n{study.label(a)} − {study.label(b)}"
