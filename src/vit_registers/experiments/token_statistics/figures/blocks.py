"""The figure of single images block by block, before and after neurons were moved; rows of maps by block."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from vit_registers.experiments.token_statistics.figures.layers import measured
from vit_registers.experiments.token_statistics.figures.maps import scale_of
from vit_registers.views import style
from vit_registers.views.arrays import Arrays, ByName
from vit_registers.views.study import Condition, Study
from vit_registers.views.tiles import Row, Section, Tile, drawn, spread

BLOCKS = 12  # shown of each model
LABEL = 0.62  # inches
Scale = tuple[float | None, float]  # its ends; the lower None where it begins at zero


def section(title: str, picture: np.ndarray, depth: int, rows: list[Row]) -> Section:
    """Rows of maps by block, of ``depth`` blocks at most, the picture before the first of them."""
    first, *others = rows
    rows = [Row(first.label, [Tile(picture), *first.tiles])]
    rows += [Row(other.label, [None, *other.tiles]) for other in others]
    return Section(title, ["input", *(f"block\n{i}" if i == 0 else str(i) for i in spread(depth, BLOCKS))], rows)


def row_of(label: str, maps: np.ndarray, scales: Sequence[Scale] | None = None, noted: bool = False) -> Row:
    """Maps (layers, h, w), each on the scale of its block (layers), or on its own from zero."""
    tiles = []
    for layer in spread(len(maps), BLOCKS):
        note = f"{maps[layer].max():.3g}" if noted else ""
        bottom, top = (None, None) if scales is None else scales[layer]
        tiles.append(Tile(maps[layer], top, bottom, note))
    return Row(label, tiles)


def _sides(study: Study, arrays: Arrays, before: Condition) -> dict[str, ByName]:
    """Arrays of the control, and of a model before and after test-time registers, as far as there are any."""
    after = study.after(before)
    control = study.control(after) if after else None
    sides = {"control": control, "before": before, "after": after}
    return {side: arrays.of(c) for side, c in sides.items() if c is not None}


def _before_and_after(study: Study, arrays: Arrays, before: Condition) -> Section:
    """A model that neurons were moved in, on the gallery image in which its largest norm is largest."""
    sides = _sides(study, arrays, before)
    own = sides["before"]
    image = int(own["norms"].max(axis=(1, 2, 3)).argmax())
    rows = []
    for kind, name in (("cls", "[CLS]"), ("norms", "norm")):
        of_sides = {side: maps[kind][image] for side, maps in sides.items() if kind in maps}
        if not of_sides:
            continue
        depth = len(next(iter(of_sides.values())))
        # one scale per block: the sides can be compared by eye
        scales = [scale_of([maps[layer] for maps in of_sides.values()], kind) for layer in range(depth)]
        rows += [row_of(f"{name},\n{side}", maps, scales) for side, maps in of_sides.items()]
    if "appended" in sides.get("after", {}):
        rows.append(row_of("register,\nafter", sides["after"]["appended"][image, :, 0]))
    return section(study.model_label(before), own["images"][image], own["norms"].shape[1], rows)


def attention_by_block(study: Study, arrays: Arrays) -> Figure:
    """Attention of [CLS] and patch norms block by block, of every model that neurons were moved in: control, before and
    after test-time registers (kukade2025, Fig. 7), and the attention of the first appended token.
    """
    moved = measured(study, study.with_artifacts)
    if not moved:
        return style.message("no artifacts found: there were no neurons to move")
    return drawn([_before_and_after(study, arrays, before) for before in moved], LABEL, 0.5)
