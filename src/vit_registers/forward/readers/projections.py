"""Reader of queries, keys and values."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from vit_registers.forward.arrays import Spec, array_name
from vit_registers.forward.readers.base import HALF, Arrays, Reader, absolute_layers, numpy
from vit_registers.models.attention import Attention
from vit_registers.models.backbone import Backbone
from vit_registers.models.layout import TokenLayout


class Projections(Reader):
    """Queries, keys or values of the patches at some blocks, heads concatenated: the features of LOST (simeoni2021).

    ``rows``: ``dense``, an array (p, d) per image; or ``native``, a row per patch, where images have their own grids.
    """

    def __init__(
        self, backbone: Backbone, layout: TokenLayout, wanted: Mapping[Any, list[int]], rows: str = "dense"
    ) -> None:
        self.layout, self.rows = layout, rows
        self.width = backbone.width
        self.wanted = {kind: absolute_layers(backbone, wanted[kind], f"projections.{kind}") for kind in sorted(wanted)}
        self.held: dict[str, Tensor] = {}

    @override
    def attention(self, layer: int, attention: Attention) -> None:
        for kind, layers in self.wanted.items():
            if layer in layers:
                projected: Tensor = getattr(attention, kind)[:, :, self.layout.patch_slice]
                half = projected.transpose(1, 2).to(HALF, memory_format=torch.contiguous_format)
                self.held[array_name(kind, layer)] = half.flatten(2)

    @override
    def take(self) -> Arrays:
        held, self.held = self.held, {}
        arrays = {name: numpy(tensor, HALF) for name, tensor in held.items()}
        return {name: a.reshape(-1, self.width) if self.rows == "native" else a for name, a in arrays.items()}

    @override
    def specs(self) -> dict[str, Spec]:
        shape = (self.width,) if self.rows == "native" else (self.layout.patches, self.width)
        names = {"q": "queries", "k": "keys", "v": "values"}
        return {
            array_name(kind, layer): Spec(
                shape, "float16", self.rows, f"{names[kind]}' channels", f"patch {names[kind]} of block {layer}"
            )
            for kind, layers in self.wanted.items()
            for layer in layers
        }
