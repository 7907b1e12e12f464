"""Zero tokens appended."""

from typing import Literal

from pydantic import PositiveInt

from vit_registers.core.prose import plural
from vit_registers.params.bases import Intervention


class Append(Intervention):
    """Zero tokens appended and nothing else touched."""

    kind: Literal["append"] = "append"
    tokens: PositiveInt

    def label(self) -> str:
        """``4 zero tokens``."""
        return plural(self.tokens, "zero token")
