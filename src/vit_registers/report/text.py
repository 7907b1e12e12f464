"""What ``report/report.tex`` takes in: numbers as macros, the methods and results of every experiment, versions.

The frame of the report is written by people. Methods and results of an experiment are templates in its own folder,
beside the code that ran; captions stand with its tables and figures.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vit_registers.claims import papers
from vit_registers.core.files import write_text
from vit_registers.core.prose import escape, joined, key
from vit_registers.params.bases import ModelSource
from vit_registers.params.study import Params
from vit_registers.pipeline import experiment
from vit_registers.pipeline.experiment import Figure, Found, View
from vit_registers.pipeline.paths import Paths
from vit_registers.report import numbers, versions
from vit_registers.report.facts import facts, latex_caption
from vit_registers.report.templates import latex
from vit_registers.views.plan import plan
from vit_registers.views.study import Study

HERE = Path(__file__).parent


def context(params: Params, study: Study, settings: Any = None) -> dict[str, Any]:
    """Names that templates may use.

    ``params``, ``study``, ``settings`` of the experiment, the facts, ``shown``: the names of the tables and figures
    that this report has, and ``said``: of each paper of the ledger its scope, what is easy and what is difficult.
    """
    shown = [view.name for each in _on(params) for view in views(params, each)]
    return {
        "params": params,
        "study": study,
        "settings": settings,
        "shown": shown,
        "said": papers.load(),
        **facts(params),
    }


def _on(params: Params) -> list[Found]:
    """Experiments of the study, in the order of the report."""
    return [each for name, each in experiment.found().items() if name in params.experiment_names]


def views(params: Params, found: Found) -> list[View]:
    """Tables and figures of an experiment that the report of this study shows, tables first."""
    declared: list[View] = [*found.experiment.tables, *found.experiment.figures]
    known = facts(params)
    return [view for view in declared if view.printed and (view.when is None or known[view.when])]


def methods(params: Params, study: Study) -> str:
    """The methods section, without its heading: data, models, passes, conditions, then every experiment's own."""
    general = {"models_by_origin": _models(params), "interventions": _interventions(params)}
    parts = [latex(HERE / "methods.tex.j2", **context(params, study), **general)]
    for each in _on(params):
        template = each.folder / "methods.tex.j2"
        if template.is_file():
            parts.append(latex(template, **context(params, study, params.settings(each.name))))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _models(params: Params) -> dict[str, Any]:
    """What the methods text says of models, sorted by how they came about.

    ``fetched``: those whose weights come from elsewhere; ``unlearned``: baselines in which nothing was learnt;
    ``trained``: groups that share a recipe; ``made``: from another model of the study; ``only_trained``: names of those
    that no run has.
    """
    used = {name: params.models[name] for name in params.models_used()}
    run = {model for _, model in params.pairs()}
    fetched = {name: model for name, model in used.items() if model.step == "fetch"}
    return {
        "fetched": [model.sentence(name, params) for name, model in fetched.items() if model.learned],
        "unlearned": [model.sentence(name, params) for name, model in fetched.items() if not model.learned],
        "trained": list(_trained(params, used)),
        "made": [model.sentence(name, params) for name, model in used.items() if model.made_from is not None],
        "only_trained": [name for name in dict.fromkeys(params.study.trainings) if name not in run],
    }


def _trained(params: Params, used: dict[str, ModelSource]) -> Iterator[dict[str, Any]]:
    """Models that share a recipe, and how they were trained."""
    trained: dict[str, Any] = {name: model for name, model in used.items() if model.step == "train"}
    for recipe in dict.fromkeys(model.recipe for model in trained.values()):
        models = {name: model for name, model in trained.items() if model.recipe == recipe}
        datasets = dict.fromkeys(key(model.dataset) for model in models.values())
        yield {
            "models": [model.sentence(name, params) for name, model in models.items()],
            "training": params.recipes[recipe].sentence(joined(list(datasets))),
        }


def _interventions(params: Params) -> dict[str, str]:
    """What the methods text says of every intervention of the runs, by name."""
    used = dict.fromkeys(name for run in params.study.runs for name in run.interventions)
    return {name: params.interventions[name].sentence(params) for name in used}


def results(params: Params, study: Study) -> str:
    """The results: a section for every experiment with its prose, tables and figures."""
    sections = []
    for each in _on(params):
        template, shown = each.folder / "results.tex.j2", views(params, each)
        if not template.is_file() and not shown:
            continue
        prose = latex(template, **context(params, study, params.settings(each.name))) if template.is_file() else ""
        heading = rf"\subsection{{{escape(each.experiment.title)}}}\label{{sec:{each.name}}}"
        parts = [heading, prose.strip(), *(_float(params, each, view) for view in shown)]
        sections.append("\n\n".join(part for part in parts if part))
    return "\n\n".join(sections) + "\n"


def _float(params: Params, found: Found, view: View) -> str:
    """A table or a figure where LaTeX may put it, with its caption."""
    text = latex_caption(params, found, view)
    if isinstance(view, Figure):
        return rf"\resultfigure{{{view.name}}}{{{text}}}"
    kind = "longresulttable" if view.long else "resulttable"
    return rf"\{kind}{{{view.name}}}{{\{view.size}}}{{{text}}}"


def run(params: Params, at: Paths) -> None:
    """Write ``numbers.tex``, ``methods.tex``, ``results.tex`` and ``versions.tex`` to the report's folder."""
    study = Study.read(plan(params), [at.table])
    write_text(at.report / "numbers.tex", numbers.text(params, study, at))
    write_text(at.report / "methods.tex", methods(params, study))
    write_text(at.report / "results.tex", results(params, study))
    write_text(at.report / "versions.tex", versions.text(study, at))
