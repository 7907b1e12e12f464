"""Models whose register neurons are known, because they were written into them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from vit_registers.core.prose import count, joined, key, percent, plural
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
        if planting.direction == "register":
            return self._from_register(name, params)
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

    def _from_register(self, name: str, params: Params) -> str:
        """The same of a model whose late register was taken away."""
        planting = params.plantings[self.planting]
        places = joined([str(position) for position in planting.positions])
        each = "in pairs" if planting.pairs else "each an equal part"
        return (
            f"{key(name)} is {key(self.base)} without its late register. {plural(planting.neurons, 'register neuron')} "
            f"in the MLP of block {planting.block}, the last before the register was filled, write {each} of the "
            "vector that filled it onto patches instead. They fire on "
            f"{percent(planting.firing)} of the patches at positions {places} of the grid, the most uniform ones, and "
            f"what they write has {planting.norm_ratio:g} times the median patch norm there. These artifacts are then "
            "what the head reads, so that the model needs what its register neurons do, but not that patches suffer "
            f"it. Tag, activation statistics and gate are as for other planted models, from {count(planting.images)} "
            f"training images; {key(self.base)} with its register is the ceiling of every repair."
        )
