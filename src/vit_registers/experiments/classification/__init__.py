"""Classification: the class of an image by linear heads and nearest neighbours on cached features, by condition."""

from vit_registers.core.table import Metric
from vit_registers.experiments.classification.params import Classification, Config
from vit_registers.pipeline.experiment import Experiment, Measure, Table

MACRO = "mean over the classes that occur as target or prediction"
EXPERIMENT = Experiment(
    title="Classification",
    order=45,
    params=Classification,
    measures=(
        Measure(
            name="classification",
            run="measure:run",
            config=Config,
            reads=("manifest", "conditions"),
            images=True,
            axes={"blocks": "Int64", "with_mean_patch": "boolean", "lr": "Float64"},
            metrics=(
                Metric("top1", "share", "test images whose most likely class is right", "higher", "percent", True),
                Metric("top3", "share", "test images whose target is among the first three", "higher", "percent"),
                Metric("macro_precision", "share", f"precision, {MACRO}", "higher", "percent"),
                Metric("macro_recall", "share", f"recall, {MACRO}", "higher", "percent"),
                Metric("macro_f1", "share", f"F1, {MACRO}", "higher", "percent"),
                Metric("auc", "share", "area under the ROC curve of one class against the rest, mean", "higher"),
            ),
        ),
    ),
    tables=(
        Table(
            name="probe",
            draw="tables:probe",
            shows=("top1", "top3", "macro_f1", "macro_precision", "macro_recall", "auc"),
            caption="Linear probe (average over {{ settings.probe.seeds | length }} "
            "{{ 'seed' if settings.probe.seeds | length == 1 else 'seeds' }}) and nearest neighbours under every "
            "condition, on the test split; appended: the mean of the appended tokens. Heads that were fitted to the "
            "baseline of the same model and frozen, [CLS] joined with the mean patch, accuracy among the best three, "
            "macro precision, recall and F-score, and one-vs-rest AUC are in the CSV of this table. {{ estimates }}",
            size="scriptsize",
            long=True,
            stacked=True,
        ),
    ),
)
