"""Which model is meant: a name of timm or OpenCLIP, a checkpoint file, or the folder of a model of a study."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from vit_registers.core.errors import InputError
from vit_registers.core.files import read_json
from vit_registers.core.seeds import derive
from vit_registers.models import backbone as backbones
from vit_registers.models import fetch, resize
from vit_registers.models.backbone import Backbone, pick_device
from vit_registers.models.bases import FetchedModel
from vit_registers.models.sources.checkpoint import FileModel
from vit_registers.models.sources.openclip import OpenClipModel
from vit_registers.models.sources.resized import ResizedModel
from vit_registers.models.sources.timm_hub import TimmModel

HUBS = ("hf-hub:", "hf_hub:", "timm/")  # what may stand before a name of timm
WEIGHTS = (".pth", ".pt", ".bin", ".ckpt", ".safetensors", ".npz")


@dataclass(frozen=True)
class Asked:
    """A model as the command line has it.

    ``architecture``: timm's, of a checkpoint file; ``arguments`` go to timm; ``pretrained``: OpenCLIP's tag; ``random``
    weights are drawn from ``seed``; ``size``: side of the input, None for the model's own.
    """

    model: str
    architecture: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    pretrained: str | None = None
    random: bool = False
    size: int | None = None
    seed: int = 0
    device: str = "auto"


def load(asked: Asked) -> Backbone:
    """The model, ready to be measured; :class:`InputError` where there is none, or it cannot be."""
    path = Path(asked.model)
    kind: Callable[[Asked], Backbone] = _named
    if (path / "model.json").is_file():
        kind = _of_a_study
    elif path.is_file():
        kind = _file
    elif path.is_dir():
        raise InputError(
            f"{path}: a folder without model.json; expected one of results/<study>/models, a checkpoint file, or a "
            "name of timm or OpenCLIP"
        )
    elif path.suffix in WEIGHTS or asked.model.startswith(("/", ".", "~")):
        raise InputError(f"{path}: no such file or folder; correct the path")
    with _without_params(asked):
        device = pick_device(asked.device)  # before weights are fetched
        found = kind(asked)
        return replace(found, module=found.module.to(device))


def _of_a_study(asked: Asked) -> Backbone:
    """A model that a study made, fetched or planted."""
    _refuse(asked, "a model of a study", "architecture", "arguments", "pretrained", "random")
    folder = Path(asked.model)
    if asked.size is None:
        return backbones.load(folder)
    if read_json(folder / "model.json").get("image_size") is not None:
        raise InputError(f"--size: {folder} has been resized already, from weights made for another size; leave it out")
    own = backbones.load(folder)
    sized = resize.preprocess(own.preprocess, ResizedModel(kind="resized", base="base", image_size=asked.size))
    return replace(own, preprocess=sized).at_size(sized.size)


def _file(asked: Asked) -> Backbone:
    """A checkpoint over an architecture of timm."""
    _refuse(asked, "a checkpoint file", "pretrained", "random")
    if asked.architecture is None:
        raise InputError(
            f"--architecture: missing for the checkpoint {asked.model}; give timm's name of it, as in --architecture "
            "vit_small_patch16_224"
        )
    source = FileModel(
        kind="file",
        path=asked.model,
        name=asked.architecture,
        arguments=asked.arguments,
        image_size=asked.size,
    )
    return _made(asked, Path(asked.model).stem, source)


def _named(asked: Asked) -> Backbone:
    """A model of timm, or where timm has none of this name one of OpenCLIP."""
    import timm

    name = asked.model
    for hub in HUBS:
        name = name.removeprefix(hub)
    if "/" in name:
        raise InputError(
            f"{asked.model}: of the hub only repositories of timm can be named; download the checkpoint and give its "
            "file with --architecture"
        )
    if asked.pretrained is None and (timm.is_model(name.partition(".")[0]) or not _of_openclip(name)):
        _refuse(asked, "a model by name", "architecture")
        weights: Literal["random", "pretrained"] = "random" if asked.random else "pretrained"
        source = TimmModel(kind="timm", name=name, weights=weights, arguments=asked.arguments, image_size=asked.size)
        return _made(asked, name, source)
    _refuse(asked, "a model of OpenCLIP", "architecture", "arguments")
    return _made(asked, name, OpenClipModel(kind="openclip", name=name, pretrained=_tag(asked), image_size=asked.size))


def _of_openclip(name: str) -> bool:
    """Whether OpenCLIP knows a model."""
    import open_clip

    return name in open_clip.list_models()


def _tag(asked: Asked) -> str | None:
    """OpenCLIP's tag of the weights; None for random ones. Which to take nobody can guess."""
    import open_clip

    if asked.random:
        _refuse(asked, "random weights", "pretrained")
        return None
    if asked.pretrained is None:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(asked.model)) or "none"
        raise InputError(f"--pretrained: missing for OpenCLIP's {asked.model}; its weights are {tags}")
    return asked.pretrained


def _made(asked: Asked, name: str, source: FetchedModel) -> Backbone:
    """The backbone with what is known of its weights in its metadata."""
    made, loaded = fetch.make(name, source, derive(asked.seed, "weights", name))
    known = loaded.weights or loaded.origin or {"sha256": backbones.state_digest(loaded.module), "seed": asked.seed}
    return replace(made, metadata={**made.metadata, "weights": known})


def _refuse(asked: Asked, what: str, *options: str) -> None:
    """Refuse options that do not go with what was asked for."""
    flags = {"arguments": "--argument", "random": "--weights random"}
    for option in options:
        if getattr(asked, option):
            flag = flags.get(option, f"--{option}")
            raise InputError(f"{flag}: does not go with {what} ({asked.model}); leave it out")


@contextmanager
def _without_params(asked: Asked) -> Iterator[None]:
    """Open messages by the model in place of the key of params that has it: here nobody has written any."""
    try:
        yield
    except InputError as error:
        text = str(error)
        if text.startswith("models."):
            text = text.partition(": ")[2]
            text = text if text.startswith(asked.model) else f"{asked.model}: {text}"
        raise InputError(_with_options(text)) from None


def _with_options(text: str) -> str:
    """A message with the options of the command line in place of keys of params."""
    text = text.replace("params: device:", "--device:").replace(" image_size", " --size")
    return re.sub(r"arguments: \{([^{}]*)\}", lambda found: _options(found[1]), text)


def _options(arguments: str) -> str:
    """``a: 1, b: 2`` as options."""
    return " ".join(f"--argument {each.replace(': ', '=')}" for each in arguments.split(", "))
