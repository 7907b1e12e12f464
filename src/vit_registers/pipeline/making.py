"""Steps that make data, models, features and detections."""

from collections.abc import Callable
from pathlib import Path

from vit_registers.params.study import Params
from vit_registers.pipeline import configs, passing
from vit_registers.pipeline.experiment import Resources
from vit_registers.pipeline.passing import ABLATING, EXTRACTING
from vit_registers.pipeline.paths import Paths
from vit_registers.pipeline.step import Axes, Step, by_pair, dataset_file, model_file, pair_files, per


def _made_by(step: str) -> Callable[[Params], list[Axes]]:
    return lambda params: per("model", (name for name in params.models_used() if params.models[name].step == step))


def _base(params: Params, at: Paths, model: str) -> list[Path]:
    base = params.models[model].made_from
    return [model_file(at, base)] if base else []


MAKING = (
    Step(
        name="prepare",
        phase="data",
        help="Turn a data set of params into a checked manifest.",
        run="vit_registers.data.prepare:run",
        axes=("dataset",),
        jobs=lambda params: per("dataset", params.datasets_used()),
        config=configs.prepare,
        inputs=lambda params, at, dataset: [Path(path) for path in params.datasets[dataset].tracked()],
        outputs=lambda params, at, dataset: [at.dataset(dataset) / "manifest.parquet", dataset_file(at, dataset)],
        call=lambda run, config, at: run(config, at.dataset(config.name)),
    ),
    Step(
        name="fetch",
        phase="models",
        help="Load a model of timm, OpenCLIP or a checkpoint file, and record its weights with a checksum.",
        run="vit_registers.models.fetch:run",
        axes=("model",),
        jobs=_made_by("fetch"),
        config=configs.fetch,
        inputs=lambda params, at, model: [Path(path) for path in params.models[model].paths().values()],
        outputs=lambda params, at, model: [model_file(at, model)],
        call=lambda run, config, at: run(config, at.model(config.name)),
        resources=lambda params: Resources(mem_mb=8000),
    ),
    Step(
        name="train",
        phase="models",
        help="Train a ViT from scratch; resumes an interrupted run.",
        run="vit_registers.training.loop:run",
        axes=("model",),
        jobs=_made_by("train"),
        config=configs.train,
        inputs=lambda params, at, model: [dataset_file(at, params.training_dataset(model))],
        outputs=lambda params, at, model: [
            at.model(model) / name
            for name in (
                "model.json",
                "model.safetensors",
                "training.csv",
                "norms.csv",
                "time.json",
                "attention.npz",
            )
        ],
        call=lambda run, config, at: run(config, at.dataset(config.dataset), at.model(config.name)),
        resources=lambda params: Resources(mem_mb=4000, threads=params.processes, gpu=True, runtime=6000),
        priority=100,
    ),
    Step(
        name="plant",
        phase="models",
        help="Tag a trained model, or plant register neurons into a tagged one.",
        run="vit_registers.planted.plant:run",
        axes=("model",),
        jobs=_made_by("plant"),
        config=configs.plant,
        inputs=lambda params, at, model: [
            dataset_file(at, params.training_dataset(model)),
            *_base(params, at, model),
        ],
        outputs=lambda params, at, model: [at.model(model) / "model.json", at.model(model) / "model.safetensors"],
        call=lambda run, config, at: run(
            config, at.dataset(config.dataset), at.model(config.base), at.model(config.name)
        ),
        resources=lambda params: Resources(mem_mb=4000),
        priority=10,
    ),
    Step(
        name="resize",
        phase="models",
        help="Put a model of the study at another input size, its position embeddings resampled in a stated way.",
        run="vit_registers.models.resize:run",
        axes=("model",),
        jobs=_made_by("resize"),
        config=configs.resize,
        inputs=_base,
        outputs=lambda params, at, model: [model_file(at, model)],
        call=lambda run, config, at: run(config, at.model(config.source.base), at.model(config.name)),
        resources=lambda params: Resources(mem_mb=8000),
        priority=10,
    ),
    *EXTRACTING,
    Step(
        name="detect",
        phase="registers",
        help="Find outlier tokens and rank the neurons behind them.",
        run="vit_registers.registers.detect:run",
        axes=("dataset", "model"),
        jobs=lambda params: by_pair(params.detected_pairs()),
        config=configs.detect,
        inputs=lambda params, at, dataset, model: pair_files(at, dataset, model),
        outputs=lambda params, at, dataset, model: [
            at.found(dataset, model),
            at.found(dataset, model).with_suffix(".neurons.csv"),
        ],
        call=lambda run, config, at: run(
            config,
            at.dataset(config.dataset),
            at.model(config.model),
            at.found(config.dataset, config.model),
        ),
        resources=passing.resources,
        priority=1,
    ),
    Step(
        name="calibrate",
        phase="ablation",
        help="Measure means and deviations of a model's block outputs, for interventions that replace tokens.",
        run="vit_registers.extraction.calibrate:run",
        axes=("dataset", "model"),
        jobs=lambda params: [axes for axes in by_pair(params.pairs()) if configs.ablate(params, **axes).calibrated],
        config=configs.calibrate,
        inputs=lambda params, at, dataset, model: pair_files(at, dataset, model),
        outputs=lambda params, at, dataset, model: [at.calibration(dataset, model)],
        call=lambda run, config, at: run(
            config,
            at.dataset(config.dataset),
            at.model(config.model),
            at.calibration(config.dataset, config.model),
        ),
        resources=passing.resources,
        priority=1,
    ),
    *ABLATING,
)
