"""Studies that the repository declares, rows of declared metrics, and a results folder that can be typeset."""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure as Drawing

from vit_registers.core import table
from vit_registers.core.files import write_json, write_text
from vit_registers.core.table import Rows
from vit_registers.params import reading
from vit_registers.params.study import Params
from vit_registers.pipeline import experiment
from vit_registers.pipeline.experiment import Figure
from vit_registers.pipeline.paths import Paths
from vit_registers.report import text
from vit_registers.views.plan import plan
from vit_registers.views.study import Study

ROOT = Path(__file__).parents[2]
STUDIES = {"embedded": [], **{path.stem: [path] for path in sorted((ROOT / "params").glob("*.yaml"))}}


def load(name: str, change: dict[str, Any] | None = None) -> Params:
    """A study of the repository, with ``change`` on top."""
    content = reading.read_yaml(ROOT / "params.yaml")
    for path in STUDIES[name]:
        content = reading.overlay(content, reading.read_yaml(path))
    return reading.parse(reading.overlay(content, change or {}))


def only(study: dict[str, Any]) -> dict[str, Any]:
    """A change of params that leaves a study with these ``runs`` and nothing that refers to others."""
    return {"study": {"trainings": [], "detections": [], "comparisons": [], **study}}


class Measured:
    """Rows as measures write them: metrics and axes are those that they declare."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def add(self, metric: str, value: float | None, n: int = 100, **axes: Any) -> None:
        """A row of ``metric``, with an interval around its value."""
        measure = experiment.metrics()[metric][0]
        found, declared = experiment.measures()[measure]
        rows = Rows(found.name, declared.metrics, declared.axes)
        bounds = {} if value is None else {"low": value - 0.01, "high": value + 0.01}
        rows.add(metric, value, n, **bounds, **axes)
        self.rows += rows.rows

    def absent(self, metric: str, reason: str, **axes: Any) -> None:
        """A row of ``metric`` without a value."""
        found, declared = experiment.measures()[experiment.metrics()[metric][0]]
        rows = Rows(found.name, declared.metrics, declared.axes)
        rows.absent([metric], reason, **axes)
        self.rows += rows.rows

    def frame(self) -> pd.DataFrame:
        """The tidy table."""
        return table.frame(self.rows, experiment.axes())


def study_of(params: Params, measured: Measured | None = None) -> Study:
    """The study over some rows, or over none."""
    return Study(plan(params), (measured or Measured()).frame())


def results(params: Params, root: Path, measured: Measured | None = None) -> Paths:
    """Folders of a study below ``root`` with all that its report takes in; its tables and figures are stand-ins."""
    at = Paths(params.study.name, root)
    for name in params.datasets_used():
        content = {"images": {"train": 4000, "test": 2000}, "source": "nowhere", "sha256": "d" * 64}
        write_json(at.dataset(name) / "dataset.json", content)
    for name in params.models_used():
        write_json(at.model(name) / "model.json", {"weights": {"sha256": "a" * 64}})
    at.results.mkdir(parents=True, exist_ok=True)
    table.write((measured or Measured()).frame(), at.table)
    for name in params.experiment_names:
        for view in text.views(params, experiment.found()[name]):
            _stand_in(at, view)
    return at


def _stand_in(at: Paths, view: Any) -> None:
    if isinstance(view, Figure):
        at.figures.mkdir(parents=True, exist_ok=True)
        Drawing(figsize=(2, 1)).savefig(at.figures / f"{view.name}.pdf")
    elif view.long:
        lines = [r"\begin{longtable}{ll}", r"\resultcaption \\", r"a & b \\", r"\end{longtable}"]
        write_text(at.tables / f"{view.name}.tex", "\n".join(lines))
    else:
        write_text(at.tables / f"{view.name}.tex", r"\begin{tabular}{ll}a & b\end{tabular}")
