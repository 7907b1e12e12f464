"""The attention tap: exact summaries of every self-attention without a copy of any model's source.

``F.scaled_dot_product_attention`` is intercepted where q, k, v are at hand after their norms and rotary embeddings.
The fused kernel stays; its log-sum-exp gives any row exp(q_s k' - lse_s) and any column exp(q k_s' - lse) of the
softmax map exactly, at O(tokens x special tokens). The full map is never built unless it is asked for.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.backends import cuda
from torch.overrides import TorchFunctionMode

from vit_registers.core.errors import InputError
from vit_registers.models.backbone import Backbone

CHUNK = 256  # query rows at a time where no kernel gives the log-sum-exp


@dataclass(frozen=True)
class Attention:
    """One block's self-attention on a batch: q, k, v (b, h, t, d / h), ``lse`` (b, h, t) of the scaled logits."""

    q: Tensor
    k: Tensor
    v: Tensor
    lse: Tensor
    scale: float

    def rows(self, tokens: Sequence[int]) -> Tensor:
        """Attention of some tokens to all: (b, h, len(tokens), t) in fp32; every row sums to 1."""
        at = torch.as_tensor(tokens, dtype=torch.long, device=self.q.device)  # also of no tokens
        logits = self.q[:, :, at].float() @ self.k.float().transpose(-1, -2) * self.scale
        return (logits - self.lse[:, :, at, None]).exp()

    def columns(self, tokens: Sequence[int]) -> Tensor:
        """Attention of all tokens to some: (b, h, t, len(tokens)) in fp32."""
        at = torch.as_tensor(tokens, dtype=torch.long, device=self.q.device)
        logits = self.q.float() @ self.k[:, :, at].float().transpose(-1, -2) * self.scale
        return (logits - self.lse[..., None]).exp()

    def full(self) -> Tensor:
        """The whole map (b, h, t, t) in fp32, for a few images."""
        return self.rows(range(self.q.shape[2]))


def log_sum_exp(q: Tensor, k: Tensor, scale: float) -> Tensor:
    """(b, h, t) log-sum-exp of scaled logits in fp32, a chunk of queries at a time: exact on any device."""
    keys = k.float().transpose(-1, -2)
    parts = [(part.float() @ keys * scale).logsumexp(-1) for part in q.split(CHUNK, dim=2)]
    return torch.cat(parts, dim=2)


def operators() -> Any:
    """Torch's operators below its functions, public and private."""
    return torch.ops.aten


def fused(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor] | None:
    """Output and log-sum-exp of the device's fused kernel; None where torch has none for these tensors.

    These operators are private to torch: a test pins what they return, and :func:`log_sum_exp` stands in for them.
    On CUDA torch is asked first, as kernels need a generation of the device, a precision and a width of the heads.
    """
    aten = operators()
    if q.device.type == "cpu" and hasattr(aten, "_scaled_dot_product_flash_attention_for_cpu"):
        out, lse = aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, scale=scale)[:2]
        return out, lse
    if q.device.type != "cuda":
        return None
    asked = cuda.SDPAParams(q, k, v, None, 0.0, False, False)
    # torch pads other widths before it calls the flash kernel; the operator by itself refuses them.
    flash = q.shape[-1] % 8 == 0 and cuda.can_use_flash_attention(asked)
    if flash and hasattr(aten, "_scaled_dot_product_flash_attention"):
        out, lse = aten._scaled_dot_product_flash_attention(q, k, v, scale=scale)[:2]
        return out, lse
    if hasattr(aten, "_scaled_dot_product_efficient_attention") and cuda.can_use_efficient_attention(asked):
        out, lse = aten._scaled_dot_product_efficient_attention(q, k, v, None, True, scale=scale)[:2]
        return out, lse[..., : q.shape[2]]  # the kernel pads to its block
    return None


Read = Callable[[int, Attention], None]
Edit = Callable[[int, Attention, Tensor], Tensor]


class _Tap(TorchFunctionMode):
    def __init__(self, model: str) -> None:
        super().__init__()
        self.model = model
        self.reads: list[Read] = []
        self.edits: list[Edit] = []
        self.layer: int | None = None  # set while a block's attention runs
        self.seen: list[int] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention or self.layer is None:
            return func(*args, **kwargs)
        return self._attend(func, *args, **kwargs)

    def _attend(
        self,
        func: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        **others: Any,
    ) -> Tensor:
        if attn_mask is not None or is_causal or dropout_p or query.shape != key.shape:
            raise InputError(
                f"{self.model}: its attention is masked, causal or not self-attention; "
                "it cannot be measured, leave the model out"
            )
        layer = self.layer
        assert layer is not None
        device = query.device.type
        if torch.is_autocast_enabled(device):  # what autocast does inside the function that is replaced here
            query, key, value = (x.to(torch.get_autocast_dtype(device)) for x in (query, key, value))
        factor = query.shape[-1] ** -0.5 if scale is None else scale
        with torch.autocast(device, enabled=False):  # summaries are fp32 whatever the model computes in
            result = fused(query, key, value, factor)
            if result is None:
                out = func(query, key, value, scale=scale, **others)
                result = out, log_sum_exp(query, key, factor)
            self.seen.append(layer)
            attention = Attention(query, key, value, result[1].float(), factor)
            for read in self.reads:
                read(layer, attention)
            out = result[0]
            for edit in self.edits:
                out = edit(layer, attention, out)
        return out


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
        for listeners, listener in ((tap.reads, read), (tap.edits, edit)):
            if listener is not None:
                listeners.append(listener)  # type: ignore[arg-type]
                stack.callback(listeners.remove, listener)  # type: ignore[arg-type]
        yield


@contextmanager
def _installed(backbone: Backbone) -> Iterator[_Tap]:
    model = f"model '{backbone.name}' ({type(backbone.module).__name__})"
    tap = _Tap(model)

    def enter(layer: int) -> Callable[..., None]:
        def hook(module: Any, inputs: Any) -> None:
            tap.layer = layer

        return hook

    def leave(module: Any, inputs: Any, output: Any) -> None:
        tap.layer = None

    def check(module: Any, inputs: Any, output: Any) -> None:
        seen, tap.seen = tap.seen, []
        if seen != list(range(backbone.depth)):
            raise InputError(
                f"{model}: {len(seen)} of {backbone.depth} attentions were seen by the tap; what bypasses "
                "F.scaled_dot_product_attention cannot be measured, leave the model out"
            )

    handles = [backbone.module.norm.register_forward_hook(check)]  # type: ignore[union-attr, operator]
    for layer, block in enumerate(backbone.blocks):
        handles += [block.attn.register_forward_pre_hook(enter(layer)), block.attn.register_forward_hook(leave)]  # type: ignore[union-attr, operator, list-item]
    token = _ACTIVE.set({**_ACTIVE.get({}), id(backbone.module): tap})
    try:
        with tap:
            yield tap
    finally:
        _ACTIVE.reset(token)
        for handle in handles:
            handle.remove()
