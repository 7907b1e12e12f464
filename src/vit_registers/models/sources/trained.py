"""Models that the pipeline trains by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import NonNegativeInt, PositiveInt

from vit_registers.core.prose import key, plural
from vit_registers.params.base import Name, Strict
from vit_registers.params.bases import ModelSource, Recipe, known

if TYPE_CHECKING:
    from vit_registers.params.study import Params


class OtherSize(Strict):
    """What of a recipe's architecture one model has otherwise; null: as the recipe says."""

    width: PositiveInt | None = None
    depth: PositiveInt | None = None
    heads: PositiveInt | None = None

    @property
    def given(self) -> dict[str, int]:
        """What is not as the recipe says."""
        return self.model_dump(exclude_none=True)

    def label(self) -> str:
        """``ViT 64 wide, 4 deep``: what a model has otherwise than its recipe."""
        parts = [f"{value} {word}" for value, word in ((self.width, "wide"), (self.depth, "deep")) if value]
        return f"ViT {', '.join(parts) or plural(self.heads or 0, 'head')}"


class TrainedModel(ModelSource):
    """A ViT trained on ``dataset``; ``architecture`` is laid over the recipe's, for other sizes."""

    step: ClassVar[str] = "train"
    made: ClassVar[str] = "trained here"

    kind: Literal["trained"]
    dataset: Name
    recipe: Name
    registers: NonNegativeInt
    architecture: OtherSize = OtherSize()

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

    def label(self, name: str, params: Params) -> str:
        """Size and registers; the key where the study trains by several recipes: what differs is what keys say.

        A recipe that has words for its models is none of these.
        """
        own = params.recipes[self.recipe].model_label(self.registers)
        if own is not None:
            return own
        used = (params.models[model] for model in params.models_used())
        recipes = {model.recipe: params.recipes[model.recipe] for model in used if isinstance(model, TrainedModel)}
        if sum(recipe.model_label(0) is None for recipe in recipes.values()) > 1:
            return name
        if self.architecture.given:
            return self.architecture.label() + (f", {plural(self.registers, 'register')}" if self.registers else "")
        return f"ViT with {plural(self.registers, 'register')}" if self.registers else "ViT without registers"

    def sentence(self, name: str, params: Params) -> str:
        """Registers, and the size where that is not the recipe's; a part of a sentence."""
        size = f", {self.recipe_of(params).architecture_sentence()}" if self.architecture.given else ""
        return f"{key(name)} ({plural(self.registers, 'register')}{size})"
