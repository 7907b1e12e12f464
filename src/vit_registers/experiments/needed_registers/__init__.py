"""Are registers needed? What models lose when their artifacts are cleared, and when they are moved."""

from vit_registers.core.table import Metric
from vit_registers.experiments.needed_registers.params import Config, asked
from vit_registers.pipeline.experiment import Experiment, Figure, Measure, Table

SHOWN = ("own_head_top1", "patch_cosine", "corloc")
EXPERIMENT = Experiment(
    title="Are registers needed?",
    order=33,
    measures=(
        Measure(
            name="needed_registers",
            run="measure:run",
            config=Config,
            reads=("manifest", "conditions", "model", "reference"),
            images=True,
            where=asked,
            metrics=(
                Metric(
                    "own_head_top1",
                    "share",
                    "test images whose class the model's own head names, frozen as training left it",
                    "higher",
                    "percent",
                    headline=True,
                ),
                Metric(
                    "patch_cosine",
                    "cosine",
                    "of patches after the final norm to those of the model that was planted into, mean",
                    "higher",
                ),
                Metric("artifact_patches", "patches", "places where neurons write an artifact, mean over images"),
                Metric("affected_images", "share", "images in which neurons write an artifact", None, "percent"),
            ),
        ),
    ),
    tables=(
        Table(
            name="needed_registers",
            draw="tables:needed_registers",
            shows=SHOWN,
            differences=True,
            caption="What models with artifacts need: top-1 of the model's own head, frozen as training left it, on "
            "all test images; mean cosine of patches after the final norm to the same patches of the model that was "
            "planted into, where artifacts are and everywhere; CorLoc of LOST. Patches and CorLoc on "
            "{{ dense_images }}. First the model that was planted into, where there is one: the ceiling. Change: less "
            "what the study compares the condition with, in points. {{ estimates }}",
            size="scriptsize",
            long=True,
            stacked=True,
        ),
    ),
    figures=(
        Figure(
            name="dose_response",
            place="body",
            draw="figures:dose_response",
            shows=SHOWN,
            caption="How much has to be moved: top-1 of the model's own head and mean cosine of the patches at the "
            "places of artifacts to the model that was planted into, by the number of register neurons that are moved "
            "to one token, by the number of tokens that all of them are moved to, and by the factor on what they are "
            "moved with. Dashed: the model that was planted into; dotted: neurons cleared without a register. Bands: "
            "{{ interval }}.",
        ),
    ),
)
