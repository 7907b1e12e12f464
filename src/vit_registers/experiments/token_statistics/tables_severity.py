"""Tables of how severe artifacts are in every model, and of medians by kind of token, as kukade2025 reports them."""

from collections.abc import Iterator

from vit_registers.views.columns import CONDITION, KEYS, MODEL, row_of, shown
from vit_registers.views.study import Condition, Study
from vit_registers.views.table import Cell, Column, Table

NORM, PEAK = "Largest patch norm", "Most attention of [CLS] on one patch"
BLOCK = Column("block", "Block", alignment="r")
KINDS = {"patches": "patches", "registers": "registers", "appended": "appended tokens"}
# How a linear probe is fitted and what it reads: [CLS] where a model has one.
HEADS = [(head, feature) for head in ("refitted", "frozen") for feature in ("cls", "patch_mean")]
EMPTY = "the tokens of no model were measured"


def _repairs(study: Study, before: Condition) -> list[Condition]:
    """Conditions that show what test-time registers take away: as many zero tokens, the neurons cleared, the registers.

    In the order of params; zero tokens only in the numbers of registers.
    """
    moved = [c for c in study.treatments(before.dataset, before.model) if study.is_test_time_registers(c)]
    zero = [study.same_model_control(c) for c in moved]
    return [c for c in study.of(before.dataset, before.model) if c in moved or c in zero or study.is_cleared(c)]


def severity(study: Study) -> Table:
    """Every model as it is; below those that neurons were moved in, what is left and how much is gone.

    Beside it the change of accuracy, against the same model with as many zero tokens: the baseline of kukade2025.
    """
    columns = [
        MODEL,
        CONDITION,
        Column("norm_peak", "L2 norm", "norm_peak", group=NORM),
        Column("norm_ratio_peak", "Medians", "norm_ratio_peak", group=NORM),
        Column("norm_reduction", "Gone (%)", "norm_reduction", group=NORM),
        Column("attention_peak", "Share (%)", "attention_peak", group=PEAK),
        Column("attention_reduction", "Gone (%)", "attention_reduction", group=PEAK),
        shown(BLOCK, "Block", key="attention_peak_layer", group=PEAK),
        Column("on_artifacts", "[CLS] on artifacts, last block (%)"),
        Column("top1_change", "Top-1 against zero tokens (points)", signed=True),
        shown(BLOCK, "Block of the norm", key="norm_peak_layer", printed=False),
    ]
    table = Table(columns, KEYS, empty=EMPTY, heading=MODEL.key)
    for before in study.baselines:
        if study.estimate(before, "norm_peak").value is None:
            continue
        for condition in [before, *(_repairs(study, before) if before in study.with_artifacts else [])]:
            row = row_of(study, condition, columns, condition == before)
            for name in ("norm_peak", "attention_peak"):
                at = study.rows_of(condition, name)["layer"].dropna()
                row[f"{name}_layer"] = None if at.empty else int(at.iloc[0])
            if study.found(before):
                row["on_artifacts"] = study.estimate(condition, "attention", group="cls", target="artifacts")
            table.add(row | {"top1_change": _change(study, condition)}, rule=condition == before)
    return table


def _change(study: Study, condition: Condition) -> Cell:
    """The change of accuracy by test-time registers: of the first of :data:`HEADS` that was measured."""
    control = study.same_model_control(condition) if study.is_test_time_registers(condition) else None
    if control is None:
        return None
    changes = [study.estimate(condition, "top1", control, head=head, feature=feature) for head, feature in HEADS]
    return next((change for change in changes if change.value is not None), None)


def _with_registers(study: Study) -> Iterator[Condition]:
    """Models with trained registers as they are; of those that neurons were moved in, also what these show."""
    for before in study.baselines:
        if before in study.with_artifacts:
            yield from [before, *(c for c in _repairs(study, before) if not study.is_cleared(c))]
        elif study.estimate(before, "token_norm_median", group="registers").value is not None:
            yield before


def token_medians(study: Study) -> Table:
    """Patches against registers, of models and conditions that have some (Figures 5 and 6 of kukade2025).

    A row for each kind of token: their statistics, and the share of attention that the tables here report.
    """
    columns = [
        MODEL,
        CONDITION,
        Column("kind", "Tokens"),
        Column("norm", "Median L2 norm"),
        Column("in_any_head", "Largest attention in any head (%), median"),
        Column("attention", "All attention on them (%), mean"),
    ]
    table = Table(columns, KEYS, empty="no model of this study has registers or appended tokens", heading=MODEL.key)
    named = set()
    for condition in _with_registers(study):
        first = True
        for kind, label in KINDS.items():
            norm = study.estimate(condition, "token_norm_median", group=kind)
            if norm.value is None:
                continue
            model = (condition.dataset, condition.model)
            row = row_of(study, condition, (), model not in named)
            row |= {"condition_label": row["condition_label"] if first else "", "kind": label, "norm": norm}
            row["in_any_head"] = study.estimate(condition, "attention_in_any_head", group="cls", target=kind)
            row["attention"] = study.estimate(condition, "attention", group="cls", target=kind)
            table.add(row, rule=model not in named)
            named.add(model)
            first = False
    return table
