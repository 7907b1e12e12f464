"""Limits of detection: how weak register neurons may be and still be found, by how neurons are scored."""

from vit_registers.core.table import Metric
from vit_registers.experiments.detection_limits.params import Config, DetectionLimits
from vit_registers.pipeline.experiment import Experiment, Figure, Measure, Resources, Table

PLANTINGS = "n counts plantings, low and high are the least and the most of them"
SHOWN = ("planted_recall", "planted_precision", "planted_chance")
PLANTED = (
    "{{ settings.planting.neurons * (settings.planting.blocks | length) }} register neurons planted over blocks "
    "{{ settings.planting.blocks | join(', ') }}, by their activation at artifacts"
)
HOW = (
    "Score: mean absolute activation at artifacts, as published, or that times the norm of the neuron's output column. "
    "Filter: neurons that are active on most patches are left out. Ranked: neurons of every block, or up to the first "
    "block whose output has artifacts."
)
EXPERIMENT = Experiment(
    title="Limits of detection",
    order=15,
    params=DetectionLimits,
    measures=(
        Measure(
            name="detection_limits",
            run="measure:run",
            config=Config,
            reads=("manifest", "model"),
            axes={"activation": "Float64", "score": "string", "sparsity": "string", "ranked": "string"},
            where=lambda params, model: params.settings("detection_limits").base == model,
            metrics=(
                Metric(
                    "planted_recall",
                    "share",
                    "planted neurons that are among as many first ones, which is the precision of these as well; "
                    + PLANTINGS,
                    "higher",
                    "percent",
                ),
                Metric(
                    "planted_precision",
                    "share",
                    "planted neurons of the shortest list of first ones that holds all that were planted, or of all "
                    f"neurons where no ranking holds them; {PLANTINGS}",
                    "higher",
                    "percent",
                ),
                Metric(
                    "decoys_taken",
                    "share",
                    f"decoys of a kind among as many first neurons as were planted; {PLANTINGS}",
                    "lower",
                    "percent",
                ),
                Metric(
                    "planted_activation",
                    "mean |activation|",
                    f"mean absolute activation of planted neurons at artifacts; {PLANTINGS}",
                ),
                Metric("planted_share", "share", f"patches that are artifacts; {PLANTINGS}", format="percent"),
                Metric(
                    "planted_chance",
                    "share",
                    f"planted neurons over all of the model: recall and precision of a random order; {PLANTINGS}",
                    format="percent",
                ),
            ),
            resources=Resources(mem_mb=4000, gpu=True, runtime=240),
        ),
    ),
    tables=(
        Table(
            name="detection_recall",
            draw="tables:recall",
            shows=("planted_recall",),
            caption=f"Recall of {PLANTED}, among as many neurons taken. {HOW} Mean of "
            "{{ settings.seeds | length }} plantings each.",
            size="footnotesize",
        ),
        Table(
            name="detection_precision",
            draw="tables:precision",
            shows=("planted_precision",),
            caption=f"How many of the neurons are planted that have to be taken to have all planted ones: {PLANTED}. "
            f"{HOW} Mean of {{{{ settings.seeds | length }}}} plantings each.",
            size="footnotesize",
        ),
        Table(
            name="detection_decoys",
            draw="tables:decoys",
            shows=("decoys_taken",),
            caption=f"Decoys among as many neurons taken as were planted: {PLANTED}. Everywhere: active on every token "
            f"without any effect; downstream: fires on artifacts in the block behind. {HOW}",
            printed=False,
        ),
    ),
    figures=(
        Figure(
            name="detection_limits",
            place="body",
            draw="figures:detection_limits",
            shows=SHOWN,
            caption=f"What detection finds of {PLANTED}, with decoys at an activation of "
            "{{ settings.planting.decoy_activation }}. Left: recall among as many neurons as were planted; right: "
            "precision of the shortest list that holds all of them, or of all neurons where no ranking does. Above: "
            "neurons of every block are ranked; below: up to the first block whose output has artifacts. Bars span the "
            "plantings; the dotted line is chance.",
        ),
    ),
)
