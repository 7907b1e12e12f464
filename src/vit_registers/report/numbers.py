"""Macros for the frame of the report: its title, what it counts, the findings in its abstract, and its conditions.

The frame is written by people and holds no number. Sentences about single experiments are in the folders of these.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vit_registers.core.files import read_json
from vit_registers.core.prose import count, escape, joined, plural
from vit_registers.params.study import Params
from vit_registers.pipeline.paths import Paths
from vit_registers.report.facts import facts
from vit_registers.report.templates import latex
from vit_registers.views.study import Condition, Estimate, Study

HERE = Path(__file__).parent
# Classification of the abstract: the linear probe on [CLS], its head trained anew under every condition.
PROBE = {"feature": "cls", "head": "refitted"}


@dataclass(frozen=True)
class Repair:
    """A metric before and after test-time registers and in the control; the paired difference of after and control."""

    before: Estimate
    after: Estimate
    control: Estimate
    difference: Estimate


def _repair(study: Study, before: Condition, after: Condition, metric: str, axes: dict[str, Any]) -> Repair:
    control, nothing = study.control(after), Estimate(None)
    return Repair(
        before=study.estimate(before, metric, **axes),
        after=study.estimate(after, metric, **axes),
        control=nothing if control is None else study.estimate(control, metric, **axes),
        difference=nothing if control is None else study.estimate(after, metric, against=control, **axes),
    )


def _repairs(study: Study) -> list[dict[str, Any]]:
    """What test-time registers did to every model with artifacts; without those whose images have no boxes."""
    found = []
    for before in study.with_artifacts:
        after = study.after(before)
        if after is None:
            continue
        corloc = _repair(study, before, after, "corloc", {"head": "lost"})
        if corloc.before.value is None or corloc.after.value is None:
            continue
        control = study.control(after)
        cleared = [c for c in study.treatments(before.dataset, before.model) if study.tokens(c) == 0]
        found.append(
            {
                "model": escape(study.model_label(before)),
                "done": escape(study.conditions[after.name]),
                "control": None if control is None else escape(study.label(control)),
                "corloc": corloc,
                "cleared": [
                    {
                        "done": escape(study.conditions[c.name]),
                        "corloc": study.estimate(c, "corloc", head="lost"),
                        "own_head": study.estimate(c, "own_head_top1", head="own"),
                    }
                    for c in cleared
                ],
                "own_head": _repair(study, before, after, "own_head_top1", {"head": "own"}),
                "top1": _repair(study, before, after, "top1", PROBE),
            }
        )
    return found


def _detected(study: Study, condition: Condition) -> dict[str, Any]:
    """What detection found in a model as it is."""
    return {
        "model": escape(study.model_label(condition)),
        "planted": study.plan.kinds[condition.model] == "planted",
        "artifacts": study.estimate(condition, "detected_artifact_share"),
        "images": study.estimate(condition, "images_affected"),
        "embedded": study.estimate(condition, "embedded_artifacts"),
        "precision": study.estimate(condition, "neuron_precision"),
        "recall": study.estimate(condition, "neuron_recall"),
    }


def findings(params: Params, study: Study) -> str:
    """The findings in the abstract: where artifacts are, whether detection is right, what test-time registers undo."""
    sought = [c for c in study.baselines if study.sought(c)]
    natural = [_detected(study, c) for c in sought if study.is_natural(c.model)]
    in_natural = [_detected(study, c) for c in sought if study.is_natural(c.model) and study.found(c)]
    shares = [each["artifacts"] for each in natural if each["artifacts"].value is not None]
    detected = [(_detected(study, c), study.found(c)) for c in sought]
    text = latex(
        HERE / "findings.tex.j2",
        not_sought=len(study.baselines) - len(sought),
        natural=natural,
        natural_found=in_natural,
        highest=max(shares, key=lambda share: share.value, default=Estimate(None)),
        with_artifacts=[each for each, found in detected if found],
        planted_not_found=[each for each, found in detected if not found and each["planted"]],
        repairs=_repairs(study),
        moved=facts(params)["moved"],
        pairs=lambda number: _pairs(study, number),
    )
    return " ".join(text.split()).replace(" ,", ",").replace(" ;", ";").replace(" .", ".")


def _pairs(study: Study, number: int) -> str:
    """So many models; a model on two data sets counts as two pairs."""
    return plural(number, "model") if len(study.datasets) == 1 else f"{plural(number, 'pair')} of model and data set"


def data(params: Params, at: Paths) -> str:
    """Every data set of the runs with its images per split."""
    texts = []
    for name in facts(params)["datasets"]:
        images = read_json(at.dataset(name) / "dataset.json")["images"]
        splits = [f"{count(n)} {escape(split)}" for split, n in sorted(images.items(), key=lambda item: -item[1])]
        drawn = "generated " if params.datasets[name].generated else ""
        texts.append(rf"the {drawn}data set \texttt{{{escape(name)}}} ({joined(splits)} images)")
    return joined(texts)


def text(params: Params, study: Study, at: Paths) -> str:
    """LaTeX definitions: conditions such as ``\\ifplanted``, and macros."""
    conditions = {name: holds for name, holds in facts(params).items() if isinstance(holds, bool)}
    macros = {
        "StudyTitle": escape(study.plan.title),
        "ModelCount": _pairs(study, len(study.baselines)),
        "ConditionCount": count(sum(study.measured(c) for c in study.planned)),
        "DataText": data(params, at),
        "Findings": findings(params, study),
    }
    lines = [f"\\newif\\if{name}\\{name}{'true' if holds else 'false'}" for name, holds in conditions.items()]
    return "\n".join([*lines, *(rf"\newcommand{{\{name}}}{{{text}}}" for name, text in macros.items()), ""])
