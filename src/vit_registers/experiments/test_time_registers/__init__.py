"""Test-time registers (jiang2025, kukade2025): what other experiments measured before, after and in the controls."""

from vit_registers.pipeline.experiment import Experiment, Table

EXPERIMENT = Experiment(
    title="Test-time registers",
    order=32,
    tables=(
        Table(
            name="test_time_registers",
            draw="tables:test_time_registers",
            shows=(
                "artifacts_found",
                "norm_median",
                "norm_p99",
                "norm_max",
                "artifact_share",
                "attention",
                "corloc",
                "top1",
            ),
            caption="The models with artifacts under every condition, and the models of their controls: norms, "
            "artifacts and CorLoc on {{ dense_images }}, top-1 of the linear probe on [CLS] on all test images. "
            "Artifacts: patches above the threshold at the last block, and the share of the attention of [CLS] there "
            "that the patches take which are artifacts in the model as it is. {{ estimates }}",
            size="scriptsize",
        ),
        Table(
            name="register_sweep",
            draw="tables:register_sweep",
            shows=("norm_max", "corloc", "top1"),
            differences=True,
            caption="Number of test-time registers: the models with artifacts, with the neurons found moved to more "
            "and more appended tokens, each paired with its control (the clean model with as many appended zero tokens "
            "where the study names it). Norm and CorLoc on {{ dense_images }}, top-1 of the linear probe on [CLS] on "
            "all test images; largest: mean over images. {{ estimates }}",
            size="footnotesize",
        ),
        Table(
            name="test_time_classification",
            draw="tables:test_time_classification",
            shows=("top1",),
            differences=True,
            caption="Top-1 (%) of the linear probe on [CLS] for every model with appended zero tokens and with "
            "test-time registers, on the test split; the change is registers less zero tokens, paired over the same "
            "images. Heads are refitted to the features of each column; frozen head: the head fitted to the model "
            "as it is, on features with test-time registers. {{ estimates }}",
            size="footnotesize",
        ),
    ),
)
