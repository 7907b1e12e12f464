"""Jobs of declared measures in a folder of their own, and studies over the rows that they made."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vit_registers.core import table
from vit_registers.core.table import Rows
from vit_registers.experiments.job import Job
from vit_registers.params.condition import BASELINE
from vit_registers.params.study import Comparison, Run
from vit_registers.pipeline import experiment
from vit_registers.views.plan import Plan
from vit_registers.views.study import Study


def job_of(measure: str, root: Path, out: str = "out", **axes: str) -> Job:
    """A job of a declared measure at ``axes``; what it reads and writes is below ``root``."""
    declared = experiment.measures()[measure][1]
    every = [metric for _, metric in experiment.metrics().values()]
    return Job(
        rows=Rows(
            experiment.owner(measure), every if "images" in declared.reads else declared.metrics, declared.axes, **axes
        ),
        out=root / out,
        data=root / "data",
        model=root / "model",
        models=root / "models",
        features=root / "features",
        registers=root / "registers",
        measures=root / "measures",
    )


def written(job: Job, measure: str) -> pd.DataFrame:
    """The rows of a job, written and read back."""
    declared = experiment.measures()[measure][1]
    job.write(declared.images, declared.arrays, declared.pooled)
    return table.read(job.out / "rows.csv", declared.axes)


def rows_of(measure: str, **axes: str) -> Rows:
    """Rows of a declared measure to be filled by hand: metrics and axes are checked."""
    declared = experiment.measures()[measure][1]
    return Rows(experiment.owner(measure), declared.metrics, declared.axes, **axes)


def study_of(
    tables: Iterable[Rows | pd.DataFrame],
    models: Sequence[str],
    registers: dict[str, int] | None = None,
    interventions: Sequence[str] = (),
    comparisons: Sequence[tuple[str, str]] = (),
    **plan: Any,
) -> Study:
    """A study of ``models`` on the data set ``shapes``; ``registers`` are those of the trained ones."""
    columns = table.columns(experiment.axes())
    frames = [table.frame([]), *(rows.frame() if isinstance(rows, Rows) else rows for rows in tables)]
    whole = pd.concat([frame.reindex(columns=list(columns)).astype(columns) for frame in frames], ignore_index=True)
    known = list(dict.fromkeys([*models, *(registers or {})]))
    made: dict[str, Any] = {
        "title": "a study",
        "runs": [Run(dataset="shapes", models=list(models), interventions=list(interventions))],
        "detections": [],
        "comparisons": [Comparison(question="why", a=a, b=b) for a, b in comparisons],
        "interventions": {},
        "models": {name: f"ViT {name}" for name in known},
        "conditions": {name: name for name in (BASELINE, *interventions)},
        "made": {name: "trained here" for name in known},
        "kinds": {name: "trained" for name in known},
        "bases": {},
        "resized": [],
        "registers": registers or {},
        "other_size": [],
        "confidence": 0.9,
    }
    return Study(Plan(**{**made, **plan}), whole)
