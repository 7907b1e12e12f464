"""Settings of correspondence."""

from __future__ import annotations

from pydantic import PositiveInt

from vit_registers.params.base import Share
from vit_registers.params.experiments import ExperimentParams, MeasureConfig


class Correspondence(ExperimentParams):
    """How keypoints are sought; second views have no settings here (``extraction.pairs`` of them pass).

    ``targets``: images of its class in which the keypoints of an image are sought, at most. ``reach``: how far off a
    keypoint may be found, as a share of the larger side of its object's box (PCK; SPair-71k: 0.1).
    """

    targets: PositiveInt
    reach: Share


class Config(MeasureConfig):
    """Dense images of one model on one data set, by condition."""

    dataset: str
    model: str
    conditions: list[str]
    settings: Correspondence
