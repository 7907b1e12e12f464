"""OpenCLIP's text tower: a class by its name, in the space that its images are projected to."""

from collections.abc import Sequence
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor

from vit_registers.core.errors import InputError
from vit_registers.data.manifest import Manifest

NAMED = {"openai": open_clip.OPENAI_IMAGENET_TEMPLATES, "simple": open_clip.SIMPLE_IMAGENET_TEMPLATES}
BATCH = 256  # prompts at a time


def prompts(templates: str | Sequence[str], name: str) -> list[str]:
    """All prompts for the class ``name``, by the name of a set of templates or by templates with ``{}`` for the class.

    Underscores, as names of folders have them, are read as spaces.
    """
    words = name.replace("_", " ")
    if isinstance(templates, str):
        return [template(words) for template in NAMED[templates]]
    return [template.replace("{}", words) for template in templates]


def class_names(manifest: Manifest, names: str) -> list[str]:
    """Names of the classes of a data set: its own, or OpenCLIP's of ImageNet's, in the order of their WordNet ids."""
    if names == "dataset":
        return manifest.classes
    known = list(open_clip.IMAGENET_CLASSNAMES)
    if len(manifest.classes) != len(known):
        raise InputError(
            f"names: imagenet has {len(known)} classes, data set '{manifest.name}' has "
            f"{len(manifest.classes)}; write dataset"
        )
    return known


def class_embeddings(model: Any, tokenizer: Any, classes: Sequence[str], templates: str | Sequence[str]) -> Tensor:
    """Unit vectors (classes, e): of each class the mean of the unit vectors of its prompts, normalised."""
    device = next(model.parameters()).device
    found = []
    for name in classes:
        tokens = tokenizer(prompts(templates, name)).to(device)
        unit = torch.cat([model.encode_text(part, normalize=True).float() for part in tokens.split(BATCH)])
        found.append(F.normalize(unit.mean(0), dim=0))
    return torch.stack(found).cpu()


def image_embeddings(model: Any, cls: Tensor, name: str) -> Tensor:
    """Unit vectors (n, e) of [CLS] after the final norm (n, d): what the tower's projection to the text space gives.

    The conversion to timm leaves the projection out (:mod:`vit_registers.models.openclip.towers`).
    """
    tower = model.visual
    if tower.pool_type != "tok":
        raise InputError(
            f"models.{name}: its OpenCLIP tower pools '{tower.pool_type}'; zero-shot needs one that takes [CLS]"
        )
    projection = tower.proj
    return F.normalize(cls if projection is None else cls @ projection.detach().float().cpu(), dim=1)
