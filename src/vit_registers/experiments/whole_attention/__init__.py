"""Attention between all tokens of a few images, kept whole: what the explorer shows of any patch that is clicked."""

from vit_registers.experiments.whole_attention.params import Config, WholeAttention
from vit_registers.pipeline.experiment import Experiment, Measure, Resources, Scene

EXPERIMENT = Experiment(
    title="Attention between all tokens",
    order=22,
    params=WholeAttention,
    measures=(
        Measure(
            name="whole_attention",
            run="measure:run",
            config=Config,
            reads=("manifest", "baseline", "model", "registers"),
            arrays=True,
            metrics=(),
            resources=Resources(mem_mb=4000, gpu=True),
        ),
    ),
    scenes=(
        Scene(
            name="attention_of_any_token",
            draw="scenes:attention_of_any_token",
            title="Attention of any token, by block and head",
            arrays=("whole_attention",),
            caption="What [CLS], a register, or the patch that is clicked attends to, by block and head, on the "
            "{{ settings.images }} images that figures show of a model: as it is, and with test-time registers.",
        ),
    ),
)
