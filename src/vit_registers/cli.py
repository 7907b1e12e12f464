"""``vit-registers STEP``: every step of the study as a command a person can run.

Thin: a command picks its slice of params (``--cfg``, as Snakemake hands it over, or from ``params.yaml``) and calls
the step's ``run``. Steps are imported inside their command, because importing torch takes seconds and most need none.
"""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from vit_registers import params as params_module
from vit_registers.core.allocator import keep_freed_memory
from vit_registers.core.errors import InputError
from vit_registers.params import Params, Strict
from vit_registers.pipeline import slices as steps

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

Slice = TypeVar("Slice", bound=Strict)
Cfg = Annotated[str | None, typer.Option(help="The step's slice of params as JSON; what Snakemake passes.")]
ParamsFile = Annotated[Path, typer.Option("--params", help="Params file; ignored where --cfg is given.")]
Dataset = Annotated[str, typer.Option(help="Name under `datasets` in params.")]
ModelName = Annotated[str, typer.Option("--model", help="Name under `models` in params.")]
PARAMS = Path("params.yaml")
DATA = Path("data/prepared")
RESULTS = Path("results")


def _slice(kind: type[Slice], cfg: str | None, path: Path, pick: Callable[[Params], Any]) -> Slice:
    """The slice handed over as JSON, or picked from the params file."""
    if cfg is not None:
        return kind.model_validate_json(cfg)
    picked = pick(params_module.load(path))
    if not isinstance(picked, kind):
        raise InputError(
            f"{path}: expected what makes a {kind.__name__}, got a {type(picked).__name__}; use that command"
        )
    return picked


def _moments(dataset: str, model: str) -> Path:
    """What calibration writes: beside the ablations that need it."""
    return RESULTS / "features" / "ablated" / dataset / f"{model}.moments.safetensors"


@app.command()
def prepare(dataset: Dataset, params: ParamsFile = PARAMS, cfg: Cfg = None) -> None:
    """A data set of params to a checked manifest in data/prepared."""
    from vit_registers.data import prepare as step

    step.run(_slice(steps.PrepareStep, cfg, params, lambda p: steps.prepare(p, dataset)), DATA / dataset)


@app.command()
def fetch(model: ModelName, params: ParamsFile = PARAMS, cfg: Cfg = None) -> None:
    """A model of timm, OpenCLIP or a checkpoint file to a model card with checksummed weights."""
    from vit_registers.models import fetch as step

    step.run(_slice(steps.FetchStep, cfg, params, lambda p: steps.model(p, model)), RESULTS / "models" / model)


@app.command()
def train(
    model: ModelName,
    processes: Annotated[int, typer.Option(min=1, help="That share the training; as many as GPUs.")] = 1,
    params: ParamsFile = PARAMS,
    cfg: Cfg = None,
) -> None:
    """Train a ViT from nothing; goes on where a killed training was. torchrun may start it too, on several machines."""
    if processes > 1 and "WORLD_SIZE" not in os.environ:
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        os.execv(sys.executable, [sys.executable, *torchrun, "-m", "vit_registers.cli", *sys.argv[1:]])
    from vit_registers.training import loop as step

    slice_ = _slice(steps.TrainStep, cfg, params, lambda p: steps.model(p, model))
    step.run(slice_, DATA / slice_.dataset, RESULTS / "models" / model)


@app.command()
def plant(model: ModelName, params: ParamsFile = PARAMS, cfg: Cfg = None) -> None:
    """Tag a trained model, or plant register neurons into a tagged one."""
    from vit_registers.planted import plant as step

    slice_ = _slice(steps.PlantStep, cfg, params, lambda p: steps.model(p, model))
    models = RESULTS / "models"
    step.run(slice_, DATA / slice_.dataset, models / slice_.base, models / model)


@app.command()
def resize(model: ModelName, params: ParamsFile = PARAMS, cfg: Cfg = None) -> None:
    """Put a model of the study at another input size, its position embeddings resampled in a stated way."""
    from vit_registers.models import resize as step

    slice_ = _slice(steps.ResizeStep, cfg, params, lambda p: steps.model(p, model))
    models = RESULTS / "models"
    step.run(slice_, models / slice_.source.base, models / model)


@app.command()
def extract(
    dataset: Dataset,
    model: ModelName,
    ablated: Annotated[bool, typer.Option(help="All named interventions of the pair instead of the baseline.")] = False,
    params: ParamsFile = PARAMS,
    cfg: Cfg = None,
) -> None:
    """One pass over a data set per intervention, to memory-mapped features; resumes, and skips what is complete."""
    from vit_registers.extraction import extract as step

    slice_ = _slice(steps.ExtractStep, cfg, params, lambda p: steps.extract(p, dataset, model, ablated))
    registers = RESULTS / "registers" / dataset / f"{model}.json" if ablated else None
    calibration = _moments(dataset, model) if slice_.calibrated else None
    step.run(slice_, DATA / dataset, RESULTS / "models" / model, RESULTS / "features", registers, calibration)


@app.command()
def calibrate(dataset: Dataset, model: ModelName, params: ParamsFile = PARAMS, cfg: Cfg = None) -> None:
    """Activation statistics of a model's block outputs, for ablations that draw from them."""
    from vit_registers.extraction import calibrate as step

    slice_ = _slice(steps.CalibrateStep, cfg, params, lambda p: steps.calibrate(p, dataset, model))
    step.run(slice_, DATA / dataset, RESULTS / "models" / model, _moments(dataset, model))


@app.command()
def detect(dataset: Dataset, model: ModelName, params: ParamsFile = PARAMS, cfg: Cfg = None) -> None:
    """Find artifact tokens and rank the neurons behind them."""
    from vit_registers.registers import detect as step

    step.run(
        _slice(steps.DetectStep, cfg, params, lambda p: steps.detect(p, dataset, model)),
        DATA / dataset,
        RESULTS / "models" / model,
        RESULTS / "features",
        RESULTS / "registers" / dataset / f"{model}.json",
        RESULTS / "readouts" / "detection" / dataset / f"{model}.csv",
    )


@app.command()
def neurons(model: ModelName, params: ParamsFile = PARAMS, cfg: Cfg = None) -> None:
    """The register neurons of a model, and whether other data sets find the same ones."""
    from vit_registers.registers import neuron_overlap as step

    step.run(
        _slice(steps.NeuronsStep, cfg, params, lambda p: steps.neurons(p, model)),
        RESULTS / "registers",
        RESULTS / "readouts" / "neurons" / f"{model}.csv",
    )


@app.command()
def tokens(dataset: Dataset, model: ModelName, params: ParamsFile = PARAMS, cfg: Cfg = None) -> None:
    """Norms and attention of tokens, layer by layer and condition by condition."""
    from vit_registers.experiments.token_statistics import measure as step

    step.run(
        _slice(steps.TokensStep, cfg, params, lambda p: steps.tokens(p, dataset, model)),
        DATA / dataset,
        RESULTS / "features",
        RESULTS / "registers" / dataset / f"{model}.json",
        RESULTS / "readouts" / "tokens" / dataset,
    )


@app.command()
def information(dataset: Dataset, model: ModelName, params: ParamsFile = PARAMS, cfg: Cfg = None) -> None:
    """What single tokens know of their place, their pixels and their image: high-norm patches against others."""
    from vit_registers.experiments.single_tokens import measure as step

    step.run(
        _slice(steps.InformationStep, cfg, params, lambda p: steps.information(p, dataset, model)),
        DATA / dataset,
        RESULTS / "features",
        RESULTS / "registers" / dataset / f"{model}.json",
        RESULTS / "readouts" / "information" / dataset / f"{model}.csv",
    )


@app.command()
def probe(dataset: Dataset, model: ModelName, params: ParamsFile = PARAMS, cfg: Cfg = None) -> None:
    """Linear probes and nearest neighbours on cached features."""
    from vit_registers.experiments.classification import measure as step

    slice_ = _slice(steps.ProbeStep, cfg, params, lambda p: steps.probe(p, dataset, model))
    step.run(slice_, DATA / dataset, RESULTS / "features", RESULTS / "readouts" / "probe" / dataset)


@app.command()
def lost(dataset: Dataset, model: ModelName, params: ParamsFile = PARAMS, cfg: Cfg = None) -> None:
    """LOST boxes and CorLoc on cached keys."""
    from vit_registers.experiments.object_discovery import measure as step

    slice_ = _slice(steps.LostStep, cfg, params, lambda p: steps.lost(p, dataset, model))
    step.run(slice_, DATA / dataset, RESULTS / "features", RESULTS / "readouts" / "lost" / dataset)


@app.command()
def dense(dataset: Dataset, model: ModelName, params: ParamsFile = PARAMS, cfg: Cfg = None) -> None:
    """Segmentation and depth by linear heads on cached patch tokens."""
    from vit_registers.experiments.dense_prediction import measure as step

    slice_ = _slice(steps.DenseStep, cfg, params, lambda p: steps.dense(p, dataset, model))
    step.run(slice_, DATA / dataset, RESULTS / "features", RESULTS / "readouts" / "dense" / dataset)


@app.command()
def zero_shot(dataset: Dataset, model: ModelName, params: ParamsFile = PARAMS, cfg: Cfg = None) -> None:
    """Classes told by OpenCLIP's text tower from cached [CLS] tokens."""
    from vit_registers.experiments.zero_shot import measure as step

    slice_ = _slice(steps.ZeroShotStep, cfg, params, lambda p: steps.zero_shot(p, dataset, model))
    out = RESULTS / "readouts" / "probe" / dataset
    step.run(slice_, DATA / dataset, RESULTS / "models" / model, RESULTS / "features", out)


@app.command()
def sweep(dataset: Dataset, model: ModelName, params: ParamsFile = PARAMS, cfg: Cfg = None) -> None:
    """LOST under every setting, in one pass; the best is chosen on one part of the images, reported on the other."""
    from vit_registers.experiments.object_discovery import sweep as step

    slice_ = _slice(steps.SweepStep, cfg, params, lambda p: steps.sweep(p, dataset, model))
    out = RESULTS / "readouts" / "sweep" / dataset / f"{model}.csv"
    step.run(slice_, DATA / dataset, RESULTS / "models" / model, out)


@app.command()
def training(model: ModelName, params: ParamsFile = PARAMS, cfg: Cfg = None) -> None:
    """Loss, patch norms and attention by epoch, as they were watched while a model trained."""
    from vit_registers.experiments.emergence import measure as step

    step.run(
        _slice(steps.TrainingStep, cfg, params, lambda p: steps.training(p, model)),
        RESULTS / "models" / model,
        RESULTS / "readouts" / "training",
    )


@app.command()
def cost(params: ParamsFile = PARAMS, cfg: Cfg = None) -> None:
    """What registers cost: parameters and operations of architectures, counted without weights."""
    from vit_registers.experiments.register_cost import measure as step

    step.run(_slice(steps.CostStep, cfg, params, steps.cost), RESULTS / "readouts" / "cost.csv")


@app.command()
def energy(params: ParamsFile = PARAMS, cfg: Cfg = None) -> None:
    """Energy and carbon of the trainings, from the time they took, and what papers list beside its arithmetic."""
    from vit_registers.experiments.training_energy import measure as step

    step.run(
        _slice(steps.EnergyStep, cfg, params, steps.energy), RESULTS / "models", RESULTS / "readouts" / "energy.csv"
    )


@app.command()
def compare(dataset: Dataset, params: ParamsFile = PARAMS, cfg: Cfg = None) -> None:
    """Paired differences between conditions, image by image."""
    from vit_registers.experiments.comparisons import measure as step

    slice_ = _slice(steps.CompareStep, cfg, params, lambda p: steps.compare(p, dataset))
    step.run(slice_, RESULTS / "readouts", RESULTS / "readouts" / "comparisons" / f"{dataset}.csv")


@app.command()
def collect(
    out: Annotated[Path, typer.Option(help="The table of all their rows.")],
    inputs: Annotated[list[Path] | None, typer.Argument(help="Tidy tables; none where a readout was left out.")] = None,
    summary: Annotated[
        Path | None, typer.Option(help="Also the headline numbers as nested JSON, for dvc metrics.")
    ] = None,
) -> None:
    """Several tidy tables as one."""
    from vit_registers.experiments import collect as step

    step.run(inputs or [], out, summary)


@app.command()
def table(
    name: Annotated[str, typer.Argument(help="Name of the table.")],
    metrics: Annotated[list[Path], typer.Argument(help="Tidy tables that hold its rows.")],
    params: ParamsFile = PARAMS,
    cfg: Cfg = None,
) -> None:
    """A view of the tidy table, as CSV and LaTeX."""
    from vit_registers.views import tables as step

    step.run(name, _slice(steps.ViewStep, cfg, params, steps.view), metrics, RESULTS / "tables")


@app.command()
def figure(
    name: Annotated[str, typer.Argument(help="Name of the figure.")],
    metrics: Annotated[list[Path] | None, typer.Argument(help="Tidy tables that hold its rows.")] = None,
    params: ParamsFile = PARAMS,
    cfg: Cfg = None,
) -> None:
    """A figure, as PDF and PNG."""
    from vit_registers.views import figures as step

    step.run(
        name, _slice(steps.ViewStep, cfg, params, steps.view), metrics or [], RESULTS / "readouts", RESULTS / "figures"
    )


@app.command()
def report_text(params: ParamsFile = PARAMS, cfg: Cfg = None) -> None:
    """Numbers, methods text and versions that report.tex takes in."""
    from vit_registers.report import numbers as step

    slice_ = _slice(steps.ReportStep, cfg, params, steps.report)
    step.run(slice_, RESULTS / "metrics" / "metrics.csv", RESULTS / "models", DATA, RESULTS / "report")


@app.command()
def report_pdf() -> None:
    """report/report.tex to report/report.pdf by latexmk."""
    from vit_registers.report import build as step

    step.run(Path("report"))


def main() -> None:
    """Entry point: an :class:`InputError` becomes one line and exit status 2."""
    keep_freed_memory()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # which tells of every glyph that a PDF takes in
    try:
        app()
    except InputError as error:
        sys.exit(_fail(str(error)))


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
