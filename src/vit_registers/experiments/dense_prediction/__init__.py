"""Dense prediction: the class and the depth of every pixel, by linear heads on patch tokens (darcet2024, oquab2024)."""

from vit_registers.core.table import Metric
from vit_registers.experiments.dense_prediction.params import Config, DensePrediction
from vit_registers.pipeline.experiment import Experiment, Measure, Table

EXPERIMENT = Experiment(
    title="Segmentation and depth",
    order=60,
    params=DensePrediction,
    measures=(
        Measure(
            name="dense_prediction",
            run="measure:run",
            config=Config,
            reads=("manifest", "conditions"),
            images=True,
            pooled=True,
            metrics=(
                Metric(
                    "miou",
                    "share",
                    "mean intersection over union over classes, of the pixels of all test images together",
                    "higher",
                    "percent",
                    headline=True,
                ),
                Metric("pixel_accuracy", "share", "share of pixels whose class is right", "higher", "percent"),
                Metric(
                    "rmse",
                    "depth",
                    "root mean squared error over the pixels of all test images; 1 is the largest depth of a map",
                    "lower",
                    "fine",
                    headline=True,
                ),
                Metric(
                    "rmse_metres",
                    "metres",
                    "root mean squared error over the pixels of all test images whose depth is in the range of the "
                    "data set, where that is known in metres; predictions are clipped to the range",
                    "lower",
                    "fine",
                    headline=True,
                ),
            ),
        ),
    ),
    tables=(
        Table(
            name="dense_prediction",
            draw="tables:dense_prediction",
            shows=("miou", "pixel_accuracy", "rmse", "rmse_metres"),
            caption="Segmentation and depth by linear heads on patch tokens under every condition, on the test part "
            "of {{ dense_images }}. Refitted: heads fitted to the tokens of the condition; frozen: those of the "
            "model as it is. Higher mIoU and lower RMSE are better. Pixel accuracy is in the CSV of this table. "
            "{{ estimates }}",
            size="footnotesize",
            long=True,
            stacked=True,
        ),
    ),
)
