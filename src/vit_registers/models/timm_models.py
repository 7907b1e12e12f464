"""timm's models by name; their weights stay in the hub's cache, checked by digest at every load."""

import difflib
from typing import Any

import timm
import torch
from timm.data.config import resolve_data_config
from torch import nn

from vit_registers.core.errors import InputError
from vit_registers.models import backbone
from vit_registers.models.loaded import Loaded
from vit_registers.models.supported import layout_of


def architecture_of(name: str, arguments: dict[str, Any]) -> str | dict[str, Any]:
    """What :func:`backbone.build` takes: the name alone, or with arguments a mapping."""
    return {"name": name, **arguments} if arguments else name


def untrained(name: str, arguments: dict[str, Any], where: str) -> nn.Module:
    """The module without storage, so that what cannot run is refused before its weights are fetched.

    ``where`` is the key of params that messages open with.
    """
    plain, _, tag = name.partition(".")
    if not timm.is_model(plain):
        close = difflib.get_close_matches(plain, timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "see timm.list_models()"
        raise InputError(f"{where}.name: timm has no model '{name}'; {hint}")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{plain}.*")]
    if tag and tag not in tags:
        known = ", ".join(tags) or "none"
        raise InputError(f"{where}.name: timm has no weights '{name}'; known are {known}")
    try:
        with torch.device("meta"):
            module = backbone.build(architecture_of(name, arguments))
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise InputError(f"{where}.arguments: '{name}' refuses {arguments} ({backbone.reason(error)})") from None
    layout_of(module, name)
    return module


def load(name: str, arguments: dict[str, Any], seed: int | None, where: str) -> Loaded:
    """The model with pretrained weights, or with random ones from ``seed`` where one is given."""
    untrained(name, arguments, where)
    if seed is None and not timm.is_model_pretrained(name):
        raise InputError(f"{where}.name: timm has no weights for '{name}'; choose another model")
    weights: dict[str, Any] = {"hub": name} if seed is None else {"seed": seed}
    module = backbone.from_hub(architecture_of(name, arguments), weights)
    weights["sha256"] = backbone.state_digest(module)
    described = f"{name} ({'pretrained' if seed is None else 'random'} weights)"
    return Loaded(module, architecture_of(name, arguments), described, resolve_data_config({}, model=module), weights)
