"""Register neurons: what detection found in a model, and whether other data sets find the same (jiang2025)."""

from vit_registers.core.table import Metric
from vit_registers.experiments.register_neurons.params import Config
from vit_registers.pipeline.experiment import Experiment, Measure, Table

YES = "yes: 1, no: 0"
FOUND = (
    "artifacts_found",
    "detection_threshold",
    "detected_artifact_share",
    "outlier_layer",
    "input_height",
    "input_width",
)
CERTAIN = "a fact of the model or of the settings: nothing is estimated"
RULE = "what the rule gives on all images; how sure it is says the interval of the share above it"
RANKING = "how sure the ranking is say neuron_stability and neuron_frequency"
# Random neurons would be a null that every model beats: active neurons are active on any picture.
OVERLAP = "of one model's neurons: no interval, and no p, since the same few neurons lead on any two sets of pictures"
NEURONS = ("neuron_rank", "neuron_score", "neuron_frequency", "neuron_planted")
EXPERIMENT = Experiment(
    title="Artifacts and register neurons",
    order=10,
    measures=(
        Measure(
            name="register_neurons",
            run="measure:run",
            config=Config,
            reads=("registers", "model"),
            per=("model",),
            axes={"found_on": "string"},
            where=lambda params, model: any(model == name for _, name in params.detected_pairs()),
            metrics=(
                Metric(
                    "artifacts_found", YES, "whether enough patches exceed the threshold", format="whole", exact=CERTAIN
                ),
                Metric("detection_threshold", "L2 norm", "norm above which a patch is an outlier", exact=RULE),
                Metric(
                    "detected_artifact_share",
                    "share",
                    "patches above the threshold at the outlier layer",
                    format="percent",
                    headline=True,
                ),
                Metric("images_affected", "share", "images with an artifact", format="percent"),
                Metric(
                    "outlier_layer", "block", "block whose output norms tell outliers", format="whole", exact=CERTAIN
                ),
                Metric("input_height", "pixels", "height of the input of detection", format="whole", exact=CERTAIN),
                Metric("input_width", "pixels", "width of the input of detection", format="whole", exact=CERTAIN),
                Metric(
                    "highest_ranked_layer",
                    "block",
                    "last block whose neurons are ranked",
                    format="whole",
                    exact=CERTAIN,
                ),
                Metric("parameters", "parameters", "size of the model", format="whole", exact=CERTAIN),
                Metric(
                    "artifact_share_by_layer",
                    "share",
                    "patches at a block above the threshold of that block",
                    format="percent",
                    exact="its interval is with artifact_share, which is of the same patches",
                ),
                Metric(
                    "embedded_artifacts",
                    "share",
                    "artifacts whose patch embedding is one already, by the same rule; mean over images that have some",
                    format="percent",
                ),
                Metric("first_artifact_layer", "block", "first block with enough of them", format="whole", exact=RULE),
                Metric(
                    "neuron_stability",
                    "share",
                    "overlap of the first neurons with those of resamples of the images, mean",
                    "higher",
                    "percent",
                    exact="is itself over resamples of the images",
                ),
                Metric(
                    "neuron_next_ratio",
                    "ratio",
                    "score of the last neuron taken over that of the next",
                    exact=RANKING,
                ),
                Metric(
                    "neuron_precision",
                    "share",
                    "neurons taken that are planted",
                    "higher",
                    "percent",
                    headline=True,
                ),
                Metric(
                    "neuron_recall",
                    "share",
                    "planted neurons that are taken",
                    "higher",
                    "percent",
                    headline=True,
                ),
                Metric(
                    "neuron_rank",
                    "rank",
                    "rank of a neuron on the data set, from 1, of those that are first on found_on",
                    format="whole",
                    exact=RANKING,
                ),
                Metric(
                    "neuron_score",
                    "score",
                    "what neurons are ranked by, as detection.score says",
                    exact=RANKING,
                ),
                Metric(
                    "neuron_frequency",
                    "share",
                    "resamples of the images in which a neuron is among the first",
                    format="percent",
                    exact="is itself over resamples of the images",
                ),
                Metric(
                    "neuron_planted",
                    YES,
                    "whether the pipeline made it a register neuron",
                    format="whole",
                    exact=CERTAIN,
                ),
                Metric(
                    "neuron_overlap",
                    "share",
                    "neurons taken on found_on that are taken on the data set too; n counts neurons",
                    "higher",
                    "percent",
                    exact=OVERLAP,
                ),
            ),
        ),
    ),
    tables=(
        Table(
            name="artifacts",
            draw="tables:artifacts",
            shows=(
                *FOUND,
                "images_affected",
                "embedded_artifacts",
                "neuron_precision",
                "neuron_recall",
                "top1",
                "corloc",
            ),
            caption="The models as they are, those with artifacts first. Images: those with an artifact; embedded: "
            "artifacts that are there in the patch embedding already; precision and recall of the neurons found where "
            "the true ones are known; top-1 of a linear probe on [CLS] and CorLoc of LOST on test images. Detection "
            "looks at {{ detection_images }}. Intervals are in the tables of the appendix.",
            size="footnotesize",
            place="body",
            most=16,
        ),
        Table(
            name="detection",
            draw="tables:detection",
            shows=(
                *FOUND,
                "images_affected",
                "first_artifact_layer",
                "embedded_artifacts",
                "highest_ranked_layer",
                "neuron_precision",
                "neuron_recall",
                "neuron_stability",
                "neuron_next_ratio",
            ),
            caption="Artifact patches and register neurons of every model as it is, on {{ detection_images }}, on "
            "which nothing else is measured unless the study says so. Patches are artifacts by their norm at the "
            "output of block At (counted from 0); First: the first block whose output has them. The input size and "
            "the last block whose neurons were ranked are in the CSV. Images: those with an artifact. "
            "Embedded: artifacts that are there in the patch embedding already, which no neuron makes. "
            "Precision and recall of the first {{ top_k }} neurons where the true ones are known; stability under "
            "resampling of the images; score of the last neuron taken over that of the next. Brackets hold the "
            "{{ interval }} over these images, for one planting each.",
            size="scriptsize",
            stacked=True,
            long=True,
        ),
        Table(
            name="neurons",
            draw="tables:neurons",
            shows=NEURONS,
            caption="The neurons behind the artifacts: as many as detection takes, and as many that follow in rank. "
            "Score: {{ score }}. Frequency among the first over bootstrap resamples of "
            "the images; planted: whether the pipeline made it a register neuron. The rank on other data sets is "
            "among all neurons of the same model there.",
            size="footnotesize",
            long=True,
        ),
        Table(
            name="neuron_overlap",
            draw="tables:neuron_overlap",
            shows=("neuron_overlap",),
            caption="Share of the neurons that detection takes on one data set that it takes on another too. No p: "
            "a set of random neurons is a null that any model beats, and where the second data set has the same "
            "pictures (without colour) and a planted model its tag in the position embedding, an overlap of 1 holds by "
            "construction.",
        ),
        Table(
            name="natural_models",
            draw="tables:natural_models",
            shows=("norm_median", "norm_p99", "norm_max", *FOUND),
            caption="Patch norms at the output of the last block of the models that nothing was planted in, as they "
            "are, on {{ dense_images }}; largest: mean over images of the largest norm. Threshold, share and verdict "
            "are those of detection at the output of block At, on {{ detection_images }}. Brackets hold the "
            "{{ interval }}.",
            size="footnotesize",
            when="natural",
            stacked=True,
            long=True,
        ),
    ),
)
