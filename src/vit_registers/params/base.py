"""What all declarations share: strictness, and the scalars that values are made of beside pydantic's own."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_+-]*$", max_length=100)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
# Sizes, bounded above what anybody used: a slip of a key is refused, and does not take the memory or the day.
Side = Annotated[int, Field(ge=1, le=16_384)]  # of an image, in pixels
Width = Annotated[int, Field(ge=1, le=65_536)]  # channels of a token
Depth = Annotated[int, Field(ge=1, le=1000)]  # blocks
Heads = Annotated[int, Field(ge=1, le=1024)]  # of attention
Tokens = Annotated[int, Field(ge=0, le=4096)]  # registers, or appended tokens
SomeTokens = Annotated[int, Field(ge=1, le=4096)]


class Strict(BaseModel):
    """Unknown keys are refused, types are never coerced, values never change, and numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Untracked:
    """Marks a field that says how a job goes and never what it gives: a job is not redone for it.

    What is left of params without such fields: :func:`vit_registers.pipeline.configs.tracked`.
    """
