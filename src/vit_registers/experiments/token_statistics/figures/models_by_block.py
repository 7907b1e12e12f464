"""Figures of single images block by block in every model as it is: norms, attention of [CLS], and of registers."""

from collections import defaultdict

import numpy as np
from matplotlib.figure import Figure

from vit_registers.experiments.token_statistics.figures.blocks import BLOCKS, LABEL, Scale, row_of, section
from vit_registers.experiments.token_statistics.figures.layers import measured
from vit_registers.experiments.token_statistics.figures.maps import scale_of
from vit_registers.views import style
from vit_registers.views.arrays import Arrays, ByName
from vit_registers.views.panels import wrapped
from vit_registers.views.study import Condition, Study
from vit_registers.views.tiles import Section, chunks, drawn

NAME = 1.0  # inches of the names of models
MODELS = 12  # in one section
REGISTERS, ALL_REGISTERS = 4, 14  # shown of each model, and of all together
KINDS = {"norms": "Patch norms", "cls": "Attention of [CLS]"}
Found = list[tuple[Condition, ByName]]


def _found(study: Study, arrays: Arrays) -> Found:
    """Arrays of every model as it is."""
    return [(condition, arrays.of(condition)) for condition in measured(study, study.baselines)]


def _images(found: Found) -> dict[str, int]:
    """Of each data set the gallery image in which a norm stands out most from its map, at any block of any model."""
    stands_out: dict[str, np.ndarray] = {}
    for condition, maps in found:
        norms = maps["norms"].reshape(*maps["norms"].shape[:2], -1)
        ratio = (norms.max(axis=-1) / np.maximum(np.median(norms, axis=-1), 1e-12)).max(axis=1)
        stands_out[condition.dataset] = np.maximum(stands_out.get(condition.dataset, ratio), ratio)
    return {dataset: int(ratio.argmax()) for dataset, ratio in stands_out.items()}


def _sections(study: Study, found: Found, kind: str, image: int, title: str) -> list[Section]:
    """A row for each model of a data set: those whose blocks are all shown together, deeper ones by their depth."""
    by_depth: defaultdict[int, Found] = defaultdict(list)
    for condition, maps in found:
        if kind in maps:
            by_depth[max(BLOCKS, maps[kind].shape[1])].append((condition, maps))
    sections = []
    for of_depth in by_depth.values():
        for part in chunks(len(of_depth), MODELS):
            mine = of_depth[part]
            names = [wrapped(study.models[c.model], 17) for c, _ in mine]
            rows = [
                row_of(name, maps[kind][image], _scales(maps[kind][image], kind), noted=kind == "norms")
                for name, (_, maps) in zip(names, mine, strict=True)
            ]
            depth = max(maps[kind].shape[1] for _, maps in mine)
            sections.append(section(title, mine[0][1]["images"][image], depth, rows))
    return sections


def _scales(maps: np.ndarray, kind: str) -> list[Scale] | None:
    """Of norms (layers, h, w) the scale of every block; attention stands on its own from zero."""
    return [scale_of([each], kind) for each in maps] if kind == "norms" else None


def maps_by_block(study: Study, arrays: Arrays) -> Figure:
    """Patch norms and attention of [CLS] block by block, a row for each model, on one image of each data set."""
    found = _found(study, arrays)
    if not found:
        return style.message("no norms were measured")
    sections = []
    for dataset, image in _images(found).items():
        on = f", {dataset}" if len(study.datasets) > 1 else ""
        mine = [(c, maps) for c, maps in found if c.dataset == dataset]
        for kind, title in KINDS.items():
            sections += _sections(study, mine, kind, image, f"{title}{on}")
    return drawn(sections, NAME, 0.6)


def registers_by_block(study: Study, arrays: Arrays) -> Figure:
    """Attention of registers over the patches block by block, of every model that has some (parodi2026)."""
    every = _found(study, arrays)
    chosen = _images(every)
    found = [(condition, maps) for condition, maps in every if "registers" in maps]
    if not found:
        return style.message("no model of this study has registers")
    shown, sections = max(1, min(REGISTERS, ALL_REGISTERS // len(found))), []
    for condition, maps in found:
        image = chosen[condition.dataset]
        of_tokens = np.moveaxis(maps["registers"][image], 1, 0)[:shown]
        rows = [row_of("[CLS]", maps["cls"][image])] if "cls" in maps else []
        rows += [row_of(f"register {i}", one) for i, one in enumerate(of_tokens, start=1)]
        depth = of_tokens.shape[1]
        sections.append(section(study.model_label(condition), maps["images"][image], depth, rows))
    return drawn(sections, LABEL, 0.5)
