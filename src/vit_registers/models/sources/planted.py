"""Models whose register neurons are known, because they were written into them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from vit_registers.core.prose import count, joined, key, plural
from vit_registers.models.bases import WrittenModel

if TYPE_CHECKING:
    from vit_registers.params.study import Params


class PlantedModel(WrittenModel):
    """A tagged model with register neurons written into one MLP: the oracle, because its neurons are known."""

    made: ClassVar[str] = "planted here"
    base_kind: ClassVar[str] = "tagged"

    kind: Literal["planted"]

    def sentence(self, name: str, params: Params) -> str:
        """The neurons, what they fire on and what they write."""
        planting = params.plantings[self.planting]
        attracts = "a direction that attracts the [CLS] queries of later blocks"
        aim = {
            "random": "a random direction of zero mean",
            "cls": f"{attracts} and leaves the content of [CLS] as it is",
            "cls-raw": f"{attracts}, whatever the values carry into [CLS]",
        }[planting.direction]
        places = joined([str(position) for position in planting.positions])
        return (
            f"{key(name)} is {key(self.base)} with {plural(planting.neurons, 'register neuron')} written in closed "
            f"form into the MLP of block {planting.block} (blocks count from 0). They fire on the patches at positions "
            f"{places} of the grid (row by row from 0) where the picture is uniform there, and write {aim} of "
            f"{planting.norm_ratio:g} times the median patch norm at the last block. What marks the positions is a tag "
            f"added to their position embeddings, {planting.tag_strength:g} standard deviations of the residual stream "
            f"along it; activation statistics and gate come from {count(planting.images)} training images."
        )
