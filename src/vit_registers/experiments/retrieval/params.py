"""Settings of retrieval."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vit_registers.params.experiments import ExperimentParams, MeasureConfig


class Retrieval(ExperimentParams):
    """``features``: by which images are near; a condition that has no such token is left out."""

    features: Annotated[list[Literal["cls", "patch_mean"]], Field(min_length=1)]


class Config(MeasureConfig):
    """Test images of one model on one data set, by condition."""

    dataset: str
    model: str
    conditions: list[str]
    settings: Retrieval
