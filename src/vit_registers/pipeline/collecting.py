"""Rows of single jobs as tables: one of each measure, and the tidy table of all."""

from typing import Any

import pandas as pd

from vit_registers.core import seals, table
from vit_registers.core.files import write_json
from vit_registers.params.study import Params
from vit_registers.pipeline import experiment
from vit_registers.pipeline.paths import Paths
from vit_registers.pipeline.steps import measured, steps


def collect(params: Params, at: Paths, measure: str) -> None:
    """Write the rows of every job of ``measure`` as one table."""
    step = steps()[measure]
    found = [at.measure(measure, *axes.values()) / "rows.csv" for axes in step.jobs(params)]
    axes = dict(experiment.measures()[measure][1].axes)
    seals.check(found)
    with seals.renewed([at.rows(measure)]):
        table.write(table.concatenate(found, axes), at.rows(measure))


def summarise(params: Params, at: Paths) -> None:
    """Write the tidy table of all measures, and its headline numbers as nested JSON."""
    collected = [at.rows(measure) for measure in measured(params)]
    seals.check(collected)
    whole = table.concatenate(collected, experiment.axes())
    table.write(whole, at.table)
    write_json(at.summary, headlines(whole))


def headlines(rows: pd.DataFrame) -> dict[str, Any]:
    """What ``dvc metrics`` shows: data set -> model -> intervention -> metric and axes -> value, mean over seeds."""
    nested: dict[str, Any] = {}
    wanted = [name for name, (_, metric) in experiment.metrics().items() if metric.headline]
    chosen = rows[rows["metric"].isin(wanted) & rows["layer"].isna() & rows["value"].notna()]
    named = ["feature", "head", "group", "reference_model", "reference_intervention", "trainings"]
    keys = ["dataset", "model", "intervention", "metric", *named]
    means = chosen.groupby(keys, dropna=False, sort=True)["value"].mean().reset_index()
    for row in means.to_dict("records"):
        said = [str(row[name]) for name in named[:3] if pd.notna(row[name])]
        if pd.notna(row["reference_model"]):
            said.append(f"against {row['reference_model']}/{row['reference_intervention']}")
        if pd.notna(row["trainings"]):
            said.append(f"over {int(row['trainings'])} trainings")
        place = nested
        for key in ("dataset", "model", "intervention"):
            place = place.setdefault(str(row[key]) if pd.notna(row[key]) else "all", {})
        place[" ".join([str(row["metric"]), *said])] = round(float(row["value"]), 6)
    return nested
