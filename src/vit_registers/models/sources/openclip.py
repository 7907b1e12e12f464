"""OpenCLIP's visual towers by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from vit_registers.core.prose import key
from vit_registers.models.bases import HubModel

if TYPE_CHECKING:
    from vit_registers.models.loaded import Loaded
    from vit_registers.params.study import Params


class OpenClipModel(HubModel):
    """The visual tower of an OpenCLIP model, e.g. ``ViT-B-16`` with ``pretrained: laion2b_s34b_b88k``.

    ``quick_gelu``: where the weights were trained with it (``as_trained``), or ``forced`` on all, as jiang2025's code
    does with weights that were not.
    """

    made: ClassVar[str] = "released (OpenCLIP)"
    has_text_tower: ClassVar[bool] = True

    kind: Literal["openclip"]
    name: str
    pretrained: str | None
    quick_gelu: Literal["as_trained", "forced"] = "as_trained"

    def outline(self, name: str, params: Params) -> Any:
        """timm's of the same computation."""
        from vit_registers.models.openclip import towers

        return towers.untrained(self.name, self.pretrained, f"models.{name}")

    def load(self, name: str, seed: int) -> Loaded:
        """The visual tower at its own input size; ``pretrained: null`` asks for untrained weights, from ``seed``."""
        from vit_registers.models.openclip import towers

        where, forced = f"models.{name}", self.quick_gelu == "forced"
        file = towers.weights_of(self.name, self.pretrained, self.pin(), where)
        return towers.load(self.name, self.pretrained, seed, where, forced, file)

    def both_towers(self, name: str, seed: int, origin: Mapping[str, Any] | None = None) -> Any:
        """OpenCLIP's whole model, the text tower too, with the weights of :meth:`load` with the same arguments.

        ``origin``: that of the model's metadata, so that the hub's default revision may have changed since.
        """
        from vit_registers.models.openclip import towers
        from vit_registers.models.weights import hub

        where, forced = f"models.{name}", self.quick_gelu == "forced"
        file = hub.recorded(origin, where) if origin else None
        file = file or towers.weights_of(self.name, self.pretrained, self.pin(), where)
        return towers.both_towers(self.name, self.pretrained, seed, where, forced, file)

    @property
    def downloads(self) -> bool:
        """Unless untrained weights were asked for."""
        return self.pretrained is not None

    def origin(self) -> list[str]:
        """Name, and whose weights."""
        forced = ["QuickGELU forced on them"] if self.quick_gelu == "forced" else []
        weights = self.released(key(self.pretrained)) if self.pretrained else "random weights"
        return [f"OpenCLIP's {key(self.name)}", weights, *forced]
