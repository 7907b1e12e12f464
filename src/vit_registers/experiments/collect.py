"""The step that puts the tidy tables of several readouts together."""

from pathlib import Path
from typing import Any

import pandas as pd

from vit_registers.core import table as metrics
from vit_registers.core.files import write_json

HEADLINES = ["corloc", "top1", "artifact_share", "precision", "recall", "corloc_difference", "miou", "rmse"]


def run(inputs: list[Path], out: Path, summary: Path | None) -> None:
    """Write all rows of ``inputs`` to ``out``, and the headline numbers as nested JSON to ``summary``."""
    table = metrics.concatenate(inputs)
    metrics.write(table, out)
    if summary is not None:
        write_json(summary, headlines(table))


def headlines(table: pd.DataFrame) -> dict[str, Any]:
    """dataset -> model -> intervention -> "readout metric" -> value, means over seeds: what ``dvc metrics`` shows."""
    nested: dict[str, Any] = {}
    chosen = table[table["metric"].isin(HEADLINES) & table["layer"].isna() & table["value"].notna()]
    keys = ["dataset", "model", "intervention", "readout", "metric", "reference"]
    means = chosen.groupby(keys, dropna=False)["value"].mean().reset_index()
    for dataset, model, intervention, readout, metric, reference, value in means.itertuples(index=False):
        name = f"{readout} {metric}" if pd.isna(reference) else f"{readout} {metric} to {reference}"
        nested.setdefault(dataset, {}).setdefault(model, {}).setdefault(intervention, {})[name] = round(float(value), 6)
    return nested
