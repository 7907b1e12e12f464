"""A late register taken out of a model, so that patches can hold what it held.

A model into which neurons were planted after training never needed its artifacts: clearing the neurons repairs it, and
says nothing of registers. Here artifacts are what the head reads. A model is trained whose head reads one register that
is filled in the middle (:mod:`vit_registers.models.outlier_reading`). The register is removed, and neurons of the block
before write the vector that filled it onto patches: those patches gather the class of the image as the register did, at
the cost of what they held themselves. Without register neurons nothing is left to read; moved to an appended token,
they make it what the register was. The model with its register is the ceiling, known beforehand.
"""

from dataclasses import replace
from typing import Any

from torch import Tensor

from vit_registers.models import backbone as backbones
from vit_registers.models.backbone import Backbone
from vit_registers.models.outlier_reading import OutlierReader


def filled_at(backbone: Backbone) -> int | None:
    """The block in front of which the model's late register is filled; None where it has none."""
    module = backbone.module
    return module.block if isinstance(module, OutlierReader) and module.reg_token is not None else None


def direction(backbone: Backbone) -> Tensor:
    """The unit vector (D,) float64 that the late register is filled along."""
    module: Any = backbone.module
    vector: Tensor = module.vector.detach().double()
    return vector / vector.norm()


def without(backbone: Backbone) -> Backbone:
    """The model without its late register: all other weights, and a head that reads outliers as before."""
    architecture = {**backbone.metadata["architecture"], "reg_tokens": 0}
    architecture["reads"] = {"block": architecture["reads"]["block"]}
    module = backbones.build(architecture)
    module.load_state_dict({key: x for key, x in backbone.module.state_dict().items() if key != "reg_token"})
    layout = replace(backbone.layout, registers=0)
    metadata = {
        **backbone.metadata,
        "architecture": architecture,
        "layout": layout.to_json(),
        "parameters": sum(weights.numel() for weights in module.parameters()),
    }
    module = module.eval().requires_grad_(False)
    return replace(backbone, module=module, layout=layout, metadata=metadata)
