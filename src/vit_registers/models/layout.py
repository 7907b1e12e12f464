"""Where tokens stand. Nothing else in the project slices a token axis by a literal."""

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class TokenLayout:
    """Order of a sequence: [CLS] (0 or 1), trained registers, patches in row-major order, appended tokens.

    timm calls what stands before the patches prefix tokens; tokens appended at test time stand after the patches
    (jiang2025). All slices index the token axis of one sequence of length :attr:`length`.
    """

    cls: int
    registers: int
    grid: tuple[int, int]
    appended: int = 0

    @property
    def patches(self) -> int:
        """Number of patch tokens."""
        return self.grid[0] * self.grid[1]

    @property
    def prefix(self) -> int:
        """Number of tokens before the patches."""
        return self.cls + self.registers

    @property
    def length(self) -> int:
        """Number of tokens of the sequence."""
        return self.prefix + self.patches + self.appended

    @property
    def cls_slice(self) -> slice:
        """The [CLS] token; empty where the model has none."""
        return slice(0, self.cls)

    @property
    def register_slice(self) -> slice:
        """The trained registers."""
        return slice(self.cls, self.prefix)

    @property
    def patch_slice(self) -> slice:
        """The patches."""
        return slice(self.prefix, self.prefix + self.patches)

    @property
    def appended_slice(self) -> slice:
        """The tokens appended at test time."""
        return slice(self.prefix + self.patches, self.length)

    @property
    def specials(self) -> tuple[int, ...]:
        """Positions of [CLS], the registers and the appended tokens, in the order of the sequence."""
        return (*range(self.prefix), *range(self.prefix + self.patches, self.length))

    def with_appended(self, tokens: int) -> "TokenLayout":
        """The same layout with ``tokens`` appended tokens."""
        return replace(self, appended=tokens)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, for ``index.json`` and ``model.json``."""
        return {"cls": self.cls, "registers": self.registers, "grid": list(self.grid), "appended": self.appended}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "TokenLayout":
        """Inverse of :meth:`to_json`."""
        height, width = content["grid"]
        return cls(content["cls"], content["registers"], (height, width), content.get("appended", 0))
