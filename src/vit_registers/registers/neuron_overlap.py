"""The step that lists a model's register neurons, and asks whether other data sets find the same ones."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import hypergeom

from vit_registers.core import table as metrics
from vit_registers.core.errors import InputError
from vit_registers.core.files import read_json
from vit_registers.core.table import Metric
from vit_registers.pipeline.configs import NeuronsStep

Neuron = tuple[int, int]  # layer, index
SHOWN = 2  # times the top k: the neurons taken, and as many that were not


@dataclass(frozen=True)
class Found:
    """What detection on one data set left behind."""

    dataset: str
    result: dict[str, Any]
    ranking: list[dict[str, Any]]  # rank from 0, layer, index, score, frequency_in_top_k; empty where none was found

    @classmethod
    def read(cls, registers: Path, dataset: str, model: str) -> "Found":
        """The files that detection wrote for a model on a data set."""
        path = registers / dataset / f"{model}.json"
        if not path.is_file():
            raise InputError(f"{path}: no such file; run detection first")
        ranking: list[Any] = pd.read_csv(path.with_suffix(".neurons.csv")).to_dict("records")
        return cls(dataset, read_json(path), ranking)

    @property
    def ranks(self) -> dict[Neuron, int]:
        """Rank from 1 of every neuron that is listed."""
        return {(row["layer"], row["index"]): row["rank"] + 1 for row in self.ranking}

    def top(self, k: int) -> set[Neuron]:
        """The first ``k`` neurons."""
        return {neuron for neuron, rank in self.ranks.items() if rank <= k}


def run(cfg: NeuronsStep, registers: Path, out: Path) -> None:
    """Write rows of the tidy table to ``out`` from what detection wrote for ``cfg.model`` below ``registers``."""
    found = [Found.read(registers, dataset, cfg.model) for dataset in cfg.datasets]
    rows: list[Metric] = []
    for one in found:
        rows += _neurons(cfg.model, one)
        rows += [row for other in found if other is not one for row in _against(cfg.model, one, other)]
    metrics.write(metrics.frame(rows), out)


def _row(model: str, one: Found, metric: str, value: float | None, unit: str, n: int, **more: Any) -> Metric:
    return Metric(model, one.dataset, "baseline", "neurons", metric, value, unit, n, **more)


def _neurons(model: str, one: Found) -> list[Metric]:
    """Rank, score, stability and whether planted, of the first neurons; the neuron's index stands in the metric."""
    if not one.result["found"]:
        return [_row(model, one, "none", None, "", 0, note=one.result["reason"])]
    images, k = one.result["images_ranked"], one.result["top_k"]
    planted = {(layer, index) for layer, index in one.result.get("planted", [])}
    rows = []
    for neuron in one.ranking[: SHOWN * k]:
        layer, index = neuron["layer"], neuron["index"]
        values = {
            "rank": (neuron["rank"] + 1.0, "count"),
            "score": (neuron["score"], "mean |activation|"),
            "frequency": (neuron["frequency_in_top_k"], "share of resamples"),
        }
        if planted:
            values["planted"] = (float((layer, index) in planted), "yes=1")
        for metric, (value, unit) in values.items():
            rows.append(_row(model, one, f"{metric}[{index}]", value, unit, images, layer=layer))
    return rows


def _against(model: str, one: Found, other: Found) -> list[Metric]:
    """Overlap of the first k with those of another data set, with the p of as large a one by chance, and the ranks
    there of the neurons found here.
    """
    k = one.result["top_k"]
    if not (one.result["found"] and other.result["found"]):
        reason = next(x.result["reason"] for x in (one, other) if not x.result["found"])
        return [_row(model, one, "overlap", None, "overlap of top k", k, reference=other.dataset, note=reason)]
    common = len(one.top(k) & other.top(k))
    chance = float(hypergeom.sf(common - 1, one.result["ranked"], k, k))
    rows = [_row(model, one, "overlap", common / k, "overlap of top k", k, reference=other.dataset, p=chance)]
    there, images = other.ranks, other.result["images_ranked"]
    for layer, index in sorted(one.top(SHOWN * k)):
        rank = there.get((layer, index))
        note = None if rank else f"not among the first {len(there)} there"
        value = None if rank is None else float(rank)
        rows.append(
            _row(model, one, f"rank[{index}]", value, "count", images, layer=layer, reference=other.dataset, note=note)
        )
    return rows
