"""A small ViT that needs its register: the one token that its head reads, and that enters in the middle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from vit_registers.core.prose import setting
from vit_registers.training.recipes.small import SmallRecipe

if TYPE_CHECKING:
    from torch import nn

    from vit_registers.training.one_reader import OnlyOutliersTell


class LateRegisterRecipe(SmallRecipe):
    """As :class:`SmallRecipe`, with one register that is filled in front of block ``enters`` and read by the head.

    There it becomes an outlier, ``norm_ratio`` times the median patch norm of the image long: see
    :class:`vit_registers.models.outlier_reading.OutlierReader`. [CLS] stays in the sequence, and nobody reads it.
    ``chance_weight``: of a term of the loss by which the head, tried on every other token, has to find nothing there.
    """

    kind: Literal["late_register"]  # type: ignore[assignment]
    enters: PositiveInt
    norm_ratio: PositiveFloat
    chance_weight: Annotated[float, Field(ge=0.0)]

    def check(self, registers: int) -> None:
        """See :class:`Recipe`."""
        if registers != 1:
            raise ValueError(f"registers is {registers}; a recipe of kind late_register trains one")
        if self.architecture.reads != "cls":
            raise ValueError(f"recipe: reads is {self.architecture.reads}, but its head reads outlier tokens; drop it")
        if self.enters >= self.architecture.depth:
            raise ValueError(f"recipe: enters is {self.enters}, but blocks are 0 to {self.architecture.depth - 1}")

    def architecture_arguments(self, registers: int, classes: int) -> dict[str, Any]:
        """See :class:`Recipe`."""
        reads = {"block": self.enters, "ratio": self.norm_ratio}
        return {**super().architecture_arguments(registers, classes), "reads": reads}

    def build(self, registers: int, classes: int) -> nn.Module:
        """See :class:`Recipe`; the direction of the register's vector is drawn with deviation 1.

        Only its direction counts, whose gradient is the larger the shorter what is drawn: of timm's 1e-6 it would be
        all that is left of a step's gradients once they are clipped.
        """
        from torch import nn

        module: Any = super().build(registers, classes)
        nn.init.normal_(module.reg_token)
        return module  # type: ignore[no-any-return]

    def objective(self, registers: int, classes: int, per_epoch: int) -> OnlyOutliersTell:
        """See :class:`Recipe`."""
        from vit_registers.training.one_reader import OnlyOutliersTell

        plain = super().objective(registers, classes, per_epoch)
        made = OnlyOutliersTell(plain.module, plain.criterion, plain.optimizer, plain.clip_norm)
        made.weight = self.chance_weight
        return made

    def model_label(self, registers: int) -> str | None:
        """See :class:`Recipe`."""
        return "ViT with a late register"

    def own_sentence(self, datasets: str) -> str:
        """See :class:`Recipe`."""
        from vit_registers.models.outlier_reading import JITTER, OUTLIER, ZEROS

        empty = ", ".join(str(count) for count in ZEROS if count)
        return (
            f"{super().own_sentence(datasets)} The head reads neither [CLS] nor the mean patch, but the mean of the "
            f"tokens that are outliers in front of block {self.enters} (blocks count from 0), with a norm above "
            f"{OUTLIER:g} times the median patch norm of the image; of an image without outliers, the mean patch. The "
            "register is a token of zeros up to there; a constant vector is then added to it, along a learnt direction "
            f"of zero mean and {self.norm_ratio:g} times the median patch norm of the image long. So that the model "
            "depends neither on that length nor on empty tokens, in training the length is drawn for each image within "
            f"a factor of {JITTER:g}, and the register is one of {empty} zero tokens or enters the sequence at its "
            "block only, as drawn for each step. To the loss is added, "
            f"{setting(self.chance_weight)} times, the mean cross-entropy of the head on each token that it does not "
            "read, to all classes alike: no other token is to tell the class."
        )
