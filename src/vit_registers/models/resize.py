"""The step that puts a model at another input size: the weights of its base, and a card that says how they are read.

Nothing is computed here. Position embeddings are resampled when a model is loaded (positions.py), from the grid that
the weights were made for straight to the one asked for, in the way that the card states.
"""

import logging
import shutil
from dataclasses import replace
from pathlib import Path

from vit_registers.core.files import exclusive, replacing, write_json
from vit_registers.models import backbone as backbones
from vit_registers.models.preprocess import Preprocess
from vit_registers.params import ResizedModel
from vit_registers.pipeline.slices import ResizeStep

log = logging.getLogger(__name__)


def preprocess(base: Preprocess, source: ResizedModel) -> Preprocess:
    """The same share of the image as ``base`` takes, at the new size."""
    size = source.size
    assert size is not None  # its declaration has no null
    height, width = (new * r // s for new, r, s in zip(size, base.resize, base.size, strict=True))
    return Preprocess(size, (height, width), base.interpolation, base.mean, base.std)


def run(cfg: ResizeStep, base: Path, out: Path) -> None:
    """Write ``out``/model.json and, where ``base`` has its weights in a file, a copy of it with the same checksum.

    :class:`InputError` unless the size is whole patches. What the card of the base knows of tag and planted neurons
    stays: neurons keep their places, and positions are those of the base's own grid.
    """
    backbone = backbones.load(base)
    weights = backbone.card["weights"]
    seen = preprocess(backbone.preprocess, cfg.source)
    sized = replace(backbone, name=cfg.name).at_size(seen.size)
    card = backbone.card | {
        "name": cfg.name,
        "kind": cfg.source.kind,
        "base": {"name": cfg.source.base, "sha256": weights["sha256"]},
        "image_size": seen.size,
        "positions": cfg.source.positions.model_dump(),
        "preprocess": seen.to_json(),
        "parameters": sum(p.numel() for p in sized.module.parameters()),
        "layout": sized.layout.to_json(),
    }
    with exclusive(out):
        if "file" in weights:
            with replacing(out / weights["file"]) as temporary:
                shutil.copyfile(base / weights["file"], temporary)
        write_json(out / "model.json", card)
    log.info("%s: %s at %dx%d, %s", cfg.name, cfg.source.base, *seen.size, card["positions"])
