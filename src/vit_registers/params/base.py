"""What all declarations share: strictness, and the scalars that values are made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_+-]*$")]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]


class Strict(BaseModel):
    """Unknown keys are refused, types are never coerced, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
