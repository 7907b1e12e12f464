"""Models that the pipeline trains by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from vit_registers.core.prose import key, plural
from vit_registers.params.base import Depth, Heads, Name, Strict, Tokens, Width
from vit_registers.params.bases import ModelSource, Recipe, known

if TYPE_CHECKING:
    from vit_registers.params.study import Params


class OtherSize(Strict):
    """What of a recipe's architecture one model has otherwise; null: as the recipe says."""

    width: Width | None = None
    depth: Depth | None = None
    heads: Heads | None = None

    @property
    def given(self) -> dict[str, int]:
        """What is not as the recipe says."""
        return self.model_dump(exclude_none=True)

    def label(self) -> str:
        """``ViT 64 wide, 4 deep``: what a model has otherwise than its recipe."""
        parts = [f"{value} {word}" for value, word in ((self.width, "wide"), (self.depth, "deep")) if value]
        return f"ViT {', '.join(parts) or plural(self.heads or 0, 'head')}"


class TrainedModel(ModelSource):
    """A ViT trained on ``dataset``; ``architecture`` is laid over the recipe's, for other sizes.

    ``draws`` names what is drawn for its training: initial weights, order and augmentation of the images. null: its own
    name. Models of the same draws start from the same weights but for those that only some have (registers), and see
    the same batches: what differs between them is no luck of a draw.
    """

    step: ClassVar[str] = "train"
    made: ClassVar[str] = "trained here"

    kind: Literal["trained"]
    dataset: Name
    recipe: Name
    registers: Tokens
    architecture: OtherSize = OtherSize()
    draws: Name | None = None

    def drawn_as(self, name: str) -> str:
        """See :class:`ModelSource`."""
        return self.draws or name

    def same_but_draws(self, other: ModelSource) -> bool:
        """See :class:`ModelSource`."""
        return isinstance(other, TrainedModel) and self.model_copy(update={"draws": other.draws}) == other

    def check(self, name: str, params: Params) -> None:
        """Data set and recipe exist, and another size is one that the recipe can have."""
        known(f"models.{name}.dataset", self.dataset, params.datasets, "data set")
        known(f"models.{name}.recipe", self.recipe, params.recipes, "recipe")
        try:
            recipe = self.recipe_of(params)
        except ValueError as error:
            raise ValueError(f"models.{name}.architecture: {error}") from None
        try:
            recipe.check(self.registers)
        except ValueError as error:
            raise ValueError(f"models.{name}.{error}") from None

    def recipe_of(self, params: Params) -> Recipe:
        """The recipe as this model follows it."""
        return params.recipes[self.recipe].with_architecture(self.architecture.given)

    def outline(self, name: str, params: Params) -> Any:
        """The recipe's, with a head of its own that is not counted."""
        return self.recipe_of(params).architecture_arguments(self.registers, 1)

    def label(self, name: str, params: Params) -> str:
        """Size, registers, draws; the key where models are trained on this data set by several recipes: keys say which.

        A recipe that has words for its models is none of these, unless another has the same.
        """
        own = params.recipes[self.recipe].model_label(self.registers)
        used = (params.models[model] for model in params.models_used())
        mine = {model.recipe for model in used if isinstance(model, TrainedModel) and model.dataset == self.dataset}
        labels = [params.recipes[recipe].model_label(self.registers) for recipe in mine]
        if len(labels) > len(set(labels)):
            return name
        draws = f", draws {self.draws}" if self.draws else ""
        if own is not None:
            return own + draws
        if self.architecture.given:
            registers = f", {plural(self.registers, 'register')}" if self.registers else ""
            return self.architecture.label() + registers + draws
        registers = f"with {plural(self.registers, 'register')}" if self.registers else "without registers"
        return f"ViT {registers}{draws}"

    def sentence(self, name: str, params: Params) -> str:
        """Registers, and the size where that is not the recipe's; a part of a sentence."""
        size = f", {self.recipe_of(params).architecture_sentence()}" if self.architecture.given else ""
        draws = f", with the draws of {key(self.draws)}" if self.draws else ""
        return f"{key(name)} ({plural(self.registers, 'register')}{size}{draws})"
