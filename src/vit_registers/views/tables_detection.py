"""Tables of what detection found: artifact patches, register neurons, and whether other data sets find the same."""

from dataclasses import replace

import pandas as pd

from vit_registers.views.rows import KEYS, MODEL, NORMS, SHARE, row_of
from vit_registers.views.study import NONE_FOUND, Study
from vit_registers.views.table import Cell, Column, Table


def detection(study: Study) -> Table:
    """Artifact patches and register neurons of every model; where the truth is known, precision and recall."""
    neurons = "Register neurons (%)"
    columns = [
        MODEL,
        SHARE,
        Column("threshold", "Threshold", "r"),
        Column("images_affected", "Images (%)", "r"),
        Column("first_layer", "Block", "r"),
        Column("precision", "Precision", "r", group=neurons),
        Column("recall", "Recall", "r", group=neurons),
        Column("stability", "Stability", "r", group=neurons),
        Column("next_ratio", "Score ratio", "r"),
    ]
    table = Table(columns, KEYS[:2])
    for condition in study.detected:
        row = row_of(study, condition, ())
        found = study.found(condition)
        for column in columns[1:]:
            cell = study.estimate(condition, "detection", column.key)
            # one n for the row is said in the caption: cells beside the share rest on the same images
            plain = cell if column is SHARE else replace(cell, n=None, low=None, high=None)
            row[column.key] = plain if found or cell.value is not None else replace(plain, note=NONE_FOUND)
        table.add(row)
    return table


def natural_models(study: Study) -> Table:
    """Norms of the models that nothing was planted in, and whether they have artifacts."""
    columns = [MODEL, *NORMS, Column("threshold", "Threshold", "r"), SHARE, Column("verdict", "Detection")]
    table = Table(columns, KEYS[:2], empty="no model of this study is free of planting")
    for condition in study.baselines:
        if study.nature(condition.model) in ("tagged", "planted"):
            continue
        row = row_of(study, condition, columns)
        row["threshold"] = replace(study.estimate(condition, "detection", "threshold"), n=None)
        row["artifact_share"] = study.estimate(condition, "detection", "artifact_share")
        row["verdict"] = "artifacts found" if study.found(condition) else NONE_FOUND
        table.add(row)
    return table


def positions(study: Study) -> Table:
    """Where artifacts stand in every model that has some: how often at one position, and how many on the border."""
    columns = [
        MODEL,
        SHARE,
        Column("artifact_rate_max", "Most at one position (%)"),
        Column("place", "There"),
        Column("artifacts_on_border", "On the border (%)"),
        Column("border_positions", "Positions there (%)", "r"),
    ]
    table = Table(columns, KEYS[:2], empty=NONE_FOUND)
    for condition in study.placed:
        row = row_of(study, condition, columns)
        row["artifact_share"] = study.estimate(condition, "detection", "artifact_share")
        most = study.estimate(condition, "positions", "artifact_rate_max")
        row["place"] = (most.note or "").removesuffix(", both from 0") if most.value is not None else ""
        row["border_positions"] = replace(study.estimate(condition, "positions", "border_positions"), n=None)
        table.add(row)
    return table


_OF_NEURON = ("rank", "score", "frequency", "planted")


def neurons(study: Study) -> Table:
    """The first neurons of every model with artifacts: score, stability, truth, and rank on other data sets."""
    columns = [
        MODEL,
        Column("rank", "Rank", "r"),
        Column("block", "Block", "r"),
        Column("neuron", "Neuron", "r"),
        Column("score", "Score", "r"),
        Column("frequency", "Among the first in resamples (%)", "r"),
        Column("planted", "Planted"),
        Column("elsewhere", "Rank elsewhere"),
    ]
    table = Table(columns, KEYS[:2], empty=NONE_FOUND)
    for condition in study.baselines:
        rows = study.measured_rows(condition)
        ranks = rows[rows["metric"].str.startswith("rank[")]
        own = ranks[ranks["reference"].isna()].sort_values("value")
        for position, (metric, layer) in enumerate(zip(own["metric"], own["layer"], strict=True)):
            index = metric.removeprefix("rank")
            at = {name: study.estimate(condition, "neurons", f"{name}{index}", layer=int(layer)) for name in _OF_NEURON}
            others = ranks[(ranks["metric"] == metric) & (ranks["layer"] == layer) & ranks["reference"].notna()]
            elsewhere = [
                f"{dataset}: {'--' if rank is pd.NA else int(rank)}"
                for dataset, rank in zip(others["reference"], others["value"], strict=True)
            ]
            planted = {None: "unknown", 0.0: "no", 1.0: "yes"}[at["planted"].value]
            # The caption says what n and the images are; as cells they would repeat in every row.
            cells: dict[str, Cell] = {name: replace(at[name], n=None) for name in ("rank", "score", "frequency")}
            cells |= {"block": int(layer), "neuron": int(index.strip("[]")), "planted": planted}
            cells["elsewhere"] = "; ".join(elsewhere)
            table.add(row_of(study, condition, (), position == 0) | cells, rule=position == 0)
    return table


def neuron_overlap(study: Study) -> Table:
    """Share of the neurons found on one data set that another finds too, with the p of as many by chance."""
    columns = [
        MODEL,
        Column("found_on", "Found on"),
        Column("against", "and on"),
        Column("overlap", "Overlap (%)", "r", p=True),
    ]
    table = Table(columns, KEYS[:2], empty="this study looks for neurons on one data set per model")
    for condition in study.baselines:
        rows = study.measured_rows(condition)
        for dataset in rows.loc[rows["metric"] == "overlap", "reference"]:
            row = row_of(study, condition, ()) | {"found_on": condition.dataset, "against": dataset}
            row["overlap"] = study.estimate(condition, "neurons", "overlap", reference=dataset)
            table.add(row)
    return table
