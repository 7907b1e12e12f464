"""timm's models by name; their weights stay in the hub's cache, checked by digest at every load."""

import difflib
from typing import Any

import timm
import torch
from timm.data.config import resolve_data_config
from torch import nn

from vit_registers.core.errors import InputError
from vit_registers.models import backbone
from vit_registers.models.sources.loaded import Loaded
from vit_registers.models.supported import layout_of
from vit_registers.params import FileModel, TimmModel


def architecture_of(source: TimmModel | FileModel) -> str | dict[str, Any]:
    """The name, or with arguments a mapping; what :func:`backbone.build` takes."""
    return {"name": source.name, **source.arguments} if source.arguments else source.name


def untrained(source: TimmModel | FileModel, name: str) -> nn.Module:
    """The module without storage, so that what cannot run is refused before its weights are fetched."""
    plain, _, tag = source.name.partition(".")
    if not timm.is_model(plain):
        close = difflib.get_close_matches(plain, timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "see timm.list_models()"
        raise InputError(f"models.{name}.name: timm has no model '{source.name}'; {hint}")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{plain}.*")]
    if tag and tag not in tags:
        known = ", ".join(tags) or "none"
        raise InputError(f"models.{name}.name: timm has no weights '{source.name}'; known are {known}")
    try:
        with torch.device("meta"):
            module = backbone.build(architecture_of(source))
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise InputError(
            f"models.{name}.arguments: '{source.name}' refuses {source.arguments} ({backbone.reason(error)})"
        ) from None
    layout_of(module, source.name)
    return module


def load(source: TimmModel, name: str, seed: int) -> Loaded:
    """The model with pretrained weights, or with random ones from ``seed``."""
    module = untrained(source, name)
    if source.weights == "pretrained" and not timm.is_model_pretrained(source.name):
        raise InputError(f"models.{name}.name: timm has no weights for '{source.name}'; choose another model")
    weights: dict[str, Any] = {"seed": seed} if source.weights == "random" else {"hub": source.name}
    module = backbone.from_hub(architecture_of(source), weights)
    weights["sha256"] = backbone.state_digest(module)
    config = resolve_data_config({}, model=module)
    return Loaded(module, architecture_of(source), f"{source.name} ({source.weights} weights)", config, weights)
