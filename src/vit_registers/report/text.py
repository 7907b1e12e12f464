"""What ``report/report.tex`` takes in: numbers as macros, the methods and results of every experiment, versions.

The frame of the report is written by people. Methods, results and what does not hold of an experiment are templates in
its own folder, beside the code that ran; captions stand with its tables and figures. A finding opens each section of
the body; tables and figures that are not declared for it stand in the appendix.
"""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vit_registers.claims import papers
from vit_registers.core.files import write_text
from vit_registers.core.prose import escape, joined, key, plural
from vit_registers.params.bases import ModelSource
from vit_registers.params.study import Params
from vit_registers.pipeline import experiment
from vit_registers.pipeline.experiment import Figure, Found, View
from vit_registers.pipeline.paths import Paths
from vit_registers.report import abstract, numbers, versions
from vit_registers.report.facts import facts, latex_caption
from vit_registers.report.templates import latex
from vit_registers.views import chosen
from vit_registers.views.plan import plan
from vit_registers.views.study import Study

HERE = Path(__file__).parent


def context(params: Params, study: Study, settings: Any = None) -> dict[str, Any]:
    """Names that templates may use.

    ``params``, ``study``, ``settings`` of the experiment, the facts, ``shown``: the names of the tables and figures
    that this report has, ``said``: of each paper of the ledger its scope, what is easy and what is difficult, and
    ``chosen``: what selects conditions to write of.
    """
    shown = [view.name for each in _on(params) for view in views(params, each)]
    return {
        "params": params,
        "study": study,
        "settings": settings,
        "shown": shown,
        "said": papers.load(),
        "chosen": chosen,
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


def said(params: Params, study: Study, found: Found, name: str) -> str:
    """What the template ``name`` of an experiment says; nothing where it has none.

    Where the experiment has a module ``told`` with a function of that name, its templates may use what that chose. Its
    ``headlines``, by the name of a table or figure, say in a sentence what is to be seen there, before the caption.
    """
    template = found.folder / f"{name}.tex.j2"
    if not template.is_file():
        return ""
    return latex(template, **context(params, study, params.settings(found.name)), **_told(study, found)).strip()


def _told(study: Study, found: Found) -> dict[str, Any]:
    """What the module ``told`` of an experiment chose; nothing where it has none."""
    if not (found.folder / "told.py").is_file():
        return {}
    chose: dict[str, Any] = importlib.import_module(f"{found.package}.told").told(study)
    return chose


# The body.


def findings(params: Params, study: Study) -> str:
    """The abstract."""
    found = [abstract.sentences(said(params, study, each, "abstract")) for each in _on(params)]
    conditions = plural(sum(study.measured(c) for c in study.planned), "combination")
    return abstract.written(
        found,
        models=numbers.pairs(study, len(study.baselines)),
        data=numbers.data_sets(params),
        conditions=f"{conditions} of model and condition",
        released=facts(params)["released"],
    )


def summary(params: Params, study: Study, at: Paths) -> str:
    """The methods in brief."""
    return latex(
        HERE / "summary.tex.j2",
        **context(params, study),
        data=numbers.data(params, at),
        measured=numbers.pairs(study, len(study.baselines)),
        by_origin=numbers.origins(params),
        interventions=_interventions(params),
    )


def results(params: Params, study: Study) -> str:
    """The results: a section for every experiment with its prose, and the tables and figures that are of the body."""
    sections = []
    for each in _on(params):
        prose = said(params, study, each, "results")
        shown = [view for view in views(params, each) if view.place == "body"]
        if prose or shown:
            heading = rf"\subsection{{{escape(each.experiment.title)}}}\label{{sec:{each.name}}}"
            more = rf"\emph{{More: Appendix~\ref{{app:{each.name}}}.}}" if _further(params, each) else ""
            text = " ".join(part for part in (prose, more) if part)
            sections.append(_joined([heading, text, *_floats(params, study, each, shown)]))
    return _joined(sections)


def shortfalls(params: Params, study: Study) -> str:
    """What does not hold: items of every experiment."""
    items = [said(params, study, each, "shortfalls") for each in _on(params)]
    if not any(items):
        return "No check that this report makes failed.\n"
    return _joined([r"\begin{itemize}", *items, r"\end{itemize}"])


# The appendix.


def methods(params: Params, study: Study) -> str:
    """The methods in detail: data, models, passes, conditions, then every experiment's own."""
    general = {"models_by_origin": _models(params), "interventions": _interventions(params)}
    parts = [latex(HERE / "methods.tex.j2", **context(params, study), **general).strip()]
    return _joined([*parts, *(said(params, study, each, "methods") for each in _on(params))])


def appendix(params: Params, study: Study) -> str:
    """Tables and figures that are not of the body, a section for every experiment that has some."""
    sections = []
    for each in _on(params):
        prose, shown = said(params, study, each, "appendix"), _further(params, each)
        if prose or shown:
            heading = rf"\subsection{{{escape(each.experiment.title)}}}\label{{app:{each.name}}}"
            sections.append(_joined([heading, prose, *_floats(params, study, each, shown)]))
    return _joined(sections)


def _further(params: Params, found: Found) -> list[View]:
    """Tables and figures of an experiment that are not of the body."""
    return [view for view in views(params, found) if view.place == "appendix"]


def _joined(parts: list[str]) -> str:
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


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


def _floats(params: Params, study: Study, found: Found, shown: list[View]) -> list[str]:
    """Tables and figures where LaTeX may put them, with what is to be seen there and their captions."""
    headlines = _told(study, found).get("headlines", {}) if shown else {}
    return [_float(view, headlines.get(view.name), latex_caption(params, found, view)) for view in shown]


def _float(view: View, headline: str | None, caption: str) -> str:
    text = caption if headline is None else rf"\textbf{{{headline}}} {caption}"
    if isinstance(view, Figure):
        return rf"\resultfigure{{{view.name}}}{{{text}}}"
    kind = "longresulttable" if view.long else "resulttable"
    return rf"\{kind}{{{view.name}}}{{\{view.size}}}{{{text}}}"


def run(params: Params, at: Paths) -> None:
    """Write the texts of the report (Paths.report_texts)."""
    study = Study.read(plan(params), [at.table])
    texts = {
        "numbers": numbers.text(params, study, findings(params, study)),
        "summary": summary(params, study, at),
        "results": results(params, study),
        "shortfalls": shortfalls(params, study),
        "methods": methods(params, study),
        "appendix": appendix(params, study),
        "versions": versions.text(study, at),
    }
    for path in at.report_texts:
        write_text(path, texts[path.stem])
