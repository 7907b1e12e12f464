"""Numbers, sentences made of them, methods and versions, for ``report/report.tex`` to \\input.

The report's prose is written by people and holds no number. What it needs comes as macros: single values, sentences
whose number of parts depends on the study, and conditions (``\\ifplanted``) for what not every study has.
"""

from collections.abc import Sequence
from pathlib import Path

from vit_registers.core import table as tidy
from vit_registers.core.files import canonical, read_json, write_text
from vit_registers.core.prose import count, escape, joined, plural
from vit_registers.params import GeneratedDataset, Params
from vit_registers.pipeline import configs as steps
from vit_registers.pipeline.configs import ReportStep
from vit_registers.report import methods, versions
from vit_registers.views.latex_text import estimate, number, probability
from vit_registers.views.study import NONE_FOUND, Condition, Estimate, Study


def _percent(cell: Estimate, decimals: int = 1) -> str:
    """A share in percent with its interval, or that it is missing."""
    if cell.value is None:
        return "not measured"
    text = estimate(cell, decimals=decimals)
    return text.replace(" [", r"\,\% [", 1) if " [" in text else text + r"\,\%"


def _models(study: Study, number: int) -> str:
    """So many models; a model on two data sets counts as two pairs."""
    return plural(number, "model") if len(study.datasets) == 1 else f"{plural(number, 'pair')} of model and data set"


def _natural_text(study: Study) -> str:
    """Whether the models that nothing was planted in have artifacts."""
    natural = [c for c in study.baselines if study.nature(c.model) not in ("tagged", "planted")]
    if not natural:
        return ""
    found = [c for c in natural if study.found(c)]
    shares = [study.estimate(c, "detection", "artifact_share") for c in natural]
    highest = max((s for s in shares if s.value is not None), key=lambda s: s.value or 0.0, default=Estimate(None))
    among = f"In {_models(study, len(natural))} without planting"
    if not found:
        return f"{among}: {NONE_FOUND} (largest share of artifact patches {_percent(highest, 2)})."
    labels = joined([escape(study.model_label(c)) for c in found])
    return f"{among}: artifacts found in {len(found)} ({labels})."


def _artifacts_text(study: Study) -> str:
    """Share of artifacts of every model that has them; for planted ones whether the planted neurons were found."""
    sentences = []
    for condition in study.baselines:
        planted = study.nature(condition.model) == "planted"
        name = escape(study.model_label(condition))
        if not study.found(condition):
            if planted:
                sentences.append(f"In the planted model {name}: {NONE_FOUND}.")
            continue
        share = study.estimate(condition, "detection", "artifact_share")
        images = study.estimate(condition, "detection", "images_affected")
        sentence = f"In {name}, {_percent(share, 2)} of the patches are artifacts"
        if images.value is not None:
            sentence += rf", in {number(images.value, images.unit)}\,\% of the images"
        precision, recall = (study.estimate(condition, "detection", metric) for metric in ("precision", "recall"))
        if planted and precision.value is not None and recall.value is not None:
            sentence += (
                f"; detection finds the planted neurons with precision {number(precision.value, precision.unit)}"
                rf"\,\% and recall {number(recall.value, recall.unit)}\,\%"
            )
        sentences.append(sentence + ".")
    return " ".join(sentences)


def _difference(study: Study, a: Condition, b: Condition, readout: str, metric: str) -> str:
    """The paired difference in parentheses where the study has it."""
    reference = f"{b.model}/{b.name}"
    cell = study.estimate(a, readout, f"{metric}_difference", reference=reference)
    if cell.value is None:
        return ""
    p = "" if cell.p is None else f", $p = {probability(cell.p)}$".replace("= $<$", "< ")
    return f"; paired difference {estimate(cell, signed=True)} points{p}"


_CORLOC = ("lost", "corloc", "CorLoc")
_TOP1 = ("probe[cls]", "top1", "Top-1 of the [CLS] probe")


def _repair_text(study: Study, readouts: Sequence[tuple[str, str, str]]) -> str:
    """Measurements before and after test-time registers, and in the control."""
    sentences = []
    for before in study.treated:
        after = study.after(before)
        if after is None:
            continue
        control = study.control(after)
        for readout, metric, name in readouts:
            first, then = (study.estimate(c, readout, metric) for c in (before, after))
            if first.value is None or then.value is None:
                continue
            done = escape(study.conditions[after.name])
            sentence = (
                f"{name} in {escape(study.model_label(before))} is {_percent(first)} as it is and {_percent(then)}"
            )
            sentence += f" with {done}"
            if control is not None:
                against = _percent(study.estimate(control, readout, metric))
                sentence += f", against {against} in the control ({escape(study.label(control))})"
                sentence += _difference(study, after, control, readout, metric)
            sentences.append(sentence + ".")
    return " ".join(sentences) or f"Test-time registers had nothing to move: {NONE_FOUND}."


def _data_text(params: Params, data: Path) -> str:
    """Every data set of the runs with its images per split."""
    texts = []
    for name in dict.fromkeys(run.dataset for run in params.study.runs):
        card = read_json(data / name / "dataset.json")
        splits = joined(
            [
                f"{count(images)} {escape(split)}"
                for split, images in sorted(card["images"].items(), key=lambda item: -item[1])
            ]
        )
        made = "generated " if isinstance(params.datasets[name], GeneratedDataset) else ""
        texts.append(rf"the {made}data set \texttt{{{escape(name)}}} ({splits} images)")
    return joined(texts)


def numbers(params: Params, study: Study, data: Path) -> str:
    """LaTeX definitions: conditions, single values, sentences."""
    kinds = {study.nature(c.model) for c in study.baselines}
    conditions = {
        "planted": "planted" in kinds,
        "resized": bool(study.cfg.resized),
        "swept": params.lost_sweep is not None,
        "treated": bool(study.treated),
        "counts": any(c.model in study.cfg.registers for c in study.baselines),
        "natural": bool(kinds - {"tagged", "planted"}),
        "released": bool(kinds & {"timm", "openclip"}),
        "generated": any(isinstance(params.datasets[d], GeneratedDataset) for d in study.datasets),
        "compared": bool(study.cfg.comparisons),
    }
    afters = dict.fromkeys(study.conditions[a.name] for c in study.treated if (a := study.after(c)) is not None)
    treated = [escape(study.model_label(c)) for c in study.treated]
    extraction = params.extraction
    macros = {
        "StudyTitle": escape(study.cfg.title),
        "ModelCount": plural(
            len(study.baselines), "model" if len(study.datasets) == 1 else "pair of model and data set"
        ),
        "ConditionCount": count(sum(study.measured(c) for c in study.planned)),
        "DataText": _data_text(params, data),
        "DenseText": methods.dense(extraction),
        "SeedCount": plural(len(params.probe.seeds), "seed"),
        "TokenSeeds": plural(len(params.information.seeds), "draw"),
        "Interval": rf"{100 * study.cfg.confidence:g}\,\% interval",
        "DetectionImages": count(params.detection.images),
        "TopK": count(params.detection.top_k),
        "LostPatches": count(params.lost.k),
        "TreatedText": joined(treated) if treated else NONE_FOUND,
        "AfterText": escape(joined(list(afters))) if afters else NONE_FOUND,
        "FirstTreated": treated[0] if treated else NONE_FOUND,
        "NaturalText": _natural_text(study),
        "ArtifactsText": _artifacts_text(study),
        "RepairText": _repair_text(study, [_CORLOC, _TOP1]),
        "RepairSummary": _repair_text(study, [_CORLOC]),
    }
    lines = [f"\\newif\\if{name}\\{name}{'true' if holds else 'false'}" for name, holds in conditions.items()]
    return "\n".join([*lines, *(rf"\newcommand{{\{name}}}{{{text}}}" for name, text in macros.items()), ""])


def run(cfg: ReportStep, metrics: Path, models: Path, data: Path, out: Path) -> None:
    """Write ``numbers.tex``, ``methods.tex`` and ``versions.tex`` to the folder ``out``.

    ``metrics`` is the tidy table of all readouts, ``models`` and ``data`` the folders of model cards and data sets.
    """
    params = Params.model_validate_json(canonical(cfg.params))
    study = Study(steps.view(params), tidy.read(metrics))
    write_text(out / "numbers.tex", numbers(params, study, data))
    write_text(out / "methods.tex", methods.text(params, study))
    write_text(out / "versions.tex", versions.text(study, models, data))
