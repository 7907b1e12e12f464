"""timm's models by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from vit_registers.core.prose import key
from vit_registers.models.bases import HubModel

if TYPE_CHECKING:
    from vit_registers.models.loaded import Loaded
    from vit_registers.params.study import Params


class TimmModel(HubModel):
    """A model of timm by name; ``weights: random`` must be asked for, it is never a fallback.

    ``arguments`` go to timm, e.g. ``{reg_tokens: 4}`` for a DeiT-III with registers.
    """

    made: ClassVar[str] = "released (timm)"

    kind: Literal["timm"]
    name: str
    weights: Literal["pretrained", "random"] = "pretrained"
    arguments: dict[str, Any] = Field(default={})

    def outline(self, name: str, params: Params) -> Any:
        """By its name in timm."""
        return {"name": self.name, **self.arguments}

    def load(self, name: str, seed: int) -> Loaded:
        """The model with pretrained weights, or with random ones from ``seed``."""
        from vit_registers.models import timm_models

        random = seed if self.weights == "random" else None
        return timm_models.load(self.name, self.arguments, random, self.pin(), f"models.{name}")

    @property
    def downloads(self) -> bool:
        """Unless random weights were asked for."""
        return self.weights == "pretrained"

    def origin(self) -> list[str]:
        """Name, and whose weights."""
        released = self.released("released weights")
        return [f"timm's {key(self.name)}", released if self.weights == "pretrained" else "random weights"]
