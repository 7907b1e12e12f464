"""Tables of whether artifacts arose while models were trained: each training as a whole, and by epoch and block."""

from dataclasses import replace
from typing import Any

import pandas as pd

from vit_registers.pipeline import experiment
from vit_registers.views.study import Estimate, Study, estimate
from vit_registers.views.table import Cell, Column, Table

EMPTY = "no model of this study was trained by the pipeline"
PEAKS = ("norm_ratio_peak", "share_above_peak")


def monitored(study: Study, metric: str) -> dict[str, pd.DataFrame]:
    """Rows of a metric of every training that has some, by model, in the order of register counts."""
    found = {model: study.metric_rows(metric, model=model) for model in study.trained}
    return {model: rows for model, rows in found.items() if len(rows)}


def emergence(study: Study) -> Table:
    """Every training: the most patches above three times the median norm after any epoch at any block, and after all.

    Beside it the largest norm, likewise, which says how far a training without any is from having some.
    """
    largest, most = "Largest norm over the median", "Patches above three medians"
    columns = [
        Column("model_label", "Training"),
        Column("parameters", "Parameters", alignment="r"),
        Column("epochs", "Epochs", alignment="r"),
        Column("top1", "Top-1 (%)"),
        Column("norm_ratio_peak", "Most", alignment="r", group=largest),
        Column("norm_ratio_peak_epoch", "Epoch", alignment="r", group=largest),
        Column("norm_ratio_peak_layer", "Block", alignment="r", group=largest),
        Column("share_above_peak", "Most (%)", alignment="r", decimals=3, group=most),
        Column("share_above_peak_epoch", "Epoch", alignment="r", group=most),
        Column("share_above_peak_layer", "Block", alignment="r", group=most),
        Column("share_above_last", "At the end (%)", alignment="r", decimals=3, group=most),
    ]
    table = Table(columns, ("dataset", "model"), empty=EMPTY)
    for model, epochs in monitored(study, "training_epochs").items():
        row: dict[str, Cell] = {"dataset": str(epochs["dataset"].iloc[0]), "model": model}
        row |= {"model_label": study.models[model], "epochs": int(epochs["value"].iloc[0])}
        row["parameters"] = int(study.metric_rows("training_parameters", model=model)["value"].iloc[0])
        top1 = study.metric_rows("training_top1", model=model)
        row["top1"] = estimate(top1.iloc[0]) if len(top1) else None
        last = study.metric_rows("training_share_above_last", model=model)
        row["share_above_last"] = replace(estimate(last.iloc[0]), n=None)
        for name in PEAKS:
            row |= _peak(study.metric_rows(f"training_{name}", model=model).iloc[0], name)
        table.add(row)
    return table


def _peak(peak: "pd.Series[Any]", name: str) -> dict[str, Cell]:
    """A peak with its epoch and block, which it has none of where nothing ever stood out."""
    row: dict[str, Cell] = {name: replace(estimate(peak), n=None)}
    if peak["value"]:
        row |= {f"{name}_epoch": int(peak["epoch"]), f"{name}_layer": int(peak["layer"])}
    return row


def emergence_grid(study: Study) -> Table:
    """The same by epoch and block: share of patches above three medians, and norms."""
    metrics = ["training_share_above", "training_norm_median", "training_norm_p99", "training_norm_max"]
    columns = [
        Column("model_label", "Training"),
        Column("epoch", "Epoch", alignment="r"),
        Column("layer", "Block", alignment="r"),
        Column("share_above", "Above three medians (%)", alignment="r", decimals=3),
        Column("norm_median", "Median norm", alignment="r"),
        Column("norm_p99", "99th pct.", alignment="r"),
        Column("norm_max", "Largest", alignment="r"),
    ]
    table = Table(columns, ("dataset", "model"), empty=EMPTY)
    for model in monitored(study, metrics[0]):
        rows = study.rows[(study.rows["model"] == model) & study.rows["metric"].isin(metrics)]
        dataset = str(rows["dataset"].iloc[0])
        wide = rows.pivot_table(index=["epoch", "layer"], columns="metric", values="value", aggfunc="first")
        for (epoch, layer), values in wide.sort_index().iterrows():  # type: ignore[misc,has-type]
            row: dict[str, Cell] = {"dataset": dataset, "model": model, "model_label": study.models[model]}
            row |= {"epoch": int(epoch), "layer": int(layer)}  # type: ignore[has-type]
            for metric in metrics:
                cell = Estimate(float(values[metric]), of=experiment.metrics()[metric][1])
                row[metric.removeprefix("training_")] = cell
            table.add(row)
    return table
