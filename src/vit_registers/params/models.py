"""Models: released, of one's own, trained here, tagged or planted; and any of them at another input size."""

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from vit_registers.params.base import Name, Strict
from vit_registers.params.dino import DinoRecipe
from vit_registers.params.positions import PositionResampling
from vit_registers.params.recipes import Deit3Recipe, SmallRecipe


class SizedModel(Strict):
    """A model at an input size of one's choice. ``image_size``: one side, or height and width; null for its own."""

    image_size: PositiveInt | tuple[PositiveInt, PositiveInt] | None = None
    positions: PositionResampling = PositionResampling()

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of the input, if they were given."""
        side = self.image_size
        return (side, side) if isinstance(side, int) else side


class FetchedModel(SizedModel):
    """Any ViT that is not made here."""


class TimmModel(FetchedModel):
    """A model of timm by name; ``weights: random`` must be asked for, it is never a fallback.

    ``arguments`` go to timm, e.g. ``{reg_tokens: 4}`` for a DeiT-III with registers.
    """

    kind: Literal["timm"]
    name: str
    weights: Literal["pretrained", "random"] = "pretrained"
    arguments: dict[str, Any] = Field(default={})


class FileModel(FetchedModel):
    """A checkpoint file (safetensors or pickled tensors) over timm's architecture ``name`` with ``arguments``.

    What is null is timm's default for the architecture.
    """

    kind: Literal["file"]
    path: str
    name: str
    arguments: dict[str, Any] = Field(default={})
    mean: tuple[float, float, float] | None = None
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    crop_pct: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    interpolation: Literal["bicubic", "bilinear"] | None = None


class OpenClipModel(FetchedModel):
    """The visual tower of an OpenCLIP model, e.g. ``ViT-B-16`` with ``pretrained: laion2b_s34b_b88k``."""

    kind: Literal["openclip"]
    name: str
    pretrained: str | None


class OtherSize(Strict):
    """What of a recipe's architecture one model has otherwise; null: as the recipe says."""

    width: PositiveInt | None = None
    depth: PositiveInt | None = None
    heads: PositiveInt | None = None

    @property
    def given(self) -> dict[str, int]:
        """What is not as the recipe says."""
        return self.model_dump(exclude_none=True)


class TrainedModel(Strict):
    """A small ViT that the pipeline trains by itself; ``architecture`` is laid over the recipe's, for other sizes."""

    kind: Literal["trained"]
    dataset: Name
    recipe: Name
    registers: NonNegativeInt
    architecture: OtherSize = OtherSize()


class TaggedModel(Strict):
    """``base`` with a tag added to some position embeddings: the clean reference of a planted model."""

    kind: Literal["tagged"]
    base: Name
    planting: Name


class PlantedModel(Strict):
    """A tagged model with register neurons written into one MLP: the oracle, because its neurons are known."""

    kind: Literal["planted"]
    base: Name
    planting: Name


class ResizedModel(SizedModel):
    """``base``, any other model of the study, at another input size: its weights with positions resampled to it."""

    kind: Literal["resized"]
    base: Name
    image_size: PositiveInt | tuple[PositiveInt, PositiveInt]


Model = Annotated[
    TimmModel | FileModel | OpenClipModel | TrainedModel | TaggedModel | PlantedModel | ResizedModel,
    Field(discriminator="kind"),
]


AnyRecipe = Annotated[SmallRecipe | Deit3Recipe | DinoRecipe, Field(discriminator="kind")]


class Planting(Strict):
    """How register neurons are planted; the closed form is in ``backbones/planting.py``."""

    block: NonNegativeInt
    neurons: Annotated[int, Field(ge=2, multiple_of=2)]
    positions: list[NonNegativeInt]
    tag_strength: PositiveFloat
    images: PositiveInt
    norm_ratio: PositiveFloat
    direction: Literal["random", "cls", "cls-raw"]
