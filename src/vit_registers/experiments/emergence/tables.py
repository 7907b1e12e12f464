"""Tables of whether artifacts arose while models were trained: each training as a whole, and by epoch and block."""

from dataclasses import replace

from vit_registers.views.study import Condition, Estimate, Study, trained
from vit_registers.views.table import Cell, Column, Table

EMPTY = "no model of this study was trained by the pipeline"
UNITS = {"share_above": "share of patches", "norm_median": "L2 norm", "norm_p99": "L2 norm", "norm_max": "L2 norm"}


def _datasets(study: Study) -> dict[str, str]:
    """The data set of every training that was watched."""
    rows = study.rows[study.rows["readout"] == "emergence"]
    return dict(zip(rows["model"].astype(str), rows["dataset"].astype(str), strict=True))


def emergence(study: Study) -> Table:
    """Every training: the most patches above three times the median norm after any epoch at any block, and after all.

    Beside it the largest norm, likewise, which says how far a training without any is from having some.
    """
    largest, most = "Largest norm over the median", "Patches above three medians"
    columns = [
        Column("model_label", "Training"),
        Column("parameters", "Parameters", "r"),
        Column("epochs", "Epochs", "r"),
        Column("top1", "Top-1 (%)"),
        Column("ratio_most", "Most", "r", group=largest),
        Column("ratio_most_epoch", "Epoch", "r", group=largest),
        Column("ratio_most_block", "Block", "r", group=largest),
        Column("share_above_most", "Most (%)", "r", decimals=3, group=most),
        Column("share_above_most_epoch", "Epoch", "r", group=most),
        Column("share_above_most_block", "Block", "r", group=most),
        Column("share_last", "At the end (%)", "r", decimals=3, group=most),
    ]
    table = Table(columns, ("dataset", "model"), empty=EMPTY)
    datasets = _datasets(study)
    for model in (name for name in trained(study) if name in datasets):
        condition = Condition(datasets[model], model, "training")
        row: dict[str, Cell] = {"dataset": condition.dataset, "model": model, "model_label": study.models[model]}
        row["top1"] = study.estimate(condition, "emergence", "top1")
        for metric in ("parameters", "epochs"):
            row[metric] = _whole(study, condition, metric)
        for metric in ("ratio_most", "share_above_most", "share_last"):
            row[metric] = replace(study.estimate(condition, "emergence", metric), n=None)
        row |= _where(study, condition, "ratio_most")
        if study.estimate(condition, "emergence", "share_above_most").value:
            row |= _where(study, condition, "share_above_most")
        table.add(row)
    return table


def _whole(study: Study, condition: Condition, metric: str) -> int:
    """A number that counts something."""
    return int(study.estimate(condition, "emergence", metric).value)  # type: ignore[arg-type]  # every training has it


def _where(study: Study, condition: Condition, peak: str) -> dict[str, Cell]:
    """Epoch and block that a peak was found at."""
    block = int(study.series(condition, "emergence", peak).index[0])
    return {f"{peak}_epoch": _whole(study, condition, f"{peak}_epoch"), f"{peak}_block": block}


def emergence_grid(study: Study) -> Table:
    """The same by epoch and block: share of patches above three medians, and norms."""
    columns = [
        Column("model_label", "Training"),
        Column("epoch", "Epoch", "r"),
        Column("block", "Block", "r"),
        Column("share_above", "Above three medians (%)", "r", decimals=3),
        Column("norm_median", "Median norm", "r"),
        Column("norm_p99", "99th pct.", "r"),
        Column("norm_max", "Largest", "r"),
    ]
    table = Table(columns, ("dataset", "model"), empty=EMPTY)
    rows = study.rows[(study.rows["readout"] == "training") & study.rows["metric"].isin(list(UNITS))]
    wide = rows.assign(epoch=rows["intervention"].str.removeprefix("epoch ").astype(int)).pivot(
        index=["model", "epoch", "layer"], columns="metric", values="value"
    )
    datasets = _datasets(study)
    for model in (name for name in trained(study) if name in datasets):
        for (epoch, block), values in wide.loc[model].sort_index().iterrows():  # type: ignore[misc]
            row: dict[str, Cell] = {"dataset": datasets[model], "model": model, "model_label": study.models[model]}
            row |= {"epoch": int(epoch), "block": int(block)}
            table.add(row | {metric: Estimate(float(values[metric]), unit=unit) for metric, unit in UNITS.items()})
    return table
