"""The table of recall@1."""

from vit_registers.views.columns import CONDITION, KEYS, MODEL, by_condition
from vit_registers.views.study import Study
from vit_registers.views.table import Column, Table

FEATURES = (("cls", "[CLS]"), ("patch_mean", "Mean patch"))
GALLERIES = (("recall_at_1", "Same"), ("recall_at_1_intact", "As it is"))
COLUMNS = tuple(
    Column(f"{feature}_{metric}", title, metric, {"feature": feature}, group=group)
    for feature, group in FEATURES
    for metric, title in GALLERIES
)


def retrieval(study: Study) -> Table:
    """Every model under every condition."""
    return by_condition(study, Table([MODEL, CONDITION, *COLUMNS], KEYS, empty="retrieval was not run"))
