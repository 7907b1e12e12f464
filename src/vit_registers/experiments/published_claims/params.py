"""Params of the claims."""

from vit_registers.params.experiments import ExperimentParams


class PublishedClaims(ExperimentParams):
    """No settings of its own: what stands for what is said in ``study.stands_for``."""
