"""What captions and prose say of a study, from its params alone: known before anything runs."""

from functools import cache
from typing import Any

from vit_registers.core.prose import plural
from vit_registers.params.study import Params
from vit_registers.pipeline.experiment import Found, View
from vit_registers.report.templates import plain
from vit_registers.views.plan import plan


@cache
def facts(params: Params) -> dict[str, Any]:
    """Words and conditions by name, in plain text.

    ``dense_images``, ``interval``, ``estimates``: as captions say them. ``planted``, ``resized``, ``trained``,
    ``natural``, ``released``, ``generated``, ``compared``: what kinds of models and data the study has.
    """
    drawn, extraction, study = plan(params), params.extraction, params.study
    run = [model for _, model in params.pairs()]
    kinds = {drawn.kinds[model] for model in run}
    interval = f"{100 * params.statistics.confidence:g} % interval"
    images = f"the first {extraction.dense_images:,} images of the {extraction.dense_split} split"
    return {
        "title": study.title,
        "datasets": [f"{name}" for name in dict.fromkeys(each.dataset for each in study.runs)],
        "models": plural(
            len(run), "model" if len({d for d, _ in params.pairs()}) == 1 else "pair of model and data set"
        ),
        "dense_images": images,
        "interval": interval,
        "estimates": f"Brackets hold the {interval}; n counts test images.",
        "planted": "planted" in kinds,
        "resized": any(model in drawn.resized for model in run),
        "trained": any(model in drawn.registers for model in run),
        "natural": any(drawn.kinds[model] not in ("tagged", "planted") for model in run),
        "released": bool(kinds & {"timm", "openclip"}),
        "generated": any(params.datasets[name].generated for name, _ in params.pairs()),
        "compared": bool(study.comparisons),
        "moved": any(params.interventions[name].moves_neurons for each in study.runs for name in each.interventions),
        "detection_images": f"{params.detection.images:,}",
        "top_k": params.detection.top_k,
        "experiments": params.experiment_names,
    }


def caption(params: Params, found: Found, view: View) -> str:
    """The caption of a view in plain text, the same for LaTeX (which escapes it) and for the HTML report."""
    return plain(view.caption, settings=params.settings(found.name), **facts(params))
