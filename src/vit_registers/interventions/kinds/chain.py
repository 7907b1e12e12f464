"""Several interventions at once."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from vit_registers.interventions.base import Applied, Known, NotApplicable
from vit_registers.params.bases import Intervention
from vit_registers.params.kinds import KindsIn

if TYPE_CHECKING:
    from vit_registers.models.backbone import Backbone
    from vit_registers.models.layout import TokenLayout
    from vit_registers.params.study import Params

Part = Annotated[Intervention, KindsIn("vit_registers.interventions.kinds", other_than="chain")]


class Chain(Intervention):
    """Several interventions at once, at most one of which appends tokens; later ones act on what earlier ones left."""

    kind: Literal["chain"] = "chain"
    of: Annotated[list[Part], Field(min_length=2)]

    @model_validator(mode="after")
    def _appends_once(self) -> Self:
        if sum(part.appended > 0 for part in self.of) > 1:
            raise ValueError("of: a chain appends tokens twice; keep one of those that append")
        return self

    def label(self) -> str:
        """Its parts', with commas between."""
        return ", ".join(part.label() for part in self.of)

    def sentence(self, params: Params) -> str:
        """What the methods text says of its parts, as LaTeX."""
        return "; ".join(part.sentence(params) for part in self.of)

    @property
    def appended(self) -> int:
        """Tokens of the part that appends some."""
        return sum(part.appended for part in self.of)

    @property
    def calibrated(self) -> bool:
        """Whether a part needs activation statistics."""
        return any(part.calibrated for part in self.of)

    @property
    def moves_neurons(self) -> bool:
        """Whether a part needs register neurons."""
        return any(part.moves_neurons for part in self.of)

    @property
    def draws_neurons(self) -> bool:
        """Whether a part moves random neurons."""
        return any(part.draws_neurons for part in self.of)

    def resolve(self, backbone: Backbone, known: Known) -> AppliedChain | NotApplicable:
        """Its parts; not applicable where one of them is not."""
        known = replace(known, appended=self.appended)
        parts: list[Applied] = []
        for part in self.of:
            found = part.resolve(backbone, known)
            if isinstance(found, NotApplicable):
                return found
            parts.append(found)
        return AppliedChain(tuple(parts))


@dataclass(frozen=True)
class AppliedChain(Applied):
    """Interventions in the order in which they act."""

    parts: tuple[Applied, ...]

    @property
    def appended(self) -> int:
        """Tokens that its parts append."""
        return sum(part.appended for part in self.parts)

    @property
    def shuffles(self) -> bool:
        """Whether a part lets images take tokens of others in their batch."""
        return any(part.shuffles for part in self.parts)

    @property
    def batch(self) -> int | None:
        """The fewest images that a part wants at a time."""
        return min((part.batch for part in self.parts if part.batch is not None), default=None)

    def described(self) -> Any:
        """Its parts, in order."""
        return [part.described() for part in self.parts]

    def check(self, backbone: Backbone, layout: TokenLayout) -> None:
        """Refuse what a part refuses."""
        for part in self.parts:
            part.check(backbone, layout)

    def hooks(self, backbone: Backbone, layout: TokenLayout, stack: ExitStack) -> None:
        """Put its parts in force one after the other."""
        for part in self.parts:
            part.hooks(backbone, layout, stack)
