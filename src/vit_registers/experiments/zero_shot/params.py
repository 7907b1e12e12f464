"""Settings of zero-shot classification."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import field_validator

from vit_registers.core.errors import InputError
from vit_registers.models.sources.openclip import OpenClipModel
from vit_registers.params.experiments import ExperimentParams, MeasureConfig

if TYPE_CHECKING:
    from vit_registers.params.study import Params


class ZeroShot(ExperimentParams):
    """Classification by OpenCLIP's text tower (darcet2024): prompts that the name of each class is put into.

    ``openai``: the 80 prompts for ImageNet; ``simple``: OpenCLIP's choice of seven; or prompts with ``{}`` in place of
    the name. ``names`` of the classes: those of the ``dataset``, or OpenCLIP's for ``imagenet``, whose folders are
    called by WordNet ids that say nothing to a text tower.
    """

    templates: str | list[str]
    names: Literal["dataset", "imagenet"] = "dataset"

    @field_validator("templates")
    @classmethod
    def _known(cls, templates: str | list[str]) -> str | list[str]:
        own = isinstance(templates, list) and templates and all("{}" in template for template in templates)
        if templates not in ("openai", "simple") and not own:
            raise ValueError(f"expected openai, simple, or a list of prompts with {{}} in each, got {templates}")
        return templates


class Config(MeasureConfig):
    """Classes by their names, on cached features of every condition of one OpenCLIP model on one data set."""

    device: str
    dataset: str
    model: str
    conditions: list[str]
    source: OpenClipModel
    settings: ZeroShot

    @classmethod
    def pick(cls, params: Params, settings: ZeroShot, **axes: str) -> Self:
        """With the source of the model, whose text tower is loaded again."""
        source = params.models[axes["model"]]
        if not source.has_text_tower:
            raise InputError(f"models.{axes['model']}: has no text tower; zero-shot needs an openclip model")
        own: dict[str, Any] = {"source": source}
        return cls(**cls.common(params, settings, **axes), **own)
