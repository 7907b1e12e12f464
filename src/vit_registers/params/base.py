"""What all declarations share: strictness, and the scalars that values are made of beside pydantic's own."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_+-]*$")]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Strict(BaseModel):
    """Unknown keys are refused, types are never coerced, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


@dataclass(frozen=True)
class Untracked:
    """Marks a field that says how a job goes and never what it gives: a job is not redone for it.

    What is left of params without such fields: :func:`vit_registers.pipeline.configs.tracked`.
    """
