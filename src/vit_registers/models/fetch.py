"""Models by name or from a file to model cards: downstream, all of them are one kind of thing."""

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
from vit_registers.models.preprocess import Preprocess
from vit_registers.models.sources import checkpoint, openclip
from vit_registers.models.sources import timm_hub as hub
from vit_registers.models.sources.loaded import Loaded
from vit_registers.models.supported import layout_of
from vit_registers.params import FileModel, Model, OpenClipModel, TimmModel
from vit_registers.pipeline.slices import FetchStep

log = logging.getLogger(__name__)


def run(cfg: FetchStep, out: Path) -> None:
    """Write ``out``/model.json; weights of OpenCLIP and of files go beside it, timm's stay in the hub's cache."""
    loaded = _load(cfg.source, cfg.name, derive(cfg.seed, "weights", cfg.name))
    assert isinstance(cfg.source, TimmModel | OpenClipModel | FileModel)
    module: Any = loaded.module
    card: dict[str, Any] = {
        "name": cfg.name,
        "kind": cfg.source.kind,
        "source": loaded.source,
        "architecture": loaded.architecture,
        "image_size": cfg.source.size,
        "positions": cfg.source.positions.model_dump(),
        "parameters": sum(p.numel() for p in module.parameters()),
    }
    size = cfg.source.size or tuple(module.patch_embed.img_size)
    preprocess = _preprocess(loaded.config, size)
    own = Backbone(cfg.name, module, layout_of(module, cfg.name), preprocess, card)
    card |= {"layout": own.at_size(size).layout.to_json(), "preprocess": preprocess.to_json()}
    if loaded.config["crop_mode"] not in ("center", "shortest"):
        card["note"] = f"trained on images resized by '{loaded.config['crop_mode']}'; cropped here, as for every model"
        log.warning("%s: %s", cfg.name, card["note"])
    if loaded.weights is None:
        backbone.save(out, module, card)
    else:
        write_json(out / "model.json", {**card, "weights": loaded.weights})


def _load(source: Model, name: str, seed: int) -> Loaded:
    """``seed``: of random weights, where they are asked for; it belongs to the study and the model's name."""
    if isinstance(source, OpenClipModel):
        return openclip.load(source, name, seed)
    if isinstance(source, TimmModel):
        return hub.load(source, name, seed)
    if isinstance(source, FileModel):
        return checkpoint.load(source, name)
    raise InputError(f"models.{name}: kind '{source.kind}' is not fetched but trained or planted")


def _preprocess(config: Mapping[str, Any], size: Size) -> Preprocess:
    height, width = (math.floor(side / config["crop_pct"]) for side in size)  # as timm's own transform rounds
    return Preprocess(size, (height, width), config["interpolation"], tuple(config["mean"]), tuple(config["std"]))
