"""The only hook engine: named places of a backbone, and callbacks that read or replace what passes there.

A place (site) is a module, found by a function of the backbone and, within blocks, the number of the layer. Callbacks
of one site run in the order of their registration, so that later ones see what earlier ones have made; all of them are
removed when the context ends, whatever happens.

======================  ===================================================================================
site                    what enters it (b = images, t = tokens, d = channels)
======================  ===================================================================================
``patch_embedding``     images (b, 3, h, w); its output is the patch embeddings without positions
``before_blocks``       the sequence (b, t, d) with positions, before a norm in front of the blocks
``block``               the residual stream (b, t, d); its output is the next block's input
``first_norm``          the residual stream again, as the attention branch takes it
``attention``           what the first norm makes of it (b, t, d)
``first_linear``        what enters the MLP (b, t, d)
``second_linear``       the activations of the MLP's neurons (b, t, hidden)
``after_blocks``        the residual stream that the last block leaves (b, t, d); its output is ``forward_features``
======================  ===================================================================================
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from vit_registers.core.errors import InputError
from vit_registers.models.backbone import Backbone

Callback = Callable[[Tensor], Tensor | None]
ATTENTION, MLP = 1, 2  # branches of a block


def patch_embedding(backbone: Backbone) -> nn.Module:
    """What cuts images into patches and embeds them."""
    return backbone.module.patch_embed  # type: ignore[return-value]


def before_blocks(backbone: Backbone) -> nn.Module:
    """The norm in front of the blocks; the identity where a model has none."""
    return backbone.module.norm_pre  # type: ignore[return-value]


def block(backbone: Backbone, layer: int) -> nn.Module:
    """A transformer block."""
    return backbone.blocks[layer]


def first_norm(backbone: Backbone, layer: int) -> nn.Module:
    """The norm in front of a block's attention."""
    return backbone.blocks[layer].norm1  # type: ignore[return-value]


def attention(backbone: Backbone, layer: int) -> nn.Module:
    """A block's attention, with its projections."""
    return backbone.blocks[layer].attn  # type: ignore[return-value]


def first_linear(backbone: Backbone, layer: int) -> nn.Linear:
    """The first linear layer of a block's MLP."""
    return _linear(backbone, layer, "first", "fc1")


def second_linear(backbone: Backbone, layer: int) -> nn.Linear:
    """The MLP's second linear layer; its input is what the papers call a neuron's activation (also for SwiGLU)."""
    return _linear(backbone, layer, "second", "fc2")


def layer_scale(backbone: Backbone, layer: int, branch: int) -> Tensor | None:
    """What a block multiplies each channel of a branch's output with (d,); None where it has no such gain.

    ``branch``: :data:`ATTENTION` or :data:`MLP`, as timm numbers them.
    """
    block = backbone.blocks[layer]
    gain = getattr(getattr(block, f"ls{branch}", None), "gamma", getattr(block, f"gamma_{branch}", None))
    return gain if isinstance(gain, Tensor) else None


def head_columns(backbone: Backbone, layer: int) -> Tensor | None:
    """What one unit of each channel of each head's output adds to the residual stream: (h, d / h, d), float64, on CPU.

    Columns of the attention's output projection, times LayerScale where the block has it. None where something that is
    not linear stands between (a norm of the heads' outputs, a gate).
    """
    attn: Any = attention(backbone, layer)
    if not isinstance(getattr(attn, "norm", None) or nn.Identity(), nn.Identity) or getattr(attn, "gate", None):
        return None
    columns: Tensor = attn.proj.weight.detach().double().cpu().T
    gain = layer_scale(backbone, layer, branch=1)
    columns = columns if gain is None else columns * gain.detach().double().cpu()
    return columns.unflatten(0, (int(attn.num_heads), -1))


def output_columns(backbone: Backbone, layer: int) -> Tensor:
    """What one unit of each neuron's activation adds to the residual stream: (d, h) float64 on the CPU.

    A column of the MLP's second linear layer, times LayerScale where the block has it.
    """
    columns = second_linear(backbone, layer).weight.detach().double().cpu()
    gain = layer_scale(backbone, layer, MLP)
    return columns if gain is None else columns * gain.detach().double().cpu()[:, None]


def after_blocks(backbone: Backbone) -> nn.Module:
    """The norm behind the last block; the identity where a model norms after pooling."""
    return backbone.module.norm  # type: ignore[return-value]


def _linear(backbone: Backbone, layer: int, which: str, name: str) -> nn.Linear:
    found = getattr(getattr(backbone.blocks[layer], "mlp", None), name, None)
    if not isinstance(found, nn.Linear):
        raise InputError(f"model '{backbone.name}': block {layer} has no MLP with a {which} linear layer {name}")
    return found


class Hooks:
    """Callbacks on sites. One that returns None reads; one that returns a tensor replaces what passes."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def input(self, site: nn.Module, callback: Callback) -> None:
        """On what enters: the first argument that is given by position."""

        def hook(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
            replaced = callback(arguments[0])
            return None if replaced is None else (replaced, *arguments[1:])

        self._stack.callback(site.register_forward_pre_hook(hook).remove)

    def keyword(self, site: nn.Module, name: str, callback: Callback) -> None:
        """On an argument given by its ``name``, such as rotary embeddings (``rope``); not called where that is None."""

        def hook(
            module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
            if named.get(name) is None:
                return None
            replaced = callback(named[name])
            return None if replaced is None else (arguments, {**named, name: replaced})

        self._stack.callback(site.register_forward_pre_hook(hook, with_kwargs=True).remove)

    def output(self, site: nn.Module, callback: Callback) -> None:
        """On what leaves."""

        def hook(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor | None:
            return callback(output)

        self._stack.callback(site.register_forward_hook(hook).remove)


@contextmanager
def hooked() -> Iterator[Hooks]:
    """Yield :class:`Hooks` that are removed when the context ends."""
    with ExitStack() as stack:
        yield Hooks(stack)
