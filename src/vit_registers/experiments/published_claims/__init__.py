"""What the papers claim, and what this study says of it: a verdict for every claim of the ledger.

Nothing is measured here. A claim is held against a number of this study only where params say that a model of the
study stands for the paper's (``study.stands_for``); rows of other models never count.
"""

from vit_registers.claims import queries
from vit_registers.experiments.published_claims.params import PublishedClaims
from vit_registers.pipeline.experiment import Experiment, Scene, Table

DATA = ("claims/ledger.yaml", "claims/queries.yaml", "claims/published/parodi2026.json")
SHOWS = queries.metrics()

EXPERIMENT = Experiment(
    title="Published claims",
    order=900,
    params=PublishedClaims,
    tables=(
        Table(
            name="claims_by_paper",
            place="body",
            size="footnotesize",
            draw="tables:by_paper",
            shows=SHOWS,
            data=DATA,
            differences=True,
            caption="Verdicts on the claims of the ledger, by paper. Reproduced, contradicted and inconclusive are "
            "claims that a number of this study was held against (inconclusive: the {{ interval }} allows both), or "
            "that published numbers alone decide. Not run: this study has no such model, data set or condition. Not "
            "testable: procedures and statements without a number.",
        ),
        Table(
            name="claims_judged",
            draw="tables:judged",
            shows=SHOWS,
            data=DATA,
            differences=True,
            caption="Claims that a number of this study was held against. Published numbers are in their own unit, "
            "with the tolerance that was stated before; ours with the {{ interval }} over test images.",
            size="footnotesize",
            long=True,
        ),
        Table(
            name="claims_errata",
            draw="tables:claims_errata",
            data=DATA,
            caption="Claims against which published numbers or passages speak, or which these leave open, with the "
            "computation. No model was run for this.",
            size="footnotesize",
            long=True,
        ),
        Table(
            name="claims",
            draw="tables:claims",
            shows=SHOWS,
            data=DATA,
            differences=True,
            caption="Every claim of the ledger with its verdict and the reason.",
            printed=False,
        ),
    ),
    scenes=(
        Scene(
            name="claims_and_verdicts",
            draw="scenes:claims_and_verdicts",
            title="Published claims and their verdicts",
            shows=SHOWS,
            data=DATA,
            differences=True,
            caption="Every claim of the ledger with its verdict. Open one to see what the verdict rests on: a number "
            "of this study, or the computation on published numbers.",
        ),
    ),
)
