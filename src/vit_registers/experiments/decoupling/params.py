"""Settings of decoupling, and which conditions are parts and which the whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from pydantic import PositiveInt

from vit_registers.interventions.kinds.restrict_cls_attention import RestrictClsAttention
from vit_registers.params.experiments import ExperimentParams, MeasureConfig

if TYPE_CHECKING:
    from vit_registers.params.study import Params


class Decoupling(ExperimentParams):
    """``episodes`` of one-shot classification, each with one image of every class to fit and another to test.

    ``groups`` of images that the jackknife leaves out one by one. ``largest_dimensions``: how many of the dimensions of
    a token with the largest mean are looked at by themselves; the paper has 100, of 1,536.
    """

    episodes: PositiveInt
    groups: PositiveInt
    largest_dimensions: PositiveInt

    def check(self, params: Params) -> None:
        """The pass keeps what [CLS] adds up, and special tokens at every block."""
        lacking = [key for key in ("cls_parts", "specials_layers") if not getattr(params.extraction, key)]
        if lacking:
            raise ValueError(
                f"it reads what the pass keeps of [CLS] and registers; set extraction.{lacking[0]}, or leave "
                "decoupling out (null)"
            )


def parts(params: Params, names: list[str]) -> dict[str, RestrictClsAttention]:
    """Conditions under which [CLS] sums over some tokens at the last block, by name."""
    kinds = {name: params.interventions.get(name) for name in names}
    return {name: kind for name, kind in kinds.items() if isinstance(kind, RestrictClsAttention)}


def whole(kind: RestrictClsAttention) -> bool:
    """Whether a condition leaves out the skip connection alone: what parts add up to."""
    return kind.to == "all" and kind.cls == "keep"


class Config(MeasureConfig):
    """[CLS] of one model on one data set; ``parts``: restricted conditions, ``full``: what they are compared with."""

    dataset: str
    model: str
    parts: list[str]
    full: list[str]
    settings: Decoupling

    @classmethod
    def pick(cls, params: Params, settings: Any, **axes: str) -> Self:
        """Parts and wholes among the conditions of the pair."""
        names = params.conditions(axes["dataset"], axes["model"])
        found = parts(params, names)
        full = [names[0], *(name for name, kind in found.items() if whole(kind))]
        own: dict[str, Any] = {"parts": [name for name, kind in found.items() if not whole(kind)], "full": full}
        return cls(**cls.common(params, settings, **axes), **own)


class ImagesConfig(MeasureConfig):
    """[CLS] and registers of one model on one data set, as it is."""

    dataset: str
    model: str
    settings: Decoupling
