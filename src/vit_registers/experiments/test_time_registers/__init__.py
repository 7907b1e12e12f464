"""Test-time registers (jiang2025, kukade2025): what other experiments measured before, after and in the controls."""

from typing import Any

from vit_registers.core.table import Metric
from vit_registers.experiments.test_time_registers.params import Config
from vit_registers.pipeline.experiment import Experiment, Measure, Table


def _draws_neurons(params: Any, model: str) -> bool:
    """Whether random neurons of a model are moved somewhere."""
    names = {name for run in params.study.runs if model in run.models for name in run.interventions}
    return any(params.interventions[name].draws_neurons for name in names)


EXPERIMENT = Experiment(
    title="Test-time registers",
    order=32,
    measures=(
        Measure(
            name="random_neurons",
            run="measure:run",
            config=Config,
            reads=("conditions",),
            metrics=(
                Metric(
                    "drawn_activation",
                    "ratio",
                    "mean |activation| on patches of the random neurons moved, over that of the neurons found; n: sets",
                ),
                Metric(
                    "drawn_output_norm",
                    "ratio",
                    "norm of what the random neurons moved write, over that of the neurons found; n: sets",
                ),
            ),
            where=_draws_neurons,
        ),
    ),
    tables=(
        Table(
            name="repairs",
            draw="tables:repairs",
            shows=("artifacts_found", "norm_max", "artifact_share", "corloc", "top1", "own_head_top1"),
            caption="What test-time registers repair: models with artifacts as they are, with their neurons cleared "
            "and no register, with test-time registers, and what these are compared with. Largest norm: mean over "
            "images of the largest patch norm at the last block; artifacts: patches above the threshold there; top-1 "
            "of the linear probe on [CLS], refitted; own head: frozen as training left it. {{ estimates }}",
            size="footnotesize",
            stacked=True,
            place="body",
            most=16,
        ),
        Table(
            name="test_time_registers",
            draw="tables:test_time_registers",
            shows=(
                "artifacts_found",
                "norm_median",
                "norm_p99",
                "norm_max",
                "artifact_share",
                "attention",
                "corloc",
                "top1",
            ),
            caption="The models with artifacts under every condition, and the models of their controls: norms, "
            "artifacts and CorLoc on {{ dense_images }}, top-1 of the linear probe on [CLS] on all test images, "
            "refitted and frozen. First in each model, as it is and with its neurons cleared and no register: what "
            "registers repair is what they do beyond that. What a condition is compared with is in the CSV. Artifacts: "
            "patches above the threshold at the last block, and the share of the attention of [CLS] there that the "
            "patches take which are artifacts in the model as it is. Random neurons are drawn anew for each image "
            "where the methods say so, so that intervals are over images and draws. {{ estimates }}",
            size="scriptsize",
            long=True,
            stacked=True,
        ),
        Table(
            name="neuron_controls",
            draw="tables:neuron_controls",
            shows=("drawn_activation", "drawn_output_norm", "corloc", "top1"),
            differences=True,
            caption="Other neurons moved in place of those found. Activation and output norm: means over the random "
            "neurons as a multiple of those of the neurons found, with the interval over draws; where no other neuron "
            "writes nearly as much, none can be matched. CorLoc on {{ dense_images }}, top-1 of the frozen head on "
            "[CLS] on all test images, each also against the control, which is in the CSV, as are "
            "intervals that are not printed. "
            "{{ estimates }}",
            size="scriptsize",
            stacked=True,
            long=True,
        ),
        Table(
            name="register_sweep",
            draw="tables:register_sweep",
            shows=("norm_max", "corloc", "top1"),
            differences=True,
            caption="Number of test-time registers: the models with artifacts, with the neurons found cleared (0 "
            "tokens), then moved to more and more appended tokens, each paired with its control. Norm and CorLoc on "
            "{{ dense_images }}, top-1 of the linear probe on [CLS] on all test images; largest: mean over images. "
            "{{ estimates }}",
            size="footnotesize",
            stacked=True,
            long=True,
        ),
        Table(
            name="test_time_classification",
            draw="tables:test_time_classification",
            shows=("top1",),
            differences=True,
            caption="Top-1 (%) of the linear probe on [CLS] for every model as it is, with its register neurons "
            "cleared and no register, with appended zero tokens, and with test-time registers, on the test split; the "
            "change is registers less zero tokens, paired over the same images. Heads are refitted to the features of "
            "each column; frozen head: the head fitted to the model as it is, on features with test-time registers. "
            "{{ estimates }}",
            size="footnotesize",
            stacked=True,
            long=True,
        ),
    ),
)
