"""The scene of the explorer in which any token is asked what it attends to."""

import numpy as np

from vit_registers.models.layout import TokenLayout
from vit_registers.views.arrays import Arrays, ByName
from vit_registers.views.scenes.widgets import MappedCondition, MappedModel, Maps, Quantity
from vit_registers.views.study import Condition, Study


def attention_of_any_token(study: Study, arrays: Arrays) -> Maps | None:
    """Every model whose maps were kept."""
    models = []
    for before in study.baselines:
        found = [(c, arrays.of(c)) for c in study.of(before.dataset, before.model)] if arrays.has(before) else []
        conditions = [_condition(study, c, maps) for c, maps in found if "maps" in maps]
        if conditions:
            own = found[0][1]
            models.append(MappedModel(study.model_label(before), own["images"], list(own["image_id"]), conditions))
    return Maps(models) if models else None


def _condition(study: Study, shown: Condition, kept: ByName) -> MappedCondition:
    """Maps with appended tokens put before the patches, where the other special tokens are."""
    cls, registers, appended, height, width = (int(count) for count in kept["layout"])
    layout, maps = TokenLayout(cls, registers, (height, width)).with_appended(appended), kept["maps"]
    places = np.arange(layout.length)
    parts = (layout.cls_slice, layout.register_slice, layout.appended_slice, layout.patch_slice)
    order = np.concatenate([places[part] for part in parts])
    arranged = maps[..., order, :][..., order]
    names = ["[CLS]"] * cls + [f"register {i + 1}" for i in range(registers)]
    names += [f"appended token {i + 1}" for i in range(appended)]
    patches = [f"patch {row + 1}, {column + 1}" for row in range(height) for column in range(width)]
    axes = {
        "block": [str(i) for i in range(maps.shape[1])],
        "head": [str(i) for i in range(maps.shape[2])] if maps.shape[2] > 1 else ["mean"],
        "from": names + patches,
    }
    label = study.condition_label(shown)
    values = np.maximum(arranged.astype(np.float32), 0.0)
    attention = Quantity("attention", values, axes, others=names, unit="share", gamma=2.0)
    return MappedCondition(label, (height, width), {"attention": attention})
