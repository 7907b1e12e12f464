"""What detection found: outlier patches, the neurons behind them, and whether other data sets find the same ones."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vit_registers.core.doors import read_json, read_table
from vit_registers.core.table import Rows
from vit_registers.experiments.job import Job
from vit_registers.experiments.register_neurons.params import Config
from vit_registers.params.condition import BASELINE

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
        result = read_json(path, missing="run detection first")
        columns = ("rank", "layer", "index", "score", "frequency_in_top_k")
        ranking = read_table(path.with_suffix(".neurons.csv"), *columns, missing="run detection first")
        return cls(dataset, result, ranking.to_dict("records"))

    @property
    def axes(self) -> dict[str, Any]:
        """Axes of what was found here: in the model as it is."""
        return {"dataset": self.dataset, "intervention": BASELINE}

    @property
    def ranks(self) -> dict[Neuron, int]:
        """Rank from 1 of every neuron that is listed."""
        return {(row["layer"], row["index"]): row["rank"] + 1 for row in self.ranking}

    def top(self, k: int) -> set[Neuron]:
        """The first ``k`` neurons."""
        return {neuron for neuron, rank in self.ranks.items() if rank <= k}


def run(cfg: Config, job: Job) -> None:
    """Fill the rows from what detection wrote for the model on every data set."""
    parameters = int(read_json(job.model / "model.json", "parameters")["parameters"])
    found = [Found.read(job.registers, dataset, cfg.model) for dataset in cfg.datasets]
    for one in found:
        _artifacts(job.rows, one, parameters)
        _detected(job.rows, one)
        _neurons(job.rows, one)
        for other in found:
            if other is not one:
                _overlap(job.rows, one, other)
                _ranks_there(job.rows, one, other)


def _artifacts(rows: Rows, one: Found, parameters: int) -> None:
    """Patches above the threshold at the outlier layer and at every block; to find none is a result.

    A percentile finds none and does not miss any: what it marks is no artifact, and has no row as one.
    """
    n = one.result["images"]
    _looked_at(rows, one, parameters)
    if one.result["defined"]:
        rows.absent(["artifacts_found", "detected_artifact_share", "images_affected"], one.result["reason"], **one.axes)
        return
    result, (low, high) = one.result, one.result["share_interval"]
    rows.add("artifacts_found", float(result["found"]), n, note=result.get("reason"), **one.axes)
    rows.add("detected_artifact_share", result["share"], n, low=low, high=high, **one.axes)
    low, high = result["images_affected_interval"]
    rows.add("images_affected", result["images_affected"] / n, n, low=low, high=high, **one.axes)
    for layer, share in enumerate(result["share_by_layer"]):
        rows.add("artifact_share_by_layer", share, n, layer=layer, **one.axes)
    if result["first_layer"] is not None:
        rows.add("first_artifact_layer", float(result["first_layer"]), n, **one.axes)


def _looked_at(rows: Rows, one: Found, parameters: int) -> None:
    """What a share of outliers depends on: threshold, block, input size, model."""
    result, n = one.result, one.result["images"]
    rows.add("detection_threshold", result["threshold"], n, **one.axes)
    rows.add("outlier_layer", float(result["outlier_layer"]), n, **one.axes)
    for side, pixels in zip(("input_height", "input_width"), result["resolution"], strict=True):
        rows.add(side, float(pixels), n, **one.axes)
    rows.add("parameters", float(parameters), n, **one.axes)


def _detected(rows: Rows, one: Found) -> None:
    """What no neuron made; how sure the first ones are, and where the model was planted, how many are planted."""
    if "embedded" in one.result:
        low, high = one.result["embedded_interval"]
        rows.add(
            "embedded_artifacts", one.result["embedded"], one.result["images_affected"], low=low, high=high, **one.axes
        )
    for name in ("stability", "next_ratio", "precision", "recall"):
        if name in one.result:
            low, high = one.result.get(f"{name}_interval", (None, None))  # stability is itself over resamples
            rows.add(f"neuron_{name}", one.result[name], one.result["images_ranked"], low=low, high=high, **one.axes)
    if "highest_layer" in one.result:
        rows.add("highest_ranked_layer", float(one.result["highest_layer"]), one.result["images_ranked"], **one.axes)


def _neurons(rows: Rows, one: Found) -> None:
    """Rank, score, stability and whether planted, of the first neurons."""
    result = one.result
    if not result["found"]:
        rows.absent(["neuron_rank"], result["reason"], found_on=one.dataset, **one.axes)
        return
    images = result["images_ranked"]
    planted = {(layer, index) for layer, index in result.get("planted", [])}
    for neuron in one.ranking[: SHOWN * result["top_k"]]:
        layer, index = neuron["layer"], neuron["index"]
        axes: dict[str, Any] = {"layer": layer, "item": index, **one.axes}
        rows.add("neuron_rank", neuron["rank"] + 1.0, images, found_on=one.dataset, **axes)
        rows.add("neuron_score", neuron["score"], images, **axes)
        rows.add("neuron_frequency", neuron["frequency_in_top_k"], images, **axes)
        if planted:
            rows.add("neuron_planted", float((layer, index) in planted), images, **axes)


def _overlap(rows: Rows, one: Found, other: Found) -> None:
    """Share of the first k neurons of one data set that are among those of the other."""
    k = one.result["top_k"]
    if not (one.result["found"] and other.result["found"]):
        reason = next(each.result["reason"] for each in (one, other) if not each.result["found"])
        rows.absent(["neuron_overlap"], reason, found_on=one.dataset, **other.axes)
        return
    common = len(one.top(k) & other.top(k))
    rows.add("neuron_overlap", common / k, k, found_on=one.dataset, **other.axes)


def _ranks_there(rows: Rows, one: Found, other: Found) -> None:
    """The ranks that the neurons of one data set have on the other, where both have some."""
    if not (one.result["found"] and other.result["found"]):
        return
    there = other.ranks
    for layer, index in sorted(one.top(SHOWN * one.result["top_k"])):
        axes: dict[str, Any] = {"found_on": one.dataset, "layer": layer, "item": index, **other.axes}
        rank = there.get((layer, index))
        if rank is None:
            rows.absent(["neuron_rank"], f"not among the first {len(there)} there", **axes)
        else:
            rows.add("neuron_rank", float(rank), other.result["images_ranked"], **axes)
