"""Names that a reader sees in place of the keys of params."""

from collections import Counter
from collections.abc import Mapping

from vit_registers.core.prose import plural
from vit_registers.params import OtherSize, ResizedModel
from vit_registers.pipeline.slices import ViewStep

KINDS = {
    "timm": "released (timm)",
    "openclip": "released (OpenCLIP)",
    "file": "from a file",
    "trained": "trained here",
    "tagged": "tagged here",
    "planted": "planted here",
}


def _distinct(labels: Mapping[str, str]) -> dict[str, str]:
    """The same labels; where several keys share one, the key stands behind it."""
    times = Counter(labels.values())
    return {key: label if times[label] == 1 else f"{label} ({key})" for key, label in labels.items()}


def _size(size: OtherSize) -> str:
    """``ViT 64 wide, 4 deep``: what a trained model has otherwise than its recipe."""
    said = [f"{value} {word}" for value, word in ((size.width, "wide"), (size.depth, "deep")) if value]
    return f"ViT {', '.join(said) or plural(size.heads or 0, 'head')}"


def at_size(model: ResizedModel) -> str:
    """``at 48 px``; plain where positions are resampled without antialiasing."""
    height, width = model.size or (0, 0)
    side = str(height) if height == width else f"{height}x{width}"
    return f"at {side} px{'' if model.positions.antialias else ', plain'}"


def _model(cfg: ViewStep, name: str) -> str:
    kind, registers = cfg.kinds[name], cfg.registers.get(name)
    if kind == "resized":
        return f"{_model(cfg, cfg.resized[name].base)} {at_size(cfg.resized[name])}"
    if name in cfg.sizes:
        return _size(cfg.sizes[name]) + (f", {plural(registers, 'register')}" if registers else "")
    if kind == "trained" and registers is not None:
        return f"ViT with {plural(registers, 'register')}" if registers else "ViT without registers"
    if kind in ("tagged", "planted"):
        words = ["[CLS]" if word == "cls" else word for word in name.replace("_", "-").split("-")]
        return " ".join([words[0][:1].upper() + words[0][1:], *words[1:]])
    return name


def models(cfg: ViewStep) -> dict[str, str]:
    """Label of every model of the study by its key; released models keep the name people know them by.

    Trainings by several recipes differ in what only their keys say, and are called by these.
    """
    several = len(set(cfg.recipes.values())) > 1
    return _distinct({name: name if several and name in cfg.recipes else _model(cfg, name) for name in cfg.kinds})


def conditions(cfg: ViewStep) -> dict[str, str]:
    """Label of every condition by its key, said by what the intervention does, not by how its key is spelt."""
    return {"baseline": "baseline"} | _distinct({name: value.label() for name, value in cfg.interventions.items()})
