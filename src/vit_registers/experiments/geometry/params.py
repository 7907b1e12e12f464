"""Settings of the geometry of patch features."""

from __future__ import annotations

from vit_registers.params.experiments import ExperimentParams, MeasureConfig
from vit_registers.params.statistics import Gallery


class Geometry(ExperimentParams):
    """None: effective ranks and principal components have no settings."""


class Config(MeasureConfig):
    """Patch features of one model on one data set, by condition."""

    dataset: str
    model: str
    conditions: list[str]
    gallery: Gallery
