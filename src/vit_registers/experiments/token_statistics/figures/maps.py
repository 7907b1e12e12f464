"""The figure of single images at the last block: attention and norms in all models side by side."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from vit_registers.experiments.token_statistics.figures.layers import measured
from vit_registers.views import gallery, style
from vit_registers.views.arrays import Arrays, ByName
from vit_registers.views.panels import wrapped
from vit_registers.views.study import Condition, Study
from vit_registers.views.tiles import Row, Section, Tile, chunks, drawn

ROWS = 4  # gallery images shown at most
ALL_ROWS = 10  # of the whole figure
COLUMNS = 9  # maps beside a picture
LEAST = 0.55  # inches of a map, over which the name of a model stands
Shown = list[tuple[str, ByName]]  # heading and arrays of a condition


def _conditions(study: Study, dataset: str) -> list[Condition]:
    """Every model of a data set as it is, and beside those that neurons were moved in test-time registers."""
    found: list[Condition] = []
    for condition in measured(study, study.baselines):
        if condition.dataset == dataset:
            after = study.after(condition) if condition in study.with_artifacts else None
            found += [condition] if after is None else [condition, after]
    return found


def _heading(study: Study, condition: Condition) -> str:
    """The name of a model; over what was done to it, which stands beside it, only that."""
    as_it_is = condition in study.baselines
    return wrapped(study.models[condition.model] if as_it_is else study.conditions[condition.name], 10)


def _sections(title: str, kind: str, shown: Shown, images: Sequence[int]) -> list[Section]:
    """Pictures and maps of one kind at the last block of as many models as there are, a row for each of some images."""
    found: list[Section] = []
    scales = {image: scale_of([maps[kind][image, -1] for _, maps in shown], kind) for image in images}
    for part in chunks(len(shown), COLUMNS):
        lines = []
        for image in images:
            tiles = [Tile(shown[0][1]["images"][image])]
            for place, (_, maps) in list(enumerate(shown))[part]:
                values = maps[kind][image, -1]
                # attention is a share, on one scale over all models; norms are a matter of the width of a model
                group = [each[kind][image, -1] for each in _together(shown, place)]
                bottom, top = scales[image] if kind == "cls" else scale_of(group, kind)
                tiles.append(Tile(values, top, bottom, "" if kind == "cls" else f"{values.max():.3g}"))
            lines.append(Row("", tiles))
        found.append(Section(title, ["input", *(heading for heading, _ in shown[part])], lines))
    return found


def _together(shown: Shown, place: int) -> list[ByName]:
    """Maps of the model at a place, as it is and after its neurons were moved, which stands beside it."""
    model = shown[place][1]["model"]
    return [maps for _, maps in shown if maps["model"] == model]


def scale_of(maps: Sequence[np.ndarray], kind: str) -> tuple[float | None, float]:
    """Ends of the scale that some maps share, the lower None where it is linear and begins at zero.

    Of norms, of which one may be twenty times the others, from the least to the largest, logarithmic; of attention up
    to the 99th percentile, so that one patch does not leave all others dark.
    """
    values = np.concatenate([np.asarray(each, dtype=float).ravel() for each in maps])
    if kind == "norms":
        least = max(float(values.min()), 1e-6)
        return least, max(float(values.max()), 1.001 * least)
    return None, float(np.percentile(values, 99))


def attention_maps(study: Study, arrays: Arrays) -> Figure:
    """Attention of [CLS] and patch norms at the last block, in every model, and after neurons were moved."""
    parts: list[tuple[str, str, Shown]] = []
    for dataset in study.datasets:
        on = f", {dataset}" if len(study.datasets) > 1 else ""
        conditions = _conditions(study, dataset)
        found = [(_heading(study, c), arrays.of(c) | {"model": np.array(c.model)}) for c in conditions]
        for kind, title in (("cls", "Attention of [CLS]"), ("norms", "Patch norms")):
            shown = [(heading, maps) for heading, maps in found if kind in maps]
            parts += [(f"{title}{on}", kind, shown)] if shown else []
    if not parts:
        return style.message("no norms were measured")
    rows = max(1, min(ROWS, ALL_ROWS // sum(len(chunks(len(shown), COLUMNS)) for _, _, shown in parts)))
    sections = []
    for title, kind, shown in parts:
        images = gallery.shown((maps for _, maps in shown), rows)
        sections += _sections(title, kind, shown, images)
    return drawn(sections, least=LEAST)
