"""How like the neurons found random ones are: from what extraction recorded of every condition."""

import json

import numpy as np
import pytest

from helpers.studies import load
from vit_registers.experiments.test_time_registers import measure
from vit_registers.experiments.test_time_registers.params import Config
from vit_registers.extraction import store
from vit_registers.interventions.kinds.chain import Chain
from vit_registers.interventions.kinds.test_time_registers import MovedNeurons, TestTimeRegisters
from vit_registers.params.statistics import Statistics
from vit_registers.pipeline.steps import steps

RATIOS = {"output_norm": [0.01, 0.02, 0.06, 0.03], "activation": [0.9, 1.1, 1.0, 1.2]}


def described(**likeness):
    how = TestTimeRegisters(tokens=1, neurons="random", draws="each_image")
    return MovedNeurons(how, (), None, likeness or None).described()


@pytest.fixture
def conditions(study):
    """Intervention of each condition, as extraction describes it."""
    found = {
        "baseline": None,
        "ttr-1": MovedNeurons(TestTimeRegisters(tokens=1), ((1, 2),)).described(),
        "each": described(**RATIOS),
        "one": described(output_norm=[0.5]),
        "chained": [{"kind": "append"}, described(activation=[2.0, 4.0])],
    }
    dense = study.rows("test")
    for name, intervention in found.items():
        study.write_features(name, {"cls": np.zeros((90, 2), dtype=np.float32)}, dense)
        path = study.folder(name) / "index.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"intervention": intervention}))
    store.write_not_applicable(study.folder("nothing"), "key", "no artifacts found")
    return [*found, "nothing"]


def test_every_condition_that_draws_neurons_has_its_ratios_and_no_other(conditions, job):
    cfg = Config(
        seed=0, statistics=Statistics(confidence=0.9, resamples=10), dataset="tiny", model="m", conditions=conditions
    )
    done = job("random_neurons")
    measure.run(cfg, done)
    rows = done.rows.frame().set_index(["intervention", "metric"])
    assert set(rows.index) == {
        ("each", "drawn_output_norm"), ("each", "drawn_activation"), ("one", "drawn_output_norm"),
        ("chained", "drawn_activation"),
    }  # fmt: skip
    norm = rows.loc[("each", "drawn_output_norm")]
    assert (norm["value"], norm["n"]) == (pytest.approx(0.03), 4)
    ordered = sorted(RATIOS["output_norm"])  # of four numbers quantiles .05 and .95 are .15 of a step from the ends
    assert norm["low"] == pytest.approx(ordered[0] + 0.15 * (ordered[1] - ordered[0]))
    assert norm["high"] == pytest.approx(ordered[3] - 0.15 * (ordered[3] - ordered[2]))
    assert rows.loc[("one", "drawn_output_norm"), "note"] == "one set was drawn"
    assert rows.loc[("chained", "drawn_activation"), "value"] == pytest.approx(3.0)


def test_it_runs_on_models_of_which_random_neurons_are_moved():
    params = load("embedded")
    jobs = steps()["random_neurons"].jobs(params)
    assert jobs == [{"dataset": "shapes", "model": model} for model in ("planted", "planted-late")]
    assert Chain(of=[TestTimeRegisters(tokens=1, neurons="random"), TestTimeRegisters(tokens=0)]).draws_neurons
    assert not Chain(of=[TestTimeRegisters(tokens=1), TestTimeRegisters(tokens=0)]).draws_neurons
