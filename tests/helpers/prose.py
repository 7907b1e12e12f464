"""What the templates of an experiment say of a study, on one line."""

import importlib
from typing import Any

from vit_registers.pipeline import experiment
from vit_registers.report.templates import latex
from vit_registers.views import chosen
from vit_registers.views.study import Study


def said(name: str, study: Study, template: str = "results", **facts: Any) -> str:
    """A template of the experiment ``name`` filled in, with what its module ``told`` chose."""
    found = experiment.found()[name]
    told = importlib.import_module(f"{found.package}.told").told(study) if (found.folder / "told.py").exists() else {}
    text = latex(found.folder / f"{template}.tex.j2", study=study, chosen=chosen, **told, **facts)
    return " ".join(text.split())
