"""What the overlays of the papers have of them, and what overlays can say: extraction by data set, a limit."""

import pytest

from helpers.studies import load
from vit_registers.core.errors import InputError
from vit_registers.params import reading
from vit_registers.params.study import Params
from vit_registers.pipeline import configs
from vit_registers.pipeline.paths import Paths

PAPERS = ["darcet2024", "jiang2025", "bach2025", "kukade2025", "parodi2026", "lappe2025"]


@pytest.fixture(params=PAPERS)
def paper(request: pytest.FixtureRequest) -> Params:
    return load(request.param)


def test_no_overlay_of_a_paper_reads_generated_images(paper: Params) -> None:
    assert not any(paper.datasets[name].generated for name in paper.datasets_used())
    assert all(paper.datasets[name].paths() or name.startswith("cifar") for name in paper.datasets_used())


def test_dinov2_sees_images_as_it_is_evaluated(paper: Params) -> None:
    """Resized to 256 and cropped to 224; at more than that uncropped. Without registers it is resampled its own way."""
    for name in paper.models_used():
        model = paper.models[name]
        if model.kind == "timm" and "dinov2" in model.name:
            assert (model.size, model.resize) in [((224, 224), 256), ((518, 518), 518)], name
            plain = "reg4" not in model.name and "antialiased" not in name
            assert (model.positions.antialias, model.positions.offset) == ((False, 0.1) if plain else (True, 0.0)), name


def test_dinov3_gives_its_cls_token() -> None:
    models = load("parodi2026").models
    assert all(models[name].arguments == {"global_pool": "token"} for name in ("dinov3-s", "dinov3-b"))


@pytest.mark.parametrize(
    ("name", "model", "layer", "threshold", "highest", "top_k"),
    [
        ("jiang2025", "clip-b", -1, 30.0, 5, 10),
        ("jiang2025", "dinov2-l", -2, 150.0, 17, 50),
        ("kukade2025", "clip-b", -1, 30.0, 5, 20),
        ("kukade2025", "dinov2-l", -2, 100.0, 19, 50),
    ],
)
def test_register_neurons_are_sought_as_published(
    name: str, model: str, layer: int, threshold: float, highest: int, top_k: int
) -> None:
    found = load(name).detection_of(model)
    assert (found.threshold_rule, found.threshold, found.outlier_layer) == ("absolute", threshold, layer)
    assert (found.highest_layer, found.top_k, found.images) == (highest, top_k, 1000)


def test_the_probe_of_kukade2025_is_as_published() -> None:
    study = load("kukade2025")
    probe = study.settings("classification").probe
    assert (study.seed, probe.seeds) == (42, [42])
    assert (probe.lr, probe.final_lr, probe.weight_decay, probe.epochs) == (1e-3, 1e-4, 0.05, 50)
    assert (probe.batch_size, probe.clip_norm) == (32, 1.0)


def test_extraction_differs_by_data_set() -> None:
    study = load("embedded", {"extraction_overrides": {"mosaic": {"dense_images": 7, "projections": {}}}})
    own, other = (configs.extract(study, *pair).extraction for pair in (("mosaic", "vit-mosaic"), ("shapes", "vit-r0")))
    assert (own.dense_images, own.projections) == (7, {})
    assert other.dense_images == study.extraction.dense_images
    assert configs.detect(study, "mosaic", "vit-mosaic").batch_size == study.extraction.batch_size


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"nowhere": {}}, "extraction_overrides: unknown data set 'nowhere'"),
        ({"mosaic": {"dens_images": 7}}, "extraction_overrides.mosaic: unknown key 'dens_images'"),
        ({"shapes": {"cls_parts": False}}, "experiments.decoupling.it reads what the pass keeps"),
    ],
)
def test_extraction_that_does_not_fit_is_refused(change: dict[str, dict[str, object]], said: str) -> None:
    with pytest.raises(InputError, match=said):
        load("embedded", {"extraction_overrides": change})


def test_a_limit_is_in_the_config_of_preparation_in_the_folder_and_in_the_title() -> None:
    whole, few = load("embedded"), load("embedded", {"limit": 8})
    assert configs.prepare(whole, "shapes").limit is None
    assert configs.prepare(few, "shapes").limit == 8
    assert (whole.folder, few.folder) == ("embedded", "embedded-limit-8")
    assert Paths(few.folder).results != Paths(whole.folder).results
    assert "a first look at 8 images" in few.title
    assert whole.title == whole.study.title
    with pytest.raises(InputError, match=r"limit: input should be greater than or equal to 4"):
        load("embedded", {"limit": 3})


def test_all_that_is_missing_is_told_a_line_for_each_data_set() -> None:
    sources = {
        "a": {"kind": "voc", "path": "/no/such/voc"},
        "b": {"kind": "coco", "images": "/no/images", "annotations": "/no/such.json"},
    }
    runs = [{"dataset": name, "models": ["vit-r0"], "interventions": []} for name in sources]
    study = load(
        "embedded", {"datasets": sources, "study": {"runs": runs, "detections": [], "comparisons": [], "trainings": []}}
    )
    lines = reading.missing(study)
    assert [line.split(":")[0] for line in lines] == ["datasets.a.path", "datasets.b.images"]
    assert "'/no/images' (nor '/no/such.json')" in lines[1]
