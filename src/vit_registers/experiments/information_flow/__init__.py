"""Information flow: what [CLS] and registers get and hold, block by block and register by register (parodi2026)."""

from vit_registers.core.table import Metric
from vit_registers.experiments.information_flow.params import Config, InformationFlow
from vit_registers.pipeline.experiment import Experiment, Figure, Measure, Scene, Table

COUNTED = "counted from the tokens"
FIRST = "the first block whose interval is above; it has no interval itself"
EXPERIMENT = Experiment(
    title="Information flow",
    order=61,
    params=InformationFlow,
    measures=(
        Measure(
            name="information_flow",
            run="measure:run",
            config=Config,
            reads=("manifest", "baseline"),
            arrays=True,
            axes={"other_item": "Int64"},
            metrics=(
                Metric(
                    "token_probe",
                    "share",
                    "test images whose class a logistic regression on a token leaving a block names",
                    "higher",
                    "percent",
                ),
                Metric(
                    "token_probe_chance",
                    "share",
                    "test images of the most frequent class",
                    format="percent",
                    exact="counted from the classes of the test images",
                ),
                Metric(
                    "token_recall_at_1",
                    "share",
                    "test images whose nearest other, by cosine of a token leaving a block, is of their class",
                    "higher",
                    "percent",
                ),
                Metric(
                    "attention_to_register",
                    "share",
                    "attention from [CLS] or from patches to one register at a block",
                    format="percent",
                ),
                Metric(
                    "attention_to_one_uniform",
                    "share",
                    "the same if all tokens got the same",
                    format="percent",
                    exact=COUNTED,
                ),
                Metric(
                    "attention_onset",
                    "block",
                    "first at which a register gets more attention than if all tokens got the same",
                    format="whole",
                    exact=FIRST,
                ),
                Metric(
                    "content_onset",
                    "block",
                    "first after which the probe of a token names more classes than chance",
                    format="whole",
                    exact=FIRST,
                ),
                Metric("register_token_cosine", "cosine", "of two registers of an image after the final norm, mean"),
                Metric(
                    "mean_register_cosine",
                    "cosine",
                    "of the means over images of two registers after the final norm",
                    exact="of means over all test images; register_token_cosine has an interval",
                ),
                Metric(
                    "nearest_patch_own",
                    "share",
                    "images whose patch is the nearest to their register among the patches of many images",
                    format="percent",
                ),
                Metric(
                    "nearest_patch_own_chance",
                    "share",
                    "the same where a register knows nothing of its image",
                    format="percent",
                    exact="one in the number of images",
                ),
            ),
        ),
    ),
    tables=(
        Table(
            name="registers_one_by_one",
            draw="tables:registers_one_by_one",
            shows=(
                "token_probe",
                "token_recall_at_1",
                "attention_to_register",
                "attention_onset",
                "content_onset",
                "nearest_patch_own",
            ),
            caption="[CLS] and each register of models as they are. Probe: the class of test images by logistic "
            "regression on the token as the last block leaves it; recall@1: the class of the nearest other "
            "image. Attention: what [CLS] and what patches give to the register at the last block. Onset: the "
            "first block, from 0, at which the register gets more from [CLS] than if all tokens got the same, "
            "and after which the probe is above the share of the most frequent class. Own patch: images whose "
            "own patch is nearest to the register, of all patches of {{ settings.nearest_images }} images. {{ "
            "estimates }}",
            size="scriptsize",
            long=True,
            stacked=True,
        ),
        Table(
            name="register_cosines",
            draw="tables:register_cosines",
            shows=("register_token_cosine", "mean_register_cosine"),
            caption="Cosines of pairs of registers after the final norm in models as they are: of one image, mean over "
            "the test images, and of their means over these. {{ estimates }}",
            when="trained",
            size="footnotesize",
            long=True,
        ),
    ),
    figures=(
        Figure(
            name="attention_flow",
            draw="figures:attention_flow",
            shows=("attention_by_group",),
            caption="Who attends to whom, block by block, on {{ dense_images }}: shares of the attention of [CLS], of "
            "registers and of patches that go to each of these groups, mean over heads and over the tokens of a group. "
            "Dashed: the share of a group if all tokens got the same. The models with registers first.",
        ),
        Figure(
            name="attention_and_content",
            draw="figures:attention_and_content",
            shows=(
                "attention_to_register",
                "attention_to_one_uniform",
                "token_probe",
                "token_probe_chance",
                "attention_onset",
                "content_onset",
            ),
            caption="When attention arrives and when content does. Above: what [CLS] gives to each register, by block; "
            "dashed: what every token would get if all got the same. Below: the class of test images by a probe on "
            "[CLS] and on each register as blocks leave them; dashed: the most frequent class. Intervals are shaded; "
            "rings mark onsets, the first block whose interval is above the dashed line.",
        ),
        Figure(
            name="nearest_patches",
            draw="figures_nearest:nearest_patches",
            arrays=("information_flow",),
            shows=("nearest_patch_own",),
            caption="The {{ settings.nearest }} patches (framed) that are nearest, by cosine after the final norm, to "
            "the mean of each register over images, among the patches of the first {{ settings.nearest_images }} dense "
            "images, at most one of an image; the nearest first. Of a model with many registers the first are shown.",
            when="trained",
        ),
    ),
    scenes=(
        Scene(
            name="attention_by_group",
            draw="scenes:attention_by_group",
            title="Who attends to whom",
            shows=("attention_by_group",),
            caption="Shares of the attention of [CLS], of registers and of patches that go to each of these groups at "
            "a block, mean over heads and tokens, on {{ dense_images }}. Lines hold the {{ interval }}.",
        ),
        Scene(
            name="probe_by_block",
            draw="scenes:probe_by_block",
            title="What tokens hold, block by block",
            shows=("token_probe", "token_probe_chance", "attention_to_register"),
            caption="Test images whose class a logistic regression on [CLS] or on a register names, as blocks leave "
            "them, and what [CLS] gives to each register. Bands hold the {{ interval }}; dashed: the most frequent "
            "class.",
        ),
        Scene(
            name="nearest_to_registers",
            draw="scenes:nearest_to_registers",
            title="Nearest patches of each register",
            arrays=("information_flow",),
            shows=("nearest_patch_own",),
            caption="The {{ settings.nearest }} patches (framed) nearest, by cosine after the final norm, to the mean "
            "of each register, among the patches of {{ settings.nearest_images }} images, at most one of an image.",
        ),
    ),
)
