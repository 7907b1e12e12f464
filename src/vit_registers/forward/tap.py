"""The attention tap: the self-attention of every block of a pass, to be read or edited (:mod:`models.attention`)."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import partial

import torch
from torch import Tensor

from vit_registers.core.errors import InputError
from vit_registers.forward import hooks
from vit_registers.models.attention import Attention, Call, Interceptor
from vit_registers.models.backbone import Backbone

Read = Callable[[int, Attention], None]
Edit = Callable[[int, Attention, Tensor], Tensor]


class _Tap:
    """Which block attends, and who reads or edits its attention."""

    def __init__(self, backbone: Backbone) -> None:
        self.model, self.depth = f"model '{backbone.name}' ({type(backbone.module).__name__})", backbone.depth
        self.reads: list[Read] = []
        self.edits: list[Edit] = []
        self.layer: int | None = None  # set while a block's attention runs
        self.measured: list[int] = []  # layers of this pass, in order

    def enter(self, layer: int, tokens: Tensor) -> None:
        """A block's attention begins."""
        self.layer = layer

    def leave(self, tokens: Tensor) -> None:
        """It has ended."""
        self.layer = None

    def attend(self, call: Call) -> Tensor:
        """Output of an attention, once the readers have seen it and the editors changed it."""
        layer = self.layer
        if layer is None:
            return call.output()
        if not call.plain:
            raise InputError(
                f"{self.model}: its attention is masked, causal or not self-attention; "
                "it cannot be measured, leave the model out"
            )
        device = call.query.device.type
        if torch.is_autocast_enabled(device):  # what autocast does inside the function that is replaced here
            call = call.to(torch.get_autocast_dtype(device))
        with torch.autocast(device, enabled=False):  # summaries are fp32 whatever the model computes in
            out, attention = call.measured()
            self.measured.append(layer)
            for read in self.reads:
                read(layer, attention)
            for edit in self.edits:
                out = edit(layer, attention, out)
        return out

    def check(self, tokens: Tensor) -> None:
        """At the end of a pass: refuse a model whose attention was not seen once in each block."""
        measured, self.measured = self.measured, []
        if measured != list(range(self.depth)):
            raise InputError(
                f"{self.model}: {len(measured)} of {self.depth} attentions were seen by the tap; what bypasses "
                "F.scaled_dot_product_attention cannot be measured, leave the model out"
            )


# Taps in force, by the id of their module: an intervention that edits attention and the readers share one, because the
# inner of two would keep the outer from seeing the function that both replace.
_ACTIVE: ContextVar[dict[int, _Tap]] = ContextVar("taps in force")


@contextmanager
def tapped(backbone: Backbone, read: Read | None = None, edit: Edit | None = None) -> Iterator[None]:
    """Within the context every forward pass calls ``read(layer, attention)`` once per block, in order.

    ``edit(layer, attention, out)`` returns what the block takes for its attention's output (b, h, t, d / h). A model
    whose attention bypasses ``F.scaled_dot_product_attention`` is refused by name when its pass ends, so that it is
    never silently measured wrong.
    """
    with ExitStack() as stack:
        tap = _ACTIVE.get({}).get(id(backbone.module)) or stack.enter_context(_installed(backbone))
        if read is not None:
            tap.reads.append(read)
            stack.callback(tap.reads.remove, read)
        if edit is not None:
            tap.edits.append(edit)
            stack.callback(tap.edits.remove, edit)
        yield


@contextmanager
def _installed(backbone: Backbone) -> Iterator[_Tap]:
    tap = _Tap(backbone)
    with hooks.hooked() as on, Interceptor(tap.attend):
        on.output(hooks.after_blocks(backbone), tap.check)
        for layer in range(backbone.depth):
            attention = hooks.attention(backbone, layer)
            on.input(attention, partial(tap.enter, layer))
            on.output(attention, tap.leave)
        token = _ACTIVE.set({**_ACTIVE.get({}), id(backbone.module): tap})
        try:
            yield tap
        finally:
            _ACTIVE.reset(token)
