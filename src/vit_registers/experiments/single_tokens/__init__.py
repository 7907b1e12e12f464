"""What single tokens know: position, pixels and class, outlier patches against normal ones (darcet2024, bach2025)."""

from vit_registers.core.table import Metric
from vit_registers.experiments.single_tokens.params import Config, SingleTokens
from vit_registers.pipeline.experiment import Experiment, Measure, Table

PIXELS = "error of reconstructing the pixels of a patch from its token"
EXPERIMENT = Experiment(
    title="What outlier tokens know",
    order=30,
    params=SingleTokens,
    measures=(
        Measure(
            name="single_tokens",
            run="measure:run",
            config=Config,
            reads=("manifest", "baseline", "registers"),
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
                Metric("reconstruction_linear", "mean squared error", f"{PIXELS}, by least squares"),
                Metric("reconstruction_mlp", "mean squared error", f"{PIXELS}, by an MLP"),
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
                "reconstruction_linear",
                "reconstruction_mlp",
            ),
            caption="Outlier against normal patches of every model as it is, on {{ dense_images }}: probes are trained "
            "on one half of the images and tested on the other. Distances are between the position predicted and the "
            "true one on the grid; errors are in normalised pixels. Differences are within images that have both "
            "kinds; their p is from a sign-flip test over images. {{ estimates }}",
            size="scriptsize",
            long=True,
        ),
        Table(
            name="token_classification",
            draw="tables:token_classification",
            shows=("outliers_are_artifacts", "token_class_top1", "token_class_top1_sd"),
            caption="Class of the image from one token of it: [CLS], one register, one outlier and one normal patch "
            "drawn at random; logistic regression, mean over {{ settings.seeds | length }} "
            "{{ 'draw' if settings.seeds | length == 1 else 'draws' }}. Images without both kinds of patches are left "
            "out. {{ estimates }}",
            size="footnotesize",
        ),
    ),
)
