"""Where [CLS] and registers look at the last block of whatever passes, for a model in training (bach2025)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vit_registers.core.errors import InputError


class _Rows(TorchFunctionMode):
    """Rows of the first ``specials`` tokens of every softmax map computed while ``on``; what computes is untouched."""

    def __init__(self, specials: int) -> None:
        super().__init__()
        self.specials, self.on = specials, False
        self.caught: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.on and func is F.scaled_dot_product_attention:
            if kwargs.get("attn_mask") is not None or kwargs.get("is_causal") or kwargs.get("dropout_p"):
                raise InputError("a masked, causal or dropped attention cannot be watched; train another architecture")
            self.caught.append(self._rows(args[0], args[1], kwargs.get("scale")))
        return func(*args, **kwargs)

    def _rows(self, query: Tensor, key: Tensor, scale: float | None) -> Tensor:
        """(b, specials, t), mean over heads, in fp32, from q and k (b, heads, t, d / heads)."""
        factor = query.shape[-1] ** -0.5 if scale is None else scale
        logits = query[:, :, : self.specials].float() @ key.float().transpose(-1, -2) * factor
        return logits.softmax(-1).mean(1)


@contextmanager
def last_rows(module: nn.Module) -> Iterator[list[Tensor]]:
    """Of whatever passes: attention (b, specials, t) of [CLS] and the registers at the last block, mean over heads.

    No softmax map is built. Weights may change between passes, which is what training does; a model frozen for good is
    measured by the attention tap of the forward pass.
    """
    rows = _Rows(module.num_prefix_tokens)  # type: ignore[arg-type]
    blocks: Any = module.blocks
    attention = blocks[-1].attn
    handles = [
        attention.register_forward_pre_hook(lambda *_: setattr(rows, "on", True)),
        attention.register_forward_hook(lambda *_: setattr(rows, "on", False)),
    ]
    try:
        with rows:
            yield rows.caught
    finally:
        for handle in handles:
            handle.remove()
