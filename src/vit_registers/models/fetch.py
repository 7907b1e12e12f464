"""The step that fetches a model, by name or from a file: downstream all models are one kind of thing."""

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vit_registers.core.errors import InputError
from vit_registers.core.files import write_json
from vit_registers.core.seeds import derive
from vit_registers.data.transforms import Size
from vit_registers.models import backbone
from vit_registers.models.backbone import Backbone
from vit_registers.models.bases import FetchedModel
from vit_registers.models.loaded import Loaded
from vit_registers.models.preprocess import Preprocess
from vit_registers.models.supported import layout_of
from vit_registers.pipeline.configs import FetchConfig

log = logging.getLogger(__name__)


def run(cfg: FetchConfig, out: Path) -> None:
    """Write ``out``/model.json; weights of OpenCLIP and of files go beside it, timm's stay in the hub's cache."""
    source = cfg.source
    if not isinstance(source, FetchedModel):
        raise InputError(f"models.{cfg.name}: kind '{source.kind}' is not fetched; run the step {source.step}")
    made, loaded = make(cfg.name, source, derive(cfg.seed, "weights", cfg.name))
    if "note" in made.metadata:
        log.warning("%s: %s", cfg.name, made.metadata["note"])
    if loaded.weights is None:
        backbone.save(out, loaded.module, made.metadata)
    else:
        write_json(out / "model.json", {**made.metadata, "weights": loaded.weights})


def make(name: str, source: FetchedModel, seed: int) -> tuple[Backbone, Loaded]:
    """The model at the size that was asked for, with its metadata, and what it was made from; nothing is written.

    ``seed`` is that of random weights, if they are asked for.
    """
    loaded = source.load(name, seed)
    module: Any = loaded.module
    metadata: dict[str, Any] = {
        "name": name,
        "kind": source.kind,
        "source": loaded.source,
        "architecture": loaded.architecture,
        "image_size": source.size,
        "positions": source.positions.model_dump(),
        "parameters": sum(p.numel() for p in module.parameters()),
    }
    size = source.size or tuple(module.patch_embed.img_size)
    preprocess = _preprocess(loaded.config, size, source.resize, name)
    made = Backbone(name, module, layout_of(module, name), preprocess, metadata).at_size(size)
    metadata |= {"layout": made.layout.to_json(), "preprocess": preprocess.to_json()}
    if loaded.config["crop_mode"] not in ("center", "shortest"):
        resized = f"trained on images resized by '{loaded.config['crop_mode']}'"
        metadata["note"] = f"{resized}; cropped here, as for every model"
    if loaded.origin is not None:
        metadata["origin"] = loaded.origin
    return made, loaded


def _preprocess(config: Mapping[str, Any], size: Size, resize: int | None, name: str) -> Preprocess:
    """How images are brought to ``size``: with the shorter side at ``resize`` pixels first, or as the weights say."""
    height, width = (math.floor(side / config["crop_pct"]) for side in size)  # as timm's own transform rounds
    if resize is not None:
        if resize < max(size):
            raise InputError(f"models.{name}.resize: {resize} pixels are less than the input of {size[0]}x{size[1]}")
        height = width = resize
    return Preprocess(size, (height, width), config["interpolation"], tuple(config["mean"]), tuple(config["std"]))
