"""Test-time registers."""

from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from vit_registers.core.prose import plural
from vit_registers.params.bases import Intervention


class TestTimeRegisters(Intervention):
    """Register neurons moved to appended tokens."""

    __test__ = False

    kind: Literal["test_time_registers"] = "test_time_registers"
    tokens: NonNegativeInt
    neurons: Literal["found", "half", "next", "random"] = "found"
    top_k: PositiveInt | None = None
    images: Literal["every", "first"] = "every"

    def label(self) -> str:
        """``4 test-time registers``."""
        which = {"found": "neurons", "half": "half the neurons", "next": "next neurons", "random": "random neurons"}
        if self.tokens == 0:
            return f"{which[self.neurons]} cleared"
        if self.neurons == "found":
            return plural(self.tokens, "test-time register")
        return f"{which[self.neurons]}, {plural(self.tokens, 'token')}"
