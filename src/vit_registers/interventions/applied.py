"""Interventions in force: hooks that change a pass, taken back whatever happens."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from vit_registers.core.errors import InputError
from vit_registers.core.seeds import derive
from vit_registers.forward import rows
from vit_registers.forward.attention import Attention, tapped
from vit_registers.interventions.values import (
    Intervention,
    MoveNeurons,
    Replace,
    RestrictClsAttention,
    check,
    layout_under,
    parts,
    second_linear,
)
from vit_registers.models.backbone import Backbone
from vit_registers.models.layout import TokenLayout


@contextmanager
def applied(backbone: Backbone, intervention: Intervention) -> Iterator[TokenLayout]:
    """Put ``intervention`` in force and yield the layout; hooks only, so leaving restores the model bit for bit."""
    check(backbone, intervention)
    layout = layout_under(backbone, intervention)
    with ExitStack() as stack:

        def keep(handle: Any) -> None:
            stack.callback(handle.remove)

        if layout.appended:
            _append(backbone, layout.appended, keep)
        for part in parts(intervention):
            if isinstance(part, MoveNeurons):
                _move(backbone, part, layout, keep)
            elif isinstance(part, Replace):
                _replace(backbone, part, layout, keep)
            elif isinstance(part, RestrictClsAttention):
                if not part.skip:
                    _leave_out_skip(backbone, layout, keep)
                stack.enter_context(tapped(backbone, edit=_restriction(backbone, part, layout)))
        yield layout


Keep = Callable[[Any], None]


def _append(backbone: Backbone, tokens: int, keep: Keep) -> None:
    """Lengthen the sequence, and rotary embeddings by the identity: appended tokens have no position."""

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

    keep(backbone.module.norm_pre.register_forward_pre_hook(lengthen))  # type: ignore[union-attr, operator]
    for block in backbone.blocks:
        keep(block.register_forward_pre_hook(rotate_not, with_kwargs=True))


def moved(activations: Tensor, indices: Tensor, layout: TokenLayout, how: MoveNeurons) -> Tensor:
    """Activations (b, t, h) with the neurons ``indices`` moved as ``how`` says; the input is not changed."""
    whole = activations.clone()
    if how.images == "first":
        activations = activations[:1]
    out = whole[: len(activations)]
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
    return whole


def _move(backbone: Backbone, how: MoveNeurons, layout: TokenLayout, keep: Keep) -> None:
    for layer in sorted({layer for layer, _ in how.neurons}):
        indices = torch.tensor([index for at, index in how.neurons if at == layer], device=backbone.device)

        def hook(module: Any, inputs: tuple[Tensor, ...], indices: Tensor = indices) -> tuple[Tensor, ...]:
            return (moved(inputs[0], indices, layout, how),)

        keep(second_linear(backbone, layer).register_forward_pre_hook(hook))


def _replace(backbone: Backbone, how: Replace, layout: TokenLayout, keep: Keep) -> None:
    def replaced(layer: int) -> Callable[..., Tensor]:
        def hook(module: Any, inputs: Any, output: Tensor) -> Tensor:
            of = rows.current(len(output)) if how.by != "zero" or how.tokens == "patches" else ()
            at = _positions(how, layout, len(output), of)  # (b, k)
            images = torch.arange(len(output))[:, None]
            output = output.clone()
            output[images, at] = _values(how, layer, backbone.depth, layout, output, at, of)
            return output

        return hook

    layers = range(backbone.depth) if how.at == "every" else [backbone.depth - 1]
    for layer in layers:
        keep(backbone.blocks[layer].register_forward_hook(replaced(layer)))


def _positions(how: Replace, layout: TokenLayout, images: int, of: tuple[int, ...]) -> Tensor:
    """Positions (b, k) in the sequence of the tokens that are replaced in each image."""
    if how.tokens == "patches":
        drawn = [_draw(how.seed, "patches", row) for row in of]
        chosen = [torch.randperm(layout.patches, generator=draw)[: how.count] for draw in drawn]
        return torch.stack(chosen) + layout.patch_slice.start
    span = layout.cls_slice if how.tokens == "cls" else layout.register_slice
    every = torch.arange(span.start, span.stop)
    return (every if how.only is None else every[list(how.only)]).expand(images, -1)


def _values(
    how: Replace, layer: int, depth: int, layout: TokenLayout, output: Tensor, at: Tensor, of: tuple[int, ...]
) -> Tensor:
    """What stands there instead: (b, k, d) in the dtype and on the device of the block's ``output``."""
    if how.by == "zero":
        return output.new_zeros(*at.shape, output.shape[-1])
    if how.by == "shuffled" and how.donors == "batch":
        return output[derangement(len(output), how.seed)[:, None], at]
    moments = how.moments
    assert moments is not None
    if how.tokens == "patches":
        mean, sd = (x[layer].expand(*at.shape, -1) for x in (moments.patch_mean, moments.patch_sd))
    else:  # positions of specials are their numbers among them: no token is both special and behind the patches here
        mean, sd = (x[layer][at] for x in (moments.mean, moments.sd))
    if how.by == "mean":
        values = mean
    elif how.by == "noise":
        noise = [torch.randn(depth, *mean.shape[1:], generator=_draw(how.seed, "noise", row))[layer] for row in of]
        values = mean + sd * torch.stack(noise)
    else:
        donors = torch.tensor([derive(how.seed, "donor", row) % len(moments.donors) for row in of])
        values = moments.donors[donors[:, None], layer, at]
    return values.to(output)


def _draw(seed: int, purpose: str, row: int) -> torch.Generator:
    return torch.Generator().manual_seed(derive(seed, purpose, row))


def derangement(images: int, seed: int) -> Tensor:
    """A permutation of a batch that leaves no image in its place: a random cyclic order, each takes its successor's."""
    if images < 2:
        raise InputError("tokens cannot be shuffled in a batch of one image; raise extraction.batch_size")
    order = torch.randperm(images, generator=torch.Generator().manual_seed(derive(seed, "shuffle", images)))
    donor = torch.empty(images, dtype=torch.long)
    donor[order] = order.roll(-1)
    return donor


def _restriction(backbone: Backbone, how: RestrictClsAttention, layout: TokenLayout) -> Callable[..., Tensor]:
    """Edit of the last attention's output (b, h, t, d / h): its [CLS] row sums over the allowed tokens only."""
    allowed = torch.zeros(layout.length)
    if how.to == "patches":
        allowed[layout.patch_slice] = 1.0
    if how.to == "registers":
        allowed[layout.register_slice] = 1.0
        allowed[layout.appended_slice] = 1.0

    def edit(layer: int, attention: Attention, out: Tensor) -> Tensor:
        if layer != backbone.depth - 1:
            return out
        weights = attention.rows(range(layout.cls)) * allowed.to(out.device)
        out = out.clone()
        out[:, :, layout.cls_slice] = (weights @ attention.v.float()).to(out.dtype)
        return out

    return edit


def _leave_out_skip(backbone: Backbone, layout: TokenLayout, keep: Keep) -> None:
    """The last block gets zeros for [CLS], but its first norm, and so its attention, what [CLS] really is."""
    block: Any = backbone.blocks[-1]
    entered: list[Tensor] = []

    def without(module: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        entered[:] = [inputs[0]]
        x = inputs[0].clone()
        x[:, layout.cls_slice] = 0.0
        return x, *inputs[1:]

    keep(block.register_forward_pre_hook(without))
    keep(block.norm1.register_forward_pre_hook(lambda module, inputs: (entered.pop(),)))
