"""Energy of trainings and of published tables, and the table of both."""

from pathlib import Path

import pytest

from helpers.measuring import job_of, study_of, written
from helpers.studies import ROOT
from vit_registers.core.errors import InputError
from vit_registers.core.files import write_json
from vit_registers.experiments import training_energy as declared
from vit_registers.experiments.training_energy import measure
from vit_registers.experiments.training_energy.params import Config, TrainingEnergy
from vit_registers.experiments.training_energy.tables import training_energy
from vit_registers.params import reading
from vit_registers.params.statistics import Statistics
from vit_registers.report.templates import latex

PUBLISHED = {"hours": 330.0, "processors": 4, "watts": 400.0, "pue": 1.2, "kwh": 580.0, "kg": 256.4}
SETTINGS = {"watts": {"cpu": 50.0, "cuda": 400.0}, "pue": 1.5, "kg_per_kwh": 0.4, "published": {"bach2025": PUBLISHED}}


def trained(folder, seconds, processes, device="cpu"):
    write_json(folder / "time.json", {"seconds": seconds, "processes": processes, "device": device})
    write_json(folder / "model.json", {"training": {"dataset": "shapes", "steps": 7}})


@pytest.fixture
def models(tmp_path):
    """Models a and b, trained for two hours by one process on a CPU and for half an hour by four on GPUs."""
    trained(tmp_path / "models" / "a", 7200.0, 1)
    trained(tmp_path / "models" / "b", 1800.0, 4, "cuda")
    return tmp_path


def run(root):
    statistics, settings = Statistics(confidence=0.9, resamples=10), TrainingEnergy.model_validate(SETTINGS)
    job = job_of("training_energy", root)
    measure.run(Config(seed=0, statistics=statistics, models=["a", "b"], settings=settings), job)
    return written(job, "training_energy")


def test_measured_hours_times_assumed_factors(models):
    rows = run(models)
    mine = rows[rows["group"] == "measured"]
    assert set(mine["dataset"]) == {"shapes"}
    assert set(mine["n"]) == {7}
    of = mine.set_index(["model", "metric"])["value"]
    assert of["a", "training_hours"] == 2.0
    assert of["a", "energy"] == pytest.approx(2 * 0.050 * 1.5)
    assert of["b", "processor_hours"] == pytest.approx(2.0)
    assert (of["a", "processor_watts"], of["b", "processor_watts"]) == (50.0, 400.0)
    assert of["b", "energy"] == pytest.approx(4 * 0.5 * 0.400 * 1.5)
    assert of["b", "carbon"] == pytest.approx(4 * 0.5 * 0.400 * 1.5 * 0.4)


def test_a_device_without_its_power_is_refused(models):
    trained(models / "models" / "b", 1800.0, 4, "mps")
    with pytest.raises(InputError, match=r"training_energy\.watts: 'b' was trained on 'mps'.*add 'mps: <watts>'"):
        run(models)


@pytest.mark.parametrize("overlay", ["bach2025", "emergence"])
def test_overlays_that_train_on_gpus_book_the_power_of_a_gpu(overlay):
    """65 W for an A100 made the energy of bach2025 six times too low."""
    params = reading.load([ROOT / "params.yaml", ROOT / "params" / f"{overlay}.yaml"])
    assert params.settings("training_energy").watts["cuda"] == 400.0


def test_the_published_table_does_not_follow_from_its_own_factors(models):
    """1,320 hours of 400 W are 528 kWh, and 633.6 at the listed PUE of 1.2; what is listed is right at 1.1."""
    rows = run(models)
    mine = rows[rows["paper"] == "bach2025"]
    assert mine[["dataset", "model"]].isna().all(axis=None)
    assert set(mine["group"]) == {"published"}
    of = mine.set_index("metric")["value"]
    assert of["processor_hours"] == 1320
    assert of["energy"] == pytest.approx(633.6)
    assert of["energy_error"] == pytest.approx(580 / 633.6 - 1)
    assert of["pue_implied"] == pytest.approx(580 / 528)
    assert of["intensity_implied"] == pytest.approx(256.4 / 633.6)
    assert of["intensity_implied_by_listed"] == pytest.approx(0.442, abs=1e-3)


def test_a_training_without_its_time_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"time\.json: no such file"):
        run(tmp_path)


def test_measured_energy_stands_beside_what_is_listed(models):
    rows = run(models)
    frame = training_energy(study_of([rows], ["a"], {"b": 0, "a": 4})).frame()
    assert frame["training"].tolist() == ["ViT b", "ViT a", "bach2025, as published"]
    assert frame["model"].tolist()[:2] == ["b", "a"]
    assert frame["paper"].isna().tolist() == [True, True, False]
    assert frame["energy"].tolist() == pytest.approx([1.2, 0.15, 633.6])
    assert frame["energy_listed"].notna().tolist() == [False, False, True]
    assert frame["carbon"].notna().tolist() == [True, True, False]
    assert "trained nothing" in training_energy(study_of([], ["a"])).latex()


def test_the_methods_state_the_power_of_every_device():
    template = Path(declared.__file__).parent / "methods.tex.j2"
    text = " ".join(latex(template, settings=TrainingEnergy.model_validate(SETTINGS)).split())
    assert r"for each of their processes 50\,W on one thread of a CPU and 400\,W on a GPU, a PUE of 1.5" in text
