"""The figure of single images at the last block: attention and norms in all models side by side."""

from matplotlib.figure import Figure

from vit_registers.experiments.token_statistics.figures.layers import measured
from vit_registers.views import style
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


def _sections(title: str, kind: str, shown: Shown, rows: int) -> list[Section]:
    """Pictures and maps of one kind at the last block of as many models as there are, a row for each image."""
    found: list[Section] = []
    for part in chunks(len(shown), COLUMNS):
        lines = []
        for image in range(min(rows, len(shown[0][1]["images"]))):
            # attention is a share, on one scale over all models; norms are a matter of the width of a model
            top = max(float(maps[kind][image, -1].max()) for _, maps in shown) if kind == "cls" else None
            tiles = [Tile(shown[0][1]["images"][image])]
            for _, maps in shown[part]:
                values = maps[kind][image, -1]
                tiles.append(Tile(values, top, "" if kind == "cls" else f"{values.max():.3g}"))
            lines.append(Row("", tiles))
        found.append(Section(title, ["input", *(heading for heading, _ in shown[part])], lines))
    return found


def attention_maps(study: Study, arrays: Arrays) -> Figure:
    """Attention of [CLS] and patch norms at the last block, in every model, and after neurons were moved."""
    parts: list[tuple[str, str, Shown]] = []
    for dataset in study.datasets:
        on = f", {dataset}" if len(study.datasets) > 1 else ""
        found = [(_heading(study, c), arrays.of(c)) for c in _conditions(study, dataset)]
        for kind, title in (("cls", "Attention of [CLS]"), ("norms", "Patch norms")):
            shown = [(heading, maps) for heading, maps in found if kind in maps]
            parts += [(f"{title}{on}", kind, shown)] if shown else []
    if not parts:
        return style.message("no norms were measured")
    rows = max(1, min(ROWS, ALL_ROWS // sum(len(chunks(len(shown), COLUMNS)) for _, _, shown in parts)))
    sections = [section for title, kind, shown in parts for section in _sections(title, kind, shown, rows)]
    return drawn(sections, least=LEAST)
