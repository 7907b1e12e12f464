"""Trained models with a tag at some positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from vit_registers.core.prose import key
from vit_registers.models.bases import WrittenModel

if TYPE_CHECKING:
    from vit_registers.params.study import Params


class TaggedModel(WrittenModel):
    """``base`` with a tag added to some position embeddings: the clean reference of a planted model."""

    made: ClassVar[str] = "tagged here"
    base_kind: ClassVar[str] = "trained"

    kind: Literal["tagged"]

    def sentence(self, name: str, params: Params) -> str:
        """What it is for."""
        return (
            f"{key(name)} is {key(self.base)} with the tag alone: the clean reference of a planted model, "
            "whose artifacts it lacks."
        )
