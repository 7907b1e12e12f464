"""A new experiment is one folder and one line of params; nothing else of the repository is touched."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from vit_registers.core import table
from vit_registers.data.manifest import COLUMNS
from vit_registers.params import reading
from vit_registers.params.bases import Intervention
from vit_registers.params.kinds import kinds
from vit_registers.pipeline import experiment

pytestmark = pytest.mark.pipeline

FOLDER = "src/vit_registers/experiments/brightness"
FILES = {
    "params.py": '''
"""Settings of the toy."""

from vit_registers.params.experiments import ExperimentParams, MeasureConfig


class Brightness(ExperimentParams):
    """How much brightness counts."""

    factor: float


class Config(MeasureConfig):
    """One model on one data set."""

    dataset: str
    model: str
    settings: Brightness
''',
    "__init__.py": '''
"""A toy: how bright the images of a data set are."""

from vit_registers.core.table import Metric
from vit_registers.experiments.brightness.params import Brightness, Config
from vit_registers.pipeline.experiment import Experiment, Figure, Measure, Table

EXPERIMENT = Experiment(
    title="Brightness of images",
    order=999,
    params=Brightness,
    measures=(
        Measure(
            name="brightness",
            run="measure:run",
            config=Config,
            reads=("manifest",),
            metrics=(
                Metric("mean_label", "label", "mean label times the factor", "higher", headline=True, exact="a toy"),
            ),
            axes={"factor": "Float64"},
            arrays=True,
        ),
    ),
    tables=(
        Table(
            name="brightness_table",
            draw="views:table",
            shows=("mean_label",),
            caption="Labels, {{ settings.factor }} fold.",
        ),
    ),
    figures=(
        Figure(
            name="brightness_figure",
            draw="views:figure",
            shows=("mean_label",),
            arrays=("brightness",),
            caption="Labels of {{ dense_images }}.",
        ),
    ),
)
''',
    "measure.py": '''
"""The toy's measure."""

from vit_registers.experiments.brightness.params import Config
from vit_registers.experiments.job import Job


def run(cfg: Config, job: Job) -> None:
    """One number, and the labels."""
    labels = job.manifest().table["label"].to_numpy()
    value = cfg.settings.factor * float(labels.mean())
    job.rows.add("mean_label", value, len(labels), intervention="baseline", factor=cfg.settings.factor)
    job.keep({"labels": labels}, "baseline")
''',
    "views.py": '''
"""The toy's table and figure."""

from matplotlib.figure import Figure

from vit_registers.views.arrays import Arrays
from vit_registers.views.columns import KEYS, MODEL, row_of
from vit_registers.views.study import Study
from vit_registers.views.table import Column, Table


def table(study: Study) -> Table:
    """A row per model."""
    made = Table([MODEL, Column("label", "Label", "mean_label")], KEYS)
    for condition in study.baselines:
        made.add(row_of(study, condition, made.columns))
    return made


def figure(study: Study, arrays: Arrays) -> Figure:
    """A histogram per model."""
    drawn = Figure()
    axes = drawn.subplots()
    for condition in study.baselines:
        axes.hist(arrays.of(condition)["labels"])
    return drawn
''',
    "methods.tex.j2": "Brightness was multiplied by << settings.factor | setting >>.\n",
    "results.tex.j2": "What << study.baselines | length >> models see: Table~\\ref{tab:brightness_table}.\n",
}


@pytest.fixture
def dropped(few):
    """The finished small study with the toy dropped in; put back afterwards."""
    folder = few.path / FOLDER
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text.lstrip())
    before = (few.path / "params.yaml").read_bytes()
    few.change("experiments: {brightness: {factor: 2.0}}")
    yield few
    (few.path / "params.yaml").write_bytes(before)
    for path in folder.iterdir():
        if path.is_file():
            path.unlink()
    few.run("git", "clean", "-fdxq", FOLDER)
    for path in [*few.path.glob("results/**/*brightness*")]:  # Snakemake leaves what no rule makes any longer
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    few.snakemake("--cores", "2")


def test_an_experiment_that_is_dropped_in_is_found_everywhere(dropped):
    touched = dropped.run("git", "status", "--porcelain", "--untracked-files=normal").splitlines()
    assert {line[3:].rstrip("/") for line in touched} == {FOLDER, "params.yaml"}
    assert "brightness" in dropped.run("vit-registers", "--help")
    assert re.search(r"^brightness$", dropped.snakemake("--list-rules"), re.MULTILINE)
    assert set(dropped.planned()) == {
        "brightness", "collect", "summarise", "table", "figure", "report_text", "report", "all",
    }  # fmt: skip

    dropped.snakemake("--cores", "2")
    results = dropped.results
    rows = table.read(results / "table.csv", _axes(dropped))
    mine = rows[rows["experiment"] == "brightness"]
    runs = reading.read_yaml(dropped.path / "params.yaml")["study"]["runs"]
    assert sorted(mine["model"]) == sorted(model for run in runs for model in run["models"])
    assert (mine["unit"] == "label").all()
    for name in ("tables/brightness_table.csv", "tables/brightness_table.tex", "figures/brightness_figure.png"):
        assert (results / name).is_file(), name
    names = ("methods", "results", "appendix")
    methods, shown, further = ((results / "report" / f"{name}.tex").read_text() for name in names)
    assert "Brightness was multiplied by $2$." in methods
    assert r"\subsection{Brightness of images}" in shown
    assert r"\resulttable{brightness_table}{\small}{Labels, 2.0 fold.}" in further
    assert "mean_label" in (results / "summary.json").read_text()


def test_dvc_runs_what_was_dropped_in(dropped):
    stages = yaml.safe_load((dropped.path / "dvc.yaml").read_text())["stages"]
    assert "src/vit_registers/experiments" in stages["measures"]["deps"]
    assert "experiments" in stages["measures"]["params"]
    assert "src/vit_registers/experiments" in dropped.run("dvc", "status", "measures") or "measures" in dropped.run(
        "dvc", "status"
    )


def _axes(project) -> dict[str, str]:
    """Axes of the copy, the toy's among them."""
    return {**experiment.axes(), "factor": "Float64"}


def test_the_name_of_an_experiment_stands_in_its_own_folder_alone():
    """Code elsewhere that names one experiment would have to be edited for the next."""
    root = Path(__file__).parents[3]
    code = [
        path for place in ("src", "workflow") for path in (root / place).rglob("*") if path.suffix in (".py", ".smk")
    ]
    # An intervention or a column of the manifest and the experiment on it have one name, and so may a table.
    shared = {*kinds("vit_registers.interventions.kinds", Intervention), *COLUMNS}
    for name, found in experiment.found().items():
        named = rf"experiments\.{name}\b" + ("" if name in shared else rf"|[\"']{name}[\"']")
        for path in code:
            if found.folder not in path.parents:
                assert not re.search(named, path.read_text()), f"{path} names {name}"
