"""What ``report/report.tex`` takes in: numbers as macros, the methods and results of every experiment, versions.

The frame of the report is written by people. Methods and results of an experiment are templates in its own folder,
beside the code that ran; captions stand with its tables and figures.
"""

import re
from pathlib import Path
from typing import Any

from vit_registers.core.files import write_text
from vit_registers.core.prose import escape
from vit_registers.params.study import Params
from vit_registers.pipeline import experiment
from vit_registers.pipeline.experiment import Figure, Found, View
from vit_registers.pipeline.paths import Paths
from vit_registers.report import numbers, versions
from vit_registers.report.facts import caption, facts
from vit_registers.report.templates import as_latex, latex
from vit_registers.views.plan import plan
from vit_registers.views.study import Study

HERE = Path(__file__).parent
REFERENCES = Path("report") / "references.bib"


def context(params: Params, study: Study, settings: Any = None) -> dict[str, Any]:
    """Names that templates may use: ``params``, ``study``, ``settings`` of the experiment, and the facts."""
    return {"params": params, "study": study, "settings": settings, **facts(params)}


def citations(bibliography: Path) -> list[str]:
    """Keys of the papers in a BibTeX file."""
    return re.findall(r"^@\w+\{([^,\s]+),", bibliography.read_text(encoding="utf-8"), re.MULTILINE)


def _on(params: Params) -> list[Found]:
    """Experiments of the study, in the order of the report."""
    return [each for name, each in experiment.found().items() if name in params.experiment_names]


def methods(params: Params, study: Study) -> str:
    """The methods section, without its heading: data, models, passes, conditions, then every experiment's own."""
    parts = [latex(HERE / "methods.tex.j2", **context(params, study))]
    for each in _on(params):
        template = each.folder / "methods.tex.j2"
        if template.is_file():
            parts.append(latex(template, **context(params, study, params.settings(each.name))))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def results(params: Params, study: Study, cited: list[str]) -> str:
    """The results: a section for every experiment with its prose, tables and figures."""
    sections = []
    for each in _on(params):
        settings, template = params.settings(each.name), each.folder / "results.tex.j2"
        known = context(params, study, settings)
        prose = latex(template, **known) if template.is_file() else ""
        views: list[View] = [*each.experiment.tables, *each.experiment.figures]
        floats = [
            _float(params, each, view, cited) for view in views if view.printed and (not view.when or known[view.when])
        ]
        sections.append("\n\n".join([rf"\subsection{{{escape(each.experiment.title)}}}", prose.strip(), *floats]))
    return "\n\n".join(sections) + "\n"


def _float(params: Params, found: Found, view: View, cited: list[str]) -> str:
    """A table or a figure where LaTeX may put it, with its caption."""
    text = as_latex(caption(params, found, view), cited)
    if isinstance(view, Figure):
        return rf"\resultfigure{{{view.name}}}{{{text}}}"
    kind = "longresulttable" if view.long else "resulttable"
    return rf"\{kind}{{{view.name}}}{{\{view.size}}}{{{text}}}"


def run(params: Params, at: Paths) -> None:
    """Write ``numbers.tex``, ``methods.tex``, ``results.tex`` and ``versions.tex`` to the report's folder."""
    study = Study.read(plan(params), [at.table])
    write_text(at.report / "numbers.tex", numbers.text(params, study, at))
    write_text(at.report / "methods.tex", methods(params, study))
    write_text(at.report / "results.tex", results(params, study, citations(REFERENCES)))
    write_text(at.report / "versions.tex", versions.text(study, at))
