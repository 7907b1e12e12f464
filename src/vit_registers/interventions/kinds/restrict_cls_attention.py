"""What [CLS] gathers at the last layer, taken apart: from patches, from registers, from itself (lappe2025)."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import model_validator

from vit_registers.core.errors import InputError
from vit_registers.core.prose import joined
from vit_registers.interventions.base import Applied, Known, NotApplicable
from vit_registers.params.bases import Intervention

if TYPE_CHECKING:
    from torch import Tensor

    from vit_registers.forward.tap import Edit
    from vit_registers.models.attention import Attention
    from vit_registers.models.backbone import Backbone
    from vit_registers.models.layout import TokenLayout
    from vit_registers.params.study import Params


class RestrictClsAttention(Intervention):
    """Last layer: the attention output of [CLS] sums over some tokens only (lappe2025).

    ``to``: ``patches``, ``registers`` (appended tokens are some), ``all`` of both, or ``nothing``; ``cls``: whether
    [CLS]'s own value is kept in the sum. Weights stay as they are, not renormalised: the parts over patches, registers
    and [CLS] add up to the whole. ``skip`` keeps the skip connection of [CLS] around this attention; the paper leaves
    it out. ``to: all, cls: keep`` drops the skip alone: what the parts have to be compared with.
    """

    kind: Literal["restrict_cls_attention"] = "restrict_cls_attention"
    to: Literal["all", "patches", "registers", "nothing"]
    cls: Literal["keep", "drop"] = "drop"
    skip: bool = False

    @model_validator(mode="after")
    def _restricts(self) -> Self:
        if self.to == "all" and self.cls == "keep" and self.skip:
            raise ValueError("to: all with cls: keep and the skip restricts nothing; drop one of them")
        return self

    @property
    def _what(self) -> str:
        """What [CLS] sums over."""
        parts = {"all": ["patches", "registers"], "nothing": []}.get(self.to, [self.to])
        if self.cls == "keep":
            parts = ["[CLS] itself", *parts]
        return joined(parts) if parts else "nothing"

    def label(self) -> str:
        """``[CLS] attends to patches only``."""
        if self.to == "all" and self.cls == "keep":
            return "[CLS] without its skip"
        only = "" if self._what == "nothing" else " only"
        return f"[CLS] attends to {self._what}{only}{', with its skip' if self.skip else ''}"

    def sentence(self, params: Params) -> str:
        """What the methods text says of it, as LaTeX."""
        if self.to == "all" and self.cls == "keep":
            return "in the last block the skip connection of [CLS] around its attention is left out"
        skip = "with" if self.skip else "without"
        return (
            f"in the last block the attention output of [CLS] sums over {self._what} only, not renormalised, {skip} "
            r"its skip connection \citep{lappe2025}"
        )

    def lacking(self, layout: TokenLayout) -> str | None:
        """What a model of this ``layout`` lacks for it, behind "the model has"; None where it lacks nothing."""
        if not layout.cls:
            return "no [CLS]"
        if self.to == "registers" and not layout.registers + layout.appended:
            return "no registers"
        return None

    def resolve(self, backbone: Backbone, known: Known) -> RestrictedAttention | NotApplicable:
        """Not applicable to a model without [CLS], or without the registers that it is restricted to."""
        lacking = self.lacking(backbone.layout.with_appended(known.appended))
        return NotApplicable(f"the model has {lacking}") if lacking else RestrictedAttention(self)


@dataclass(frozen=True)
class RestrictedAttention(Applied):
    """Attention of [CLS] at the last layer, restricted."""

    how: RestrictClsAttention

    def described(self) -> Any:
        """Its params."""
        return self.how.model_dump(mode="json")

    def check(self, backbone: Backbone, layout: TokenLayout) -> None:
        """Refuse a model without such tokens; and, unless the skip stays, one whose last block norms otherwise."""
        from timm.models.eva import EvaBlock
        from timm.models.vision_transformer import Block

        lacking = self.how.lacking(layout)
        if lacking:
            raise InputError(f"model '{backbone.name}' has {lacking} for what [CLS] attends to")
        block = backbone.blocks[-1]
        if not self.how.skip and not isinstance(block, Block | EvaBlock):
            raise InputError(
                f"model '{backbone.name}' has a last block ({type(block).__name__}) that does not norm before it "
                "attends: keep the skip"
            )

    def hooks(self, backbone: Backbone, layout: TokenLayout, stack: ExitStack) -> None:
        """Edit the output of the last attention, and leave out the skip around it."""
        from vit_registers.forward.tap import tapped

        if not self.how.skip:
            _leave_out_skip(backbone, layout, stack)
        stack.enter_context(tapped(backbone, edit=self._edit(backbone, layout)))

    def _edit(self, backbone: Backbone, layout: TokenLayout) -> Edit:
        """Edit of the last attention's output (b, h, t, d / h): its [CLS] row sums over the allowed tokens only."""
        import torch

        allowed = torch.zeros(layout.length)
        if self.how.cls == "keep":
            allowed[layout.cls_slice] = 1.0
        if self.how.to in ("patches", "all"):
            allowed[layout.patch_slice] = 1.0
        if self.how.to in ("registers", "all"):
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


def _leave_out_skip(backbone: Backbone, layout: TokenLayout, stack: ExitStack) -> None:
    """The last block gets zeros for [CLS], but its first norm, and so its attention, what [CLS] really is."""
    from vit_registers.forward import hooks

    entered: list[Tensor] = []

    def without_cls(x: Tensor) -> Tensor:
        entered[:] = [x]
        x = x.clone()
        x[:, layout.cls_slice] = 0.0
        return x

    last, on = backbone.depth - 1, hooks.Hooks(stack)
    on.input(hooks.block(backbone, last), without_cls)
    on.input(hooks.first_norm(backbone, last), lambda x: entered.pop())
