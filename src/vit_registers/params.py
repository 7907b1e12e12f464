"""``params.yaml``, typed and validated: what a study runs, and the slice of it that each step may see.

A step gets its slice and nothing else, so that changing a value redoes what depends on it and nothing more. Slices
leave out the axes that are already in the path of the output (data set, model) where a list of them is meant.
"""

import contextlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vit_registers.errors import InputError

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_+-]*$")]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]


class Strict(BaseModel):
    """Unknown keys are refused, types are never coerced, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


# --- data sets -------------------------------------------------------------------------------------------------------


class GeneratedDataset(Strict):
    """Shapes on a textured ground: class, box, mask, depth and correspondence pair of every image are known."""

    kind: Literal["generated"]
    train: Count
    test: Count
    size: Annotated[int, Field(ge=32)] = 64


class FolderDataset(Strict):
    """``path/<class>/image`` with a stratified split, or ``path/{train,test}/<class>/image`` with the given one."""

    kind: Literal["folder"]
    path: str
    test_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    licence: str = "unknown"


class CsvDataset(Strict):
    """A CSV file of images in nested folders below ``root``, with labels and the split that ships with the data.

    ``path``, ``label``, ``split`` and ``box`` name columns; ``box`` columns are x0, y0, x1, y1 in pixels.
    """

    kind: Literal["csv"]
    csv: str
    root: str
    path_column: str = "path"
    label_column: str = "label"
    split_column: str = "split"
    box_columns: tuple[str, str, str, str] | None = None
    licence: str = "unknown"


Dataset = Annotated[GeneratedDataset | FolderDataset | CsvDataset, Field(discriminator="kind")]


# --- models ----------------------------------------------------------------------------------------------------------


class TimmModel(Strict):
    """A model of timm by name; ``weights: random`` must be asked for, it is never a fallback."""

    kind: Literal["timm"]
    name: str
    weights: Literal["pretrained", "random"] = "pretrained"
    image_size: Count | None = None


class OpenClipModel(Strict):
    """The visual tower of an OpenCLIP model, e.g. ``ViT-B-16`` with ``pretrained: laion2b_s34b_b88k``."""

    kind: Literal["openclip"]
    name: str
    pretrained: str | None
    image_size: Count | None = None


class TrainedModel(Strict):
    """A small ViT that the pipeline trains by itself."""

    kind: Literal["trained"]
    dataset: Name
    recipe: Name
    registers: Whole


class TaggedModel(Strict):
    """``base`` with a tag added to some position embeddings: the clean reference of a planted model."""

    kind: Literal["tagged"]
    base: Name
    planting: Name


class PlantedModel(Strict):
    """A tagged model with register neurons written into one MLP: the oracle, because its neurons are known."""

    kind: Literal["planted"]
    base: Name
    planting: Name


Model = Annotated[TimmModel | OpenClipModel | TrainedModel | TaggedModel | PlantedModel, Field(discriminator="kind")]


class Architecture(Strict):
    """Arguments of timm's ``VisionTransformer`` for the models trained here; [CLS] and learned positions always."""

    image_size: Count
    patch_size: Count
    width: Count
    depth: Count
    heads: Count


class Recipe(Strict):
    """AdamW with linear warm-up and cosine decay to zero; fixed epochs, so that results never depend on speed."""

    architecture: Architecture
    epochs: Count
    batch_size: Count
    lr: Positive
    betas: tuple[Share, Share]
    weight_decay: Annotated[float, Field(ge=0.0)]
    warmup_share: Share
    label_smoothing: Share
    clip_norm: Positive
    precision: Literal["fp32", "bf16"]
    checkpoint_steps: Count


class Planting(Strict):
    """How register neurons are planted; the closed form is in ``backbones/planting.py``."""

    block: Whole
    neurons: Annotated[int, Field(ge=2, multiple_of=2)]
    positions: list[Whole]
    tag_strength: Positive
    images: Count
    norm_ratio: Positive
    direction: Literal["random", "cls"]


# --- the pass --------------------------------------------------------------------------------------------------------


class Extraction(Strict):
    """What the pass over a data set keeps."""

    batch_size: Count
    precision: Literal["fp32", "bf16", "fp16"]
    dense_split: str
    dense_images: Count
    keys_layers: list[int]


class Append(Strict):
    """Zero tokens appended and nothing else touched: the control of every test-time register."""

    kind: Literal["append"]
    tokens: Count


class MoveNeurons(Strict):
    """Test-time registers (jiang2025): register neurons moved from the patches to ``tokens`` appended tokens.

    ``neurons`` says which: those ``found`` by detection, the first ``half`` of them, the ``next`` as many in the
    ranking, or as many at ``random`` from the same layers. ``tokens: 0`` clears the neurons without a register.
    The switches default to what the paper describes; PROTOCOLS: the published code takes ``max_over: layer``.
    """

    kind: Literal["move"]
    tokens: Whole
    neurons: Literal["found", "half", "next", "random"] = "found"
    scale: float = 1.0
    patches: Literal["zero", "mean", "only_outliers", "same"] = "zero"
    max_over: Literal["neuron", "layer"] = "neuron"
    max_includes_cls: bool = False
    clear_cls: bool = False


class Zero(Strict):
    """Zeros in place of [CLS] or the registers at every block output (parodi2026) or at the last only."""

    kind: Literal["zero"]
    tokens: Literal["cls", "registers"]
    at: Literal["every", "last"] = "every"


Intervention = Annotated[Append | MoveNeurons | Zero, Field(discriminator="kind")]


class Detection(Strict):
    """Artifact tokens and register neurons (PROTOCOLS: kukade2025, jiang2025)."""

    threshold_rule: Literal["ratio", "absolute", "percentile"]
    threshold: Positive
    outlier_layer: int
    highest_layer: int
    top_k: Count
    images: Count
    minimum_share: Share
    sparsity: Literal["off", "signed", "absolute"]
    bootstrap: Count

    @model_validator(mode="after")
    def _percentile_below_100(self) -> "Detection":
        if self.threshold_rule == "percentile" and self.threshold >= 100:
            raise ValueError(f"threshold: a percentile must be below 100, got {self.threshold}")
        return self


# --- readouts --------------------------------------------------------------------------------------------------------


class Probe(Strict):
    """Linear probe of kukade2025: AdamW, cosine to ``final_lr``, best epoch by validation loss."""

    features: list[Literal["cls", "appended", "patch_mean", "cls+patch_mean"]]
    seeds: list[int]
    lr: Positive
    final_lr: Positive
    weight_decay: Annotated[float, Field(ge=0.0)]
    epochs: Count
    batch_size: Count
    clip_norm: Positive
    validation_share: Share


class Knn(Strict):
    """Weighted nearest neighbours on L2-normalised features, as DINOv2 evaluates."""

    k: Count
    temperature: Positive


class Lost(Strict):
    """LOST (simeoni2021): one box per image from the similarity of its patch keys."""

    layer: int
    k: Count
    normalise: bool
    centre: bool
    bias: float


class Gallery(Strict):
    """The images that figures show, the same for every model: the first of the dense split from as many classes."""

    images: Count


class Comparison(Strict):
    """A paired difference: ``a`` minus ``b``, each ``model/intervention``, over the same test images."""

    question: str
    a: Annotated[str, Field(pattern=r"^[^/]+/[^/]+$")]
    b: Annotated[str, Field(pattern=r"^[^/]+/[^/]+$")]


class Statistics(Strict):
    """Intervals and paired tests."""

    confidence: Annotated[float, Field(gt=0.5, lt=1.0)]
    resamples: Count


class Run(Strict):
    """Models on a data set, each at baseline and under every named intervention."""

    dataset: Name
    models: Annotated[list[Name], Field(min_length=1)]
    interventions: list[Name]


class Study(Strict):
    """What the report is called and what it runs."""

    title: str
    runs: Annotated[list[Run], Field(min_length=1)]
    comparisons: list[Comparison]


# --- the whole -------------------------------------------------------------------------------------------------------


class Params(Strict):
    """The whole of ``params.yaml``."""

    seed: Whole
    device: Literal["auto", "cpu", "cuda", "mps"]
    study: Study
    datasets: Annotated[dict[Name, Dataset], Field(min_length=1)]
    models: Annotated[dict[Name, Model], Field(min_length=1)]
    recipes: dict[Name, Recipe]
    plantings: dict[Name, Planting]
    extraction: Extraction
    interventions: dict[Name, Intervention]
    detection: Detection
    detection_overrides: dict[Name, dict[str, Any]]
    probe: Probe
    knn: Knn
    lost: Lost
    gallery: Gallery
    statistics: Statistics

    @model_validator(mode="after")
    def _names_exist(self) -> "Params":
        def known(where: str, name: str, among: Any, what: str) -> None:
            if name not in among:
                raise ValueError(f"{where}: unknown {what} '{name}'; known are {', '.join(sorted(among)) or 'none'}")

        if "baseline" in self.interventions:
            raise ValueError("interventions.baseline: the name is taken by the empty intervention")
        for name, model in self.models.items():
            where = f"models.{name}"
            if isinstance(model, TrainedModel):
                known(f"{where}.dataset", model.dataset, self.datasets, "data set")
                known(f"{where}.recipe", model.recipe, self.recipes, "recipe")
            elif isinstance(model, TaggedModel | PlantedModel):
                known(f"{where}.base", model.base, self.models, "model")
                known(f"{where}.planting", model.planting, self.plantings, "planting")
                expected = "trained" if isinstance(model, TaggedModel) else "tagged"
                if self.models[model.base].kind != expected:
                    raise ValueError(f"{where}.base: expected a {expected} model, '{model.base}' is not one")
        seen: set[tuple[str, str]] = set()
        for i, run in enumerate(self.study.runs):
            known(f"study.runs[{i}].dataset", run.dataset, self.datasets, "data set")
            for model_name in run.models:
                known(f"study.runs[{i}].models", model_name, self.models, "model")
                if (run.dataset, model_name) in seen:
                    raise ValueError(f"study.runs[{i}].models: '{model_name}' runs on '{run.dataset}' already")
                seen.add((run.dataset, model_name))
            for intervention in run.interventions:
                known(f"study.runs[{i}].interventions", intervention, self.interventions, "intervention")
        for i, comparison in enumerate(self.study.comparisons):
            for side in (comparison.a, comparison.b):
                model_name, intervention = side.split("/")
                if not any(
                    model_name in r.models and intervention in ["baseline", *r.interventions] for r in self.study.runs
                ):
                    raise ValueError(
                        f"study.comparisons[{i}]: no run has '{side}'; add it to study.runs or drop the comparison"
                    )
        for name, override in self.detection_overrides.items():
            known("detection_overrides", name, self.models, "model")
            for key in override:
                known(f"detection_overrides.{name}", key, Detection.model_fields, "key")
            self.detection_of(name)
        return self

    # Where things are asked for by name.

    def detection_of(self, model: str) -> Detection:
        """The general detection settings with the model's own on top."""
        settings = self.detection.model_dump() | self.detection_overrides.get(model, {})
        return Detection.model_validate(settings)

    def pairs(self) -> list[tuple[str, str]]:
        """Every (data set, model) of the study, in the order of the runs."""
        return [(run.dataset, model) for run in self.study.runs for model in run.models]

    def conditions(self, dataset: str, model: str) -> list[str]:
        """Names of the interventions on this pair, ``baseline`` first."""
        for run in self.study.runs:
            if run.dataset == dataset and model in run.models:
                return ["baseline", *run.interventions]
        raise InputError(f"study.runs: no run has model '{model}' on data set '{dataset}'")

    def datasets_used(self) -> list[str]:
        """Data sets that a run or a training of the study reads."""
        trained = [self.models[m] for m in self.models_used()]
        names = [run.dataset for run in self.study.runs]
        names += [m.dataset for m in trained if isinstance(m, TrainedModel)]
        return list(dict.fromkeys(names))

    def models_used(self) -> list[str]:
        """Models that a run needs, with those they are made from, bases first."""
        names: list[str] = []

        def visit(name: str) -> None:
            model = self.models[name]
            if isinstance(model, TaggedModel | PlantedModel):
                visit(model.base)
            if name not in names:
                names.append(name)

        for _, model in self.pairs():
            visit(model)
        return names

    def training_dataset(self, model: str) -> str:
        """The data set that a trained model, or the trained model behind a tagged or planted one, was trained on."""
        source = self.models[model]
        while isinstance(source, TaggedModel | PlantedModel):
            source = self.models[source.base]
        if not isinstance(source, TrainedModel):
            raise InputError(f"models.{model}: not trained by this pipeline")
        return source.dataset


def check_paths(params: Params, source: str = "params.yaml") -> None:
    """Refuse a data set whose folder or CSV file is not there, before anything runs."""
    for name in params.datasets_used():
        dataset = params.datasets[name]
        wanted = {"path": dataset.path} if isinstance(dataset, FolderDataset) else {}
        if isinstance(dataset, CsvDataset):
            wanted = {"csv": dataset.csv, "root": dataset.root}
        for key, path in wanted.items():
            if not Path(path).exists():
                raise InputError(
                    f"{source}: datasets.{name}.{key}: no such path '{path}'; correct it or mount the disk"
                )


# --- reading ---------------------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice: YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping: dict[Any, Any] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=deep)
            if key in mapping:
                raise InputError(
                    f"{self.name}: line {key_node.start_mark.line + 1}: key '{key}' is given twice; keep one"
                )
            mapping[key] = None
        return super().construct_mapping(node, deep)


def read_yaml(path: Path | str) -> dict[str, Any]:
    """One YAML file as a mapping, or :class:`InputError` with file and line."""
    try:
        with open(path, encoding="utf-8") as file:
            content = yaml.load(file, _Loader)
    except FileNotFoundError:
        raise InputError(f"{path}: no such params file") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        raise InputError(f"{path}: {line}not valid YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping of params, got {type(content).__name__}")
    return content


def overlay(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``change`` on top, mappings merged key by key, everything else replaced (as Snakemake does)."""
    merged = dict(base)
    for key, value in change.items():
        mergeable = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = overlay(merged[key], value) if mergeable else value
    return merged


def _explain(error: Any, kinds: set[str]) -> str:
    """``key.path: what was expected``; the tags that pydantic adds for unions are left out of the path."""
    parts = [p for p in error["loc"] if not (isinstance(p, str) and (p in kinds or p == "[key]"))]
    where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in parts).lstrip(".")
    message = error["msg"].removeprefix("Value error, ")
    given = error.get("input")
    if error["type"] == "extra_forbidden":
        message = "unknown key; remove it or correct its spelling"
    elif error["type"] == "missing":
        message = "missing; give it a value"
    elif isinstance(given, str | int | float | bool | None):
        message = f"{message[0].lower()}{message[1:]}, got {given!r}"
        if isinstance(given, str) and error["type"] == "float_type":
            with contextlib.suppress(ValueError):
                message += f" (YAML reads this as text: write {float(given):.1e})"
    return f"{where}: {message}" if where else message


def parse(content: dict[str, Any], source: str = "params.yaml") -> Params:
    """Validate params, or raise :class:`InputError` naming file, key and what was expected, for the first error."""
    try:
        return Params.model_validate_json(json.dumps(content))
    except ValidationError as invalid:
        kinds = {
            "generated",
            "folder",
            "csv",
            "timm",
            "openclip",
            "trained",
            "tagged",
            "planted",
            "append",
            "move",
            "zero",
        }
        errors = invalid.errors()
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise InputError(f"{source}: {_explain(errors[0], kinds)}{more}") from None
    except TypeError as error:
        raise InputError(f"{source}: {error}") from None


def load(path: Path | str = "params.yaml", overlays: list[Path] | None = None) -> Params:
    """Read ``params.yaml`` and any overlays on top of it."""
    content = read_yaml(path)
    for extra in overlays or []:
        content = overlay(content, read_yaml(extra))
    return parse(content, " + ".join(str(p) for p in [path, *(overlays or [])]))
