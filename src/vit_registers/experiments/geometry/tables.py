"""The table of effective ranks."""

from vit_registers.views.columns import CONDITION, KEYS, MODEL, by_condition
from vit_registers.views.study import Study
from vit_registers.views.table import Column, Table

ONE, ALL = "Each image", "All images"
COLUMNS = (
    Column("rank", "Singular values", "effective_rank", {"spectrum": "singular values"}, group=ONE),
    Column("rank_eigenvalues", "Eigenvalues", "effective_rank", {"spectrum": "eigenvalues"}, group=ONE),
    Column("pooled", "Singular values", "pooled_effective_rank", {"spectrum": "singular values"}, group=ALL),
    Column("pooled_eigenvalues", "Eigenvalues", "pooled_effective_rank", {"spectrum": "eigenvalues"}, group=ALL),
    Column("intact_cosine", "Cosine to the model as it is", "intact_cosine"),
    Column("divergence", "Divergence of attention", "attention_divergence"),
)


def effective_rank(study: Study) -> Table:
    """Every model under every condition."""
    table = Table([MODEL, CONDITION, *COLUMNS], KEYS, empty="no patches were kept", heading=MODEL.key)
    return by_condition(study, table)
