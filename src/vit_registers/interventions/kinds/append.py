"""Zero tokens appended to the sequence: the control of test-time registers, and where those move neurons to."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from vit_registers.core.prose import plural
from vit_registers.interventions.base import Applied, Known
from vit_registers.params.base import SomeTokens
from vit_registers.params.bases import Intervention

if TYPE_CHECKING:
    from torch import Tensor

    from vit_registers.models.backbone import Backbone
    from vit_registers.models.layout import TokenLayout
    from vit_registers.params.study import Params


class Append(Intervention):
    """Zero tokens appended and nothing else touched: the control of every test-time register."""

    kind: Literal["append"] = "append"
    tokens: SomeTokens

    def label(self) -> str:
        """``4 zero tokens``."""
        return plural(self.tokens, "zero token")

    def sentence(self, params: Params) -> str:
        """What the methods text says of it, as LaTeX."""
        return f"{plural(self.tokens, 'zero token')} appended and nothing else touched"

    @property
    def appended(self) -> int:
        """All its tokens."""
        return self.tokens

    def resolve(self, backbone: Backbone, known: Known) -> AppendedTokens:
        """Every model has a place for them."""
        return AppendedTokens(self)


@dataclass(frozen=True)
class AppendedTokens(Applied):
    """Zero tokens at the end of the sequence."""

    how: Append

    @property
    def appended(self) -> int:
        """All its tokens."""
        return self.how.tokens

    def described(self) -> Any:
        """Its params."""
        return self.how.model_dump(mode="json")

    def hooks(self, backbone: Backbone, layout: TokenLayout, stack: ExitStack) -> None:
        """Lengthen the sequence."""
        append(backbone, self.how.tokens, stack)


def append(backbone: Backbone, tokens: int, stack: ExitStack) -> None:
    """Append zero ``tokens`` after position embeddings and before the norm in front of the blocks.

    Rotary embeddings are lengthened by the identity: appended tokens have no position.
    """
    import torch

    from vit_registers.forward import hooks

    def lengthened(x: Tensor) -> Tensor:  # (b, t, d)
        return torch.cat([x, x.new_zeros(len(x), tokens, x.shape[2])], dim=1)

    def without_rotation(rope: Tensor) -> Tensor:  # (..., patches, 2 * head width): sines, then cosines
        identity = rope.new_zeros(*rope.shape[:-2], tokens, rope.shape[-1])
        identity[..., rope.shape[-1] // 2 :] = 1.0
        return torch.cat([rope, identity], dim=-2)

    on = hooks.Hooks(stack)
    on.input(hooks.before_blocks(backbone), lengthened)
    for layer in range(backbone.depth):
        on.keyword(hooks.block(backbone, layer), "rope", without_rotation)
