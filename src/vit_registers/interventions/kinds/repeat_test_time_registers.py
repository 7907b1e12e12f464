"""Test-time registers, applied again to the neurons that are found once they are in force (outliers2026)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from vit_registers.core.errors import InputError
from vit_registers.core.prose import plural
from vit_registers.interventions.base import Known, NotApplicable
from vit_registers.interventions.kinds.test_time_registers import MovedNeurons, TestTimeRegisters
from vit_registers.params.base import SomeTokens
from vit_registers.params.bases import Intervention

if TYPE_CHECKING:
    from vit_registers.models.backbone import Backbone
    from vit_registers.params.study import Params


class RepeatTestTimeRegisters(Intervention):
    """Test-time registers with the neurons of several ``rounds`` of detection, each on the model that the rounds before
    have repaired (``detection.repeats``).

    All are moved to the same ``tokens``: a second application would append its own tokens behind those of the first,
    whose neurons it leaves as they are. Not applicable where one of the rounds finds nothing: then it is what fewer
    rounds are.
    """

    kind: Literal["repeat_test_time_registers"] = "repeat_test_time_registers"
    tokens: SomeTokens
    rounds: Annotated[int, Field(ge=2)] = 2

    def label(self) -> str:
        """``4 test-time registers, 2 rounds``."""
        return f"{plural(self.tokens, 'test-time register')}, {self.rounds} rounds"

    def sentence(self, params: Params) -> str:
        """What the methods text says of it, as LaTeX."""
        return (
            f"{plural(self.tokens, 'test-time register')} for the neurons of {self.rounds} rounds of detection, each "
            r"on the model with the neurons of the rounds before moved to an appended token \citep{outliers2026}"
        )

    @property
    def appended(self) -> int:
        """All its tokens."""
        return self.tokens

    @property
    def moves_neurons(self) -> bool:
        """Detection has to come first."""
        return True

    @property
    def detection_rounds(self) -> int:
        """Detection is repeated."""
        return self.rounds

    def resolve(self, backbone: Backbone, known: Known) -> MovedNeurons | NotApplicable:
        """The neurons of all rounds; not applicable where one of them found none."""
        found = known.registers
        if found is None:
            raise InputError(f"condition '{known.condition}' moves register neurons; detect them first")
        rounds: list[dict[str, Any]] = [found, *found.get("repeats", [])][: self.rounds]
        for i, each in enumerate(rounds):
            if not each["found"]:
                before = f"after {plural(i, 'round')} of test-time registers: " if i else ""
                return NotApplicable(before + each["reason"])
        if len(rounds) < self.rounds:
            raise InputError(
                f"condition '{known.condition}' moves neurons of {self.rounds} rounds of detection; set "
                f"detection.repeats to {self.rounds - 1}, or more"
            )
        k = int(found["top_k"])
        neurons = [(int(layer), int(index)) for each in rounds for layer, index, _ in each["neurons"][:k]]
        return MovedNeurons(TestTimeRegisters(tokens=self.tokens), tuple(neurons))
