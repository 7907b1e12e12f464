"""Tables of test-time registers: every condition, the number of registers, and classification as kukade2025 has it."""

from dataclasses import replace

from vit_registers.views.columns import CONDITION, CORLOC, KEYS, MODEL, TOP1_CLS, difference, row_of, shown, tells
from vit_registers.views.study import NONE_FOUND, Condition, Study
from vit_registers.views.table import Column, Table

NORM = "Patch norm at the last block"
NORM_MAX = Column("norm_max", "Largest", "norm_max", alignment="r", group=NORM)
TOP1 = shown(TOP1_CLS, "Top-1 (%)")
FROZEN = Column("top1_cls_frozen", "frozen (%)", "top1", {"feature": "cls", "head": "frozen"})
CONTROL = Column("control", "Control", alignment=r">{\raggedright\arraybackslash}p{1.8cm}")


def _ordered(study: Study, before: Condition) -> list[Condition]:
    """Conditions of a model: as it is, with its neurons cleared and no register, then the others as params have them.

    What clearing alone does comes first, because whatever a register repairs is only what it does beyond that.
    """
    conditions = study.of(before.dataset, before.model)
    return sorted(conditions, key=lambda c: (c != before, not study.is_cleared(c)))


def _control(study: Study, condition: Condition) -> str | None:
    """Name of what a condition is compared with; without the model where it is the same."""
    control = study.control(condition)
    if control is None:
        return None
    return study.conditions[control.name] if control.model == condition.model else study.label(control)


def test_time_registers(study: Study) -> Table:
    """The models with artifacts under every condition, with the controls that they are compared with."""
    columns = [
        MODEL,
        CONDITION,
        replace(CONTROL, printed=False),
        Column("norm_median", "Median", "norm_median", alignment="r", group=NORM),
        Column("norm_p99", "99th pct.", "norm_p99", alignment="r", group=NORM),
        NORM_MAX,
        Column("artifact_share", "Artifacts (%)", "artifact_share", decimals=2),
        Column("cls_to_artifacts", "[CLS] on them (%)", "attention", {"group": "cls", "target": "artifacts"}),
        CORLOC,
        TOP1,
        FROZEN,
    ]
    table = Table(columns, KEYS, empty=NONE_FOUND, heading=MODEL.key)
    for before in study.with_artifacts:
        for condition in _ordered(study, before):
            row = row_of(study, condition, columns, condition == before)
            table.add(row | {CONTROL.key: _control(study, condition)}, rule=condition == before)
    named = set()
    for condition in _controls(study):
        first = (condition.dataset, condition.model) not in named
        named.add((condition.dataset, condition.model))
        table.add(row_of(study, condition, columns, first), rule=first)
    return table


def repairs(study: Study) -> Table:
    """The models with artifacts as they are, cleared, with test-time registers, and in the control of these."""
    columns = [
        MODEL,
        CONDITION,
        replace(NORM_MAX, title="Largest norm", group=None),
        Column("artifact_share", "Artifacts (%)", "artifact_share", decimals=2),
        CORLOC,
        TOP1,
        Column("own_head_top1", "Own head (%)", "own_head_top1", {"head": "own"}),
    ]
    table = Table(columns, KEYS, empty=NONE_FOUND, heading=MODEL.key)
    told = [c for c in study.with_artifacts if study.after(c) is not None]
    for before in sorted(told, key=lambda c: study.estimate(c, "corloc", head="lost").value is None):
        after = study.after(before)
        control = study.control(after) if after else None
        for condition in (before, study.cleared(before), after, control):
            if condition is not None:
                row = row_of(study, condition, columns, condition == before)
                if condition == control:
                    row["condition_label"] = f"control: {study.label(control)}"
                table.add(row, rule=condition == before)
    return table


def _controls(study: Study) -> list[Condition]:
    """Conditions of other models that those of models with artifacts are compared with, each model as it is first."""
    used: set[Condition] = set()
    for before in study.with_artifacts:
        for condition in study.of(before.dataset, before.model):
            control = study.control(condition)
            if control is not None and (control.dataset, control.model) != (before.dataset, before.model):
                used |= {control, Condition(control.dataset, control.model)}
    return [condition for condition in study.planned if condition in used and condition not in study.with_artifacts]


def neuron_controls(study: Study) -> Table:
    """Half of the neurons, the next ones and random ones: how like those found they are, and what moving them does."""
    columns = [
        MODEL,
        CONDITION,
        replace(CONTROL, printed=False),
        Column("drawn_activation", "Activation", "drawn_activation", decimals=2, group="Multiple of those found"),
        Column("drawn_output_norm", "Output norm", "drawn_output_norm", decimals=3, group="Multiple of those found"),
        replace(CORLOC, interval=False),
        Column("corloc_difference", "against the control (points)", signed=True, p=True),
        shown(FROZEN, "Top-1, frozen (%)", interval=False),
        Column("top1_difference", "against the control (points)", signed=True, p=True),
    ]
    table = Table(columns, KEYS, empty="this study moves no other neurons than those found", heading=MODEL.key)
    for before in study.with_artifacts:
        others = [c for c in study.of(before.dataset, before.model) if study.moves_others(c) and study.measured(c)]
        for condition in others:
            row = row_of(study, condition, columns, condition == others[0])
            row[CONTROL.key] = _control(study, condition)
            control = study.control(condition)
            if control is not None:
                row["corloc_difference"] = difference(study, condition, control, CORLOC)
                row["top1_difference"] = difference(study, condition, control, FROZEN)
            table.add(row, rule=condition == others[0])
    return table


def register_sweep(study: Study) -> Table:
    """How many test-time registers, from none (the neurons cleared): each number against its control."""
    columns = [
        MODEL,
        Column("tokens", "Tokens", alignment="r"),
        CONTROL,
        shown(NORM_MAX, "Largest patch norm", group=None),
        CORLOC,
        Column("corloc_difference", "against the control (points)", signed=True, p=True),
        TOP1,
        Column("top1_difference", "against the control (points)", signed=True, p=True),
    ]
    table = Table(columns, KEYS, empty=NONE_FOUND, heading=MODEL.key)
    for before in study.with_artifacts:
        conditions = [c for c in study.of(before.dataset, before.model) if study.measured(c)]
        swept = [c for c in conditions if study.is_test_time_registers(c) or study.is_cleared(c)]
        swept = sorted(swept, key=study.tokens)
        for condition in swept:
            row = row_of(study, condition, columns, condition == swept[0])
            row["tokens"] = study.tokens(condition)
            row[CONTROL.key] = _control(study, condition)
            control = study.control(condition)
            if control is not None:
                row["corloc_difference"] = difference(study, condition, control, CORLOC)
                row["top1_difference"] = difference(study, condition, control, TOP1)
            table.add(row, rule=condition == swept[0])
    return table


def test_time_classification(study: Study) -> Table:
    """Test-time registers in classification as kukade2025 reports them, with the plain model and the test they lack.

    Their baseline has the appended tokens already, so the change is against those.
    """
    columns = [
        MODEL,
        Column("tokens", "Tokens", alignment="r"),
        shown(TOP1, "As it is", key="plain"),
        Column("cleared", "Neurons cleared"),
        Column("appended", "Zero tokens"),
        Column("moved", "Test-time registers"),
        Column("change", "Change (points)", signed=True, p=True),
        Column("frozen", "The same, frozen head"),
    ]
    table = Table(columns, KEYS[:2], empty="no model of this study has both zero tokens and test-time registers")
    for before in study.baselines:
        first = True
        for moved in study.of(before.dataset, before.model):
            control = study.same_model_control(moved)
            if control is None or not study.is_test_time_registers(moved):
                continue
            row = row_of(study, before, columns, first) | {"tokens": study.tokens(moved)}
            cleared = study.cleared(before)
            if cleared is not None:
                row["cleared"] = study.estimate(cleared, "top1", feature="cls", head="refitted")
            row["appended"] = study.estimate(control, "top1", feature="cls", head="refitted")
            row["moved"] = study.estimate(moved, "top1", feature="cls", head="refitted")
            row["change"] = difference(study, moved, control, TOP1)
            row["frozen"] = study.estimate(moved, "top1", feature="cls", head="frozen")
            if tells(row):
                table.add(row, rule=first)
                first = False
    return table
