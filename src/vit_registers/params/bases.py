"""What every data set source, model source, recipe and intervention has; their kinds are found in their packages."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from vit_registers.core.prose import plural
from vit_registers.params.base import Share, Strict
from vit_registers.params.kinds import KindsIn

if TYPE_CHECKING:
    from vit_registers.params.study import Params


def known(where: str, name: str, among: Collection[str], what: str) -> None:
    """Raise ValueError, opened by the key ``where``, if params declare no ``what`` of this name."""
    if name not in among:
        raise ValueError(f"{where}: unknown {what} '{name}'; known are {', '.join(sorted(among)) or 'none'}")


@dataclass(frozen=True)
class Published:
    """A data set as published.

    ``name`` in versions.csv, the ``folder`` that its files belong into, and the ``splits`` of the manifest into
    which the images of each published split went.
    """

    name: str
    folder: str
    splits: dict[str, tuple[str, ...]]


class DatasetSource(Strict):
    """Where a data set comes from; kinds are in :mod:`vit_registers.data.sources`."""

    generated: ClassVar[bool] = False  # whether its images are drawn by this pipeline

    def paths(self) -> dict[str, str]:
        """Files and folders by key of params; a missing one is refused before anything runs."""
        return {}

    def tracked(self) -> list[str]:
        """Those of these paths that are files, whose content Snakemake checks (that of folders it cannot)."""
        return []

    def published(self) -> Published | None:
        """Which published data set it is; None where it is the user's own or made here."""
        return None

    def where(self) -> str:
        """What to do where one of its paths is missing."""
        return "correct it or mount the disk"

    def counted(self) -> dict[str, int] | None:
        """Images by split, where that is known before it is prepared."""
        return None

    @abstractmethod
    def prepare(self, name: str, seed: int, out: Path) -> None:
        """Write the manifest of the data set ``name`` to the folder ``out``, and images that are made or unpacked."""

    @abstractmethod
    def sentence(self, name: str) -> str:
        """What the methods text says of the data set ``name``, as LaTeX."""


class ModelSource(Strict):
    """Where a model comes from; kinds are in :mod:`vit_registers.models.sources`."""

    step: ClassVar[str]  # the step that makes it: fetch, train, plant or resize
    made: ClassVar[str]  # in the tables: released (timm), trained here ...
    has_text_tower: ClassVar[bool] = False  # whether it can tell classes by their names (zero-shot)

    kind: str  # a literal in every kind

    @property
    def made_from(self) -> str | None:
        """Name of the model that it is made from, if any."""
        return None

    def drawn_as(self, name: str) -> str:
        """The name of what is drawn for the model ``name``."""
        return name

    def same_but_draws(self, other: ModelSource) -> bool:
        """Whether ``other`` is one more training of the same, with other draws or the same."""
        return False

    @property
    def learned(self) -> bool:
        """Whether its weights were learnt; where not, it is a baseline of what was, and no finding about models."""
        return True

    def paths(self) -> dict[str, str]:
        """Files that have to be there, by key of params."""
        return {}

    def where(self) -> str:
        """What to do where one of them is missing."""
        return "correct it or mount the disk"

    def outline(self, name: str, params: Params) -> Any:
        """What :func:`vit_registers.models.backbone.build` makes the module from; None where that takes its weights."""
        return None

    def input_size(self, params: Params) -> tuple[int, int] | None:
        """Height and width of the input, if they are not those of the architecture."""
        return None

    def check(self, name: str, params: Params) -> None:
        """Raise ValueError, opened by the key, where other params do not fit it: names that are unknown, kinds."""

    def label(self, name: str, params: Params) -> str:
        """What readers see in place of the key ``name``."""
        return name

    @abstractmethod
    def sentence(self, name: str, params: Params) -> str:
        """What the methods text says of the model ``name``, as LaTeX."""


AnyModel = Annotated[ModelSource, KindsIn("vit_registers.models.sources")]


class Recipe(Strict):
    """How a ViT is trained; kinds are in :mod:`vit_registers.training.recipes`.

    Epochs are fixed, so that results never depend on speed. A step accumulates the gradients of ``micro_batches``
    batches of ``batch_size`` images, however many processes share them: one process ends where several do, up to
    rounding. Of the first ``monitored_images`` test images patch norms and the mean attention of [CLS] and registers at
    the last block are kept after every epoch; of the first ``monitored_maps`` of these, whole attention maps.
    ``keep_every`` so many epochs the weights are kept as well; 0 for never.

    Fields that an architecture needs are the kind's own. What trains (torch, timm) is imported by the methods that use
    it.
    """

    kind: str  # a literal in every kind
    epochs: PositiveInt
    batch_size: PositiveInt
    micro_batches: PositiveInt = 1
    lr: PositiveFloat
    betas: tuple[Share, Share]
    weight_decay: Annotated[float, Field(ge=0.0)]
    precision: Literal["fp32", "bf16"]
    checkpoint_steps: PositiveInt
    monitored_images: PositiveInt
    monitored_maps: PositiveInt
    keep_every: NonNegativeInt = 0

    @model_validator(mode="after")
    def _maps_are_of_monitored_images(self) -> Self:
        if self.monitored_maps > self.monitored_images:
            raise ValueError(f"monitored_maps: expected at most the {self.monitored_images} of monitored_images")
        return self

    def with_architecture(self, changes: dict[str, int]) -> Recipe:
        """The same recipe for a model of another size: ``changes`` laid over its architecture.

        ValueError where the architecture is one of timm's by name, whose sizes are its own.
        """
        if changes:
            raise ValueError("is laid over recipes of kind small; give another recipe")
        return self

    @abstractmethod
    def architecture_arguments(self, registers: int, classes: int) -> dict[str, Any]:
        """What :func:`vit_registers.models.backbone.build` makes the model from, registers without positions."""

    @abstractmethod
    def build(self, registers: int, classes: int) -> Any:
        """The module with weights drawn from torch's global generator, as it is trained."""

    @abstractmethod
    def batches(self, cfg: Any, manifest: Any) -> Any:
        """Training images of the step ``cfg``: see :class:`vit_registers.training.batches.Batches`."""

    @abstractmethod
    def objective(self, registers: int, classes: int, per_epoch: int) -> Any:
        """What is minimised, in ``per_epoch`` steps an epoch: see :class:`vit_registers.training.objective.Objective`.

        Weights are drawn from torch's global generator.
        """

    @abstractmethod
    def learning_rate(self, per_epoch: int) -> Callable[[int], float]:
        """Learning rate by step, counted from 0, in ``per_epoch`` steps an epoch."""

    def check(self, registers: int) -> None:
        """Raise ValueError where a model of this recipe cannot have so many registers, or be of this size."""

    def model_label(self, registers: int) -> str | None:
        """What readers call a model of this recipe, where that is not its number of registers or its key."""
        return None

    @abstractmethod
    def architecture_sentence(self) -> str:
        """The architecture in words, as LaTeX."""

    @abstractmethod
    def own_sentence(self, datasets: str) -> str:
        """What the methods text says of this kind of training alone, as LaTeX."""

    def sentence(self, datasets: str) -> str:
        """How models of this recipe were trained on ``datasets`` (already joined), as LaTeX."""
        precision = "in 32-bit precision" if self.precision == "fp32" else "in bfloat16 autocast with 32-bit weights"
        several = f"{self.micro_batches} times " if self.micro_batches > 1 else ""
        return (
            f"{self.own_sentence(datasets)} Training takes {plural(self.epochs, 'epoch')} in steps of "
            f"{several}{self.batch_size} images, {precision}. After every epoch patch norms, the mean attention of "
            "[CLS] and registers at the last block and the cosines of their maps are kept of the first "
            f"{plural(self.monitored_images, 'test image')}, and whole maps of the first {self.monitored_maps} of "
            "these."
        )


AnyRecipe = Annotated[Recipe, KindsIn("vit_registers.training.recipes")]


class Intervention(Strict):
    """What is done to a model during a pass; kinds are in :mod:`vit_registers.interventions.kinds`."""

    @abstractmethod
    def label(self) -> str:
        """What tables and figures call it."""

    @abstractmethod
    def sentence(self, params: Params) -> str:
        """What the methods text says of it, as LaTeX."""

    @property
    def appended(self) -> int:
        """Tokens that it appends to the sequence."""
        return 0

    @property
    def calibrated(self) -> bool:
        """Whether it needs activation statistics."""
        return False

    @property
    def moves_neurons(self) -> bool:
        """Whether it needs the register neurons that detection found."""
        return False

    @property
    def detection_rounds(self) -> int:
        """Rounds of detection whose neurons it moves; more than one want ``detection.repeats``."""
        return 1 if self.moves_neurons else 0

    @property
    def draws_neurons(self) -> bool:
        """Whether it moves random neurons in place of those found."""
        return False

    @abstractmethod
    def resolve(self, backbone: Any, known: Any) -> Any:
        """What is applied to ``backbone``, or why it has no place there.

        ``known`` and what is returned are of :mod:`vit_registers.interventions.base`.
        """
