"""Scenes of the explorer: norms and attention over the patches of gallery images, block by block."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vit_registers.experiments.token_statistics.figures.layers import measured
from vit_registers.views import gallery
from vit_registers.views.arrays import Arrays, ByName
from vit_registers.views.scenes.widgets import MappedCondition, MappedModel, Maps, Quantity
from vit_registers.views.study import Condition, Study

MAPS = ("norms", "cls", "registers", "appended")


def norms_and_attention(study: Study, arrays: Arrays) -> Maps | None:
    """Every model under every condition that was measured."""
    models = [_model(study, arrays, before, study.of(before.dataset, before.model)) for before in study.baselines]
    found = [model for model in models if model is not None]
    return Maps(found) if found else None


def before_and_after(study: Study, arrays: Arrays) -> Maps | None:
    """Every model that neurons were moved in: as it is, test-time registers first, then its other treatments.

    The control is the same model with as many empty tokens; one that is another model is in a place of its own.
    """
    models = []
    for before in study.with_artifacts:
        treated = study.treatments(before.dataset, before.model)
        after = study.after(before)
        control = study.same_model_control(after) if after else None
        order = [before, *(c for c in (after, study.cleared(before), control) if c is not None), *treated]
        models.append(_model(study, arrays, before, list(dict.fromkeys(order))))
    found = [model for model in models if model is not None]
    return Maps(found) if found else None


def _model(study: Study, arrays: Arrays, before: Condition, conditions: list[Condition]) -> MappedModel | None:
    """A model under some conditions; None where it was not measured."""
    there = measured(study, conditions)
    if before not in there:
        return None
    own = arrays.of(before)
    label = study.model_label(before)
    images = gallery.shown([own], len(own["images"]))
    mapped = [condition(study, c, arrays.of(c), images) for c in there]
    ids, start = list(own["image_id"][images]), stands_out(own["norms"][images])
    return MappedModel(label, own["images"][images], ids, mapped, start)


def stands_out(norms: NDArray[Any]) -> tuple[int, int]:
    """The image and the block whose largest norm is furthest above the median, of norms (g, layers, h, w)."""
    cells = flat(norms)
    ratio = cells.max(axis=-1) / np.maximum(np.median(cells, axis=-1), 1e-12)
    image, block = np.unravel_index(ratio.argmax(), ratio.shape)
    return int(image), int(block)


def condition(study: Study, shown: Condition, every: ByName, images: list[int]) -> MappedCondition:
    """A condition: norms, and the attention of each special token over the patches, block by block, of some images."""
    maps = {name: every[name][images] for name in MAPS if name in every}
    blocks = [str(block) for block in range(maps["norms"].shape[1])]
    grid = (int(maps["norms"].shape[2]), int(maps["norms"].shape[3]))
    quantities = {"norms": Quantity("patch norms", flat(maps["norms"]), {"block": blocks}, bits=16)}
    names, values = _specials(maps)
    if values:
        axes = {"block": blocks, "from": names}
        stacked = flat(np.stack(values, axis=2).astype(np.float32))
        quantities["attention"] = Quantity("attention over patches", stacked, axes, unit="share", gamma=2.0)
    label = study.condition_label(shown)
    return MappedCondition(label, grid, quantities)


def flat(maps: NDArray[Any]) -> NDArray[Any]:
    """Maps (..., h, w) with their patches in a row (..., h * w)."""
    return maps.reshape(*maps.shape[:-2], -1)


def _specials(maps: ByName) -> tuple[list[str], list[NDArray[Any]]]:
    """Names of the special tokens, and their maps (g, layers, h, w)."""
    names, values = [], []
    if "cls" in maps:
        names.append("[CLS]")
        values.append(maps["cls"])
    for key, word in (("registers", "register"), ("appended", "appended token")):
        for i in range(maps[key].shape[2] if key in maps else 0):
            names.append(f"{word} {i + 1}")
            values.append(maps[key][:, :, i])
    return names, values
