"""The scene of the explorer of principal components: patches as colours, before and after."""

from vit_registers.experiments.geometry.figures import with_patches
from vit_registers.views import gallery
from vit_registers.views.arrays import Arrays
from vit_registers.views.scenes.widgets import Colours, MappedCondition, MappedModel, Maps
from vit_registers.views.study import Condition, Study


def components(study: Study, arrays: Arrays) -> Maps | None:
    """Every model under every condition whose patches were measured."""
    found = [_model(study, arrays, before) for before in study.baselines if with_patches(study, before)]
    return Maps(found) if found else None


def _model(study: Study, arrays: Arrays, before: Condition) -> MappedModel:
    own, conditions = arrays.of(before), []
    images = gallery.shown([own], len(own["images"]))
    for shown in with_patches(study, before):
        colours = arrays.of(shown)["colours"][images]
        label = study.condition_label(shown)
        grid = (int(colours.shape[1]), int(colours.shape[2]))
        conditions.append(MappedCondition(label, grid, {"components": Colours("first three components", colours)}))
    return MappedModel(study.model_label(before), own["images"][images], list(own["image_id"][images]), conditions)
