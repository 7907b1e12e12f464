"""The figure of principal components: patches as colours, the model as it is beside its conditions."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vit_registers.views import gallery, style
from vit_registers.views.arrays import Arrays, ByName
from vit_registers.views.panels import cell_side, picture, stacked, wrapped
from vit_registers.views.study import Condition, Study

Columns = list[tuple[Condition, ByName]]
LINES = 3  # of a heading
MODELS, IMAGES, CONDITIONS = 3, 2, 6  # shown at most: models, of each images, beside the model as it is conditions


def patch_components(study: Study, arrays: Arrays) -> Figure:
    """Blocks of models, those with most conditions first; rows are images, columns conditions."""
    measured = {c: with_patches(study, c) for c in study.baselines}
    wanted = sorted((c for c in measured if measured[c]), key=lambda c: -len(measured[c]))[:MODELS]
    found = [(c, [(each, arrays.of(each)) for each in measured[c][: 1 + CONDITIONS]]) for c in wanted]
    found = [(c, columns) for c, columns in found if columns and all(maps for _, maps in columns)]
    if not found:
        return style.message("no patches were kept")
    images = [gallery.shown([columns[0][1]], IMAGES) for _, columns in found]
    shapes = [
        (study.model_label(c), len(mine), 1 + len(columns)) for (c, columns), mine in zip(found, images, strict=True)
    ]
    figure, blocks = stacked(shapes, cell_side(shapes, 0.85), LINES)
    for (_, columns), mine, block in zip(found, images, blocks, strict=True):
        for image, line in zip(mine, block, strict=True):
            _row(line, columns, image)
        headings = ["input", *(_heading(study, condition) for condition, _ in columns)]
        for panel, heading in zip(block[0], headings, strict=True):
            panel.set_title(heading)
    return figure


def with_patches(study: Study, before: Condition) -> list[Condition]:
    """Conditions of a model whose patches were measured, the model as it is first."""
    of_model = study.of(before.dataset, before.model)
    return [c for c in of_model if study.estimate(c, "effective_rank", spectrum="singular values").value is not None]


def _heading(study: Study, condition: Condition) -> str:
    """A condition over its column."""
    label = study.condition_label(condition)
    return "\n".join(wrapped(label, 13).splitlines()[:LINES])


def _row(line: Sequence[Axes], columns: Columns, row: int) -> None:
    """The picture, then its patches as colours under every condition."""
    image = columns[0][1]["images"][row]
    picture(line[0], image)
    for panel, (_, maps) in zip(line[1:], columns, strict=True):
        height, width = image.shape[:2]
        panel.imshow(maps["colours"][row].astype(float), extent=(0, width, height, 0), aspect="auto")
