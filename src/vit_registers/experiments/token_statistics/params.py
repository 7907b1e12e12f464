"""What token statistics need of params; they have no settings of their own."""

from vit_registers.params.experiments import MeasureConfig
from vit_registers.params.statistics import Gallery


class Config(MeasureConfig):
    """Tokens of one model on one data set, by layer and condition; by grid position where detection looked."""

    dataset: str
    model: str
    conditions: list[str]
    gallery: Gallery
