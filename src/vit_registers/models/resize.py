"""The step that puts a model at another input size: the weights of its base, and metadata that say how they are read.

Nothing is computed here. Position embeddings are resampled when a model is loaded (:mod:`position_embedding`), from
the grid that the weights were made for straight to the one asked for, as the metadata state.
"""

import logging
import shutil
from dataclasses import replace
from pathlib import Path

from vit_registers.core.errors import InputError
from vit_registers.core.files import exclusive, replacing, write_json
from vit_registers.models import backbone as backbones
from vit_registers.models.preprocess import Preprocess
from vit_registers.models.sources.resized import ResizedModel
from vit_registers.pipeline.configs import ResizeConfig

log = logging.getLogger(__name__)


def preprocess(base: Preprocess, source: ResizedModel) -> Preprocess:
    """The same share of the image as ``base`` takes, at the new size."""
    size = source.size
    assert size is not None  # its declaration has no null
    height, width = (new * r // s for new, r, s in zip(size, base.resize, base.size, strict=True))
    return Preprocess(size, (height, width), base.interpolation, base.mean, base.std)


def run(cfg: ResizeConfig, base: Path, out: Path) -> None:
    """Write ``out``/model.json and, where ``base`` has its weights in a file, a copy of it with the same checksum.

    :class:`InputError` unless the size is whole patches. What the metadata of the base know of tag and planted
    neurons stays: neurons keep their places, and positions are those of the base's own grid.
    """
    source = cfg.source
    if not isinstance(source, ResizedModel):
        raise InputError(f"models.{cfg.name}: kind '{source.kind}' is not resized; run the step {source.step}")
    backbone = backbones.load(base)
    weights = backbone.metadata["weights"]
    resized = preprocess(backbone.preprocess, source)
    sized = replace(backbone, name=cfg.name).at_size(resized.size)
    metadata = backbone.metadata | {
        "name": cfg.name,
        "kind": source.kind,
        "base": {"name": source.base, "sha256": weights["sha256"]},
        "image_size": resized.size,
        "positions": source.positions.model_dump(),
        "preprocess": resized.to_json(),
        "parameters": sum(p.numel() for p in sized.module.parameters()),
        "layout": sized.layout.to_json(),
    }
    with exclusive(out):
        if "file" in weights:
            with replacing(out / weights["file"]) as temporary:
                shutil.copyfile(base / weights["file"], temporary)
        write_json(out / "model.json", metadata)
    log.info("%s: %s at %dx%d, %s", cfg.name, source.base, *resized.size, metadata["positions"])
