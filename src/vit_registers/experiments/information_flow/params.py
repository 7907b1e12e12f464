"""Settings of what registers hold and get, block by block."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import PositiveInt

from vit_registers.params.experiments import ExperimentParams, MeasureConfig

if TYPE_CHECKING:
    from vit_registers.params.study import Params


class InformationFlow(ExperimentParams):
    """What [CLS] and each register hold and get, block by block (parodi2026).

    Probes are trained on at most ``training_images`` of split ``train``, spread evenly over it. ``nearest``: patches
    shown of each register; they are looked for among those of ``nearest_images`` dense images (the post: 500).
    """

    training_images: PositiveInt
    nearest: PositiveInt
    nearest_images: PositiveInt

    def check(self, params: Params) -> None:
        """The pass keeps special tokens at every block."""
        if not params.extraction.specials_layers:
            raise ValueError(
                "it reads [CLS] and registers of every block; set extraction.specials_layers, or leave "
                "information_flow out (null)"
            )


class Config(MeasureConfig):
    """[CLS] and registers of one model on one data set, as it is."""

    dataset: str
    model: str
    settings: InformationFlow
