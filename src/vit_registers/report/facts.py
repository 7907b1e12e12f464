"""What captions and prose say of a study, from its params alone: known before anything runs."""

from pathlib import Path
from typing import Any

from vit_registers.core.prose import escape, plural
from vit_registers.params.study import Params
from vit_registers.pipeline.experiment import Found, View
from vit_registers.report.bibliography import REFERENCES, cite, papers
from vit_registers.report.templates import plain
from vit_registers.views.plan import plan

SCORES = {
    "activation": "mean absolute activation at artifacts",
    "contribution": "mean absolute activation at artifacts times the norm of the output column",
}


def facts(params: Params) -> dict[str, Any]:
    """Words and conditions by name, in plain text.

    ``dense_images``, ``detection_images``, ``score`` (what neurons are ranked by), ``interval``, ``estimates``,
    ``pictures`` (the rule by which images were chosen, see views/gallery.py) are phrases of captions. ``planted``,
    ``resized``, ``trained``, ``natural`` (nothing was planted, but something learnt), ``released`` (weights come from
    elsewhere), ``generated`` (images are drawn by the pipeline): whether the study has such models or data;
    ``compared``: whether it compares conditions; ``moved``: whether it moves or clears register neurons;
    ``patchlayers``: whether patches are kept of blocks. What is true or false is a condition of report.tex:
    ``\\ifplanted``.
    """
    drawn, extraction, study = plan(params), params.extraction, params.study
    run = [model for _, model in params.pairs()]
    kinds = {drawn.kinds[model] for model in run}
    interval = f"{100 * params.statistics.confidence:g} % interval"
    datasets = list(dict.fromkeys(dataset for dataset, _ in params.pairs()))
    return {
        "title": params.title,
        "datasets": datasets,
        "models": plural(len(run), "model" if len(datasets) == 1 else "pair of model and data set"),
        "dense_images": f"the first {extraction.dense_images:,} images of the {extraction.dense_split} split",
        "interval": interval,
        "estimates": f"Brackets hold the {interval}; n counts test images.",
        "pictures": f"Images: of the first {params.gallery.candidates} of each class the one in which most patches are "
        "outliers (a norm above three medians of the image at a block) in any of the models, those with most first.",
        "planted": "planted" in kinds,
        "resized": any(model in drawn.resized for model in run),
        "trained": any(model in drawn.registers for model in params.models_used()),
        "natural": any(
            drawn.kinds[model] not in ("tagged", "planted") and model not in drawn.unlearned for model in run
        ),
        "released": any(
            params.models[model].step == "fetch" and params.models[model].learned for model in params.models_used()
        ),
        "generated": any(params.datasets[name].generated for name in datasets),
        "compared": bool(study.comparisons),
        "moved": any(params.interventions[name].moves_neurons for each in study.runs for name in each.interventions),
        "patchlayers": bool(extraction.patch_layers),
        "detection_images": f"the first {params.detection.images:,} images of the {params.detection.split} split",
        "score": SCORES[params.detection.score],
        "top_k": params.detection.top_k,
        "experiments": params.experiment_names,
    }


def caption(params: Params, found: Found, view: View, references: Path = REFERENCES) -> str:
    """The caption of a view in plain text, for Snakemake's HTML report."""
    return cite(_filled(params, found, view), papers(references), latex=False)


def latex_caption(params: Params, found: Found, view: View, references: Path = REFERENCES) -> str:
    """The same caption for the LaTeX report."""
    return cite(escape(_filled(params, found, view)), papers(references), latex=True)


def _filled(params: Params, found: Found, view: View) -> str:
    return plain(view.caption, settings=params.settings(found.name), **facts(params))
