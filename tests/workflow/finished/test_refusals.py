"""Wrong input: one clear line, a status that is not zero, and nothing half-written."""

import shutil

import pytest

from vit_registers.data.images import load_image

pytestmark = pytest.mark.pipeline


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            "experiments: {classification: {knn: {kk: 1}}}",
            "error: params.yaml: experiments.classification.knn.kk: unknown key",
        ),
        (
            "experiments: {classification: {probe: {lr: 1e-2}}}",
            "error: params.yaml: experiments.classification.probe.lr: input should be a valid number, got '1e-2'",
        ),
        (
            "models: {vit-r0: {registers: few}}",
            "error: params.yaml: models.vit-r0.registers: input should be a valid integer",
        ),
        ("study: {runs: [{dataset: shapes, models: [vit-r3], interventions: []}]}", "unknown model 'vit-r3'"),
        ("study: {runs: [{dataset: circles, models: [vit-r0], interventions: []}]}", "unknown data set 'circles'"),
        ("datasets: {shapes: {kind: folder}}", "error: params.yaml: datasets.shapes"),
    ],
)
def test_wrong_params_stop_before_any_job(fresh, change, expected):
    fresh.change(change)
    output = fresh.snakemake("--cores", "1", status=2)
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert expected in errors[0]
    assert not (fresh.path / "data/prepared").exists()


def test_a_disk_path_that_is_not_there_stops_before_any_job(fresh):
    fresh.change("{datasets: {mine: {kind: folder, path: /no/such/disk}}, models: {vit-r0: {dataset: mine}}}")
    assert "error: params.yaml: datasets.mine.path: no such path '/no/such/disk'" in fresh.snakemake(status=2)


def test_a_model_name_that_timm_does_not_know_fails_with_its_one_line_last(fresh):
    fresh.change("models: {mine: {kind: timm, name: vit_smal_patch16_224, weights: random}}")
    fresh.change(
        "study: {detections: [], comparisons: [], runs: [{dataset: shapes, models: [mine], interventions: []}]}"
    )
    output = fresh.snakemake("--cores", "1", "--", "results/smoke/models/mine/model.json", status=1)
    last = [line for line in output.splitlines() if line.startswith("error: ")][-1]
    assert "vit_smal_patch16_224" in last
    assert "vit_small_patch16_224" in last  # what was probably meant
    assert not (fresh.path / "results/smoke/models/mine/model.json").exists()


def test_an_unreadable_image_fails_before_any_computing_with_its_name(fresh, finished):
    source = sorted((finished.path / "data/prepared/smoke/shapes").rglob("*.png"))[:6]
    for i, path in enumerate(source):
        load_image(path)
        folder = fresh.path / "photos" / f"class{i % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / f"{i}.png")
    (fresh.path / "photos/class0/0.png").write_bytes(b"not an image")
    fresh.change("{datasets: {mine: {kind: folder, path: photos}}, models: {vit-r0: {dataset: mine}}}")
    output = fresh.snakemake("--cores", "1", "--", "data/prepared/smoke/mine/dataset.json", status=1)
    last = [line for line in output.splitlines() if line.startswith("error: ")][-1]
    assert "0.png" in last
    assert not (fresh.path / "data/prepared/smoke/mine/dataset.json").exists()
