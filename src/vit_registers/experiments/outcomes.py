"""What each condition gave, as other measures left it: values by image, and scores of all images in every resample."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from vit_registers.core.doors import read_table
from vit_registers.core.errors import InputError
from vit_registers.core.inference import Sample
from vit_registers.core.stats import Resamples
from vit_registers.experiments.job import of_images
from vit_registers.params.condition import Condition
from vit_registers.params.experiments import MeasureConfig


class Measured(NamedTuple):
    """What was measured: a metric, of a feature and by a head where it goes by these."""

    metric: str
    feature: str | None
    head: str | None

    @property
    def test(self) -> str:
        """Name of its sign-flip test: ``probe[cls]``, ``knn[cls]``, ``dense[refit]``, ``lost``.

        It decides the draws: another name changes the last digits of every p-value.
        """
        if self.feature:
            heads = {"refitted": "probe", "frozen": "kept"}
            return f"{heads.get(self.head or '', self.head)}[{self.feature}]"
        heads = {"refitted": "dense[refit]", "frozen": "dense[kept]"}
        return heads.get(self.head or "", self.head or "")


@dataclass(frozen=True)
class Outcome:
    """A number of one condition over ``n`` images, told by ``images``: over all of them, and in each resample.

    ``by_image`` (n images x seeds, sorted by id): what each gave, where the number is their mean.
    """

    sample: Sample
    n: int
    images: str
    by_image: pd.DataFrame | None = None


class Outcomes:
    """Outcomes of conditions on one data set, read once."""

    def __init__(
        self, cfg: MeasureConfig, dataset: str, sources: Mapping[str, list[str]], models: set[str], measures: Path
    ) -> None:
        """``sources``: measures that keep values by image, with their models; ``measures``: their folder.

        :class:`InputError` where a file of theirs is missing.
        """
        self.dataset, self.sources, self.measures = dataset, sources, measures
        self.images = {model: self._read(model, "images") for model in sorted(models)}
        self.pooled = {model: self._read(model, "pooled") for model in sorted(models)}
        self.resamples = Resamples(cfg.seed, cfg.statistics, dataset)
        self.found: dict[str, dict[Measured, Outcome]] = {}

    def of(self, condition: Condition) -> dict[Measured, Outcome]:
        """All that was measured of one condition, in a fixed order."""
        name = str(condition)
        if name not in self.found:
            found = self._means(condition) | self._scores(condition)
            self.found[name] = {key: found[key] for key in sorted(found, key=lambda key: [part or "" for part in key])}
        return self.found[name]

    def _read(self, model: str, what: str) -> pd.DataFrame:
        """What the measures of a model kept of one kind; those that keep scores keep values by image as well."""
        found = []
        for measure in (name for name, models in self.sources.items() if model in models):
            path = self.measures / measure / self.dataset / model / f"{what}.parquet"
            if what == "pooled" and not path.is_file():
                continue  # not every measure has such scores; Snakemake sees to it that those that have are there
            if not path.is_file():
                command = measure.replace("_", "-")
                command += f" --dataset {self.dataset} --model {model}"
                raise InputError(f"{path}: no such file; run `vit-registers {command}` first")
            found.append(read_table(path, "intervention", "metric", "feature", "head", "value"))
        found = [table for table in found if len(table)]
        return pd.concat(found) if found else pd.DataFrame(columns=["intervention"])

    def _means(self, condition: Condition) -> dict[Measured, Outcome]:
        mine = self.images[condition.model]
        mine = mine[mine["intervention"] == condition.intervention]
        if mine.empty:
            return {}
        found = {}
        for key, group in mine.groupby(["metric", "feature", "head"], dropna=False):
            seeds = group.assign(seed=group["seed"].fillna(-1))
            values = seeds.pivot_table(index="image_id", columns="seed", values="value")
            means, n = values.mean(axis=1).to_numpy(), len(values)
            sample = Sample(float(means.mean()), self.resamples[n].means(means))
            found[_measured(key)] = Outcome(sample, n, of_images(values.index), values)
        return found

    def _scores(self, condition: Condition) -> dict[Measured, Outcome]:
        mine = self.pooled[condition.model]
        return {
            _measured((row["metric"], row["feature"], row["head"])): Outcome(
                Sample(float(row["value"]), row["resampled"]), int(row["n"]), row["images"]
            )
            for row in mine[mine["intervention"] == condition.intervention].to_dict("records")
        }


def _measured(key: object) -> Measured:
    metric, feature, head = (part if isinstance(part, str) else None for part in key)  # type: ignore[attr-defined]
    assert metric is not None
    return Measured(metric, feature, head)
