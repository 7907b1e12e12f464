"""What several kinds of model sources share; the kinds are in :mod:`vit_registers.models.sources`."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from vit_registers.core.prose import key, plural
from vit_registers.models.resampling import PositionResampling
from vit_registers.params.base import Name, Side
from vit_registers.params.bases import ModelSource, known

if TYPE_CHECKING:
    from vit_registers.models.loaded import Loaded
    from vit_registers.models.weights.hub import Pin
    from vit_registers.params.study import Params


Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

# What a head reads, and which of timm's arguments say so: it normalises the mean patch where ``fc_norm`` is true.
READS: dict[str, dict[str, Any]] = {
    "cls": {},
    "mean_patch": {"class_token": False, "global_pool": "avg"},
    "mean_normalised_patch": {"class_token": False, "global_pool": "avg", "fc_norm": False},
}

# How initial weights of blocks are drawn, and timm's word for it: uniformly, after Xavier and as the first ViTs
# (dosovitskiy2021), or from a normal of deviation .02, as DeiT's: smaller the narrower a model is.
WEIGHTS = {"jax": "jax", "deit": ""}


def plain_vit(
    size: int,
    patch: int,
    width: int,
    depth: int,
    heads: int,
    registers: int,
    classes: int,
    reads: str = "cls",
    weights: str = "jax",
) -> dict[str, Any]:
    """Arguments of timm's ``VisionTransformer`` for small models made here; registers have no position (darcet2024).

    ``reads``: what the head does, see :data:`READS`; there is a [CLS] where it reads that. ``weights``: a key of
    :data:`WEIGHTS`.
    """
    return {
        "img_size": size,
        "patch_size": patch,
        "embed_dim": width,
        "depth": depth,
        "num_heads": heads,
        "num_classes": classes,
        "reg_tokens": registers,
        "class_token": True,
        "no_embed_class": True,
        "weight_init": WEIGHTS[weights],
        **READS[reads],
    }


def refuse_uneven(size: int, patch: int, width: int, heads: int) -> None:
    """Raise ValueError where an image is not whole patches, or where heads do not share the width evenly."""
    if size % patch:
        raise ValueError(f"patch_size: expected a divisor of image_size, which is {size}, got {patch}")
    if width % heads:
        raise ValueError(f"heads: expected a divisor of width, which is {width}, got {heads}")


def sizes_sentence(width: int, depth: int, heads: int) -> str:
    """Blocks, width and heads, as LaTeX."""
    return f"{plural(depth, 'block')} of width {width} with {plural(heads, 'head')}"


class SizedModel(ModelSource):
    """A model at an input size of one's choice. ``image_size``: one side, or height and width; null for its own."""

    image_size: Side | tuple[Side, Side] | None = None
    positions: PositionResampling = PositionResampling()

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of the input, if they were given."""
        side = self.image_size
        return (side, side) if isinstance(side, int) else side

    def input_size(self, params: Params) -> tuple[int, int] | None:
        """The size that was asked for."""
        return self.size

    def input_sentence(self) -> str:
        """The input size that was asked for, and how the model got there, as LaTeX."""
        height, width = self.size or (0, 0)
        return f"at ${height} \\times {width}$ pixels with learned {self.positions.sentence()}"


class FetchedModel(SizedModel):
    """A ViT whose weights come from elsewhere: by name or from a file.

    ``resize``: pixels of the shorter side of an image before the centre crop to the input size; null for what the
    weights bring along (in timm the input size over ``crop_pct``).
    """

    step: ClassVar[str] = "fetch"

    resize: Side | None = None

    @abstractmethod
    def load(self, name: str, seed: int) -> Loaded:
        """The module with its weights for the model ``name``; ``seed`` is that of random ones, if they are asked for.

        :class:`InputError` where the source has no such model, or one that cannot be measured.
        """

    @abstractmethod
    def origin(self) -> list[str]:
        """Architecture and weights in words, as LaTeX."""

    def sentence(self, name: str, params: Params) -> str:
        """Where the weights are from, and the input size if it was asked for; a part of a sentence."""
        parts = [*self.origin(), *([self.input_sentence()] if self.size else []), *self.resize_sentence()]
        return f"{key(name)} ({', '.join(parts)})"

    def resize_sentence(self) -> list[str]:
        """To which size images are brought before they are cropped, if that was asked for."""
        return [f"images resized to {self.resize} pixels at the shorter side before the crop"] if self.resize else []


class HubModel(FetchedModel):
    """A model whose weights are in the Hugging Face hub.

    ``revision``: a branch, tag or commit of their repository; null for the hub's default. Whichever it is, the commit
    and the checksum of the file are recorded at first use, and hold ever after. With ``sha256`` no other file is taken
    at first use either.
    """

    revision: str | None = None
    sha256: Sha256 | None = None

    @property
    @abstractmethod
    def downloads(self) -> bool:
        """Whether it has weights of the hub, and not random ones."""

    @property
    def learned(self) -> bool:
        """Where it has weights of the hub; random ones were learnt from nothing."""
        return self.downloads

    @model_validator(mode="after")
    def _nothing_is_pinned_of_random_weights(self) -> Self:
        if not self.downloads and (self.revision or self.sha256):
            raise ValueError("revision, sha256: random weights are in no hub; leave them out")
        return self

    def pin(self) -> Pin:
        """What is asked for of the hub."""
        from vit_registers.models.weights.hub import Pin

        return Pin(self.revision, self.sha256)

    def released(self, weights: str) -> str:
        """``weights`` in words, and the revision if one was asked for, as LaTeX."""
        return f"{weights} at revision {key(self.revision)}" if self.revision else weights


class UnlearnedModel(FetchedModel):
    """A baseline of what was learnt: it goes the way of any model, and nothing in it was learnt.

    Images reach it as they reach the models that the small recipe trains: whole, at its input size, normalised to
    [-1, 1].
    """

    @property
    def learned(self) -> bool:
        """Nothing was."""
        return False

    def seen(self) -> dict[str, object]:
        """How images are brought to it, as timm names that."""
        half = (0.5, 0.5, 0.5)
        return {"crop_pct": 1.0, "crop_mode": "center", "interpolation": "bicubic", "mean": half, "std": half}

    def sentence(self, name: str, params: Params) -> str:
        """What it is; a part of a sentence."""
        return f"{key(name)} ({', '.join([*self.origin(), *self.resize_sentence()])})"


class DerivedModel(ModelSource):
    """A model made from ``base``, another model of the study."""

    base: Name

    @property
    def made_from(self) -> str:
        """The base."""
        return self.base

    def outline(self, name: str, params: Params) -> Any:
        """That of the base."""
        return params.models[self.base].outline(self.base, params)

    def input_size(self, params: Params) -> tuple[int, int] | None:
        """That of the base."""
        return params.models[self.base].input_size(params)

    def check(self, name: str, params: Params) -> None:
        """The base exists."""
        known(f"models.{name}.base", self.base, params.models, "model")


class WrittenModel(DerivedModel):
    """A model of kind ``base_kind`` with something written into its weights, as a planting of params has it.

    Its label is its key in words: ``planted-cls`` is *Planted [CLS]*.
    """

    step: ClassVar[str] = "plant"
    base_kind: ClassVar[str]

    planting: Name

    def check(self, name: str, params: Params) -> None:
        """Base and planting exist, and the base is of the kind that this is written into."""
        super().check(name, params)
        known(f"models.{name}.planting", self.planting, params.plantings, "planting")
        if params.models[self.base].kind != self.base_kind:
            raise ValueError(f"models.{name}.base: expected a {self.base_kind} model, '{self.base}' is not one")

    def label(self, name: str, params: Params) -> str:
        """The key in words."""
        words = ["[CLS]" if word == "cls" else word for word in name.replace("_", "-").split("-")]
        return " ".join([words[0][:1].upper() + words[0][1:], *words[1:]])
