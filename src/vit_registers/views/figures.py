"""The figures of the report by name; views of the tidy table and of what readouts left of single images."""

from collections.abc import Callable, Iterable
from pathlib import Path

from matplotlib.figure import Figure

from vit_registers.core.errors import InputError
from vit_registers.experiments.emergence.figures import norms_by_epoch, register_cosine_by_epoch
from vit_registers.experiments.emergence.figures_maps import attention_by_epoch, focus_by_epoch
from vit_registers.experiments.object_discovery.figures import lost_settings
from vit_registers.experiments.token_statistics.figures_focus import positional_focus
from vit_registers.experiments.token_statistics.figures_layers import (
    attention_distributions,
    cls_attention_by_layer,
    norm_distributions,
    norms_by_layer,
)
from vit_registers.experiments.token_statistics.figures_positions import artifact_positions, norms_by_position
from vit_registers.experiments.token_statistics.figures_sizes import norms_by_size
from vit_registers.experiments.token_statistics.figures_slots import register_slots
from vit_registers.pipeline.configs import ViewStep
from vit_registers.views import style
from vit_registers.views.figures_counts import register_count
from vit_registers.views.figures_maps import attention_by_block, attention_maps, lost_figure
from vit_registers.views.study import Study

FIGURES: dict[str, Callable[[Study, Path], Figure]] = {
    "norms_by_layer": norms_by_layer,
    "cls_attention_by_layer": cls_attention_by_layer,
    "norms_by_epoch": norms_by_epoch,
    "attention_by_epoch": attention_by_epoch,
    "focus_by_epoch": focus_by_epoch,
    "register_cosine_by_epoch": register_cosine_by_epoch,
    "norms_by_size": norms_by_size,
    "artifact_positions": artifact_positions,
    "norms_by_position": norms_by_position,
    "norm_distributions": norm_distributions,
    "attention_distributions": attention_distributions,
    "attention_maps": attention_maps,
    "attention_by_block": attention_by_block,
    "positional_focus": positional_focus,
    "register_slots": register_slots,
    "lost_steps": lost_figure,
    "lost_settings": lost_settings,
    "register_count": register_count,
}


def run(name: str, cfg: ViewStep, metrics: Iterable[Path], readouts: Path, out: Path) -> None:
    """Write ``name.pdf`` and ``name.png`` to the folder ``out`` from tidy tables and the folder of readouts.

    ``metrics`` hold at least the rows that ``needs.FIGURES[name]`` says. :class:`InputError` where there is no such
    figure or a file is missing.
    """
    if name not in FIGURES:
        raise InputError(f"no figure '{name}'; figures are {', '.join(FIGURES)}")
    study = Study.read(cfg, metrics)
    with style.styled():
        style.save(FIGURES[name](study, readouts), out, name)
