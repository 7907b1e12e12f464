"""What a view needs to know: which rows the tidy table has, which models were treated, and what each is compared with.

Everything here selects; nothing computes a number.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from vit_registers.core import table as metrics
from vit_registers.interventions.kinds.append import Append
from vit_registers.interventions.kinds.test_time_registers import TestTimeRegisters
from vit_registers.pipeline.slices import ViewStep
from vit_registers.views import labels as names

BASELINE = "baseline"
NONE_FOUND = "no artifacts found"


@dataclass(frozen=True)
class Estimate:
    """One number of the tidy table as a view shows it; ``note`` says in words why there is no number."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    unit: str = ""
    p: float | None = None
    note: str | None = None


@dataclass(frozen=True, order=True)
class Condition:
    """One model on one data set under one intervention."""

    dataset: str
    model: str
    name: str = BASELINE


def _plain(value: object) -> float | None:
    return None if value is None or pd.isna(value) else float(value)  # type: ignore[call-overload,arg-type]


class Study:
    """The study's plan (``cfg``) together with the rows that were measured.

    Rows may be those of some readouts only: a table asks for no more than it shows.
    """

    def __init__(self, cfg: ViewStep, rows: pd.DataFrame) -> None:
        """The study of ``cfg`` over ``rows`` of the tidy table."""
        self.cfg = cfg
        self.rows = rows
        self.models = names.models(cfg)
        self.conditions = names.conditions(cfg)
        self.datasets = list(dict.fromkeys(run["dataset"] for run in cfg.runs))

    @classmethod
    def read(cls, cfg: ViewStep, paths: Iterable[Path]) -> "Study":
        """The study over the tidy tables at ``paths``."""
        return cls(cfg, metrics.concatenate(paths))

    # What was planned, in the order of params.

    @cached_property
    def planned(self) -> list[Condition]:
        """Every condition of every run, baselines first within a model."""
        return [
            Condition(run["dataset"], model, name)
            for run in self.cfg.runs
            for model in run["models"]
            for name in [BASELINE, *run["interventions"]]
        ]

    @property
    def baselines(self) -> list[Condition]:
        """Every model of every data set, untouched."""
        return [c for c in self.planned if c.name == BASELINE]

    @property
    def detected(self) -> list[Condition]:
        """Every model of every data set on which register neurons were looked for."""
        return self.baselines + [Condition(each["dataset"], m) for each in self.cfg.detections for m in each["models"]]

    def of(self, dataset: str, model: str) -> list[Condition]:
        """The conditions of one model on one data set."""
        return [c for c in self.planned if (c.dataset, c.model) == (dataset, model)]

    # What was measured.

    @cached_property
    def _index(self) -> dict[tuple[str, str, str], pd.DataFrame]:
        groups = self.rows.groupby(["dataset", "model", "intervention"], sort=False)
        return {(str(k[0]), str(k[1]), str(k[2])): group for k, group in groups}

    def measured_rows(self, condition: Condition) -> pd.DataFrame:
        """All rows of a condition; empty where it was not measured."""
        key = (condition.dataset, condition.model, condition.name)
        return self._index.get(key, self.rows.iloc[:0])

    def measured(self, condition: Condition) -> bool:
        """Whether the condition has a value anywhere; a condition that does not apply has only a note."""
        rows = self.measured_rows(condition)
        return bool((rows["value"].notna() & rows["reference"].isna()).any())

    def note(self, condition: Condition) -> str | None:
        """Why a condition has no values, in the words of the readout that left them out."""
        rows = self.measured_rows(condition)
        notes = rows.loc[rows["value"].isna(), "note"].dropna()
        return None if self.measured(condition) or notes.empty else str(notes.iloc[0])

    def series(self, condition: Condition, readout: str, metric: str) -> pd.Series:
        """Values of a metric by layer; empty where there are none."""
        rows = self.measured_rows(condition)
        rows = rows[(rows["readout"] == readout) & (rows["metric"] == metric) & rows["layer"].notna()]
        rows = rows[rows["value"].notna()].sort_values("layer")
        return pd.Series(rows["value"].astype(float).to_numpy(), index=rows["layer"].astype(int).to_numpy())

    def remark(self, condition: Condition, readout: str, metric: str) -> str | None:
        """What a readout says in words beside a number that it has."""
        rows = self.measured_rows(condition)
        notes = rows.loc[(rows["readout"] == readout) & (rows["metric"] == metric), "note"].dropna()
        return None if notes.empty else str(notes.iloc[0])

    def estimate(
        self, condition: Condition, readout: str, metric: str, reference: str | None = None, layer: int | None = None
    ) -> Estimate:
        """The number of a metric over all layers and seeds, or at ``layer`` (the last) where it goes by layer.

        Rows of single seeds are passed over where there is one over all seeds.
        """
        rows = self.measured_rows(condition)
        rows = rows[(rows["readout"] == readout) & (rows["metric"] == metric)]
        rows = rows[rows["reference"].isna() if reference is None else rows["reference"] == reference]
        rows = rows if layer is None else rows[rows["layer"] == layer]
        if rows.empty:
            return Estimate(None, note=self.note(condition))
        over_seeds = rows[rows["seed"].isna()]
        rows = over_seeds if len(over_seeds) else rows
        if rows["layer"].notna().any():
            rows = rows[rows["layer"] == rows["layer"].max()]
        if len(rows) > 1:
            raise ValueError(f"{condition}: {len(rows)} rows of {readout}, {metric}; expected one over all seeds")
        row = rows.iloc[0]
        return Estimate(
            value=_plain(row["value"]),
            low=_plain(row["low"]),
            high=_plain(row["high"]),
            n=None if pd.isna(row["n"]) else int(row["n"]),
            unit="" if pd.isna(row["unit"]) else str(row["unit"]),
            p=_plain(row["p"]),
            note=None if pd.isna(row["note"]) else str(row["note"]),
        )

    def found(self, condition: Condition) -> bool:
        """Whether detection found artifacts in a model as it is."""
        return bool(self.estimate(condition, "detection", "found").value)

    @property
    def placed(self) -> list[Condition]:
        """Baselines of the models with artifacts, and of such models at another input size, whether they keep them."""

        def base(condition: Condition) -> Condition:
            resized = self.cfg.resized.get(condition.model)
            return Condition(condition.dataset, resized.base) if resized else condition

        return [c for c in self.baselines if self.found(c) or self.found(base(c))]

    # What belongs together.

    def treatments(self, dataset: str, model: str) -> list[Condition]:
        """Measured conditions of a model in which neurons were moved or cleared."""
        moves = [
            c for c in self.of(dataset, model) if isinstance(self.cfg.interventions.get(c.name), TestTimeRegisters)
        ]
        return [c for c in moves if self.measured(c)]

    @cached_property
    def treated(self) -> list[Condition]:
        """Baselines of the models with artifacts: those in which there were neurons to move."""
        return [c for c in self.baselines if self.treatments(c.dataset, c.model)]

    @property
    def untreated(self) -> list[Condition]:
        """Baselines of all other models."""
        return [c for c in self.baselines if c not in self.treated]

    def tokens(self, condition: Condition) -> int:
        """Tokens that the condition appends and moves neurons to."""
        intervention = self.cfg.interventions.get(condition.name)
        return intervention.tokens if isinstance(intervention, TestTimeRegisters) else 0

    def moves_what_was_found(self, condition: Condition) -> bool:
        """Whether the condition is test-time registers as they are meant: the neurons found moved, in every image."""
        value = self.cfg.interventions.get(condition.name)
        return isinstance(value, TestTimeRegisters) and value.as_described

    def after(self, before: Condition) -> Condition | None:
        """Test-time registers of the number that the study compares first; else the most of them."""
        moved = [c for c in self.treatments(before.dataset, before.model) if self.moves_what_was_found(c)]
        compared = [comparison.a for comparison in self.cfg.comparisons]
        named = [c for c in moved if f"{c.model}/{c.name}" in compared]
        first = min(named, key=lambda c: compared.index(f"{c.model}/{c.name}"), default=None)
        return first or max(moved, key=self.tokens, default=None)

    def same_model_control(self, condition: Condition) -> Condition | None:
        """The same model with as many appended zero tokens and no neuron touched."""
        for candidate in self.of(condition.dataset, condition.model):
            other = self.cfg.interventions.get(candidate.name)
            if isinstance(other, Append) and other.tokens == self.tokens(condition) and self.measured(candidate):
                return candidate
        return None

    def control(self, condition: Condition) -> Condition | None:
        """What the study compares a condition with; else the same model with as many appended zero tokens."""
        for comparison in self.cfg.comparisons:
            if comparison.a == f"{condition.model}/{condition.name}":
                model, name = comparison.b.split("/")
                candidate = Condition(condition.dataset, model, name)
                if self.measured(candidate):
                    return candidate
        return self.same_model_control(condition)

    def nature(self, model: str) -> str:
        """How a model was made; of a resized one, what it was made from."""
        resized = self.cfg.resized.get(model)
        return self.cfg.kinds[resized.base if resized else model]

    # What a reader sees.

    def model_label(self, condition: Condition) -> str:
        """Name of the model, with the data set where there are several."""
        name = self.models[condition.model]
        return name if self.datasets == [condition.dataset] else f"{name} on {condition.dataset}"

    def label(self, condition: Condition) -> str:
        """Name of the model, and of the condition where something was done to it."""
        name = self.model_label(condition)
        return name if condition.name == BASELINE else f"{name}, {self.conditions[condition.name]}"


def trained(study: Study) -> list[str]:
    """Models trained here by their number of registers; those of another size than their recipe's come last."""
    return sorted(study.cfg.registers, key=lambda name: (name in study.cfg.sizes, study.cfg.registers[name], name))


def counted(study: Study) -> list[Condition]:
    """Baselines of the models that were trained with a chosen number of registers, by data set and that number.

    Those of another size than their recipe's are left out: they differ in more than registers.
    """
    chosen = [c for c in study.baselines if c.model in study.cfg.registers and c.model not in study.cfg.sizes]
    return sorted(chosen, key=lambda c: (study.datasets.index(c.dataset), registers(study, c)))


def registers(study: Study, condition: Condition) -> int:
    """Number of registers that a model was trained with."""
    return study.cfg.registers[condition.model]
