"""Jobs and rows of declared measures: metrics, units and axes are checked against what their experiments declare."""

from pathlib import Path
from typing import Any

from vit_registers.core.table import Rows
from vit_registers.experiments.job import Job
from vit_registers.pipeline import experiment


def rows(measure: str, **axes: Any) -> Rows:
    """Rows of a measure in the making, with the axes that all of them share."""
    declared = experiment.measures()[measure][1]
    return Rows(experiment.owner(measure), declared.metrics, declared.axes, **axes)


def job(measure: str, root: Path, **axes: str) -> Job:
    """A job of a measure below ``root``: data, model, features and registers where they are, or are not needed."""
    return Job(
        rows=rows(measure, **axes),
        out=root.joinpath(measure, *axes.values()),
        data=root / "data",
        model=root / "models" / axes.get("model", ""),
        features=root / "features",
        registers=root / "registers",
        measures=root / "measures",
    )
