"""Readers of tokens: after the final norm, and as blocks leave them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from vit_registers.core.errors import InputError
from vit_registers.forward import hooks
from vit_registers.forward.arrays import Spec, array_name
from vit_registers.forward.readers.base import HALF, Arrays, Reader, absolute_layers, numpy
from vit_registers.models.backbone import Backbone
from vit_registers.models.layout import TokenLayout


class Tokens(Reader):
    """[CLS], registers, appended tokens and mean patch after the final norm, of every image."""

    def __init__(self, backbone: Backbone, layout: TokenLayout) -> None:
        self.layout, self.width = layout, backbone.width
        self.held: dict[str, Tensor] = {}

    @override
    def final(self, tokens: Tensor) -> None:
        at = self.layout
        whole = {
            "cls": tokens[:, at.cls_slice].squeeze(1),
            "registers": tokens[:, at.register_slice],
            "appended": tokens[:, at.appended_slice],
            "patch_mean": tokens[:, at.patch_slice].float().mean(1),
        }
        self.held = {name: whole[name] for name in self.specs()}

    @override
    def take(self) -> Arrays:
        held, self.held = self.held, {}
        return {name: numpy(tensor) for name, tensor in held.items()}

    @override
    def specs(self) -> dict[str, Spec]:
        at, d = self.layout, self.width
        unit = "channels after the final norm"
        whole = {
            "cls": (at.cls, Spec((d,), "float32", "all", unit, "[CLS]")),
            "registers": (at.registers, Spec((at.registers, d), "float32", "all", unit, "trained registers")),
            "appended": (at.appended, Spec((at.appended, d), "float32", "all", unit, "tokens appended at test time")),
            "patch_mean": (1, Spec((d,), "float32", "all", unit, "mean of the patch tokens")),
        }
        return {name: spec for name, (count, spec) in whole.items() if count}


class ClsByBlock(Reader):
    """[CLS] of the last blocks after the final norm, of every image: what DINOv2's linear evaluation reads."""

    def __init__(self, backbone: Backbone, layout: TokenLayout, blocks: int) -> None:
        if blocks > backbone.depth:
            raise InputError(
                f"params: extraction.cls_blocks: {blocks} for model '{backbone.name}' of {backbone.depth} blocks; "
                "lower it"
            )
        module: Any = backbone.module
        self.norm = module.fc_norm if isinstance(module.norm, torch.nn.Identity) else module.norm
        self.layout, self.first, self.shape = layout, backbone.depth - blocks, (blocks, backbone.width)
        self.held: list[Tensor] = []

    @override
    def block(self, layer: int, tokens: Tensor) -> None:
        if layer >= self.first:
            cls = tokens[:, self.layout.cls_slice].float().squeeze(1)
            self.held.append(self.norm.forward(cls))  # past its hooks: they are for the pass

    @override
    def take(self) -> Arrays:
        held, self.held = self.held, []
        return {"cls_blocks": numpy(torch.stack(held, dim=1))}

    @override
    def specs(self) -> dict[str, Spec]:
        what = "[CLS] of the last blocks, the last one last"
        return {"cls_blocks": Spec(self.shape, "float32", "all", "channels after the final norm", what)}


class SpecialsByLayer(Reader):
    """[CLS], registers and appended tokens at the raw output of every block, of every image.

    And once more those that leave the last block but one, after the norm in front of the last attention: what that
    attention sees of them (lappe2025). A model of one block has none.
    """

    def __init__(self, backbone: Backbone, layout: TokenLayout) -> None:
        self.layout, self.shape = layout, (backbone.depth, len(layout.specials), backbone.width)
        self.norm: Any = hooks.first_norm(backbone, backbone.depth - 1)
        self.held: list[Tensor] = []

    @override
    def block(self, layer: int, tokens: Tensor) -> None:
        self.held.append(tokens[:, list(self.layout.specials)])

    @override
    def take(self) -> Arrays:
        held, self.held = self.held, []
        arrays = {"specials": numpy(torch.stack(held, dim=1))}
        if len(held) > 1:
            with torch.inference_mode():
                arrays["specials_normed"] = numpy(self.norm.forward(held[-2].float()))  # past the hooks of the pass
        return arrays

    @override
    def specs(self) -> dict[str, Spec]:
        what = "raw block outputs: layer, special token in the order of the sequence"
        specs = {"specials": Spec(self.shape, "float32", "all", "channels", what)}
        if self.shape[0] > 1:
            what = "special tokens as the last attention takes them, after its norm"
            specs["specials_normed"] = Spec(self.shape[1:], "float32", "all", "channels", what)
        return specs


class Patches(Reader):
    """Patch tokens after the final norm, half precision: probes and segmentation do not see the difference."""

    def __init__(self, backbone: Backbone, layout: TokenLayout) -> None:
        self.layout, self.width = layout, backbone.width
        self.held: Tensor | None = None

    @override
    def final(self, tokens: Tensor) -> None:
        self.held = tokens[:, self.layout.patch_slice].to(HALF)

    @override
    def take(self) -> Arrays:
        held, self.held = self.held, None
        assert held is not None
        return {"patches": numpy(held, HALF)}

    @override
    def specs(self) -> dict[str, Spec]:
        shape = (self.layout.patches, self.width)
        return {"patches": Spec(shape, "float16", "dense", "channels after the final norm", "patch tokens, row-major")}


class PatchesByLayer(Reader):
    """Patch tokens at the raw output of chosen blocks; single precision, as artifacts may leave half's range."""

    def __init__(self, backbone: Backbone, layout: TokenLayout, layers: Sequence[int]) -> None:
        self.layout, self.width = layout, backbone.width
        self.layers = absolute_layers(backbone, layers, "patch_layers")
        self.held: dict[int, Tensor] = {}

    @override
    def block(self, layer: int, tokens: Tensor) -> None:
        if layer in self.layers:
            self.held[layer] = tokens[:, self.layout.patch_slice]

    @override
    def take(self) -> Arrays:
        held, self.held = self.held, {}
        return {array_name("patches", layer): numpy(tensor) for layer, tensor in held.items()}

    @override
    def specs(self) -> dict[str, Spec]:
        shape, unit = (self.layout.patches, self.width), "channels"
        return {
            array_name("patches", layer): Spec(shape, "float32", "dense", unit, f"patches leaving block {layer}")
            for layer in self.layers
        }
