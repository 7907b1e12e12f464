"""The figures of the report by name; views of the tidy table and of what readouts left of single images."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from vit_registers.errors import InputError
from vit_registers.report import style
from vit_registers.report.figures_counts import register_count
from vit_registers.report.figures_layers import cls_attention_by_layer, norm_distributions, norms_by_layer
from vit_registers.report.figures_maps import attention_maps, lost_figure
from vit_registers.report.study import Study
from vit_registers.steps import ViewStep


@dataclass(frozen=True)
class View:
    """How a figure is drawn, the readouts whose rows it shows, and what else it reads.

    ``files`` are paths below the folder of readouts, one for each data set and model.
    """

    draw: Callable[[Study, Path], Figure]
    needs: tuple[str, ...]
    files: tuple[str, ...] = ()


MAPS = "tokens/{dataset}/{model}.maps.npz"
FIGURES = {
    "norms_by_layer": View(norms_by_layer, ("tokens",)),
    "cls_attention_by_layer": View(cls_attention_by_layer, ("tokens",)),
    "norm_distributions": View(
        norm_distributions, ("detection", "tokens"), ("tokens/{dataset}/{model}.histogram.parquet",)
    ),
    "attention_maps": View(attention_maps, ("tokens",), (MAPS,)),
    "lost_steps": View(lost_figure, ("lost",), ("lost/{dataset}/{model}.steps.npz",)),
    "register_count": View(register_count, ("probe", "lost")),
}


def run(name: str, cfg: ViewStep, metrics: Iterable[Path], readouts: Path, out: Path) -> None:
    """Write ``<out>.pdf`` and ``<out>.png`` of the figure ``name`` from tidy tables and the folder of readouts."""
    if name not in FIGURES:
        raise InputError(f"no figure '{name}'; figures are {', '.join(FIGURES)}")
    study = Study.read(cfg, metrics)
    with style.styled():
        style.save(FIGURES[name].draw(study, readouts), out)
