"""Where a job of a measure reads and writes, and the rows it fills."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vit_registers.core import table
from vit_registers.core.files import digest, read_json, replacing
from vit_registers.core.table import Rows
from vit_registers.data.manifest import Manifest
from vit_registers.extraction.store import Features, condition_folder
from vit_registers.pipeline import experiment
from vit_registers.pipeline.experiment import Measure
from vit_registers.pipeline.paths import Paths

IMAGE_COLUMNS = ["image_id", "intervention", "metric", "feature", "head", "seed", "value"]
POOLED_COLUMNS = ["images", "n", "intervention", "metric", "feature", "head", "value", "resampled"]


def of_images(ids: Any) -> str:
    """What tells sets of images apart."""
    return digest([str(each) for each in ids])


def patch_norms(cached: Features, images: NDArray[np.int64]) -> NDArray[Any] | None:
    """Norms (n, layers, p) of the patches of some dense images; None of a model without any, such as raw pixels."""
    if "norms" not in cached.index["arrays"]:
        return None
    return np.asarray(cached.array("norms")[images][..., cached.layout.patch_slice])


@dataclass
class Job:
    """Folders of one job, and what it has found so far.

    ``data``: the prepared data set; ``model``: the model's folder; ``models``: that of all models; ``features``: the
    folder of cached features; ``registers``: the folder of what detection wrote; ``measures``: that of all measures;
    ``out``: where this one writes. What a measure does not read may be missing.
    """

    rows: Rows
    out: Path
    data: Path = Path()
    model: Path = Path()
    models: Path = Path()
    features: Path = Path()
    registers: Path = Path()
    measures: Path = Path()
    images: list[pd.DataFrame] = field(default_factory=list)
    pooled: list[dict[str, Any]] = field(default_factory=list)
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)

    def manifest(self) -> Manifest:
        """The data set."""
        return Manifest.load(self.data)

    def conditions(self, dataset: str, model: str, names: list[str]) -> Iterator[tuple[str, Features]]:
        """Features of every condition of a pair, those that do not apply included (their status says so)."""
        for name in names:
            yield name, Features.open(condition_folder(self.features, dataset, model, name))

    def found(self, dataset: str, model: str) -> dict[str, Any]:
        """What detection found in a model on a data set."""
        found: dict[str, Any] = read_json(self.registers / dataset / f"{model}.json")
        return found

    def by_image(self, metric: str, ids: Any, values: Any, intervention: str, **axes: Any) -> None:
        """Keep what every image gave for a metric, so that conditions are compared over the same images."""
        unknown = [axis for axis in axes if axis not in IMAGE_COLUMNS]
        if unknown:
            raise ValueError(f"'{unknown[0]}' does not tell values by image apart; use one of {IMAGE_COLUMNS[3:-1]}")
        given = {"image_id": ids, "intervention": intervention, "metric": metric, **axes, "value": np.asarray(values)}
        one = pd.DataFrame(given).reindex(columns=IMAGE_COLUMNS)
        self.images.append(one.astype({"seed": "Int64", "feature": "string", "head": "string", "value": float}))

    def resampled(self, metric: str, ids: Any, value: float, resampled: Any, intervention: str, **axes: Any) -> None:
        """Keep a score of all images together, those of ``ids``, and its values in the shared resamples (resamples,).

        Differences of these between conditions are paired as those of means over images are.
        """
        unknown = [axis for axis in axes if axis not in POOLED_COLUMNS]
        if unknown:
            raise ValueError(f"'{unknown[0]}' does not tell scores apart; use feature or head")
        given = {"images": of_images(ids), "n": len(ids), "intervention": intervention, "metric": metric}
        self.pooled.append({**given, **axes, "value": float(value), "resampled": np.asarray(resampled, dtype=float)})

    def keep(self, arrays: Mapping[str, NDArray[Any]], condition: str | None = None) -> None:
        """Keep arrays for figures, under the name of a condition where they are of one."""
        self.arrays |= {f"{condition}/{name}" if condition else name: array for name, array in arrays.items()}

    def write(self, images: bool, arrays: bool, pooled: bool = False) -> None:
        """Write rows.csv, and images.parquet, pooled.parquet and arrays.npz where the measure declares them.

        Refused: numbers without an interval or the reason why there is none.
        """
        self.rows.check()
        self.out.mkdir(parents=True, exist_ok=True)
        if images:
            whole = pd.concat(self.images, ignore_index=True) if self.images else pd.DataFrame(columns=IMAGE_COLUMNS)
            with replacing(self.out / "images.parquet") as temporary:
                whole.to_parquet(temporary, index=False)
        if pooled:
            scores = pd.DataFrame(self.pooled, columns=POOLED_COLUMNS).astype({"feature": "string", "head": "string"})
            with replacing(self.out / "pooled.parquet") as temporary:
                scores.to_parquet(temporary, index=False)
        if arrays:
            with replacing(self.out / "arrays.npz") as temporary:
                np.savez_compressed(temporary, allow_pickle=False, **self.arrays)  # type: ignore[arg-type]
        table.write(self.rows.frame(), self.out / "rows.csv")


def execute(run: Any, config: Any, measure: Measure, at: Paths) -> None:
    """Run one job of a measure, and write what it found.

    Its rows may be of its own metrics; those of a measure that compares what others gave, of any.
    """
    axes = {axis: getattr(config, axis) for axis in measure.per}
    dataset, model = axes.get("dataset", ""), axes.get("model", "")
    every = [metric for _, metric in experiment.metrics().values()]
    compares = measure.name in experiment.comparing()
    job = Job(
        rows=Rows(experiment.owner(measure.name), every if compares else measure.metrics, measure.axes, **axes),
        out=at.measure(measure.name, *axes.values()),
        data=at.dataset(dataset),
        model=at.model(model),
        models=at.models,
        features=at.features,
        registers=at.registers,
        measures=at.results / "measures",
    )
    run(config, job)
    job.write(measure.images, measure.arrays, measure.pooled)
