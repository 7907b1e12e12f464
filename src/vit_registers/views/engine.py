"""Tables and figures made: an experiment's function, on the rows and arrays that its view declares."""

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vit_registers.params.study import Params
from vit_registers.pipeline.experiment import Found, View
from vit_registers.pipeline.paths import Paths
from vit_registers.views.plan import plan
from vit_registers.views.study import Study
from vit_registers.views.table import Table


def drawn(found: Found, view: View) -> Any:
    """The function of an experiment that draws one of its views."""
    module, _, function = found.function(view.draw).partition(":")
    return getattr(importlib.import_module(module), function)


def make(found: Found, view: View, study: Study) -> Table:
    """A table of a study, set as its view declares."""
    made: Table = drawn(found, view)(study)
    made.long, made.stacked, made.most = view.long, view.stacked, view.most
    return made


def table(found: Found, view: View, params: Params, rows: Iterable[Path], out: Path) -> None:
    """Write ``<name>.csv`` and ``<name>.tex`` to the folder ``out`` from the tables at ``rows``."""
    make(found, view, Study.read(plan(params), rows)).write(out, view.name)


def figure(found: Found, view: View, params: Params, rows: Iterable[Path], at: Paths) -> None:
    """Write ``<name>.pdf`` and ``<name>.png`` from the tables at ``rows`` and the arrays of the measures it draws."""
    from vit_registers.views import style
    from vit_registers.views.arrays import Arrays

    study = Study.read(plan(params), rows)
    with style.styled():
        style.save(drawn(found, view)(study, Arrays(at, view.arrays)), at.figures, view.name)
