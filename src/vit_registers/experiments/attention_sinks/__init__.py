"""Attention sinks (fesser2026): tokens that nearly all others attend to, where they stand, and what they write."""

from vit_registers.core.table import Metric
from vit_registers.experiments.attention_sinks.params import AttentionSinks, Config
from vit_registers.pipeline.experiment import Experiment, Figure, Measure, Table

MEASURE = "attention_sinks"
EXPERIMENT = Experiment(
    title="Attention sinks",
    order=22,
    params=AttentionSinks,
    measures=(
        Measure(
            name=MEASURE,
            run="measure:run",
            config=Config,
            reads=("conditions", "registers"),
            axes={"sink_class": "string"},
            metrics=(
                Metric(
                    "sink_share",
                    "share",
                    "attention that the most attended token of a block gets, mean over queries and heads",
                    format="percent",
                ),
                Metric(
                    "sink_over_median",
                    "ratio",
                    "the same over the attention that the median token gets, both means over images",
                ),
                Metric(
                    "sink_layer",
                    "block",
                    "the block whose most attended token gets most",
                    format="whole",
                    exact="chosen as the largest of all blocks",
                ),
                Metric(
                    "sink_token",
                    "share",
                    "images whose most attended token in a block is of a kind (group); artifacts: patches that enter "
                    "the block with a norm above the threshold",
                    format="percent",
                ),
                Metric(
                    "sink_events",
                    "share",
                    "heads of a block that have a sink, mean over images; by what it writes (sink_class), or by the "
                    "kind of the token (group)",
                    format="percent",
                ),
                Metric(
                    "sink_ratio",
                    "ratio",
                    "norm of what the most attended token of a head writes over the mean of the other tokens, mean "
                    "over heads and images",
                ),
            ),
        ),
    ),
    tables=(
        Table(
            name="attention_sinks",
            draw="tables:attention_sinks",
            shows=("sink_share", "sink_over_median", "sink_layer", "sink_token", "sink_events", "sink_ratio"),
            caption="Attention sinks in the block whose most attended token gets most attention, and in the last "
            "block. Share: attention that this token gets, mean over queries and heads, and how often that of the "
            "median token. It is: [CLS], a register (trained or appended), an artifact; else another patch. Heads with "
            "a sink (at least {{ (100 * settings.queries) | round | int }} % of the queries give one token "
            "{{ (100 * settings.attention) | round | int }} % of their attention or more): all, those whose sink "
            "writes nothing, and those whose sink broadcasts. {{ estimates }}",
            size="scriptsize",
            long=True,
            stacked=True,
        ),
    ),
    figures=(
        Figure(
            name="sinks_by_block",
            draw="figures:sinks_by_block",
            shows=("sink_share", "sink_events"),
            caption="Attention sinks by block, in models as they are. Bars: heads with a sink, by what it writes; "
            "line: attention that the most attended token gets, mean over queries, heads and images; dots: heads whose "
            "sink is a patch.",
        ),
    ),
)
