"""Macros and conditions of the frame of the report, and what it counts.

The frame is written by people and holds no number. Sentences about single experiments are in the folders of these.
"""

from vit_registers.core.files import read_json
from vit_registers.core.prose import count, escape, joined, key, plural
from vit_registers.params.study import Params
from vit_registers.pipeline.paths import Paths
from vit_registers.report.facts import facts
from vit_registers.views.chosen import some
from vit_registers.views.study import Study


def pairs(study: Study, number: int) -> str:
    """So many models; a model on two data sets counts as two pairs."""
    return plural(number, "model") if len(study.datasets) == 1 else f"{plural(number, 'pair')} of model and data set"


def data_sets(params: Params) -> str:
    """The data sets of the runs by name, of many the first."""
    names = facts(params)["datasets"]
    drawn = all(params.datasets[name].generated for name in names)
    kind = f"{'generated ' if drawn else ''}data set{'' if len(names) == 1 else 's'}"
    return f"the {kind} {some([key(name) for name in names])}"


def data(params: Params, at: Paths) -> str:
    """The data sets of the runs with their images per split, of many the first."""
    texts = []
    for name in facts(params)["datasets"]:
        images = read_json(at.dataset(name) / "dataset.json")["images"]
        splits = [f"{count(n)} {escape(split)}" for split, n in sorted(images.items(), key=lambda item: -item[1])]
        drawn = "generated " if params.datasets[name].generated else ""
        texts.append(f"the {drawn}data set {key(name)} ({joined(splits)} images)")
    return some(texts)


def origins(params: Params) -> list[str]:
    """How many models came about in which way."""
    used = [params.models[name] for name in params.models_used()]
    numbers = {
        "trained by the pipeline": sum(model.step == "train" for model in used),
        "made from others": sum(model.made_from is not None for model in used),
        "fetched with weights from elsewhere": sum(model.step == "fetch" and model.learned for model in used),
        "taken as they are, without having learnt anything": sum(
            model.step == "fetch" and not model.learned for model in used
        ),
    }
    return [f"{number} {'was' if number == 1 else 'were'} {how}" for how, number in numbers.items() if number]


def text(params: Params, study: Study, abstract: str) -> str:
    """LaTeX definitions: conditions such as ``\\ifplanted``, and macros."""
    conditions = {name: holds for name, holds in facts(params).items() if isinstance(holds, bool)}
    macros = {"StudyTitle": escape(study.plan.title), "Abstract": abstract}
    lines = [f"\\newif\\if{name}\\{name}{'true' if holds else 'false'}" for name, holds in conditions.items()]
    return "\n".join([*lines, *(rf"\newcommand{{\{name}}}{{{text}}}" for name, text in macros.items()), ""])
