"""Settings of object discovery."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt

from vit_registers.params.base import Share, Strict
from vit_registers.params.experiments import ExperimentParams, MeasureConfig
from vit_registers.params.passes import Extraction
from vit_registers.params.statistics import Gallery

if TYPE_CHECKING:
    from vit_registers.params.study import Params


class Lost(Strict):
    """LOST (simeoni2021): one box per image from the similarity of its patch keys (or queries or values)."""

    feature: Literal["q", "k", "v"]
    layer: int
    k: PositiveInt
    normalise: bool
    centre: bool
    bias: float


class DinoSeg(Strict):
    """One box per image from the attention of [CLS] at the last block (the second method of simeoni2021).

    The patches that hold ``mass`` of the attention make a mask; the box is that of its largest component. ``head``:
    one head (4 in the published code), which needs ``extraction.attention_heads``, or null for their mean.
    ``skip_last_component`` is what the published code does.
    """

    mass: Share
    head: NonNegativeInt | None
    skip_last_component: bool


class LostSweep(Strict):
    """LOST under every combination of what decides its similarities, in one pass over the images of a model.

    Of all models in which something was learnt but those ``excluded``. Raw similarities go without a bias, those of
    L2-normalised patches with each of ``bias``. The setting is chosen on ``chosen_on``, a share of the dense images,
    and reported on the others.
    """

    excluded: list[str]
    features: Annotated[list[Literal["q", "k", "v"]], Field(min_length=1)]
    layers: Annotated[list[int], Field(min_length=1)]
    centre: Annotated[list[bool], Field(min_length=1)]
    bias: Annotated[list[Annotated[float, Field(ge=-1.0, le=1.0)]], Field(min_length=1)]
    chosen_on: Annotated[float, Field(gt=0.0, lt=1.0)]


class ObjectDiscovery(ExperimentParams):
    """Boxes without labels, scored by CorLoc; ``sweep``: null for LOST under its one setting alone."""

    lost: Lost
    dino_seg: DinoSeg
    sweep: LostSweep | None

    def check(self, params: Params) -> None:
        """Attention by head has to be kept where one head is asked for."""
        if self.dino_seg.head is not None and not params.extraction.attention_heads:
            raise ValueError("dino_seg.head: one head needs extraction.attention_heads; set it, or head to null")
        unknown = set(self.sweep.excluded) - set(params.models) if self.sweep else set()
        if unknown:
            raise ValueError(f"sweep.excluded: no model is called {sorted(unknown)[0]}; name those under models")

    def swept(self, params: Params, model: str) -> bool:
        """Whether LOST runs on a model under every setting."""
        return self.sweep is not None and params.models[model].learned and model not in self.sweep.excluded


class Config(MeasureConfig):
    """LOST and DINO-seg on cached features."""

    dataset: str
    model: str
    conditions: list[str]
    gallery: Gallery
    lost: Lost
    dino_seg: DinoSeg

    @classmethod
    def pick(cls, params: Params, settings: ObjectDiscovery, **axes: str) -> Self:
        """Without the sweep, which is a pass of its own."""
        own: dict[str, Any] = {"lost": settings.lost, "dino_seg": settings.dino_seg}
        return cls(**cls.common(params, settings, **axes), **own)


class SweepConfig(MeasureConfig):
    """LOST of one model on one data set under every setting."""

    device: str
    dataset: str
    model: str
    extraction: Extraction
    lost: Lost
    sweep: LostSweep

    @classmethod
    def pick(cls, params: Params, settings: ObjectDiscovery, **axes: str) -> Self:
        """The sweep, and the setting that all conditions are measured with; not which models it leaves out."""
        sweep = settings.sweep.model_copy(update={"excluded": []}) if settings.sweep else None
        own: dict[str, Any] = {"lost": settings.lost, "sweep": sweep}
        return cls(**cls.common(params, settings, **axes), **own)
