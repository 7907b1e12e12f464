"""What single tokens know: position, pixels and class, outlier patches against normal ones (darcet2024, bach2025)."""

from vit_registers.core.table import Metric
from vit_registers.experiments.single_tokens.params import Config, SingleTokens
from vit_registers.pipeline.experiment import Experiment, Figure, Measure, Resources, Table

PIXELS = "reconstructing the pixels of a patch from its token"
LINEAR, MLP = "by least squares", "by an MLP"
EXPERIMENT = Experiment(
    title="What outlier tokens know",
    order=30,
    params=SingleTokens,
    measures=(
        Measure(
            name="single_tokens",
            run="measure:run",
            config=Config,
            reads=("manifest", "baseline", "reference", "registers"),
            arrays=True,
            resources=Resources(mem_mb=8000),
            axes={"probe": "string"},
            metrics=(
                Metric("outlier_patch_share", "share", "patches that count as outliers here", format="percent"),
                Metric(
                    "outliers_are_artifacts",
                    "1 for yes",
                    "whether these are artifacts",
                    format="whole",
                    exact="what detection decided",
                ),
                Metric("neighbour_cosine", "cosine", "of a patch embedding and those beside it, mean"),
                Metric("position_top1", "share", "patches whose position is read from their token", None, "percent"),
                Metric("position_l1", "patches", "steps on the grid from the position predicted to the true one"),
                Metric("position_l2", "patches", "distance of the position predicted from the true one"),
                *(
                    metric
                    for name, how in (("reconstruction_linear", LINEAR), ("reconstruction_mlp", MLP))
                    for metric in (
                        Metric(name, "mean squared error", f"error of {PIXELS}, {how}", format="fine"),
                        Metric(f"{name}_l2", "L2 norm", f"norm of the errors of a patch in {PIXELS}, {how}"),
                        Metric(
                            f"{name}_r2",
                            "share",
                            f"variance explained in {PIXELS}, {how}, about the mean of the group",
                            format="percent",
                        ),
                    )
                ),
                Metric(
                    "token_class_top1", "share", "images classified right from one of their tokens", None, "percent"
                ),
                Metric(
                    "token_class_top1_sd",
                    "share",
                    "standard deviation of that over draws of tokens",
                    None,
                    "percent",
                    exact="is itself the spread over draws of tokens",
                ),
            ),
        ),
    ),
    tables=(
        Table(
            name="local_information",
            draw="tables:local_information",
            shows=(
                "outliers_are_artifacts",
                "neighbour_cosine",
                "position_top1",
                "position_l2",
                "reconstruction_linear_l2",
                "reconstruction_linear_r2",
                "reconstruction_mlp_l2",
                "reconstruction_mlp_r2",
            ),
            caption="Outlier patches (artifacts, or the largest norms where there are none) against normal ones, of "
            "every model as it is, on {{ dense_images }}. Pooled: one probe for all tokens, as published; own: a probe "
            "for outlier tokens, and one for as many normal ones; cosines need none. Matched: "
            "the same patches in the model that this one was made from, by its probes. Distances are between the "
            "position predicted and the true one on the grid; errors are in normalised pixels, and the variance "
            "explained is that about the mean of the group. Differences are within images that have both kinds; their "
            "p is from a sign-flip test over images. {{ estimates }}",
            size="scriptsize",
            long=True,
            stacked=True,
        ),
        Table(
            name="token_classification",
            draw="tables:token_classification",
            shows=("outliers_are_artifacts", "token_class_top1", "token_class_top1_sd"),
            caption="Class of the image from one token of it: [CLS], one register, the patch of the largest norm and "
            "another one; then, of images that have both, an outlier and a normal patch. Tokens are drawn at random "
            "where an image has several; logistic regression, mean over {{ settings.seeds | length }} "
            "{{ 'draw' if settings.seeds | length == 1 else 'draws' }}. Intervals that are not printed are in the CSV. "
            "{{ estimates }}",
            size="scriptsize",
            stacked=True,
        ),
    ),
    figures=(
        Figure(
            name="neighbour_cosines",
            draw="figures:neighbour_cosines",
            arrays=("single_tokens",),
            shows=("neighbour_cosine", "outliers_are_artifacts"),
            caption="How alike patches are to their neighbours before the first block, in every model as it is, on "
            "{{ dense_images }}: cosines of patch embeddings with those above, below, left and right, of outlier "
            "patches and of normal ones, share of the pairs of each kind per bin, logarithmic; triangles: their means. "
            "Outliers: artifacts, or the largest norms where there are none. All panels share one scale.",
        ),
    ),
)
