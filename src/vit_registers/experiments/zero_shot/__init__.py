"""Zero-shot classification: cached [CLS] against the names of classes in OpenCLIP's text tower (darcet2024)."""

from vit_registers.core.table import Metric
from vit_registers.experiments.zero_shot.params import Config, ZeroShot
from vit_registers.pipeline.experiment import Experiment, Measure, Resources, Table

MACRO = "mean over the classes that occur as target or prediction"
EXPERIMENT = Experiment(
    title="Zero-shot classification",
    order=65,
    params=ZeroShot,
    measures=(
        Measure(
            name="zero_shot",
            run="measure:run",
            config=Config,
            reads=("manifest", "conditions", "model"),
            images=True,
            where=lambda params, model: params.models[model].has_text_tower,
            metrics=(
                Metric("zero_shot_top1", "share", "test images whose closest name is right", "higher", "percent", True),
                Metric("zero_shot_top3", "share", "test images, target among the 3 closest", "higher", "percent"),
                Metric("zero_shot_macro_precision", "share", f"precision, {MACRO}", "higher", "percent"),
                Metric("zero_shot_macro_recall", "share", f"recall, {MACRO}", "higher", "percent"),
                Metric("zero_shot_macro_f1", "share", f"F1, {MACRO}", "higher", "percent"),
                Metric(
                    "zero_shot_auc", "share", "area under the ROC curve of a class against the rest, mean", "higher"
                ),
            ),
            resources=Resources(mem_mb=4000, gpu=True),
        ),
    ),
    tables=(
        Table(
            name="zero_shot",
            draw="tables:zero_shot",
            shows=("zero_shot_top1", "zero_shot_top3"),
            caption="Zero-shot classification by the text tower of the model, under every condition, on the test "
            "split. {{ estimates }}",
            size="footnotesize",
        ),
    ),
)
