"""How register neurons are planted."""

from vit_registers.params.models import Planting

__all__ = ["Planting"]
