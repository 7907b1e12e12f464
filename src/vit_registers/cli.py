"""``vit-registers STEP``: every step of a study as a command a person can run.

Commands are made from the list of steps (pipeline/steps.py): one for every step that makes data, models or features,
and one for every measure of an experiment. Steps are imported when they run, because importing torch takes seconds.
"""

import inspect
import json
import logging
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from vit_registers.core.errors import InputError
from vit_registers.core.files import write_text
from vit_registers.params import reading
from vit_registers.params.study import Params
from vit_registers.pipeline import collecting, experiment
from vit_registers.pipeline.paths import Paths
from vit_registers.pipeline.step import Step
from vit_registers.pipeline.steps import array_files, row_files, steps

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

ParamsFiles = Annotated[
    list[Path] | None,
    typer.Option("--params", help="Params file; give more for overlays, in order. [default: params.yaml]"),
]
log = logging.getLogger(__name__)
AXES = {
    "dataset": Annotated[str, typer.Option(help="Name under `datasets` in params.")],
    "model": Annotated[str, typer.Option(help="Name under `models` in params.")],
    "shard": Annotated[str, typer.Option(help="Part of the batches, such as 2-of-3; their number is in params.")],
}


def _load(files: list[Path] | None) -> tuple[Params, Paths]:
    params = reading.load(files or ["params.yaml"])
    return params, Paths(params.folder)


def _execute(step: Step, study: Params, at: Paths, axes: dict[str, str]) -> None:
    """Run a job of a step, and log what it took."""
    begun = time.perf_counter()
    step.execute(step.config(study, **axes), at)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
    log.info("%s: %.1f s, at most %.1f GB of memory", step.name, time.perf_counter() - begun, peak)


def _command(step: Step) -> Callable[..., None]:
    """The command of a step: an option for each of its axes."""

    def command(params: list[Path] | None = None, **axes: str) -> None:
        study, at = _load(params)
        _execute(step, study, at, axes)

    options = [inspect.Parameter(axis, inspect.Parameter.KEYWORD_ONLY, annotation=AXES[axis]) for axis in step.axes]
    files = inspect.Parameter("params", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=ParamsFiles)
    command.__signature__ = inspect.Signature([*options, files])  # type: ignore[attr-defined]
    command.__annotations__ = {axis: AXES[axis] for axis in step.axes} | {"params": ParamsFiles}
    return command


def _train(
    model: Annotated[str, typer.Option(help="Name under `models` in params.")],
    params: ParamsFiles = None,
) -> None:
    study, at = _load(params)
    processes = study.processes  # that share the training
    if processes > 1 and "WORLD_SIZE" not in os.environ:
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [sys.executable, *torchrun, "-m", "vit_registers.cli", *sys.argv[1:]]
        sys.exit(subprocess.run(command, check=False).returncode)
    _execute(steps()["train"], study, at, {"model": model})


def _add_steps() -> None:
    for step in steps().values():
        panel = "Measures" if step.phase == "measures" else "Data, models, features"
        run = _train if step.name == "train" else _command(step)
        app.command(step.name.replace("_", "-"), help=step.help, rich_help_panel=panel)(run)


_add_steps()


@app.command(rich_help_panel="Tables, figures, report")
def collect(measure: Annotated[str, typer.Argument(help="Name of a measure.")], params: ParamsFiles = None) -> None:
    """Collect the rows of all jobs of a measure in one table."""
    study, at = _load(params)
    _known(measure, steps(), "measure")
    collecting.collect(study, at, measure)


@app.command(rich_help_panel="Tables, figures, report")
def summarise(params: ParamsFiles = None) -> None:
    """Put the rows of all measures into the tidy table, and headline numbers into JSON for `dvc metrics`."""
    collecting.summarise(*_load(params))


@app.command(rich_help_panel="Tables, figures, report")
def table(name: Annotated[str, typer.Argument(help="Name of the table.")], params: ParamsFiles = None) -> None:
    """Make a table, as CSV and LaTeX."""
    from vit_registers.views import engine

    study, at = _load(params)
    found, view = _known(name, experiment.tables(), "table")
    engine.table(found, view, study, row_files(study, at, view), at.tables)


@app.command(rich_help_panel="Tables, figures, report")
def figure(name: Annotated[str, typer.Argument(help="Name of the figure.")], params: ParamsFiles = None) -> None:
    """Draw a figure, as PDF and PNG."""
    from vit_registers.views import engine

    study, at = _load(params)
    found, view = _known(name, experiment.figures(), "figure")
    array_files(study, at, view)
    engine.figure(found, view, study, row_files(study, at, view), at)


def _known(name: str, among: dict[str, Any], what: str) -> Any:
    if name not in among:
        raise InputError(f"no {what} '{name}'; known are {', '.join(among)}")
    return among[name]


@app.command(rich_help_panel="Tables, figures, report")
def report_text(params: ParamsFiles = None) -> None:
    """Write the numbers, methods and results that report/report.tex takes in."""
    from vit_registers.report import text

    text.run(*_load(params))


@app.command(rich_help_panel="Tables, figures, report")
def report_pdf(params: ParamsFiles = None) -> None:
    """Typeset report/report.tex by latexmk."""
    from vit_registers.report import build

    _, at = _load(params)
    build.run(Path("report"), at.results, at.report)


@app.command(rich_help_panel="Other")
def plan(
    tflops: Annotated[float, typer.Option(min=0.001, help="10^12 operations a second that the GPU sustains.")] = 40.0,
    params: ParamsFiles = None,
) -> None:
    """Print what a study will take: jobs, forward passes, GPU hours, disk, and which data are missing."""
    from vit_registers import estimate

    study, at = _load(params)
    print(estimate.text(study, estimate.estimate(study, at), tflops))
    for line in reading.missing(study):
        print(f"missing: {line}")


@app.command(rich_help_panel="Other")
def schema(
    out: Annotated[Path | None, typer.Argument(help="File to write; printed without one.")] = None,
) -> None:
    """Print the JSON schema of params, for editors and the workflow catalog."""
    text = json.dumps(Params.model_json_schema(), indent=2, sort_keys=True) + "\n"
    if out is None:
        print(text, end="")
    else:
        write_text(out, text)


def modules(arguments: list[str]) -> list[str]:
    """Modules that a command imports when it runs."""
    name, *rest = arguments
    views: dict[str, dict[str, Any]] = {"table": experiment.tables(), "figure": experiment.figures()}
    if name in views and rest:
        found, view = views[name][rest[0]]
        functions = [found.function(view.draw), "vit_registers.views.engine:"]
    elif name.replace("-", "_") in steps():
        step = steps()[name.replace("-", "_")]
        functions = [step.run, *(["vit_registers.experiments.job:"] if step.phase == "measures" else [])]
    else:
        functions = ["vit_registers.report.text:"] if name == "report-text" else []
    return [function.partition(":")[0] for function in functions]


def main() -> None:
    """Entry point: an :class:`InputError` becomes one line and exit status 2."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # which tells of every glyph that a PDF takes in
    try:
        app(prog_name="vit-registers")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
