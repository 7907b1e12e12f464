"""The table of what models with artifacts need: their own head, their patches and CorLoc under every condition."""

from vit_registers.params.condition import BASELINE
from vit_registers.views.columns import CONDITION, CORLOC, KEYS, MODEL, difference, row_of, shown
from vit_registers.views.study import Condition, Study
from vit_registers.views.table import Column, Table

OWN_HEAD = Column("own_head_top1", "Value", "own_head_top1", {"head": "own"}, group="Own head, top-1 (%)")
COSINE = "Cosine of patches"
AT_ARTIFACTS = Column("cosine_artifacts", "Artifacts", "patch_cosine", {"group": "artifacts"}, group=COSINE)
EVERYWHERE = Column("cosine_patches", "All", "patch_cosine", {"group": "patches"}, group=COSINE)
FOUND = shown(CORLOC, "Value", group="CorLoc (%)")
CHANGES = (
    (OWN_HEAD, Column("own_head_change", "Change", signed=True, group=OWN_HEAD.group)),
    (FOUND, Column("corloc_change", "Change", signed=True, group=FOUND.group)),
)


def base(study: Study, before: Condition) -> Condition | None:
    """The model that another was planted into, as it is, where the study has it."""
    found = Condition(before.dataset, study.plan.bases.get(before.model, ""))
    return found if found in study.baselines else None


def planted(study: Study) -> list[Condition]:
    """Planted models, as they are, whose base the study has as well."""
    measured = [c for c in study.baselines if study.has(c, "patch_cosine", group="artifacts")]
    return [c for c in measured if base(study, c) is not None]


def natural(study: Study) -> list[Condition]:
    """Models that have artifacts though nothing was planted in them, as they are, whose own head was asked."""
    asked = [c for c in study.with_artifacts if study.has(c, "own_head_top1")]
    return [c for c in asked if study.is_natural(c.model)]


def needed_registers(study: Study) -> Table:
    """Every model with artifacts under every condition, below the model that was planted into where there is one."""
    columns = [MODEL, CONDITION, OWN_HEAD, CHANGES[0][1], AT_ARTIFACTS, EVERYWHERE, FOUND, CHANGES[1][1]]
    table = Table(columns, KEYS, empty="no model of this study has artifacts and a head of its own", heading=MODEL.key)
    for before in [*planted(study), *natural(study)]:
        ceiling = base(study, before)
        if ceiling is not None:
            table.add(row_of(study, ceiling, columns), rule=True)
        for condition in study.of(before.dataset, before.model):
            first = condition.name == BASELINE
            row = row_of(study, condition, columns, first)
            control = study.control(condition)
            if control is not None:
                row |= {change.key: difference(study, condition, control, of) for of, change in CHANGES}
            table.add(row, rule=first)
    return table
