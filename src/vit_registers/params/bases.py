"""What every data set source, model source, recipe and intervention has; their kinds are found in their packages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from vit_registers.params.base import Share, Strict

if TYPE_CHECKING:
    from vit_registers.params.study import Params


class DatasetSource(Strict):
    """Where a data set comes from; kinds are in :mod:`vit_registers.data.sources`."""

    def paths(self) -> dict[str, str]:
        """Files and folders that have to be there, by key of params; else refused before anything runs."""
        return {}

    def tracked(self) -> list[str]:
        """Files of these whose content Snakemake checks (folders it cannot)."""
        return []

    def prepare(self, name: str, seed: int, out: Path) -> None:
        """Write the manifest of the data set ``name`` to the folder ``out``, and images that are made or unpacked."""
        raise NotImplementedError

    def sentence(self, name: str) -> str:
        """What the methods text says of the data set ``name``, as LaTeX."""
        raise NotImplementedError


class ModelSource(Strict):
    """Where a model comes from; kinds are in :mod:`vit_registers.models.sources`."""

    step: ClassVar[str]  # the step that makes it: fetch, train, plant or resize
    made: ClassVar[str]  # in the tables: released (timm), trained here ...

    @property
    def made_from(self) -> str | None:
        """Name of the model that it is made from, if any."""
        return None

    def paths(self) -> dict[str, str]:
        """Files that have to be there, by key of params."""
        return {}

    def check(self, name: str, params: Params) -> None:
        """Raise ValueError, opened by the key, where other params do not fit it: names that are unknown, kinds."""

    def label(self, name: str, params: Params) -> str:
        """What readers see in place of the key ``name``."""
        return name

    def sentence(self, name: str, params: Params) -> str:
        """What the methods text says of the model ``name``, as LaTeX."""
        raise NotImplementedError


class Recipe(Strict):
    """How a ViT is trained; kinds are in :mod:`vit_registers.training.recipes`.

    Epochs are fixed, so that results never depend on speed. A step accumulates the gradients of ``micro_batches``
    batches of ``batch_size`` images, however many processes share them: one process ends where several do, up to
    rounding. Of the first ``monitored_images`` test images patch norms and the mean attention of [CLS] and registers at
    the last block are kept after every epoch; of the first ``monitored_maps`` of these, whole attention maps.
    ``keep_every`` so many epochs the weights are kept as well; 0 for never.
    """

    epochs: PositiveInt
    batch_size: PositiveInt
    micro_batches: PositiveInt = 1
    lr: PositiveFloat
    betas: tuple[Share, Share]
    weight_decay: Annotated[float, Field(ge=0.0)]
    precision: str
    checkpoint_steps: PositiveInt
    monitored_images: PositiveInt
    monitored_maps: PositiveInt
    keep_every: NonNegativeInt = 0

    @model_validator(mode="after")
    def _maps_are_of_monitored_images(self) -> Self:
        if self.precision not in ("fp32", "bf16"):
            raise ValueError(f"precision: expected fp32 or bf16, got {self.precision}")
        if self.monitored_maps > self.monitored_images:
            raise ValueError(f"monitored_maps: expected at most the {self.monitored_images} of monitored_images")
        return self

    def sentence(self, datasets: str) -> str:
        """How models of this recipe were trained on ``datasets`` (already joined), as LaTeX."""
        raise NotImplementedError


class Intervention(Strict):
    """What is done to a model during a pass; kinds are in :mod:`vit_registers.interventions.kinds`."""

    def label(self) -> str:
        """What tables and figures call it."""
        raise NotImplementedError

    def sentence(self, params: Params) -> str:
        """What the methods text says of it, as LaTeX."""
        raise NotImplementedError

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

    def resolve(self, backbone: Any, known: Any) -> Any:
        """What is applied to ``backbone``, or why it has no place there.

        ``known`` and what is returned are of :mod:`vit_registers.interventions.base`.
        """
        raise NotImplementedError
