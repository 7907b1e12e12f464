"""The only interceptor of attention, and exact summaries of the softmax maps of what it sees.

``F.scaled_dot_product_attention`` is intercepted where q, k, v are at hand after their norms and rotary embeddings, so
that no model's source is copied. The fused kernel stays; its log-sum-exp gives any row exp(q_s k' - lse_s) and any
column exp(q k_s' - lse) of the softmax map exactly, at O(tokens x special tokens). The full map is never built unless
it is asked for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.backends import cuda
from torch.overrides import TorchFunctionMode

CHUNK = 256  # query rows at a time where no kernel gives the log-sum-exp


@dataclass(frozen=True)
class Attention:
    """One block's self-attention on a batch: q, k, v (b, h, t, d / h), ``lse`` (b, h, t) of the scaled logits.

    ``out`` (b, h, t, d / h): what it gives, where a model has computed it.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    lse: Tensor
    scale: float
    out: Tensor | None = None

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

    def column(self, token: Tensor) -> Tensor:
        """Attention (b, h, t) in fp32 of all tokens to one of each head, ``token`` (b, h)."""
        at = token[:, :, None, None].expand(-1, -1, 1, self.k.shape[3])
        logits = self.q.float() @ self.k.gather(2, at).float().transpose(-1, -2) * self.scale
        return (logits.squeeze(3) - self.lse).exp()

    def column_means(self) -> Tensor:
        """What every token gets on average over all that attend: (b, h, t) in fp32, a chunk of queries at a time."""
        keys = self.k.float().transpose(-1, -2)
        total = torch.zeros_like(keys[:, :, 0])
        for query, lse in zip(self.q.split(CHUNK, dim=2), self.lse.split(CHUNK, dim=2), strict=True):
            total += (query.float() @ keys * self.scale - lse[..., None]).exp().sum(2)
        return total / self.q.shape[2]

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


@dataclass(frozen=True)
class Call:
    """Arguments of one call of ``F.scaled_dot_product_attention``, under the names that torch gives them."""

    query: Tensor
    key: Tensor
    value: Tensor
    attn_mask: Tensor | None = None
    dropout_p: float = 0.0
    is_causal: bool = False
    scale: float | None = None
    enable_gqa: bool = False

    @property
    def plain(self) -> bool:
        """Whether it is self-attention without a mask and without dropout, the only kind that can be measured."""
        return (
            self.attn_mask is None and not self.is_causal and not self.dropout_p and self.query.shape == self.key.shape
        )

    def output(self) -> Tensor:
        """What torch returns for the call."""
        return F.scaled_dot_product_attention(
            self.query,
            self.key,
            self.value,
            self.attn_mask,
            self.dropout_p,
            self.is_causal,
            scale=self.scale,
            enable_gqa=self.enable_gqa,
        )

    def measured(self) -> tuple[Tensor, Attention]:
        """What torch returns for a plain call, and the attention behind it; to be called with autocast off."""
        factor = self.query.shape[-1] ** -0.5 if self.scale is None else self.scale
        result = fused(self.query, self.key, self.value, factor)
        if result is None:
            result = self.output(), log_sum_exp(self.query, self.key, factor)
        return result[0], Attention(self.query, self.key, self.value, result[1].float(), factor, result[0])

    def to(self, dtype: torch.dtype) -> "Call":
        """The same with queries, keys and values in another precision."""
        return replace(self, query=self.query.to(dtype), key=self.key.to(dtype), value=self.value.to(dtype))


class Interceptor(TorchFunctionMode):
    """Within its context every call of ``F.scaled_dot_product_attention`` returns what ``attend`` makes of it.

    Of several contexts inside each other only the innermost sees a call, unless it passes it on by :meth:`Call.output`.
    """

    def __init__(self, attend: Callable[[Call], Tensor]) -> None:
        super().__init__()
        self.attend = attend

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Torch's hook into every function of its own; all but one are left alone."""
        if func is F.scaled_dot_product_attention:
            return self.attend(Call(*args, **(kwargs or {})))
        return func(*args, **(kwargs or {}))
