"""Former names, until interventions import the new ones."""

from vit_registers.forward.tap import tapped
from vit_registers.models.attention import Attention

__all__ = ["Attention", "tapped"]
