"""Reader of what [CLS] adds up in the last block: what it takes from patches, registers and itself, and the skip."""

import torch
from torch import Tensor, nn
from typing_extensions import override

from vit_registers.core.errors import InputError
from vit_registers.forward import hooks
from vit_registers.forward.arrays import Spec
from vit_registers.forward.readers.base import Arrays, Reader, numpy
from vit_registers.models.attention import Attention
from vit_registers.models.backbone import Backbone
from vit_registers.models.layout import TokenLayout

PARTS = ("patches", "registers", "itself", "bias", "skip")
SKIP = PARTS.index("skip")


def adds_up(backbone: Backbone) -> bool:
    """Whether [CLS] after the last attention is a sum over tokens and the skip: no norm stands between."""
    from timm.models.eva import EvaBlock
    from timm.models.vision_transformer import Block

    last = backbone.blocks[-1]
    between = getattr(getattr(last, "attn", None), "norm", None)
    return backbone.depth > 1 and isinstance(last, Block | EvaBlock) and isinstance(between, nn.Identity | None)


class ClsParts(Reader):
    """Addends of [CLS] after the last block's attention, before its MLP (lappe2025).

    Over patches, over registers (appended tokens are some) and over [CLS] itself: attention weight times value, summed,
    through the output projection and LayerScale. ``bias`` is that of the projection, the same for every image; ``skip``
    is [CLS] as it enters the block. All five together are what enters the MLP's norm; all but the skip are the output
    of the attention.
    """

    def __init__(self, backbone: Backbone, layout: TokenLayout) -> None:
        if not (layout.cls and adds_up(backbone)):
            raise InputError(
                f"model '{backbone.name}': [CLS] after its last attention is no sum over tokens, or there is none"
            )
        self.layout, self.last, self.width = layout, backbone.depth - 1, backbone.width
        projection: nn.Linear = hooks.attention(backbone, self.last).proj  # type: ignore[assignment]
        gain = hooks.layer_scale(backbone, self.last, hooks.ATTENTION)
        scale = torch.ones((), device=backbone.device) if gain is None else gain.detach().float()[:, None]
        self.projection = projection.weight.detach().float() * scale
        bias = projection.bias
        constant = self.projection.new_zeros(self.width) if bias is None else bias.detach().float()
        self.bias = constant * scale.flatten()
        self.held: dict[str, Tensor] = {}

    @override
    def block(self, layer: int, tokens: Tensor) -> None:
        if layer == self.last - 1:
            self.held["skip"] = tokens[:, 0].float()

    @override
    def attention(self, layer: int, attention: Attention) -> None:
        if layer != self.last:
            return
        weights, values, at = attention.rows([0])[:, :, 0], attention.v.float(), self.layout

        def over(*spans: slice) -> Tensor:
            sums = [torch.einsum("bht,bhtc->bhc", weights[..., span], values[:, :, span]) for span in spans]
            return torch.stack(sums).sum(0).flatten(1) @ self.projection.T

        self.held["patches"] = over(at.patch_slice)
        self.held["registers"] = over(at.register_slice, at.appended_slice)
        self.held["itself"] = over(at.cls_slice)

    @override
    def take(self) -> Arrays:
        held, self.held = self.held, {}
        held["bias"] = self.bias.expand_as(held["skip"])
        return {"cls_parts": numpy(torch.stack([held[part] for part in PARTS], dim=1))}

    @override
    def specs(self) -> dict[str, Spec]:
        what = f"addends of [CLS] after the last attention: {', '.join(PARTS)}"
        return {"cls_parts": Spec((len(PARTS), self.width), "float32", "all", "channels", what)}
