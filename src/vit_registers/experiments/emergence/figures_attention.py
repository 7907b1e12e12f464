"""Figures of where [CLS] and registers attend while models train."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vit_registers.experiments.emergence.tables import EMPTY, monitored
from vit_registers.views import style
from vit_registers.views.arrays import Arrays, ByName
from vit_registers.views.panels import cell_side, heat, picture, stacked
from vit_registers.views.study import Study
from vit_registers.views.tiles import spread

REGISTERS, EPOCHS = 4, 7  # shown of each model


def _beside(study: Study) -> list[str]:
    """A trained model without registers and one with: the first with as many as are shown, else that with the most."""
    counts = {name: study.plan.registers[name] for name in monitored(study, "training_epochs")}
    without = [name for name, n in counts.items() if n == 0][:1]
    enough = [name for name, n in counts.items() if n >= REGISTERS]
    most = sorted((name for name, n in counts.items() if n), key=lambda name: -counts[name])
    return without + (enough or most)[:1]


def _found(study: Study, arrays: Arrays) -> list[tuple[str, list[str], ByName]]:
    """Label, names of [CLS] and registers, and arrays of the models of :func:`_beside` that have any such token."""
    found = [(name, arrays.of_model(name)) for name in _beside(study)]
    named = [(name, _tokens(study.plan.registers[name], kept["focus"].shape[1]), kept) for name, kept in found]
    return [(study.models[name], tokens, kept) for name, tokens, kept in named if tokens]


def _tokens(registers: int, maps: int) -> list[str]:
    """Names of the tokens whose ``maps`` there are: [CLS], where a model has one, then its registers."""
    return ["[CLS]"] * (maps - registers) + [f"register {i + 1}" for i in range(registers)]


def _by_epoch(line: Sequence[Axes], name: str, maps: np.ndarray, shape: tuple[int, int]) -> None:
    """A token's name, then its maps (E,h,w) after the epochs shown, on one scale from zero."""
    line[0].text(0.92, 0.5, name, ha="right", va="center", transform=line[0].transAxes)
    at = spread(len(maps), EPOCHS)
    for panel, epoch in zip(line[1:], at, strict=True):
        heat(panel, maps[epoch], shape, float(maps[at].max()))


def _headings(line: Sequence[Axes], epochs: int) -> None:
    for panel, epoch in zip(line, spread(epochs, EPOCHS), strict=True):
        panel.set_title(f"epoch {epoch + 1}")


def attention_by_epoch(study: Study, arrays: Arrays) -> Figure:
    """Attention of [CLS] and registers on single images after every epoch, with registers beside without.

    As bach2025 shows training (Figs. 8 and 9); all maps of one token on one image share a scale from zero.
    """
    found = _found(study, arrays)
    if not found:
        return style.message(f"{EMPTY}, or none with [CLS] or registers")
    images = range(min(len(kept["images"]) for _, _, kept in found))
    wanted = [each for _ in images[:2] for each in found]
    shapes = [
        (label, min(len(tokens), 1 + REGISTERS), 2 + len(spread(len(kept["maps"]), EPOCHS)))
        for label, tokens, kept in wanted
    ]
    figure, blocks = stacked(shapes, cell_side(shapes, 0.7), 1)
    for place, ((_, tokens, kept), block) in enumerate(zip(wanted, blocks, strict=True)):
        image = place // len(found)
        pixels = kept["images"][image]
        picture(block[0][0], pixels)
        _headings(block[0][2:], len(kept["maps"]))
        for token, line in enumerate(block):
            _by_epoch(line[1:], tokens[token], kept["maps"][:, image, token], pixels.shape[:2])
    return figure


def focus_by_epoch(study: Study, arrays: Arrays) -> Figure:
    """Mean attention of [CLS] and registers over the patches after every epoch, with registers beside without.

    The positional focus of bach2025 (Fig. 11) as it arises; all maps of one token share a scale from zero.
    """
    found = [(label, tokens, kept["focus"]) for label, tokens, kept in _found(study, arrays)]
    if not found:
        return style.message(f"{EMPTY}, or none with [CLS] or registers")
    shapes = [
        (label, min(len(tokens), 1 + REGISTERS), 1 + len(spread(len(focus), EPOCHS))) for label, tokens, focus in found
    ]
    figure, blocks = stacked(shapes, cell_side(shapes, 0.75), 1)
    for (_, tokens, focus), block in zip(found, blocks, strict=True):
        _headings(block[0][1:], len(focus))
        for token, line in enumerate(block):
            _by_epoch(line, tokens[token], focus[:, token], focus.shape[2:])
    return figure
