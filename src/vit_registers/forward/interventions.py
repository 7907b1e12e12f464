"""Interventions as values: what is done to a backbone's tokens during a pass, and undone after it.

Each is a small frozen dataclass; :func:`applied` puts it in force and always takes it back. All work on every image of
a batch by itself. ``None`` is the empty intervention, the baseline.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vit_registers.backbones.backbone import Backbone
from vit_registers.backbones.layout import TokenLayout
from vit_registers.errors import InputError


@dataclass(frozen=True)
class Append:
    """Zero tokens at the end of the sequence, after position embeddings and before the norm in front of the blocks."""

    tokens: int


@dataclass(frozen=True)
class MoveNeurons:
    """Test-time registers (jiang2025): activations of register neurons moved from the patches to appended tokens.

    Right before the MLP's second linear layer, each appended token takes ``scale`` times the signed maximum of each
    neuron over the patches, and the patches take 0 (``zero``), the neuron's mean (``mean``), its mean where they exceed
    mean + sd (``only_outliers``), or stay (``same``). ``max_over: layer`` is the published code: one maximum over all
    selected neurons of a layer. ``max_includes_cls`` and ``clear_cls`` treat [CLS] as a patch.
    """

    neurons: tuple[tuple[int, int], ...]
    tokens: int
    scale: float = 1.0
    patches: str = "zero"
    max_over: str = "neuron"
    max_includes_cls: bool = False
    clear_cls: bool = False


@dataclass(frozen=True)
class Zero:
    """Zeros in place of ``cls`` or ``registers`` at ``every`` block output, or at the ``last`` only (parodi2026)."""

    tokens: str
    at: str = "every"


Intervention = Append | MoveNeurons | Zero | None


def layout_under(backbone: Backbone, intervention: Intervention) -> TokenLayout:
    """Token layout of the sequence while ``intervention`` is in force."""
    tokens = intervention.tokens if isinstance(intervention, Append | MoveNeurons) else 0
    return backbone.layout.with_appended(tokens)


def check(backbone: Backbone, intervention: Intervention) -> None:
    """Refuse an intervention that the backbone has no place for, before any image is read."""
    if isinstance(intervention, Zero) and not getattr(backbone.layout, intervention.tokens):
        raise InputError(f"model '{backbone.name}' has no {intervention.tokens}; there is nothing to set to zero")
    if isinstance(intervention, MoveNeurons):
        for layer, index in intervention.neurons:
            width = second_linear(backbone, layer).in_features if 0 <= layer < backbone.depth else 0
            if not 0 <= index < width:
                raise InputError(f"model '{backbone.name}' has no neuron {index} in layer {layer}")


def second_linear(backbone: Backbone, layer: int) -> Any:
    """The MLP's second linear layer; its input is what the papers call a neuron's activation (also for SwiGLU)."""
    mlp = getattr(backbone.blocks[layer], "mlp", None)
    if not isinstance(getattr(mlp, "fc2", None), torch.nn.Linear):
        raise InputError(f"model '{backbone.name}': block {layer} has no MLP with a second linear layer fc2")
    return mlp.fc2  # type: ignore[union-attr]


def moved(activations: Tensor, indices: Tensor, layout: TokenLayout, how: MoveNeurons) -> Tensor:
    """Activations (b, t, h) with the neurons ``indices`` moved as ``how`` says; the input is not changed."""
    out = activations.clone()
    chosen = activations[..., indices]  # (b, t, k)
    patches = chosen[:, layout.patch_slice]
    source = torch.cat([chosen[:, layout.cls_slice], patches], dim=1) if how.max_includes_cls else patches
    maximum = source.amax(dim=1, keepdim=True)  # (b, 1, k)
    if how.max_over == "layer":
        maximum = maximum.amax(dim=2, keepdim=True).expand_as(maximum)
    cleared = {
        "zero": torch.zeros_like,
        "mean": lambda x: patches.mean(dim=1, keepdim=True).expand_as(x),
        "only_outliers": lambda x: torch.where(
            x > patches.mean(1, keepdim=True) + patches.std(1, keepdim=True), patches.mean(1, keepdim=True), x
        ),
        "same": lambda x: x,
    }[how.patches]
    out[:, layout.patch_slice, indices] = cleared(patches)
    if how.clear_cls:
        out[:, layout.cls_slice, indices] = cleared(chosen[:, layout.cls_slice])
    out[:, layout.appended_slice, indices] = (how.scale * maximum).expand(-1, layout.appended, -1).to(out.dtype)
    return out


@contextmanager
def applied(backbone: Backbone, intervention: Intervention) -> Iterator[TokenLayout]:
    """Put ``intervention`` in force and yield the layout; hooks only, so leaving restores the model bit for bit."""
    check(backbone, intervention)
    layout = layout_under(backbone, intervention)
    handles: list[Any] = []
    try:
        if layout.appended:
            handles += _append(backbone, layout.appended)
        if isinstance(intervention, MoveNeurons):
            handles += _move(backbone, intervention, layout)
        if isinstance(intervention, Zero):
            tokens = layout.cls_slice if intervention.tokens == "cls" else layout.register_slice
            blocks = backbone.blocks if intervention.at == "every" else backbone.blocks[-1:]
            handles += [block.register_forward_hook(_zero(tokens)) for block in blocks]
        yield layout
    finally:
        for handle in handles:
            handle.remove()


def _append(backbone: Backbone, tokens: int) -> list[Any]:
    """Hooks that lengthen the sequence, and rotary embeddings by the identity: appended tokens have no position."""

    def lengthen(module: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x = inputs[0]
        return torch.cat([x, x.new_zeros(len(x), tokens, x.shape[2])], dim=1), *inputs[1:]

    def rotate_not(module: Any, inputs: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        rope = named.get("rope")
        if rope is not None:  # (..., patches, 2 * head width): sines, then cosines
            identity = rope.new_zeros(*rope.shape[:-2], tokens, rope.shape[-1])
            identity[..., rope.shape[-1] // 2 :] = 1.0
            named = {**named, "rope": torch.cat([rope, identity], dim=-2)}
        return inputs, named

    handles = [backbone.module.norm_pre.register_forward_pre_hook(lengthen)]  # type: ignore[union-attr, operator]
    return handles + [block.register_forward_pre_hook(rotate_not, with_kwargs=True) for block in backbone.blocks]


def _move(backbone: Backbone, how: MoveNeurons, layout: TokenLayout) -> list[Any]:
    handles = []
    for layer in sorted({layer for layer, _ in how.neurons}):
        indices = torch.tensor([index for at, index in how.neurons if at == layer], device=backbone.device)

        def hook(module: Any, inputs: tuple[Tensor, ...], indices: Tensor = indices) -> tuple[Tensor, ...]:
            return (moved(inputs[0], indices, layout, how),)

        handles.append(second_linear(backbone, layer).register_forward_pre_hook(hook))
    return handles


def _zero(tokens: slice) -> Callable[..., Tensor]:
    def hook(module: Any, inputs: Any, output: Tensor) -> Tensor:
        output = output.clone()
        output[:, tokens] = 0.0
        return output

    return hook
