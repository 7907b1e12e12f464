"""Attention sinks masked, so that what goes to them goes to the other tokens instead (fesser2026)."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from vit_registers.interventions.base import Applied, Known, NotApplicable
from vit_registers.interventions.outlier_limits import Limits, limits, norms
from vit_registers.params.bases import Intervention

if TYPE_CHECKING:
    from torch import Tensor

    from vit_registers.models.attention import Attention
    from vit_registers.models.backbone import Backbone
    from vit_registers.models.layout import TokenLayout
    from vit_registers.params.study import Params


class RedirectSinks(Intervention):
    """No token attends to a sink: the sink's logits are minus infinity, in every block or in the ``last`` alone.

    That is the published redirection (the sink's column of the softmax map is zeroed and every row divided by what is
    left) and the published masking (minus infinity before the softmax): they are the same map. To drop what goes to
    the sink without giving it to others, edit its value to zero (``edit_sink_values``).

    ``which``: the most attended token of a head where there is a sink event, in each image and head by itself; that
    token whether it is one or not (``most_attended``); or, of all heads, the ``artifacts``: patches that enter the
    block with a norm above the threshold of detection for the block before. Readers see the attention as it was before.
    """

    kind: Literal["redirect_sinks"] = "redirect_sinks"
    which: Literal["events", "most_attended", "artifacts"] = "events"
    at: Literal["every", "last"] = "every"

    def label(self) -> str:
        """``sinks masked``."""
        what = {"events": "sinks", "most_attended": "most attended tokens", "artifacts": "attention to artifacts"}
        return f"{what[self.which]} masked{'' if self.at == 'every' else ' at the last block'}"

    def sentence(self, params: Params) -> str:
        """What the methods text says of it, as LaTeX."""
        which = {
            "events": "the sink of each head, where it has one,",
            "most_attended": "the most attended token of each head",
            "artifacts": "patches whose norm exceeds the threshold of detection",
        }[self.which]
        where = "every block" if self.at == "every" else "the last block"
        return (
            f"the attention to {which} set to zero in {where}, and that to the other tokens scaled to a sum of one "
            r"\citep{fesser2026}"
        )

    def resolve(self, backbone: Backbone, known: Known) -> RedirectedSinks | NotApplicable:
        """Every model has a place for it, but artifacts are not found in all of them."""
        if self.which != "artifacts":
            return RedirectedSinks(self)
        found = limits("every", backbone.depth, known)
        return found if isinstance(found, NotApplicable) else RedirectedSinks(self, found)


@dataclass(frozen=True)
class RedirectedSinks(Applied):
    """Masked sinks; ``limits``: thresholds of artifacts at the output of every block, where these are masked."""

    how: RedirectSinks
    limits: Limits = ()

    def described(self) -> Any:
        """Its params and thresholds."""
        return self.how.model_dump(mode="json") | {"limits": [list(one) for one in self.limits]}

    def hooks(self, backbone: Backbone, layout: TokenLayout, stack: ExitStack) -> None:
        """Edit the outputs of the attention."""
        from vit_registers.forward import hooks
        from vit_registers.forward.tap import tapped

        entered: dict[int, Tensor] = {}  # by layer: which tokens (b, t) enter it as artifacts

        def enter(tokens: Tensor, layer: int, limit: float) -> None:
            entered[layer] = _above(tokens, limit, layout)

        layers = range(backbone.depth) if self.how.at == "every" else [backbone.depth - 1]
        for before, limit in self.limits:
            if before + 1 in layers:
                keep = partial(enter, layer=before + 1, limit=limit)
                hooks.Hooks(stack).input(hooks.block(backbone, before + 1), keep)

        def edit(layer: int, attention: Attention, out: Tensor) -> Tensor:
            if layer not in layers:
                return out
            masked = self._masked(attention, entered.pop(layer, None))
            return out if masked is None else redirected(attention, masked, out)

        stack.enter_context(tapped(backbone, edit=edit))

    def _masked(self, attention: Attention, artifacts: Tensor | None) -> Tensor | None:
        """Tokens (b, h or 1, t) that none attends to; None for none at all."""
        import torch

        from vit_registers.forward import sinks

        if self.how.which == "artifacts":
            return None if artifacts is None else artifacts[:, None]
        found = sinks.find(attention)
        masked = torch.zeros_like(found.shares, dtype=torch.bool)
        where = found.events if self.how.which == "events" else torch.ones_like(found.events)
        return masked.scatter(2, found.token[..., None], where[..., None])


def _above(tokens: Tensor, limit: float, layout: TokenLayout) -> Tensor:
    """Which of the ``tokens`` (b, t, d) are patches above the ``limit``: (b, t)."""
    import torch

    above = torch.zeros(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    above[:, layout.patch_slice] = norms(tokens, layout) > limit
    return above


def redirected(attention: Attention, masked: Tensor, out: Tensor) -> Tensor:
    """Output (b, h, t, d / h) of an attention with tokens ``masked`` (b, h or 1, t); ``out`` where none is.

    Where all are masked nothing is left to attend to: there the attention stays, too.
    """
    import torch
    import torch.nn.functional as F

    masked = masked & ~masked.all(2, keepdim=True)
    changed = masked.any(2)[..., None, None]
    if not changed.any():
        return out
    new = F.scaled_dot_product_attention(
        attention.q, attention.k, attention.v, attn_mask=~masked[:, :, None], scale=attention.scale
    )
    return torch.where(changed, new, out)
