"""The figure of the body: single images of models with artifacts, before and after neurons were moved."""

import numpy as np
from matplotlib.figure import Figure

from vit_registers.experiments.token_statistics.figures.layers import measured
from vit_registers.experiments.token_statistics.figures.maps import scale_of
from vit_registers.views import gallery, style
from vit_registers.views.arrays import Arrays, ByName
from vit_registers.views.study import Condition, Study
from vit_registers.views.tiles import Row, Section, Tile, drawn

MODELS, IMAGES = 4, 2  # shown at most, and of each model
SIDE = 0.44  # inches of a map at least, so that two models stand side by side
KINDS = {"norms": "norm", "cls": "[CLS]"}


def before_and_after(study: Study, arrays: Arrays) -> Figure:
    """Patch norms and attention of [CLS] at the last block: before, after test-time registers, and in their control.

    Images are those in which the model as it is has most outlier patches. Maps of one kind and image share a scale.
    """
    sections: list[Section] = []
    for before in measured(study, study.with_artifacts):
        sides = _sides(study, arrays, before)
        if "after" in sides and len(sections) < MODELS:
            images = gallery.shown([sides["before"]], IMAGES)
            headings = ["input", *(f"{KINDS[kind]}\n{side}" for kind, side in _columns(sides))]
            rows = [_row(sides, image) for image in images]
            sections.append(Section(study.model_label(before), headings, rows))
    if not sections:
        return style.message("no artifacts found: there were no neurons to move")
    return drawn(sections, most=0.6, least=SIDE)


def _sides(study: Study, arrays: Arrays, before: Condition) -> dict[str, ByName]:
    """Arrays of a model before and after test-time registers, and of their control, as far as there are any."""
    after = study.after(before)
    control = study.control(after) if after else None
    sides = {"before": before, "after": after, "control": control}
    found = {side: arrays.of(condition) for side, condition in sides.items() if condition is not None}
    return {side: maps for side, maps in found.items() if "norms" in maps}


def _columns(sides: dict[str, ByName]) -> list[tuple[str, str]]:
    """Kinds of maps and sides that have them."""
    return [(kind, side) for kind in KINDS for side, maps in sides.items() if kind in maps]


def _row(sides: dict[str, ByName], image: int) -> Row:
    """One image and its maps at the last block."""
    columns = _columns(sides)
    maps = {(kind, side): np.asarray(sides[side][kind][image, -1]) for kind, side in columns}
    scales = {kind: scale_of([maps[each] for each in columns if each[0] == kind], kind) for kind, _ in columns}
    tiles = [Tile(sides["before"]["images"][image])]
    tiles += [Tile(maps[kind, side], scales[kind][1], scales[kind][0]) for kind, side in columns]
    return Row("", tiles)
