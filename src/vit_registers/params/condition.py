"""A model under an intervention, as params name it."""

from typing import Any

from pydantic import model_validator

from vit_registers.params.base import Name, Strict

BASELINE = "baseline"  # the model as it is: the name of the empty intervention


class Condition(Strict):
    """A model under an intervention, ``baseline`` being none."""

    model: Name
    intervention: Name = BASELINE

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        """``model/intervention`` is how people write it."""
        if isinstance(given, str):
            model, slash, intervention = given.partition("/")
            if not slash:
                raise ValueError(f"expected model/intervention, got '{given}'")
            return {"model": model, "intervention": intervention}
        return given

    def __str__(self) -> str:
        """As people write it."""
        return f"{self.model}/{self.intervention}"
