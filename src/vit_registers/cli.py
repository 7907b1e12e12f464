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
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from vit_registers.core import ending, seals
from vit_registers.core.errors import InputError
from vit_registers.core.files import write_text
from vit_registers.params import reading
from vit_registers.params.study import Params
from vit_registers.pipeline import collecting, experiment
from vit_registers.pipeline.paths import Paths
from vit_registers.pipeline.step import Step
from vit_registers.pipeline.steps import array_files, row_files, shown, steps

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

ParamsFiles = Annotated[
    list[Path] | None,
    typer.Option("--params", help="Params file; give more for overlays, in order. [default: params.yaml]"),
]
log = logging.getLogger(__name__)
INTERRUPTED = 130  # what typer makes of an interrupt
SHOWN = 6  # jobs that a message names


class Weights(StrEnum):
    """Those of a model that is examined by name."""

    pretrained = "pretrained"
    random = "random"


class Device(StrEnum):
    """Where one model is examined."""

    auto = "auto"
    cuda = "cuda"
    mps = "mps"
    cpu = "cpu"


AXES = {
    "dataset": Annotated[str, typer.Option(help="Name under `datasets` in params.")],
    "model": Annotated[str, typer.Option(help="Name under `models` in params.")],
    "shard": Annotated[str, typer.Option(help="Part of the batches, such as 2-of-3; their number is in params.")],
}


@app.callback()
def _options(
    debug: Annotated[
        bool, typer.Option("--debug", envvar=ending.DEBUG, help="Show the traceback of an error as well.")
    ] = False,
) -> None:
    if debug:
        os.environ[ending.DEBUG] = "1"  # for processes that this one starts, too


def _load(files: list[Path] | None) -> tuple[Params, Paths]:
    params = reading.load(files or ["params.yaml"])
    return params, Paths(params.folder)


def _execute(step: Step, study: Params, at: Paths, axes: dict[str, str]) -> None:
    """Run a job of a step, and log what it took. What other steps wrote has to be as they wrote it."""
    begun = time.perf_counter()
    _refuse_no_job(step, study, axes)
    config, written = step.config(study, **axes), step.outputs(study, at, **axes)
    seals.check(step.inputs(study, at, **axes))
    with seals.renewed(written):
        step.execute(config, at)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
    log.info("%s: %.1f s, at most %.1f GB of memory", step.name, time.perf_counter() - begun, peak)


def _refuse_no_job(step: Step, study: Params, axes: dict[str, str]) -> None:
    """:class:`InputError` where the study has no such job. Data and models may be made that no run has."""
    named: dict[str, dict[str, Any]] = {"dataset": dict(study.datasets), "model": dict(study.models)}
    for axis, name in axes.items():
        _known(name, named[axis], {"dataset": "data set"}.get(axis, axis))
    jobs = step.jobs(study)
    if axes in jobs or step.phase == "data":
        return
    if step.phase == "models":
        makes = study.models[axes["model"]].step
        if makes != step.name:
            raise InputError(f"model '{axes['model']}' is not made by {step.name}; run `vit-registers {makes}`")
        return
    known = "; ".join([*(", ".join(job.values()) for job in jobs[:SHOWN]), *["..."] * (len(jobs) > SHOWN)]) or "none"
    raise InputError(f"{step.name}: no run of this study has {', '.join(axes.values())}; its jobs are {known}")


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
    if study.processes > 1 and "WORLD_SIZE" not in os.environ:
        _refuse_no_job(steps()["train"], study, {"model": model})
        _share(study.processes)
    else:
        _execute(steps()["train"], study, at, {"model": model})


def _share(processes: int) -> None:
    """Run this command in several processes at once, by torchrun.

    Where one of them fails its line is said, and not what torchrun has to say of it.
    """
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *torchrun, "-m", "vit_registers.cli", *sys.argv[1:]]
    failed = None
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace") as shared:
        assert shared.stderr is not None
        try:
            for line in shared.stderr:
                if line.startswith("error: "):
                    failed = failed or line
                elif failed is None:
                    sys.stderr.write(line)
        except BaseException:  # an interrupt
            shared.terminate()
            raise
    if failed is not None:
        sys.stderr.write(failed)
    if shared.returncode:
        sys.exit(ending.REFUSED if failed and ending.UNEXPECTED not in failed else ending.UNFORESEEN)


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
    found, view = _shown(study, name, experiment.tables(), "table")
    engine.table(found, view, study, _sealed(row_files(study, at, view)), at.tables)


@app.command(rich_help_panel="Tables, figures, report")
def figure(name: Annotated[str, typer.Argument(help="Name of the figure.")], params: ParamsFiles = None) -> None:
    """Draw a figure, as PDF and PNG."""
    from vit_registers.views import engine

    study, at = _load(params)
    found, view = _shown(study, name, experiment.figures(), "figure")
    _sealed(array_files(study, at, view))
    engine.figure(found, view, study, _sealed(row_files(study, at, view)), at)


def _shown(study: Params, name: str, views: dict[str, Any], what: str) -> Any:
    """A table or a figure of an experiment that the study has."""
    found, view = _known(name, views, what)
    if name not in shown(study, views):
        raise InputError(f"{what} '{name}': no run of this study has the experiment '{found.name}'; add it to one")
    return found, view


def _sealed(paths: list[Path]) -> list[Path]:
    """The files, which have to be as they were written."""
    seals.check(paths)
    return paths


def _known(name: str, among: dict[str, Any], what: str) -> Any:
    if name not in among:
        raise InputError(f"no {what} '{name}'; known are {', '.join(among)}")
    return among[name]


@app.command(rich_help_panel="Tables, figures, report")
def explorer(params: ParamsFiles = None) -> None:
    """Make explorer.html, in which results are looked at without a network."""
    from vit_registers.report.explorer import build

    build.run(*_load(params))


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


@app.command(rich_help_panel="One model")
def doctor(
    model: Annotated[
        str, typer.Argument(help="A name of timm or OpenCLIP, a checkpoint file, or results/<study>/models/<name>.")
    ],
    images: Annotated[
        Path | None, typer.Argument(help="A folder of images, or one. (default: photographs of libraries)")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for <model>.json and <model>.html.")] = Path("doctor"),
    save: Annotated[
        Path | None, typer.Option(help="File for the register neurons, as vit_registers.load_neurons reads it.")
    ] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Side of the input in pixels. (default: the model's)")] = None,
    most: Annotated[int, typer.Option("--images", min=1, help="Images at most, spread over the folder.")] = 50,
    threshold: Annotated[float, typer.Option(min=1.0, help="Outlier: so many times the median norm.")] = 3.0,
    neurons: Annotated[
        int | None, typer.Option(min=1, max=100, help="Neurons to move. (default: as few as take the outliers away)")
    ] = None,
    tokens: Annotated[int, typer.Option(min=1, help="Test-time registers.")] = 1,
    weights: Annotated[Weights, typer.Option(help="Random ones are drawn from the seed.")] = Weights.pretrained,
    pretrained: Annotated[str | None, typer.Option(help="OpenCLIP's tag of the weights.")] = None,
    architecture: Annotated[str | None, typer.Option(help="timm's name of what a checkpoint file is of.")] = None,
    argument: Annotated[
        list[str] | None, typer.Option(help="For timm, as reg_tokens=4 or img_size=224; may be repeated.")
    ] = None,
    device: Annotated[Device, typer.Option(help="auto takes cuda, then mps, then cpu.")] = Device.auto,
    threads: Annotated[int | None, typer.Option(min=1, help="Cores to use. (default: all)")] = None,
    seed: Annotated[int, typer.Option(help="Of random weights and of resamples.")] = 0,
) -> None:
    """Examine one model on a folder of images: has it outlier tokens, and would test-time registers help?"""
    logging.getLogger("timm").setLevel(logging.WARNING)  # which tells of positions that it resizes, in vain
    given = dict(_argument(each) for each in argument or [])
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch is imported: threads that spin slow others down
    from vit_registers.doctor import command
    from vit_registers.doctor.examine import Settings
    from vit_registers.doctor.model import Asked

    asked = Asked(model, architecture, given, pretrained, weights == Weights.random, size, seed, device.value)
    written = command.run(asked, images, Settings(threshold, neurons, tokens, seed), out, save, most, threads)
    print(written.verdict)
    for file in written.files:
        log.info("written: %s", file)


def _argument(text: str) -> tuple[str, Any]:
    """A key and a value of JSON, or else of text."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise InputError(f"--argument: expected <key>=<value>, as reg_tokens=4, got '{text}'")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


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
        written = {"report-text": "vit_registers.report.text:", "explorer": "vit_registers.report.explorer.build:"}
        functions = [written[name]] if name in written else []
    return [function.partition(":")[0] for function in functions]


def main() -> None:
    """Entry point: what goes wrong ends in one line (:mod:`vit_registers.core.ending`)."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # which tells of every glyph that a PDF takes in
    sys.exit(ending.ended(_run))


def _run() -> None:
    """Run the command that was asked for; its wrong use is bad input as well."""
    try:
        status = app(prog_name="vit-registers", standalone_mode=False)
    except typer.Abort as error:  # at an end of file that a library did not foresee
        raise (error.__cause__ or error) from None
    except Exception as error:
        said = getattr(error, "format_message", None)  # of what typer says of its arguments, and of nothing else
        if said is None:
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            print(said(), file=sys.stderr)
            raise SystemExit(ending.REFUSED) from None
        command = getattr(getattr(error, "ctx", None), "command_path", "vit-registers")
        raise InputError(f"{said().rstrip('.')}; see `{command} --help`") from error
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    if isinstance(status, int) and status:
        raise SystemExit(status)


if __name__ == "__main__":
    main()
