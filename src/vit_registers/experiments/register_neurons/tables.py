"""Tables of what detection found: artifact patches, register neurons, and whether other data sets find the same."""

from dataclasses import replace
from typing import Any

import pandas as pd

from vit_registers.views.columns import CORLOC, KEYS, MODEL, TOP1_CLS, row_of, shown
from vit_registers.views.study import NONE_FOUND, Condition, Estimate, Study, estimate, select
from vit_registers.views.table import Cell, Column, Table

SHARE = Column("artifact_share", "Artifact patches (%)", "detected_artifact_share", decimals=2)
THRESHOLD = Column("threshold", "Threshold", "detection_threshold", alignment="r")
NORM = "Patch norm at the last block"
NEURONS = "Register neurons (%)"
BLOCK = "Block"
INTERVALS = (SHARE.key, "next_ratio")  # those that are printed; rows of the tidy table have all
AT = Column("outlier_layer", "At", "outlier_layer", alignment="r", group=BLOCK)
INPUT = Column("input", "Input", alignment="r")
UP_TO = Column("highest_layer", "Up to", "highest_ranked_layer", group=BLOCK, printed=False)


def detection(study: Study) -> Table:
    """Artifact patches and register neurons of every model; where the truth is known, precision and recall."""
    measured = [
        SHARE,
        THRESHOLD,
        Column("images_affected", "Images (%)", "images_affected", alignment="r"),
        AT,
        Column("first_layer", "First", "first_artifact_layer", alignment="r", group=BLOCK),
        UP_TO,
        Column("embedded", "Embedded (%)", "embedded_artifacts", alignment="r"),
        Column("precision", "Precision", "neuron_precision", alignment="r", group=NEURONS),
        Column("recall", "Recall", "neuron_recall", alignment="r", group=NEURONS),
        Column("stability", "Stability", "neuron_stability", alignment="r", group=NEURONS),
        Column("next_ratio", "Score ratio", "neuron_next_ratio", alignment="r"),
    ]
    table = Table([MODEL, replace(INPUT, printed=False), *measured], KEYS[:2])
    for condition in study.detected:
        row = row_of(study, condition, ()) | {INPUT.key: _input(study, condition)}
        found, verdict = study.found(condition), study.verdict(condition)
        for column in measured:
            cell = study.estimate(condition, str(column.metric))
            # one n for the row is said in the caption; intervals of whole shares would make the table too wide
            plain = cell if column is SHARE else replace(cell, n=None)
            plain = plain if column.key in INTERVALS else replace(plain, low=None, high=None)
            row[column.key] = plain if found or cell.value is not None else replace(plain, note=verdict)
        table.add(row)
    return table


def artifacts(study: Study) -> Table:
    """Every model as it is, those with artifacts first: what detection found, and what the model is good for."""
    measured = [
        SHARE,
        Column("images_affected", "Images (%)", "images_affected", alignment="r"),
        Column("embedded", "Embedded (%)", "embedded_artifacts", alignment="r"),
        Column("precision", "Precision", "neuron_precision", alignment="r", group=NEURONS),
        Column("recall", "Recall", "neuron_recall", alignment="r", group=NEURONS),
        shown(TOP1_CLS, "Top-1 (%)"),
        CORLOC,
    ]
    numbers = [replace(each, interval=False, alignment="r") for each in measured]
    columns = [MODEL, Column("verdict", "Detection", printed=False), *numbers]
    table = Table(columns, KEYS[:2])
    for condition in sorted(study.baselines, key=lambda c: not study.found(c)):
        row = row_of(study, condition, columns) | {"verdict": study.verdict(condition)}
        table.add({key: replace(cell, n=None) if isinstance(cell, Estimate) else cell for key, cell in row.items()})
    return table


def _input(study: Study, condition: Condition) -> str:
    """Height and width of the input, one number where they are the same."""
    sides = [study.estimate(condition, side).value for side in ("input_height", "input_width")]
    return " x ".join(dict.fromkeys(f"{side:g}" for side in sides if side is not None))


def natural_models(study: Study) -> Table:
    """Norms of the models that nothing was planted in, and whether they have artifacts."""
    columns = [
        MODEL,
        Column("norm_median", "Median", "norm_median", alignment="r", group=NORM),
        Column("norm_p99", "99th pct.", "norm_p99", alignment="r", group=NORM),
        Column("norm_max", "Largest", "norm_max", alignment="r", group=NORM),
        INPUT,
        replace(AT, title="At block", group=None),
        THRESHOLD,
        SHARE,
        Column("verdict", "Detection"),
    ]
    table = Table(columns, KEYS[:2], empty="no model of this study is free of planting")
    for condition in study.baselines:
        if not study.is_natural(condition.model):
            continue
        row = row_of(study, condition, columns)
        for column in (THRESHOLD, AT):
            row[column.key] = replace(study.estimate(condition, str(column.metric)), n=None)
        row |= {INPUT.key: _input(study, condition), "verdict": study.verdict(condition)}
        table.add(row)
    return table


def neurons(study: Study) -> Table:
    """The first neurons of every model with artifacts: score, stability, truth, and rank on other data sets."""
    columns = [
        MODEL,
        Column("rank", "Rank", alignment="r"),
        Column("block", "Block", alignment="r"),
        Column("neuron", "Neuron", alignment="r"),
        Column("score", "Score", alignment="r"),
        Column("frequency", "Among the first in resamples (%)", alignment="r"),
        Column("planted", "Planted"),
        Column("elsewhere", "Rank elsewhere"),
    ]
    table = Table(columns, KEYS[:2], empty=NONE_FOUND)
    for condition in study.baselines:
        ranks = study.metric_rows("neuron_rank", model=condition.model, found_on=condition.dataset)
        here = ranks["dataset"] == condition.dataset
        for place, (_, own) in enumerate(ranks[here & ranks["value"].notna()].sort_values("value").iterrows()):
            cells = _neuron(study, condition, own, ranks[~here])
            table.add(row_of(study, condition, (), place == 0) | cells, rule=place == 0)
    return table


def _neuron(study: Study, condition: Condition, own: "pd.Series[Any]", others: pd.DataFrame) -> dict[str, Cell]:
    """Cells of the neuron whose rank is the row ``own``; ``others``: rows of ranks on other data sets."""
    at: dict[str, Any] = {"layer": int(own["layer"]), "item": int(own["item"])}
    score, frequency, planted = (
        study.estimate(condition, f"neuron_{name}", **at) for name in ("score", "frequency", "planted")
    )
    elsewhere = [
        f"{dataset}: {'--' if pd.isna(rank) else int(rank)}"
        for dataset, rank in select(others, **at)[["dataset", "value"]].itertuples(index=False)
    ]
    # The caption says what n and the images are; as cells they would repeat in every row.
    cells: dict[str, Cell] = {"rank": replace(estimate(own), n=None), "block": at["layer"], "neuron": at["item"]}
    cells |= {"score": replace(score, n=None), "frequency": replace(frequency, n=None)}
    cells["planted"] = {None: "unknown", 0.0: "no", 1.0: "yes"}[planted.value]
    return cells | {"elsewhere": "; ".join(elsewhere)}


def neuron_overlap(study: Study) -> Table:
    """Share of the neurons found on one data set that another finds too."""
    columns = [
        MODEL,
        Column("found_on", "Found on"),
        Column("against", "and on"),
        Column("overlap", "Overlap (%)", alignment="r"),
    ]
    table = Table(columns, KEYS[:2], empty="this study looks for neurons on one data set per model")
    for condition in study.baselines:
        rows = study.metric_rows("neuron_overlap", model=condition.model, found_on=condition.dataset)
        for _, one in rows.iterrows():
            row = row_of(study, condition, ()) | {"found_on": condition.dataset, "against": str(one["dataset"])}
            table.add(row | {"overlap": estimate(one)})
    return table
