"""What the measure of random neurons needs of params; test-time registers have no settings of their own."""

from vit_registers.params.experiments import MeasureConfig


class Config(MeasureConfig):
    """Conditions of one model on one data set."""

    dataset: str
    model: str
    conditions: list[str]
