"""Settings of emergence: there are none beside those of the trainings."""

from vit_registers.params.experiments import MeasureConfig


class Config(MeasureConfig):
    """What one training left."""

    model: str
