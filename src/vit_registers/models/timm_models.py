"""timm's models by name; their weights stay in the hub's cache, pinned to a commit and checked at every load."""

import difflib
from dataclasses import replace
from typing import Any

import timm
import torch
from timm.data.config import resolve_data_config
from timm.models import get_pretrained_cfg
from torch import nn

from vit_registers.core.errors import InputError, reason
from vit_registers.models import backbone
from vit_registers.models.loaded import Loaded
from vit_registers.models.supported import layout_of
from vit_registers.models.weights import hub
from vit_registers.models.weights.hub import HubFile, Pin

# Above what anybody trained, by argument.
LARGEST = {
    "depth": 1000, "embed_dim": 65_536, "num_heads": 1024, "img_size": 16_384, "patch_size": 16_384, "reg_tokens": 4096,
    "num_classes": 10_000_000, "mlp_ratio": 1000,
}  # fmt: skip


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
    _refuse_immense(arguments, where)
    try:
        with torch.device("meta"):
            module = backbone.build(architecture_of(name, arguments))
    except Exception as error:  # of timm and torch, whatever an argument made them stumble over
        raise InputError(f"{where}.arguments: '{name}' refuses {arguments} ({reason(error)})") from error
    layout_of(module, name)
    return module


def _refuse_immense(arguments: dict[str, Any], where: str) -> None:
    """Refuse sizes of which a module would take the memory or the day, and images that have no three colours."""
    for key, most in LARGEST.items():
        given = arguments.get(key, 1)
        for value in given if isinstance(given, list | tuple) else [given]:
            if isinstance(value, int | float) and not 0 <= value <= most:
                raise InputError(f"{where}.arguments.{key}: expected at most {most}, got {value}; lower it")
    if arguments.get("in_chans", 3) != 3:
        raise InputError(f"{where}.arguments.in_chans: images have three colours; leave it out")


def load(name: str, arguments: dict[str, Any], seed: int | None, pin: Pin, where: str) -> Loaded:
    """The model with pretrained weights, those of ``pin``, or with random ones from ``seed`` where one is given."""
    untrained(name, arguments, where)
    architecture = architecture_of(name, arguments)
    if seed is None:
        file = _weights_of(name, pin, where)
        module, weights = backbone.from_hub(architecture, file, where), file.to_json()
    else:
        module = backbone.drawn(architecture, seed)
        weights = {"seed": seed, "sha256": backbone.state_digest(module)}
    described = f"{name} ({'pretrained' if seed is None else 'random'} weights)"
    return Loaded(module, architecture, described, resolve_data_config({}, model=module), weights)


def _weights_of(name: str, pin: Pin, where: str) -> HubFile:
    """The file with the pretrained weights of a model: safetensors where its repository has them."""
    known = get_pretrained_cfg(name)
    if known is None or not known.has_weights:
        raise InputError(f"{where}.name: timm has no weights for '{name}'; choose another model")
    if not known.hf_hub_id:
        raise InputError(
            f"{where}.name: the weights of '{name}' are in no hub but at {known.url}; download that file, then take "
            f"{{kind: file, path: ..., name: {name.partition('.')[0]}}}"
        )
    repository, _, revision = known.hf_hub_id.partition("@")
    names = [known.hf_hub_filename] if known.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]
    return hub.download(repository, names, replace(pin, revision=pin.revision or revision or None), where)
