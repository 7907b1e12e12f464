"""Emergence: whether artifacts arise while a model is trained, and where [CLS] and registers attend meanwhile."""

from vit_registers.core.table import Metric
from vit_registers.experiments.emergence.params import Config
from vit_registers.pipeline.experiment import Experiment, Figure, Measure, Table

ABOVE = "share of patches whose norm is above three times the median of their block"
LAST = "at the last block, after an epoch"
MONITORED = "monitored while training ran: the quantile of all these images is kept, not their norms"
CHOSEN = "the largest of many, chosen on the images that it is of: an interval around it would not hold"
EXPERIMENT = Experiment(
    title="Emergence during training",
    order=20,
    measures=(
        Measure(
            name="emergence",
            run="measure:run",
            config=Config,
            reads=("training",),
            per=("model",),
            arrays=True,
            where=lambda params, model: params.models[model].step == "train",
            metrics=(
                Metric(
                    "training_loss",
                    "cross-entropy",
                    "training loss, mean over the steps (n) of an epoch",
                    "lower",
                    exact="over all steps of the epoch: there is no sample",
                ),
                Metric("training_norm_median", "L2 norm", "median patch norm after an epoch", exact=MONITORED),
                Metric(
                    "training_norm_p99", "L2 norm", "99th percentile of patch norms after an epoch", exact=MONITORED
                ),
                Metric(
                    "training_norm_max",
                    "L2 norm",
                    "mean over images of the largest patch norm after an epoch",
                ),
                Metric("training_share_above", "share", f"{ABOVE}, after an epoch", format="percent"),
                Metric("training_register_cosine", "cosine", f"cosine of the maps of two registers, {LAST}"),
                Metric("training_cls_register_cosine", "cosine", f"cosine of the maps of [CLS] and registers, {LAST}"),
                Metric("training_share_above_peak", "share", f"largest {ABOVE}", format="percent", exact=CHOSEN),
                Metric(
                    "training_norm_ratio_peak",
                    "medians",
                    "largest norm over the median of a block, at its largest",
                    exact=CHOSEN,
                ),
                Metric("training_share_above_last", "share", f"{ABOVE}, at the end", format="percent", exact=CHOSEN),
                Metric(
                    "training_parameters",
                    "parameters",
                    "number of parameters of the model",
                    format="whole",
                    exact="counted: nothing is estimated",
                ),
                Metric(
                    "training_epochs",
                    "epochs",
                    "number of epochs that the training took",
                    format="whole",
                    exact="counted: nothing is estimated",
                ),
                Metric("training_top1", "share", "top-1 of the trained head on test images", "higher", "percent", True),
            ),
        ),
    ),
    tables=(
        Table(
            name="emergence",
            draw="tables:emergence",
            shows=(
                "training_parameters",
                "training_epochs",
                "training_top1",
                "training_norm_ratio_peak",
                "training_share_above_peak",
                "training_share_above_last",
            ),
            caption="Whether artifacts arose at any time while a model was trained, on images of the test split: "
            "the mean over images of the largest norm over the median of a block, and the share of patches above "
            "three medians, each where it is largest over all epochs and blocks (counted from 0), and the latter "
            "after the last epoch over all blocks. The largest was chosen among many, which flatters. All epochs "
            "and blocks are in emergence_grid.csv. Top-1: of the head that was trained. {{ estimates }}",
            size="scriptsize",
            when="trained",
            stacked=True,
        ),
        Table(
            name="emergence_grid",
            draw="tables:emergence_grid",
            shows=("training_share_above", "training_norm_median", "training_norm_p99", "training_norm_max"),
            caption="Patch norms of every training after every epoch at every block.",
            printed=False,
        ),
    ),
    figures=(
        Figure(
            name="norms_by_epoch",
            draw="figures:norms_by_epoch",
            shows=("training_norm_median", "training_norm_p99", "training_norm_max"),
            when="trained",
            caption="L2 norms of patch tokens at the output of the last block after every epoch of training: "
            "median, 99th percentile over all patches, and the mean over images of the largest, on images of the "
            "test split.",
        ),
        Figure(
            name="register_cosine_by_epoch",
            draw="figures:register_cosine_by_epoch",
            shows=("training_register_cosine", "training_cls_register_cosine"),
            when="trained",
            caption="How similar the attention of registers is while models are trained: cosine of attention maps "
            "over the patches at the last block after every epoch, mean over the monitored images, band: the "
            "{{ interval }} over these. Left: between registers, all pairs; right: between [CLS] and registers "
            "(dashed).",
        ),
        Figure(
            name="attention_by_epoch",
            draw="figures_attention:attention_by_epoch",
            shows=("training_epochs",),
            arrays=("emergence",),
            when="trained",
            caption="Where [CLS] and registers attend on single test images while models are trained: attention "
            "over the patches at the last block after every epoch, without registers and with. Maps of one token on "
            "one image share a scale from zero; of many registers and epochs some are shown.",
        ),
        Figure(
            name="focus_by_epoch",
            draw="figures_attention:focus_by_epoch",
            shows=("training_epochs",),
            arrays=("emergence",),
            when="trained",
            caption="Attention of [CLS] and registers over the patches after every epoch, mean over all monitored "
            "images: positions that a token attends to whatever the image shows. Maps of one token share a scale "
            "from zero.",
        ),
    ),
)
