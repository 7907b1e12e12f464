"""What a view needs to know: which rows there are, which models have outlier tokens, and what each is compared with.

Everything here selects; nothing computes a number.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vit_registers.core import table
from vit_registers.core.table import REFERENCES, Metric
from vit_registers.interventions.kinds.append import Append
from vit_registers.interventions.kinds.test_time_registers import TestTimeRegisters
from vit_registers.params.condition import BASELINE
from vit_registers.pipeline import experiment
from vit_registers.views.plan import Plan

FOUND, NONE_FOUND = "artifacts found", "no artifacts found"
AS_IT_IS = "as it is"  # a model that nothing is done to
NOT_SOUGHT = "not looked for"  # where a percentile defines what is high


@dataclass(frozen=True)
class Estimate:
    """One number of the tidy table as a view shows it; ``note`` says in words why there is no number.

    ``of``: its metric, which says how it is printed. ``p`` is adjusted for its family where ``p_adjusted`` is there.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    p: float | None = None
    note: str | None = None
    of: Metric | None = None
    p_adjusted: float | None = None

    @property
    def p_shown(self) -> float | None:
        """The p that readers see."""
        return self.p if self.p_adjusted is None else self.p_adjusted


@dataclass(frozen=True, order=True)
class Condition:
    """One model on one data set under one intervention."""

    dataset: str
    model: str
    name: str = BASELINE


def _plain(value: object) -> float | None:
    return None if value is None or pd.isna(value) else float(value)  # type: ignore[call-overload,arg-type]


def estimate(row: "Mapping[str, Any] | pd.Series[Any]") -> Estimate:
    """A row of the tidy table as an estimate."""
    return Estimate(
        value=_plain(row["value"]),
        low=_plain(row["low"]),
        high=_plain(row["high"]),
        n=None if pd.isna(row["n"]) else int(row["n"]),
        p=_plain(row["p"]),
        note=None if pd.isna(row["note"]) else str(row["note"]),
        of=experiment.metrics()[str(row["metric"])][1],
        p_adjusted=_plain(row["p_adjusted"]),
    )


def select(rows: pd.DataFrame, **axes: Any) -> pd.DataFrame:
    """Rows at some values of axes; None asks for rows that have no value on the axis."""
    if not axes:
        return rows
    keep = np.ones(len(rows), bool)
    for axis, value in axes.items():
        column = rows[axis]
        keep &= (column.isna() if value is None else (column == value).fillna(False)).to_numpy(dtype=bool)
    return rows[keep]  # once: the tidy table has many columns, and each is copied by itself


class Study:
    """The study's plan together with the rows that were measured.

    Rows may be those of some metrics only: a table asks for no more than it shows.
    """

    def __init__(self, plan: Plan, rows: pd.DataFrame) -> None:
        """The study of ``plan`` over ``rows`` of the tidy table."""
        self.plan = plan
        self.rows = rows
        self.models = plan.models
        self.conditions = plan.conditions
        self.datasets = list(dict.fromkeys(run.dataset for run in plan.runs))

    @classmethod
    def read(cls, plan: Plan, paths: Iterable[Path]) -> "Study":
        """The study over the tables at ``paths``."""
        return cls(plan, table.concatenate(paths, experiment.axes()))

    # What was planned, in the order of params.

    @cached_property
    def planned(self) -> list[Condition]:
        """Every condition of every run, baselines first within a model."""
        return [
            Condition(run.dataset, model, name)
            for run in self.plan.runs
            for model in run.models
            for name in [BASELINE, *run.interventions]
        ]

    @property
    def baselines(self) -> list[Condition]:
        """Every model of every data set as it is."""
        return [c for c in self.planned if c.name == BASELINE]

    @property
    def detected(self) -> list[Condition]:
        """Every model of every data set on which register neurons were looked for."""
        return self.baselines + [Condition(each.dataset, m) for each in self.plan.detections for m in each.models]

    def of(self, dataset: str, model: str) -> list[Condition]:
        """The conditions of one model on one data set."""
        return [c for c in self.planned if (c.dataset, c.model) == (dataset, model)]

    # What was measured.

    @cached_property
    def _values(self) -> dict[str, NDArray[Any]]:
        """Columns with None for no value: selecting in the frame itself is slow, because it copies every column."""
        plain = {name: column.astype(object).to_numpy(copy=True) for name, column in self.rows.items()}
        for name, values in plain.items():
            values[self.rows[name].isna().to_numpy()] = None
        return {str(name): values for name, values in plain.items()}

    @cached_property
    def _places(self) -> dict[tuple[str, ...], list[int]]:
        """Where the rows of a condition stand, all of them and those of each metric."""
        found: dict[tuple[str, ...], list[int]] = {}
        keys = zip(*(self._values[name] for name in ("dataset", "model", "intervention", "metric")), strict=True)
        for place, key in enumerate(keys):
            found.setdefault(key[:3], []).append(place)
            found.setdefault(key, []).append(place)
        return found

    def _at(self, condition: Condition, metric: str | None, axes: dict[str, Any]) -> list[int]:
        """Where the rows of a condition at some values of axes stand."""
        key = (condition.dataset, condition.model, condition.name)
        places = self._places.get(key if metric is None else (*key, metric), [])
        asked = [(self._values[axis], value) for axis, value in axes.items()]
        return [place for place in places if all(values[place] == value for values, value in asked)]

    def rows_of(self, condition: Condition, metric: str | None = None, **axes: Any) -> pd.DataFrame:
        """Rows of a condition, of one metric and at some values of axes; empty where it was not measured."""
        return self.rows.iloc[self._at(condition, metric, axes)]

    def has(self, condition: Condition, metric: str, **axes: Any) -> bool:
        """Whether a metric of a condition has rows, be they only a note."""
        return bool(self._at(condition, metric, axes))

    def metric_rows(self, metric: str, **axes: Any) -> pd.DataFrame:
        """Rows of a metric whatever they are of."""
        return select(self.rows, metric=metric, **axes)

    def measured(self, condition: Condition) -> bool:
        """Whether the condition has a value anywhere; a condition that does not apply has only a note."""
        value, reference = self._values["value"], self._values["reference_model"]
        places = self._at(condition, None, {})
        return any(value[place] is not None and reference[place] is None for place in places)

    def note(self, condition: Condition) -> str | None:
        """Why a condition has no values, in the words of the measure that left them out."""
        if self.measured(condition):
            return None
        value, note = self._values["value"], self._values["note"]
        notes = (note[place] for place in self._at(condition, None, {}) if value[place] is None)
        return next((str(each) for each in notes if each is not None), None)

    def series(self, condition: Condition, metric: str, **axes: Any) -> pd.Series:
        """Values of a metric by layer; empty where there are none."""
        rows = self.rows_of(condition, metric, **axes)
        rows = rows[rows["layer"].notna() & rows["value"].notna()].sort_values("layer")
        return pd.Series(rows["value"].astype(float).to_numpy(), index=rows["layer"].astype(int).to_numpy())

    def estimate(
        self,
        condition: Condition,
        metric: str,
        against: Condition | None = None,
        layer: int | None = None,
        over_trainings: bool = False,
        **axes: Any,
    ) -> Estimate:
        """The number of a metric at some values of axes, over all seeds; by layer at ``layer``, or the last.

        ``against``: the paired difference from another condition of the data set. Rows of single seeds are passed over
        where there is one over all seeds. ``over_trainings``: the number over several trainings, not that of one.
        """
        asked = dict(axes)
        if against is None:
            asked = dict.fromkeys(REFERENCES) | asked
        else:
            asked |= {"reference_model": against.model, "reference_intervention": against.name}
        if layer is not None:
            asked["layer"] = layer
        value = self._values
        rows = [
            place
            for place in self._at(condition, metric, asked)
            if (value["trainings"][place] is not None) == over_trainings
        ]
        if not rows:
            return Estimate(None, note=self.note(condition), of=experiment.metrics()[metric][1])
        rows = [place for place in rows if value["seed"][place] is None] or rows
        layers = [value["layer"][place] for place in rows if value["layer"][place] is not None]
        if layers:
            rows = [place for place in rows if value["layer"][place] == max(layers)]
        if len(rows) > 1:
            raise ValueError(
                f"{condition}: {len(rows)} rows of {metric} at {axes}; name the axis that tells them apart"
            )
        return estimate({name: values[rows[0]] for name, values in value.items()})

    def found(self, condition: Condition) -> bool:
        """Whether detection found artifacts in a model as it is."""
        return bool(self.estimate(condition, "artifacts_found").value)

    def verdict(self, condition: Condition) -> str:
        """What detection says of a model as it is, in words."""
        if not self.sought(condition):
            return NOT_SOUGHT
        return FOUND if self.found(condition) else NONE_FOUND

    def sought(self, condition: Condition) -> bool:
        """Whether artifacts were looked for: not where a percentile defines what is high."""
        found = self.estimate(condition, "artifacts_found")
        return found.value is not None or found.note is None

    @property
    def placed(self) -> list[Condition]:
        """Baselines of the models with artifacts, and of such models at another input size, whether they keep them."""

        def base(condition: Condition) -> Condition:
            resized = condition.model in self.plan.resized
            return Condition(condition.dataset, self.plan.bases[condition.model]) if resized else condition

        return [c for c in self.baselines if self.found(c) or self.found(base(c))]

    # What belongs together.

    def _moves(self, condition: Condition) -> TestTimeRegisters | None:
        """What moves register neurons in a condition, if something does."""
        value = self.plan.interventions.get(condition.name)
        return value if isinstance(value, TestTimeRegisters) else None

    def treatments(self, dataset: str, model: str) -> list[Condition]:
        """Measured conditions of a model in which neurons were moved or cleared."""
        return [c for c in self.of(dataset, model) if self._moves(c) is not None and self.measured(c)]

    @cached_property
    def with_artifacts(self) -> list[Condition]:
        """Baselines of the models in which there were neurons to move."""
        return [c for c in self.baselines if self.treatments(c.dataset, c.model)]

    @property
    def without_artifacts(self) -> list[Condition]:
        """Baselines of all other models."""
        return [c for c in self.baselines if c not in self.with_artifacts]

    def tokens(self, condition: Condition) -> int:
        """Tokens that the condition appends and moves neurons to."""
        value = self._moves(condition)
        return value.tokens if value else 0

    def is_test_time_registers(self, condition: Condition) -> bool:
        """Whether the condition is test-time registers as the paper describes them."""
        value = self._moves(condition)
        return value is not None and value.as_described

    def is_cleared(self, condition: Condition) -> bool:
        """Whether the neurons found are cleared in the condition, and nothing else is done."""
        value = self._moves(condition)
        return value is not None and value.clears

    def moves_others(self, condition: Condition) -> bool:
        """Whether other neurons than all of those found are moved in the condition: a control."""
        value = self._moves(condition)
        return value is not None and value.neurons != "found"

    def cleared(self, before: Condition) -> Condition | None:
        """The model with its register neurons cleared and no register, if that was measured."""
        done = (c for c in self.treatments(before.dataset, before.model) if self.is_cleared(c))
        return next(done, None)

    def after(self, before: Condition) -> Condition | None:
        """Test-time registers of the number that the study compares first; else the most of them."""
        moved = [c for c in self.treatments(before.dataset, before.model) if self.is_test_time_registers(c)]
        compared = [(comparison.a.model, comparison.a.intervention) for comparison in self.plan.comparisons]
        named = [c for c in moved if (c.model, c.name) in compared]
        first = min(named, key=lambda c: compared.index((c.model, c.name)), default=None)
        return first or max(moved, key=self.tokens, default=None)

    def same_model_control(self, condition: Condition) -> Condition | None:
        """The same model with as many appended zero tokens and no neuron touched."""
        for candidate in self.of(condition.dataset, condition.model):
            other = self.plan.interventions.get(candidate.name)
            if isinstance(other, Append) and other.tokens == self.tokens(condition) and self.measured(candidate):
                return candidate
        return None

    def control(self, condition: Condition) -> Condition | None:
        """What the study compares a condition with; else the same model with as many appended zero tokens."""
        for comparison in self.plan.comparisons:
            if (comparison.a.model, comparison.a.intervention) == (condition.model, condition.name):
                candidate = Condition(condition.dataset, comparison.b.model, comparison.b.intervention)
                if self.measured(candidate):
                    return candidate
        return self.same_model_control(condition)

    def is_natural(self, model: str) -> bool:
        """Whether something was learnt in a model, and nothing planted in it nor in what it was made from."""
        return self.plan.kinds[model] not in ("tagged", "planted") and model not in self.plan.unlearned

    # What a reader sees.

    def model_label(self, condition: Condition) -> str:
        """Name of the model, with the data set where runs have it on several, or not on this one."""
        name, on = self.models[condition.model], {c.dataset for c in self.baselines if c.model == condition.model}
        return f"{name} on {condition.dataset}" if on != {condition.dataset} else name

    def condition_label(self, condition: Condition) -> str:
        """Name of the condition beside others of its model."""
        return AS_IT_IS if condition.name == BASELINE else self.conditions[condition.name]

    def label(self, condition: Condition) -> str:
        """Name of the model, and of the condition where something was done to it."""
        name = self.model_label(condition)
        return name if condition.name == BASELINE else f"{name}, {self.conditions[condition.name]}"

    # Models by number of registers.

    @property
    def trained(self) -> list[str]:
        """Models trained here by their number of registers; those of another size than their recipe's come last."""
        plan = self.plan
        return sorted(plan.registers, key=lambda name: (name in plan.other_size, plan.registers[name], name))

    @property
    def by_count(self) -> list[Condition]:
        """Baselines of the models that were trained with a chosen number of registers, by data set and that number.

        Those of another size than their recipe's are left out: they differ in more than registers.
        """
        plan = self.plan
        chosen = [c for c in self.baselines if c.model in plan.registers and c.model not in plan.other_size]
        return sorted(chosen, key=lambda c: (self.datasets.index(c.dataset), plan.registers[c.model]))
