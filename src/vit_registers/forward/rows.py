"""Former names, until interventions import the new ones."""

from vit_registers.forward.reading import announce_rows as announce
from vit_registers.forward.reading import rows_of_batch as current

__all__ = ["announce", "current"]
