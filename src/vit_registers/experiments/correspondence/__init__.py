"""Correspondence: do patches find the place that they show in another image (parodi2026)? No head is fitted."""

from vit_registers.core.table import Metric
from vit_registers.experiments.correspondence.params import Config, Correspondence
from vit_registers.pipeline.experiment import Experiment, Figure, Measure, Table

SECOND_VIEW = "patches of an image whose nearest patch, by cosine, of its second view holds their centre"
KEYPOINT = "keypoints of an image whose nearest patch, by cosine, in another image of the class is near the same one"


def _share(name: str, meaning: str) -> Metric:
    return Metric(name, "share", f"{meaning}; mean over images", "higher", "percent")


EXPERIMENT = Experiment(
    title="Correspondence",
    order=48,
    params=Correspondence,
    measures=(
        Measure(
            name="correspondence",
            run="measure:run",
            config=Config,
            reads=("manifest", "pairs"),
            axes={"baseline": "string"},
            images=True,
            metrics=(
                _share("correspondence", SECOND_VIEW),
                _share("block_correspondence", f"{SECOND_VIEW}, of patches as a block leaves them"),
                _share("correspondence_baseline", f"{SECOND_VIEW}, found without a model"),
                Metric("correspondence_points", "patches", "patches of an image that its second view shows, mean"),
                _share("pck", KEYPOINT),
                _share("block_pck", f"{KEYPOINT}, of patches as a block leaves them"),
                _share("pck_baseline", f"{KEYPOINT}, found without a model"),
                Metric("pck_points", "keypoints", "keypoints of an image that are sought in others, mean"),
            ),
        ),
    ),
    tables=(
        Table(
            name="correspondence",
            draw="tables:correspondence",
            shows=("correspondence", "correspondence_baseline", "pck", "pck_baseline"),
            caption="Patches that find the place they show: those of an image whose nearest patch, by cosine, of its "
            "second view holds their centre, all and by what they show (half or more of a patch: object); keypoints "
            "(PCK, where the data set has some): those whose nearest patch in another image of the class is near the "
            "same keypoint. Without a model: the nearest patch by the distance of raw pixels, the patch at the same "
            "place, and chance. {{ estimates }}",
            size="scriptsize",
            long=True,
            stacked=True,
        ),
    ),
    figures=(
        Figure(
            name="correspondence_by_layer",
            draw="figures:correspondence_by_layer",
            shows=("block_correspondence", "correspondence_baseline"),
            caption="Patches whose nearest patch of the second view holds their centre, by block, of models as they "
            "are; with the {{ interval }}. Dotted: the nearest patch by raw pixels.",
            when="patchlayers",
        ),
    ),
)
