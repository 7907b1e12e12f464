"""Models by name to model cards: timm's, and OpenCLIP's visual towers carried into timm."""

import difflib
from pathlib import Path

import timm
from timm.data.config import resolve_data_config

from vit_registers.backbones import backbone, openclip
from vit_registers.backbones.backbone import Preprocess
from vit_registers.errors import InputError
from vit_registers.files import write_json
from vit_registers.params import OpenClipModel, TimmModel
from vit_registers.seeds import derive
from vit_registers.steps import FetchStep


def run(cfg: FetchStep, out: Path) -> None:
    """Write ``out``/model.json; OpenCLIP towers also get converted weights, timm's stay in the hub's cache."""
    if isinstance(cfg.source, OpenClipModel):
        openclip.fetch(cfg.source, cfg.name, out)
    elif isinstance(cfg.source, TimmModel):
        _timm(cfg.source, cfg.name, cfg.seed, out)
    else:
        raise InputError(f"models.{cfg.name}: kind '{cfg.source.kind}' is not fetched but trained or planted")


def _timm(source: TimmModel, name: str, seed: int, out: Path) -> None:
    architecture = source.name.split(".")[0]
    if not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "see timm.list_models()"
        raise InputError(f"models.{name}.name: timm has no model '{source.name}'; {hint}")
    # The seed belongs to the study and the model; the digest of the weights it gives is checked at every load.
    weights = {"seed": derive(seed, "weights", name)} if source.weights == "random" else {"hub": source.name}
    module = backbone.from_hub(source.name, weights, source.image_size)
    config = resolve_data_config({}, model=module)
    size = source.image_size or int(config["input_size"][1])
    layout = backbone.layout_of(module, source.name)
    preprocess = Preprocess(
        size=size,
        resize=round(size / config["crop_pct"]),
        interpolation=config["interpolation"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )
    card = {
        "name": name,
        "kind": "timm",
        "architecture": source.name,
        "image_size": source.image_size,
        "weights": {**weights, "sha256": backbone.state_digest(module)},
        "preprocess": preprocess.to_json(),
        "layout": layout.to_json(),
        "parameters": sum(p.numel() for p in module.parameters()),
    }
    write_json(out / "model.json", card)
