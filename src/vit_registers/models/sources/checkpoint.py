"""A model of one's own: a checkpoint file over one of timm's architectures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveFloat

from vit_registers.core.prose import key
from vit_registers.models.bases import FetchedModel, Sha256

if TYPE_CHECKING:
    from vit_registers.models.loaded import Loaded
    from vit_registers.params.study import Params


class FileModel(FetchedModel):
    """A checkpoint file (safetensors or pickled tensors) over timm's architecture ``name`` with ``arguments``.

    torch.hub's DINO and DINOv2 files fit timm's models of that name as they are. What is null is timm's default for the
    architecture; with ``sha256`` no other file is taken.
    """

    made: ClassVar[str] = "from a file"

    kind: Literal["file"]
    path: str
    name: str
    arguments: dict[str, Any] = Field(default={})
    sha256: Sha256 | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    crop_pct: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    interpolation: Literal["bicubic", "bilinear"] | None = None

    def paths(self) -> dict[str, str]:
        """The checkpoint."""
        return {"path": self.path}

    def outline(self, name: str, params: Params) -> Any:
        """By its name in timm."""
        return {"name": self.name, **self.arguments}

    def load(self, name: str, seed: int) -> Loaded:
        """The architecture with all weights of the file and no others but a head's."""
        from vit_registers.models.weights import checkpoint_files

        preprocess = {
            "mean": self.mean, "std": self.std, "crop_pct": self.crop_pct, "interpolation": self.interpolation
        }  # fmt: skip
        given = {key: value for key, value in preprocess.items() if value is not None}
        return checkpoint_files.load(self.path, self.name, self.arguments, given, self.sha256, f"models.{name}")

    def origin(self) -> list[str]:
        """Architecture and file."""
        return [f"timm's {key(self.name)} with the weights of {key(self.path)}"]
