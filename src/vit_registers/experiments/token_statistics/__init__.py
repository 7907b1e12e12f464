"""Token statistics: norms and attention of tokens, where artifacts stand, and what registers look at."""

from vit_registers.core.table import Metric
from vit_registers.experiments.token_statistics.params import Config
from vit_registers.pipeline.experiment import Experiment, Figure, Measure, Scene, Table

MEASURE = "token_statistics"
NORM, COSINE = "L2 norm", "cosine"
LAST = "at the last block"
PEAK = "mean over images, at the block where that is largest"
GONE = "share that an intervention takes away of the model's own"
ONE_IMAGE = (
    "on one gallery image of each data set, that in which a norm stands out most at any block of any model. Each map "
    "has its own scale, attention from zero, norms a logarithmic one from least to largest; of more than twelve blocks "
    "twelve are shown. "
)
CONDITIONS_SHOWN = (
    "{% if moved %} First models as they are, then those that neurons were moved in: control, before and after "
    "test-time registers.{% endif %}"
)
EXPERIMENT = Experiment(
    title="Norms and attention of tokens",
    order=20,
    measures=(
        Measure(
            name=MEASURE,
            run="measure:run",
            config=Config,
            reads=("manifest", "conditions", "reference", "registers"),
            arrays=True,
            axes={"grid_row": "Int64", "grid_column": "Int64"},
            metrics=(
                Metric("norm_median", NORM, "median norm of all patches at the output of a block"),
                Metric("norm_p99", NORM, "99th percentile of the norms of all patches at the output of a block"),
                Metric("norm_max", NORM, "largest patch norm of an image at the output of a block, mean over images"),
                Metric("norm_mean", NORM, "mean norm of the tokens of a group at the output of a block"),
                Metric(
                    "artifact_share",
                    "share",
                    "patches above the threshold of detection, which are artifacts where it found some",
                    format="percent",
                ),
                Metric(
                    "attention",
                    "share",
                    "attention of [CLS] that a group of tokens gets; artifacts: patches above the threshold at the "
                    "last block of the model as it is",
                    format="percent",
                ),
                Metric(
                    "attention_uniform",
                    "share",
                    "attention that a group of tokens would get if [CLS] attended to all tokens alike",
                    format="percent",
                ),
                Metric(
                    "attention_in_reference",
                    "share",
                    "attention of [CLS] that the artifacts' patches get in the model that this one was made from",
                    format="percent",
                ),
                Metric("cls_attention_peak", "share", "attention of [CLS] on one patch at most", format="percent"),
                Metric("norm_peak", NORM, f"largest patch norm of an image, {PEAK}"),
                Metric("norm_ratio_peak", "medians", f"largest patch norm over the median of its image, {PEAK}"),
                Metric("attention_peak", "share", f"attention of [CLS] on one patch at most, {PEAK}", format="percent"),
                Metric("norm_reduction", "share", f"{GONE} norm_peak", format="percent"),
                Metric("attention_reduction", "share", f"{GONE} attention_peak", format="percent"),
                Metric(
                    "token_norm_median", NORM, "median norm of all tokens of a group at the block detection looks at"
                ),
                Metric(
                    "attention_in_any_head",
                    "share",
                    f"largest attention of [CLS], in any head, on a token of a group {LAST}, median over images",
                    format="percent",
                ),
                Metric(
                    "attention_by_group",
                    "share",
                    "attention from a group of tokens to another, appended tokens counting as registers (parodi2026)",
                    format="percent",
                ),
                Metric("register_cosine", COSINE, "cosine of the attention maps of two registers, mean over pairs"),
                Metric("cls_register_cosine", COSINE, "cosine of the attention maps of [CLS] and of a register"),
                Metric(
                    "artifact_rate_max",
                    "share",
                    "images in which the position that is most often above the threshold is above it",
                    format="percent",
                ),
                Metric(
                    "artifacts_on_border",
                    "share",
                    "of the patches above the threshold, those at the border; n counts images with such patches",
                    format="percent",
                ),
                Metric(
                    "border_positions",
                    "share",
                    "positions at the border of the image, n of all",
                    format="percent",
                    exact="counted: the same for every image",
                ),
                Metric("object_area", "share", "patches that are object", format="percent"),
                Metric(
                    "object_attention",
                    "share",
                    f"of the attention of a token to patches {LAST}, that on the object",
                    format="percent",
                ),
                Metric(
                    "object_spread",
                    "share",
                    f"largest less smallest object_attention of the registers {LAST}",
                    format="percent",
                ),
                Metric(
                    "object_spread_next_image",
                    "share",
                    "object_spread with the attention maps of the next image, which know nothing of the object",
                    format="percent",
                ),
                Metric("winning_registers", "registers", f"registers that attend most to a patch or more {LAST}"),
            ),
        ),
    ),
    tables=(
        Table(
            name="severity",
            draw="tables_severity:severity",
            shows=("artifacts_found", "norm_peak", "attention", "top1"),
            differences=True,
            caption="How severe artifacts are, on {{ dense_images }}: the largest patch norm of an image, also as a "
            "multiple of the median of its patches, and the largest attention of [CLS] on one patch (mean over "
            "heads), means over images at the block where each is largest, which for attention may be an early one; "
            "beside that what [CLS] gives at the last block to the patches that are artifacts in the model as it is."
            "{% if moved %} Below the models that neurons were moved in: what zero tokens alone, clearing the neurons "
            "and test-time registers leave, and the share of the model's own that is gone. Top-1: of the linear probe "
            "on [CLS], or on the mean patch where a model has none, refitted where heads are, test-time registers "
            "less as many zero tokens, on all test images.{% endif %} {{ estimates }}",
            size="scriptsize",
            long=True,
            stacked=True,
        ),
        Table(
            name="token_medians",
            draw="tables_severity:token_medians",
            shows=("artifacts_found", "token_norm_median", "attention_in_any_head", "attention"),
            caption="Patches against registers, in the form of Figures 5 and 6 of kukade2025, on {{ dense_images }}: "
            "the median norm of all tokens of a kind at the block that detection looks at; the largest attention "
            "that [CLS] gives at the last block to one of them in any head, median over images, as published; and "
            "beside it what it gives to all of them together there, mean over heads and images. {{ estimates }}",
            size="scriptsize",
            long=True,
            stacked=True,
        ),
        Table(
            name="attention_shares",
            draw="tables:attention_shares",
            shows=("attention", "attention_uniform", "attention_in_reference"),
            caption="What [CLS] attends to at the last block, on {{ dense_images }}: shares of its attention that "
            "registers, appended tokens and artifacts get, and what they would get if it attended to all tokens alike. "
            "Artifacts: patches above the threshold in the model as it is, in all of its conditions; made from: the "
            "same patches in the model that this one was made from. {{ estimates }}",
            size="scriptsize",
            long=True,
            stacked=True,
        ),
        Table(
            name="positions",
            draw="tables:positions",
            shows=(
                "artifacts_found",
                "detected_artifact_share",
                "artifact_rate_max",
                "artifacts_on_border",
                "border_positions",
            ),
            caption="Where artifacts stand, on {{ dense_images }}: the share of images in which the position that "
            "is most often an artifact is one (it is chosen on the same images, which flatters), and the share of "
            "artifacts that are on the border of the image next to the share of positions there. "
            "{% if resized %}Models at another input size are listed if their base has artifacts; plain: without "
            "antialiasing. {% endif %}{{ estimates }}",
            size="footnotesize",
            stacked=True,
        ),
        Table(
            name="register_slots",
            draw="tables:register_slots",
            shows=(
                "object_area",
                "object_attention",
                "object_spread",
                "object_spread_next_image",
                "winning_registers",
                "register_cosine",
            ),
            caption="Whether registers look at different regions, at the last block of every model with registers "
            "as it is, on {{ dense_images }}. Object: its share of all patches, which is what a token that looks "
            "everywhere alike spends on it. Least and most: the registers whose mean share is smallest and largest. "
            "Spread: largest less smallest share of an image, on its own object and, with the maps of the next "
            "image, on an object they know nothing of; then their paired difference, p of a Wald test, not adjusted. "
            "Winning: number of registers that attend most to one patch or more. Cosine: of the maps of all pairs of "
            "registers. Intervals that are not printed are in the CSV. "
            "{{ estimates }}",
            size="scriptsize",
            when="trained",
            stacked=True,
        ),
    ),
    figures=(
        Figure(
            name="before_and_after",
            draw="figures.before_after:before_and_after",
            arrays=(MEASURE,),
            shows=("norm_median",),
            caption="Patch norms and attention of [CLS] over the patches at the last block, in the first models that "
            "neurons were moved in: before, after test-time registers, and in what these are compared with. The maps "
            "of a kind on one image share a scale: norms a logarithmic one from least to largest, attention one from "
            "zero to its 99th percentile. Bright is large. {{ pictures }}",
            place="body",
        ),
        Figure(
            name="norms_by_layer",
            draw="figures.layers:norms_by_layer",
            shows=("norm_median", "norm_p99", "norm_max"),
            caption="L2 norms of patch tokens at the output of every block, on {{ dense_images }}: median, 99th "
            "percentile over all patches, and the mean over images of the largest.{% if moved %} Control: what the "
            "study compares the model with registers with, drawn broad and pale.{% endif %}",
        ),
        Figure(
            name="norm_distributions",
            draw="figures.distributions:norm_distributions",
            arrays=(MEASURE,),
            shows=("norm_median", "detection_threshold", "token_norm_median"),
            caption="Norms of tokens at the block that detection looks at, on {{ dense_images }}: share of the tokens "
            "of each kind per bin, logarithmic; triangles: their medians. Dashed: the threshold that makes a patch an "
            "artifact of that model." + CONDITIONS_SHOWN,
        ),
        Figure(
            name="norms_by_size",
            draw="figures.layers:norms_by_size",
            shows=("norm_median", "norm_p99", "norm_max", "norm_mean", "parameters", "outlier_layer"),
            caption="Patch norms at the block that detection looks at, by number of parameters, for the models "
            "without registers or planting as they are, on {{ dense_images }}: median, 99th percentile over all "
            "patches, and the mean over images of the largest. A norm over more channels is larger by itself: "
            "artifacts would show in the distance of the largest norms from the median, not in their "
            "size.{% if trained %} Of those trained here each was trained once.{% endif %}",
            when="natural",
        ),
        Figure(
            name="artifact_positions",
            draw="figures.positions:artifact_positions",
            arrays=(MEASURE,),
            shows=("norm_median", "artifacts_found"),
            caption="How often the patch at each position of the grid is an artifact, on {{ dense_images }}: models "
            "with artifacts as they are{% if resized %}, and at another input size (plain: position embeddings "
            "resampled without antialiasing){% endif %}. All maps share one scale; below each, its largest share.",
        ),
        Figure(
            name="norms_by_position",
            draw="figures.positions:norms_by_position",
            arrays=(MEASURE,),
            shows=("norm_median",),
            caption="Mean patch norm at each position of the grid at the block that detection looks at, every model "
            "as it is, on {{ dense_images }}. Each map has its own scale, from the least to the largest mean norm, "
            "which stand below it.",
        ),
        Figure(
            name="cls_attention_by_layer",
            draw="figures.layers:cls_attention_by_layer",
            shows=("attention", "cls_attention_peak"),
            caption="Where the attention of [CLS] goes, by block: shares of patches, trained registers, appended "
            "tokens and [CLS] itself, and the largest share of one patch; means over heads and over "
            "{{ dense_images }}.{% if moved %} Below: control, before and after test-time registers.{% endif %}",
        ),
        Figure(
            name="attention_distributions",
            draw="figures.distributions:attention_distributions",
            arrays=(MEASURE,),
            shows=("norm_median", "attention_in_any_head"),
            caption="Attention that [CLS] gives to single tokens at the last block, on {{ dense_images }}: share of "
            "the tokens of each kind per bin, logarithmic, mean over heads. Triangles: of each kind the largest in any "
            "head, median over images (kukade2025)." + CONDITIONS_SHOWN,
        ),
        Figure(
            name="attention_by_block",
            draw="figures.blocks:attention_by_block",
            arrays=(MEASURE,),
            shows=("norm_median",),
            caption="Attention of [CLS] over the patches and patch norms by block, in every model that neurons were "
            "moved in: control, before and after test-time registers, then the attention of the first appended "
            "token. Of each model the gallery image with its largest norm. Maps of the same kind at one block share a "
            "scale, norms a logarithmic one from least to largest, attention one from zero to its 99th percentile; "
            "those of the register have their own; of more than twelve blocks twelve are shown.",
            when="moved",
        ),
        Figure(
            name="maps_by_block",
            draw="figures.models_by_block:maps_by_block",
            arrays=(MEASURE,),
            shows=("norm_median",),
            caption="Patch norms and attention of [CLS] over the patches by block, every model as it is (rows), "
            + ONE_IMAGE
            + "The largest norm stands below each map.",
        ),
        Figure(
            name="registers_by_block",
            draw="figures.models_by_block:registers_by_block",
            arrays=(MEASURE,),
            shows=("norm_median",),
            caption="Attention of [CLS] and of registers, at most four and fewer of many models, over the patches by "
            "block, every model with registers as it is, " + ONE_IMAGE,
            when="trained",
        ),
        Figure(
            name="attention_maps",
            draw="figures.maps:attention_maps",
            arrays=(MEASURE,),
            shows=("norm_median",),
            caption="Gallery images (rows) in all models side by side: attention of [CLS] and patch norms at the last "
            "block, of the models as they are{% if moved %} and, right of those that neurons were moved in, of the "
            "same with test-time registers{% endif %}. Attention on one image shares one scale over all models, from "
            "zero to its 99th percentile; norms share one in a model before and after, logarithmic, from least to "
            "largest; the largest of each map stands below it. {{ pictures }}",
        ),
        Figure(
            name="positional_focus",
            draw="figures.positions:positional_focus",
            arrays=(MEASURE,),
            shows=("norm_median",),
            caption="Where [CLS] and each register look: their attention over the patches at the last block, mean "
            "over {{ dense_images }}. Maps of one model share a scale from zero; of many registers the first are "
            "shown.",
            when="trained",
        ),
        Figure(
            name="register_slots",
            draw="figures.slots:register_slots",
            arrays=(MEASURE,),
            shows=("norm_median",),
            caption="Models by number of registers, as they are, from none on, on gallery images (rows): attention of "
            "[CLS] and of each register, at most eight, over the patches at the last block, each map on its own scale "
            "from zero, and the register that attends most to each patch, in the colour of its frame (grey: one "
            "that is not shown). Some register wins every patch, however little they differ: read it beside the "
            "cosines of the table of register slots. {{ pictures }}",
            when="trained",
        ),
    ),
    scenes=(
        Scene(
            name="before_and_after",
            draw="scenes.maps:before_and_after",
            title="Test-time registers, before and after",
            arrays=(MEASURE,),
            shows=("norm_median", "artifacts_found"),
            caption="Models that neurons were moved in: as they are, beside the same with the neurons moved to "
            "appended tokens, cleared without a register, with other neurons moved, and with empty tokens alone.",
        ),
        Scene(
            name="norm_statistics",
            draw="scenes.norms:norm_statistics",
            title="Norms by block, in numbers",
            shows=("norm_median", "norm_p99", "norm_max", "artifacts_found"),
            caption="Patch norms at the output of every block on {{ dense_images }}: median, 99th percentile, and the "
            "mean over images of the largest, in two conditions of a model.",
        ),
        Scene(
            name="norms_and_attention",
            draw="scenes.maps:norms_and_attention",
            title="Norms and attention by block",
            arrays=(MEASURE,),
            shows=("norm_median",),
            caption="Patch norms at the output of every block, and where [CLS], each register and each appended token "
            "look (mean over heads), on gallery images, in two conditions of a model side by side.",
        ),
    ),
)
