"""The grid of token ablations: every ablation of every model, task by task."""

from dataclasses import replace

from vit_registers.interventions.kinds.ablate import Ablate
from vit_registers.params.condition import BASELINE
from vit_registers.views.columns import CONDITION, KEYS, MODEL, difference, row_of
from vit_registers.views.study import Condition, Estimate, Study
from vit_registers.views.table import Cell, Column, Table


def _task(key: str, metric: str, where: dict[str, str | None], group: str) -> Column:
    """The value of a task. Its interval stands in the task's own table: here there is room for that of the change."""
    return Column(key, "%", metric, where, interval=False, group=group)


TASKS = (
    _task("top1", "top1", {"feature": "cls", "head": "frozen"}, "Probe, [CLS]"),
    _task("recall", "recall_at_1", {"feature": "cls"}, "Recall@1"),
    _task("correspondence", "correspondence", {"group": None}, "Correspondence"),
    _task("miou", "miou", {"head": "frozen"}, "Segmentation"),
    _task("corloc", "corloc", {"head": "lost"}, "CorLoc"),
)

GAPS = (
    Column("sum", "Sum of single", "sum_of_changes", signed=True),
    Column("joint", "All together", "joint_change", signed=True),
    Column("gap", "Difference", "additivity_gap", signed=True, p=True),
)


def ablations(study: Study) -> dict[Condition, list[Condition]]:
    """Models as they are that some tokens were replaced in, each with these conditions."""
    found = {}
    for before in study.baselines:
        mine = study.of(before.dataset, before.model)
        found[before] = [c for c in mine if isinstance(study.plan.interventions.get(c.name), Ablate)]
    return {before: conditions for before, conditions in found.items() if conditions}


def change(study: Study, condition: Condition, task: Column) -> Cell:
    """A task under a condition less the same in the model as it is; without a value where the study compares none."""
    return difference(study, condition, Condition(condition.dataset, condition.model), task)


def token_ablation(study: Study) -> Table:
    """A model as it is, then its ablations."""
    changes = [Column(f"{task.key}_change", "Change", signed=True, group=task.group) for task in TASKS]
    columns = [MODEL, CONDITION]
    for task, changed in zip(TASKS, changes, strict=True):
        columns += [task, changed]
    table = Table(columns, KEYS, empty="no tokens were replaced in a model of this study", heading=MODEL.key)
    for before, conditions in ablations(study).items():
        for condition in [before, *conditions]:
            first = condition.name == BASELINE
            # a head that was fitted to the model as it is stands there as refitted
            shown = [intact(task) if first else task for task in TASKS]
            row = row_of(study, condition, shown, first)
            row |= {task.key: _without_n(row[task.key]) for task in TASKS}  # it stands with the change
            if not first:
                row |= {c.key: change(study, condition, task) for c, task in zip(changes, TASKS, strict=True)}
            table.add(row, rule=first)
    return table


def additivity(study: Study) -> Table:
    """Every joint ablation with single ones beside it, task by task."""
    table = Table(
        [MODEL, CONDITION, Column("task", "Task"), *GAPS],
        KEYS,
        empty="no registers of this study were replaced one by one and all together",
    )
    for before, conditions in ablations(study).items():
        first = True
        for condition in conditions:
            for task in TASKS:
                axes = {"of": task.metric, "feature": None, "head": None, **task.where}
                if not study.has(condition, "additivity_gap", **axes):
                    continue
                row = row_of(study, condition, [], first)
                row |= {"model_label": study.model_label(before) if first else "", "task": _name(task)}
                row |= {gap.key: study.estimate(condition, str(gap.metric), **axes) for gap in GAPS}
                table.add(row, rule=first)
                first = False
    return table


def _name(task: Column) -> str:
    return str(task.group).replace(" (%)", "")


def _without_n(cell: Cell) -> Cell:
    return replace(cell, n=None) if isinstance(cell, Estimate) else cell


def intact(task: Column) -> Column:
    """The task in the model as it is: a head that was fitted to it stands there as refitted."""
    return replace(task, where={**task.where, "head": "refitted"}) if task.where.get("head") == "frozen" else task
