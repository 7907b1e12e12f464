"""Object discovery: one box per image without labels, from keys (LOST) or from attention (DINO-seg); simeoni2021."""

from vit_registers.core.table import Metric
from vit_registers.experiments.object_discovery.params import Config, ObjectDiscovery, SweepConfig
from vit_registers.pipeline.experiment import Experiment, Figure, Measure, Resources, Table

CORLOC = "share of images whose one box overlaps a true box by half or more"
EXPERIMENT = Experiment(
    title="Object discovery",
    order=50,
    params=ObjectDiscovery,
    measures=(
        Measure(
            name="object_discovery",
            run="measure:run",
            config=Config,
            reads=("manifest", "conditions"),
            images=True,
            arrays=True,
            metrics=(
                Metric("corloc", "share", f"CorLoc: {CORLOC}", "higher", "percent", headline=True),
                Metric("corloc_random_box", "share", "CorLoc of boxes drawn at random", "higher", "percent"),
                Metric("corloc_centre_box", "share", "CorLoc of the best centred box", "higher", "percent"),
            ),
        ),
        Measure(
            name="lost_settings",
            run="sweep:run",
            config=SweepConfig,
            reads=("manifest", "model"),
            axes={"centred": "boolean", "normalised": "boolean", "bias": "Float64"},
            metrics=(
                Metric(
                    "corloc_at_setting", "share", f"CorLoc of LOST under one setting: {CORLOC}", "higher", "percent"
                ),
                Metric(
                    "corloc_of_choice", "share", "CorLoc of LOST, setting chosen on other images", "higher", "percent"
                ),
            ),
            where=lambda params, model: params.settings("object_discovery").swept(params, model),
            resources=Resources(mem_mb=4000, gpu=True, runtime=240),
        ),
    ),
    tables=(
        Table(
            name="lost_corloc",
            draw="tables:lost_corloc",
            shows=("corloc", "corloc_random_box", "corloc_centre_box"),
            caption="CorLoc of LOST and of DINO-seg under every condition, on {{ dense_images }}; first, boxes that "
            "look at no image. {{ estimates }}",
            size="footnotesize",
            long=True,
        ),
        Table(
            name="lost_sweep",
            draw="tables:lost_sweep",
            shows=("corloc_of_choice",),
            caption="LOST under the setting chosen for each model: block, projection, what is done to similarities, "
            "and what is added to them. Chosen on: CorLoc on the images to choose on, which flatters; others: the rest "
            "of {{ dense_images }}; default there: the setting of all conditions on the same images; gain: their "
            "paired difference. {{ estimates }}",
            size="footnotesize",
            stacked=True,
        ),
        Table(
            name="lost_grid",
            draw="tables:lost_grid",
            shows=("corloc_at_setting",),
            caption="CorLoc of LOST of every model under every setting, on the images to choose on.",
            printed=False,
        ),
    ),
    figures=(
        Figure(
            name="lost_steps",
            draw="figures_steps:lost_steps",
            arrays=("object_discovery",),
            shows=("corloc", "artifacts_found"),
            caption="LOST on gallery images, in every model as it is{% if moved %} and, of those that "
            "neurons were moved in, with test-time registers{% endif %}: degree of every patch (dark: low, each map on "
            "its own scale from zero), seed (star) with the patches kept of the {{ settings.lost.k }} of lowest "
            "degree, mask, and its box (solid) with the true one (dashed). {{ pictures }}",
        ),
        Figure(
            name="lost_settings",
            draw="figures:lost_settings",
            shows=("corloc_at_setting",),
            caption="CorLoc of LOST under every setting, every model as it is, on the images to choose on. Rows: "
            "projection and block; columns: what is done to similarities and what is added to them. Star: the best.",
        ),
    ),
)
