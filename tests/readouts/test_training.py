import pandas as pd
import pytest

from vit_registers import metrics
from vit_registers.errors import InputError
from vit_registers.files import write_json
from vit_registers.readouts import training
from vit_registers.steps import TrainingStep


def test_epochs_stand_where_conditions_do(tmp_path):
    norms = [[epoch, layer, 10.0 * epoch + layer, 20.0, 30.0, 0.01] for epoch in (1, 2, 3) for layer in (0, 1)]
    names = ["epoch", "layer", "norm_median", "norm_p99", "norm_max", "share_above"]
    pd.DataFrame(norms, columns=names).to_csv(tmp_path / "norms.csv", index=False)
    losses = [[step, 0.1, float(step)] for step in range(12)]
    pd.DataFrame(losses, columns=["step", "lr", "loss"]).to_csv(tmp_path / "training.csv", index=False)
    write_json(tmp_path / "model.json", {"training": {"dataset": "shapes", "watched": 40}})
    training.run(TrainingStep(model="m"), tmp_path, tmp_path / "out.csv")
    table = metrics.read(tmp_path / "out.csv")
    assert set(table["readout"]) == {"training"}
    of = table.set_index(["intervention", "metric", "layer"])["value"]
    assert of["epoch 2", "norm_median", 1] == 21.0
    assert of["epoch 3", "share_above", 0] == 0.01
    loss = table[table["metric"] == "loss"].set_index("intervention")
    assert loss["value"].to_dict() == {"epoch 1": 1.5, "epoch 2": 5.5, "epoch 3": 9.5}  # four steps each
    assert set(table["n"][table["metric"] != "loss"]) == {40}


def test_a_model_that_left_no_norms_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"norms\.csv: no such file; train the model again"):
        training.run(TrainingStep(model="m"), tmp_path, tmp_path / "out.csv")
