"""Tables of comparisons: what each question found for the numbers that matter most, and for all."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pandas as pd

from vit_registers.pipeline import experiment
from vit_registers.views.study import Condition, Study, estimate, select
from vit_registers.views.table import Cell, Column, Table

Way = tuple[str, str | None, str | None]  # metric, feature, head
# Of metrics that are measured in several ways, those that are printed, and what they are called.
USUAL: dict[tuple[str, str | None], dict[str | None, str]] = {
    ("corloc", None): {"lost": "CorLoc"},
    ("top1", "cls"): {
        "frozen": "Top-1 of [CLS], frozen",
        "refitted": "Top-1 of [CLS], refitted",
    },
    ("own_head_top1", None): {"own": "Top-1 of the own head"},
    ("miou", None): {"frozen": "mIoU, frozen", "refitted": "mIoU, refitted"},
    ("rmse", None): {"frozen": "RMSE of depth, frozen", "refitted": "RMSE of depth, refitted"},
    ("rmse_metres", None): {"frozen": "RMSE of depth (m), frozen", "refitted": "RMSE of depth (m), refitted"},
}
KEYS = ("dataset", "question", "family", "a", "b", "metric", "feature", "head")
OWN = ("equivalent", "repaired_share")


def comparisons(study: Study) -> Table:
    """Headline numbers of every question, the frozen head (parodi2026) before the refitted one."""
    return _table(study, True)


def all_comparisons(study: Study) -> Table:
    """Every metric, feature and head of every question."""
    return _table(study, False)


def _table(study: Study, headlines: bool) -> Table:
    columns = [
        Column("asked", "Question"),
        Column("outcome", "Measured"),
        Column("difference", "Difference", signed=True, p=True),
        Column("verdict", "Verdict", alignment=r">{\raggedright\arraybackslash}p{1.9cm}"),
        Column("repaired", "Repaired (%)"),
    ]
    table = Table(columns, KEYS, empty="this study compares nothing", heading="asked")
    for dataset in study.datasets:
        ran = {(c.model, c.name): c for c in study.planned if c.dataset == dataset}
        for comparison in study.plan.comparisons:
            a = ran.get((comparison.a.model, comparison.a.intervention))
            b = ran.get((comparison.b.model, comparison.b.intervention))
            if a is None or b is None:
                continue
            question = comparison.question[:1].upper() + comparison.question[1:]
            over = ", over trainings" if comparison.trainings else ""
            first: dict[str, Cell] = {"asked": f"{question}: {comparison.a} − {comparison.b}{over}"}
            shared: dict[str, Cell] = {"dataset": dataset, "question": question, "family": comparison.family}
            shared |= {"a": str(comparison.a), "b": str(comparison.b)}
            for row in _outcomes(study, a, b, comparison.trainings, headlines):
                table.add(shared | first | row)
                first = {}
    return table


def _outcomes(study: Study, a: Condition, b: Condition, trainings: bool, headlines: bool) -> Iterator[dict[str, Cell]]:
    """Cells of everything that a comparison measured; of one that could not be made, the reason."""
    rows = select(study.rows_of(a), reference_model=b.model, reference_intervention=b.name)
    rows = rows[rows["trainings"].notna() == trainings]
    missing = rows[rows["metric"] == "difference"]
    if len(missing):
        reason = estimate(missing.iloc[0])
        yield {"outcome": reason.note, "difference": reason}
    found = {_way(row["metric"], row): row for _, row in rows[~rows["metric"].isin([*OWN, "difference"])].iterrows()}
    follow = {(str(row["metric"]), _way(row["of"], row)): row for _, row in rows[rows["metric"].isin(OWN)].iterrows()}
    for way in sorted(found, key=_place):
        if headlines and not _is_headline(way):
            continue
        metric, feature, head = way
        row: dict[str, Cell] = {"metric": metric, "feature": feature, "head": head, "outcome": _name(way)}
        row["difference"] = estimate(found[way])
        if ("equivalent", way) in follow:
            row["verdict"] = str(follow["equivalent", way]["verdict"])
        if ("repaired_share", way) in follow:
            share = estimate(follow["repaired_share", way])
            row["repaired"] = "no damage shown" if share.value is None else replace(share, n=None)
        yield row


def _way(metric: Any, row: "pd.Series[Any]") -> Way:
    return str(metric), _given(row["feature"]), _given(row["head"])


def _given(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _place(way: Way) -> tuple[int, list[str]]:
    """Headlines first, in the order of :data:`USUAL`; frozen heads before refitted ones."""
    usual = [(metric, feature, head) for (metric, feature), heads in USUAL.items() for head in heads]
    return usual.index(way) if way in usual else len(usual) + (not _is_headline(way)), [part or "" for part in way]


def _is_headline(way: Way) -> bool:
    """Headline numbers with a better side, of several ways of measuring them the usual ones."""
    metric, feature, head = way
    declared = experiment.metrics()[metric][1]
    if metric in {name for name, _ in USUAL}:
        return head in USUAL.get((metric, feature), {})
    return declared.headline and declared.better is not None


def _name(way: Way) -> str:
    metric, feature, head = way
    named = USUAL.get((metric, feature), {}).get(head)
    if named:
        return named
    declared = experiment.metrics()[metric][1]
    unit = "points" if declared.format == "percent" else declared.unit
    return f"{', '.join(part.replace('_', ' ') for part in way if part)} ({unit})"
