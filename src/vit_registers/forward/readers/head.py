"""Reader of what a model itself says of an image."""

from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from vit_registers.forward.arrays import Spec
from vit_registers.forward.readers.base import Arrays, Reader, numpy
from vit_registers.models.backbone import Backbone
from vit_registers.models.layout import TokenLayout


def has_head(backbone: Backbone) -> bool:
    """Whether the model can name classes: those trained here by labels can, weights from elsewhere come without."""
    return isinstance(getattr(backbone.module, "head", None), nn.Linear)


class OwnHead(Reader):
    """Logits of the model's own head, frozen as training left it, of every image.

    What the head reads is the model's own affair: timm's ``pool``. Where that is a mean over tokens, appended tokens
    are kept from it, as it was not trained with them; where it picks tokens ([CLS], outliers) it sees all of them.
    """

    def __init__(self, backbone: Backbone, layout: TokenLayout) -> None:
        self.module: Any = backbone.module
        self.end = layout.length if self.module.global_pool == "token" else layout.patch_slice.stop
        self.held: Tensor | None = None

    @override
    def features(self, tokens: Tensor) -> None:
        self.held = self.module.forward_head(tokens[:, : self.end])

    @override
    def take(self) -> Arrays:
        held, self.held = self.held, None
        assert held is not None
        return {"logits": numpy(held, torch.float32)}

    @override
    def specs(self) -> dict[str, Spec]:
        return {"logits": Spec((self.module.num_classes,), "float32", "all", "logit", "classes, own head")}
