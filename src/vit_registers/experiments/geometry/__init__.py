"""Geometry of patch features: how many dimensions they fill, and how far conditions move them (parodi2026)."""

from vit_registers.core.table import Metric
from vit_registers.experiments.geometry.params import Config, Geometry
from vit_registers.pipeline.experiment import Experiment, Figure, Measure, Scene, Table

POOLED = "of all patches of all images together; the mean over single images has an interval"
EXPERIMENT = Experiment(
    title="Geometry of patch features",
    order=25,
    params=Geometry,
    measures=(
        Measure(
            name="geometry",
            run="measure:run",
            config=Config,
            reads=("manifest", "conditions"),
            axes={"spectrum": "string"},
            images=True,
            arrays=True,
            metrics=(
                Metric(
                    "effective_rank",
                    "dimensions",
                    "exp of the entropy of the spectrum of an image's patches about their mean, mean over images",
                ),
                Metric(
                    "pooled_effective_rank",
                    "dimensions",
                    "the same of all patches of all dense images about their common mean",
                    exact=POOLED,
                ),
                Metric(
                    "intact_cosine",
                    "cosine",
                    "of patches after the final norm to the same patches of the model as it is, mean",
                ),
                Metric(
                    "attention_divergence",
                    "bits",
                    "Jensen-Shannon divergence of the attention of [CLS] from that in the model as it is, mean over "
                    "heads",
                    format="fine",
                ),
            ),
        ),
    ),
    tables=(
        Table(
            name="effective_rank",
            draw="tables:effective_rank",
            shows=("effective_rank", "pooled_effective_rank", "intact_cosine", "attention_divergence"),
            caption="How many dimensions patches after the final norm fill, on {{ dense_images }}: exp of the entropy "
            "of the singular values, and of the eigenvalues, of the patches about their mean, of every image by itself "
            "and of all images together. Cosine: of patches to those of the model as it is. Divergence: of "
            "the attention of [CLS] at the last block from that in the model as it is, in bits, where no tokens were "
            "appended. {{ estimates }}",
            size="scriptsize",
            long=True,
            stacked=True,
        ),
    ),
    figures=(
        Figure(
            name="attention_divergence",
            draw="figures_divergence:attention_divergence",
            shows=("attention_divergence",),
            caption="Jensen-Shannon divergence of the attention of [CLS], mean over heads, from that in the model as "
            "it is, block by block, on {{ dense_images }}: conditions that leave it as it is are left out. "
            "Intervals are shaded. The models with most conditions.",
        ),
        Figure(
            name="patch_components",
            draw="figures:patch_components",
            arrays=("geometry",),
            shows=("effective_rank",),
            caption="Patches of gallery images along their first three principal components as red, green and blue. "
            "Components and colour scale are those of the model as it is, fitted to all of its dense images; "
            "conditions are projected onto them, so that a colour means the same in a row and in a model. "
            "{{ pictures }}",
        ),
    ),
    scenes=(
        Scene(
            name="components",
            draw="scenes:components",
            title="Principal components of patches",
            arrays=("geometry",),
            shows=("effective_rank",),
            caption="Patches of gallery images along their first three principal components as red, green and blue, "
            "before and after an intervention. Components and colour scale are those of the model as it is.",
        ),
    ),
)
