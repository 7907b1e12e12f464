import pytest

from vit_registers import params
from vit_registers.core import table as metrics
from vit_registers.core.errors import InputError
from vit_registers.core.files import write_json
from vit_registers.experiments.training_energy import measure as energy
from vit_registers.pipeline.configs import EnergyStep

PUBLISHED = {"hours": 330.0, "processors": 4, "watts": 400.0, "pue": 1.2, "kwh": 580.0, "kg": 256.4}


def step(**changes):
    content = {"watts": 50.0, "pue": 1.5, "kg_per_kwh": 0.4, "published": {"bach2025": PUBLISHED}, **changes}
    return EnergyStep(models=["a", "b"], energy=params.Energy.model_validate(content))


def trained(folder, seconds, processes):
    write_json(folder / "time.json", {"seconds": seconds, "processes": processes, "device": "cpu"})
    write_json(folder / "model.json", {"training": {"dataset": "shapes", "steps": 7}})


def test_measured_hours_times_assumed_factors(tmp_path):
    trained(tmp_path / "a", 7200.0, 1)
    trained(tmp_path / "b", 1800.0, 4)
    energy.run(step(), tmp_path, tmp_path / "out.csv")
    of = metrics.read(tmp_path / "out.csv").set_index(["model", "metric"])["value"]
    assert of["a", "energy"] == pytest.approx(2 * 0.050 * 1.5)
    assert of["b", "processor_hours"] == pytest.approx(2.0)
    assert of["b", "energy"] == pytest.approx(4 * 0.5 * 0.050 * 1.5)
    assert of["b", "carbon"] == pytest.approx(4 * 0.5 * 0.050 * 1.5 * 0.4)


def test_the_published_table_does_not_follow_from_its_own_factors(tmp_path):
    """1,320 hours of 400 W are 528 kWh, and 633.6 at the listed PUE of 1.2; what is listed is right at 1.1."""
    trained(tmp_path / "a", 1.0, 1)
    trained(tmp_path / "b", 1.0, 1)
    energy.run(step(), tmp_path, tmp_path / "out.csv")
    table = metrics.read(tmp_path / "out.csv")
    of = table[table["model"] == "bach2025"].set_index("metric")["value"]
    assert of["processor_hours"] == 1320
    assert of["energy"] == pytest.approx(633.6)
    assert of["energy_error"] == pytest.approx(580 / 633.6 - 1)
    assert of["pue_implied"] == pytest.approx(580 / 528)
    assert of["intensity_implied"] == pytest.approx(256.4 / 633.6)
    assert of["intensity_implied_by_listed"] == pytest.approx(0.442, abs=1e-3)


def test_a_training_without_its_time_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"time\.json: no such file"):
        energy.run(step(), tmp_path, tmp_path / "out.csv")
