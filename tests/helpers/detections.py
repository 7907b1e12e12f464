"""What detection leaves behind, made up."""

from pathlib import Path
from typing import Any

import pandas as pd

from helpers.jobs import job
from vit_registers.core.files import write_json
from vit_registers.experiments.job import Job
from vit_registers.experiments.register_neurons import measure
from vit_registers.experiments.register_neurons.params import Config
from vit_registers.params.statistics import Statistics

K, RANKED, IMAGES, PARAMETERS = 3, 12, 60, 7_000_000
LIMIT = 12.0
Neurons = list[tuple[int, int]]  # (layer, index), by rank


def write(root: Path, dataset: str, model: str, order: Neurons, planted: Neurons | None = None) -> None:
    """Files of detection: neurons in order of their rank, among 12 that were ranked; without any, none was found."""
    found = bool(order)
    share = 0.034 if found else 0.0
    result: dict[str, Any] = {
        "found": found,
        "threshold": LIMIT,
        "top_k": K,
        "images": IMAGES,
        "resolution": [64, 48],
        "defined": False,
        "share": share,
        "share_interval": [0.9 * share, 1.1 * share],
        "images_affected": 48 if found else 0,
        "images_affected_interval": [0.7, 0.9] if found else [0.0, 0.0],
        "outlier_layer": 1,
        "share_by_layer": [0.0, share, share],
        "first_layer": 1 if found else None,
    }
    if found:
        result |= {"images_ranked": 50, "ranked": RANKED, "stability": 0.9, "next_ratio": 4.5}
        result |= {"embedded": 0.25, "embedded_interval": [0.2, 0.3]}
        result |= {"next_ratio_interval": [4.0, 5.0], "highest_layer": 2}
    else:
        result["reason"] = f"no artifacts found on {dataset}: 0.00% are not enough"
    if planted:
        hits = len(set(order[:K]) & set(planted))
        result |= {"planted": [list(neuron) for neuron in planted]}
        result |= {"precision": hits / K, "recall": hits / len(planted)}
        result |= {"precision_interval": [0.1, 1.0], "recall_interval": [0.2, 1.0]}
    write_json(root / "registers" / dataset / f"{model}.json", result)
    columns = ["rank", "layer", "index", "score", "frequency_in_top_k"]
    ranking = [[i, *neuron, 10.0 - i, 1.0 / (i + 1)] for i, neuron in enumerate(order)]
    pd.DataFrame(ranking, columns=columns).to_csv(root / "registers" / dataset / f"{model}.neurons.csv", index=False)
    write_json(root / "models" / model / "model.json", {"parameters": PARAMETERS})


def run(root: Path, model: str, datasets: list[str]) -> Job:
    """The measure of what was found in a model on some data sets."""
    made = job("register_neurons", root, model=model)
    cfg = Config(seed=0, statistics=Statistics(confidence=0.95, resamples=10), model=model, datasets=datasets)
    measure.run(cfg, made)
    return made
