"""The step that puts what was watched during a training into the tidy table: loss and patch norms by epoch."""

from pathlib import Path

import pandas as pd

from vit_registers import metrics
from vit_registers.errors import InputError
from vit_registers.files import read_json
from vit_registers.metrics import Metric
from vit_registers.steps import TrainingStep

UNITS = {"norm_median": "L2 norm", "norm_p99": "L2 norm", "norm_max": "L2 norm", "share_above": "share of patches"}


def run(cfg: TrainingStep, model: Path, out: Path) -> None:
    """Write rows of the tidy table to ``out`` from what training left in the folder ``model``.

    The epoch stands where a condition does: ``epoch 3`` is the model after three.
    """
    for name in ("norms.csv", "training.csv"):
        if not (model / name).is_file():
            raise InputError(f"{model / name}: no such file; train the model again")
    norms, losses = pd.read_csv(model / "norms.csv"), pd.read_csv(model / "training.csv")["loss"].to_numpy()
    card = read_json(model / "model.json")["training"]
    epochs = int(norms["epoch"].max())
    rows = [
        Metric(
            cfg.model,
            card["dataset"],
            f"epoch {epoch}",
            "training",
            metric,
            value,
            unit,
            card["watched"],
            layer=int(layer),
        )
        for metric, unit in UNITS.items()
        for epoch, layer, value in zip(norms["epoch"], norms["layer"], norms[metric], strict=True)
    ]
    for epoch, of_epoch in enumerate(losses.reshape(epochs, -1)):
        where = (cfg.model, card["dataset"], f"epoch {epoch + 1}", "training")
        rows.append(Metric(*where, "loss", float(of_epoch.mean()), "cross-entropy, mean over steps", len(of_epoch)))
    metrics.write(metrics.frame(rows), out)
