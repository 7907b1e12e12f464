import json
from pathlib import Path

import pytest
import yaml

from vit_registers import params
from vit_registers.core.errors import InputError
from vit_registers.pipeline import configs as steps

ROOT = Path(__file__).parents[2]
EMBEDDED = ROOT / "params.yaml"


def changed(text: str) -> params.Params:
    return params.parse(params.overlay(params.read_yaml(EMBEDDED), yaml.safe_load(text)))


def test_embedded_params_and_every_overlay_are_valid():
    study = params.load(EMBEDDED)
    assert study.models_used()[:2] == ["vit-r0", "vit-r1"]
    for extra in (ROOT / "params").glob("*.yaml"):
        params.load(EMBEDDED, [extra])


@pytest.mark.parametrize(
    ("name", "said"),
    [("vit-r99", "study.trainings: unknown model 'vit-r99'"), ("planted", "study.trainings: 'planted' is not trained")],
)
def test_what_cannot_be_trained_is_refused_as_a_training(name, said):
    content = params.overlay(params.read_yaml(EMBEDDED), {"study": {"trainings": [name]}})
    with pytest.raises(InputError, match=said):
        params.parse(content)


def test_models_that_are_only_trained_are_made_after_those_of_the_runs():
    study = params.read_yaml(EMBEDDED)["study"] | {"trainings": ["vit-tiny", "vit-r2"]}
    study |= {"runs": [{"dataset": "shapes", "models": ["planted"], "interventions": []}]}
    study |= {"detections": [], "comparisons": []}
    parsed = params.parse(params.read_yaml(EMBEDDED) | {"study": study})
    assert parsed.models_used() == ["vit-r0", "tagged", "planted", "vit-tiny", "vit-r2"]
    assert parsed.pairs() == [("shapes", "planted")]


def test_the_overlay_of_bach2025_is_the_published_run():
    """Table 3 of the paper, and the registers, data sets and seeds of its text."""
    study = params.load(EMBEDDED, [ROOT / "params/bach2025.yaml"])
    trained = {name: study.models[name] for name in study.models_used() if study.models[name].kind == "trained"}
    assert [model.registers for model in trained.values()] == [0, 2, 4, 8, 16]
    assert {model.dataset for model in trained.values()} == {"imagenet"}
    assert study.seed == 0
    recipe = steps.model(study, "deit3-r4").recipe
    assert recipe.architecture.name == "deit3_small_patch16_224"
    published = {"epochs": 800, "batch_size": 256, "lr": 4e-3, "weight_decay": 0.05, "warmup_epochs": 5}
    published |= {"warmup_lr": 1e-6, "drop_path": 0.05, "mixup": 0.8, "cutmix": 1.0, "color_jitter": 0.3}
    assert published.items() <= recipe.model_dump().items()
    assert (recipe.micro_batches, recipe.repeats) == (4, 3)
    assert study.detection.threshold_rule == "percentile"
    assert (study.detection.threshold, study.information.high_percentile) == (98, 98)
    assert {run.dataset for run in study.study.runs} == {"imagenette", "voc07"}
    assert len(study.information.seeds) == 3


@pytest.mark.parametrize(
    ("change", "key", "expected"),
    [
        ("probe: {lrr: 1}", "probe.lrr", "unknown key"),
        ("probe: {lr: 1e-2}", "probe.lr", "write 1.0e-02"),
        ("probe: {lr: -1.0}", "probe.lr", "greater than 0"),
        ("probe: {epochs: 2.5}", "probe.epochs", "integer"),
        ("dense: {train_share: 1.0}", "dense.train_share", "less than 1"),
        ("zero_shot: {templates: all}", "zero_shot.templates", "expected openai, simple, or a list"),
        ("zero_shot: {templates: [a photo]}", "zero_shot.templates", "with {} in each, got ['a photo']"),
        ("lost: {centre: 1}", "lost.centre", "boolean"),
        ("seed: zero", "seed", "integer"),
        ("models: {vit-r0: {registers: many}}", "models.vit-r0.registers", "integer"),
        ("models: {vit-r0: {recipe: large}}", "models.vit-r0.recipe", "unknown recipe 'large'"),
        ("models: {a/b: {kind: timm, name: x}}", "models.a/b", "pattern"),
        ("models: {a: {kind: timmy}}", "models.a", "'file', 'openclip', 'planted'"),
        ("models: {planted: {base: vit-r0}}", "models.planted.base", "tagged model"),
        ("datasets: {a: {kind: voc, path: x, train: null}}", "datasets.a.train", "valid string, got None"),
        ("datasets: {a: {kind: coco, images: x, annotations: y, rare: keep}}", "datasets.a.rare", "'refuse' or 'drop'"),
        ("datasets: {a: {kind: cifar10, download: 1}}", "datasets.a.download", "boolean"),
        ("datasets: {a: {kind: cifar10, train: 50001}}", "datasets.a.train", "less than or equal to 50000"),
        ("datasets: {a: {kind: cifar100, train: 199}}", "datasets.a", "train: expected at least 200 images for 100"),
        ("datasets: {a: {kind: cifar10, test: 9}}", "datasets.a", "test: expected at least 10 images for 10 classes"),
        ("models: {planted-48: {base: nobody}}", "models.planted-48.base", "unknown model 'nobody'"),
        ("models: {planted-48: {base: planted-48-plain}}", "models.planted-48.base", "is resized itself"),
        ("models: {planted-48: {base: planted-48}}", "models.planted-48.base", "is resized itself"),
        ("models: {planted-48: {positions: {offset: 0.1}}}", "models.planted-48.positions", "take one of them"),
        ("models: {a: {kind: resized, base: planted}}", "models.a.image_size", "missing"),
        (
            "models: {vit-tiny: {architecture: {patch_size: 4}}}",
            "models.vit-tiny.architecture.patch_size",
            "unknown key",
        ),
        ("models: {vit-tiny: {architecture: {width: 0}}}", "models.vit-tiny.architecture.width", "greater than"),
        ("interventions: {baseline: {kind: append, tokens: 1}}", "interventions.baseline", "taken"),
        ("recipes: {small: {monitored_maps: 501}}", "recipes.small", "monitored_maps: expected at most the 500"),
        ("recipes: {small: {augmentation: mixup}}", "recipes.small.augmentation", "'dihedral', 'mirror', 'crop'"),
        (
            "recipes: {small: {architecture: {layer_scale: 0.0}}}",
            "recipes.small.architecture.layer_scale",
            "greater than 0",
        ),
        ("recipes: {small: {kind: dinov2}}", "recipes.small", "'deit3', 'dino', 'small'"),
        ("detection_overrides: {planted: {thresh: 1.0}}", "detection_overrides.planted", "unknown key 'thresh'"),
        ("study: {runs: [{dataset: nope, models: [vit-r0], interventions: []}]}", "study.runs[0].dataset", "'nope'"),
        ("study: {runs: [{dataset: shapes, models: [nope], interventions: []}]}", "study.runs[0].models", "'nope'"),
    ],
)
def test_wrong_params_are_refused_in_one_line_naming_key_and_expectation(change, key, expected):
    with pytest.raises(InputError) as refused:
        changed(change)
    message = str(refused.value)
    assert message.startswith(f"params.yaml: {key}: ")
    assert expected in message
    assert "\n" not in message


def test_a_missing_key_is_named():
    content = params.read_yaml(EMBEDDED)
    del content["probe"]["lr"]
    with pytest.raises(InputError, match=r"^params\.yaml: probe\.lr: missing"):
        params.parse(content)


def test_the_search_changes_one_thing_at_a_time():
    study = params.load(EMBEDDED, [ROOT / "params/emergence.yaml"])
    recipes = {name: recipe.model_dump() for name, recipe in study.recipes.items()}
    changed = {
        "supervised": ["short", "long", "layerscale", "decay-0", "decay-30", "plain"],
        "dino": ["long", "ti"],
    }
    for base, variants in changed.items():
        for variant in variants:
            ours, theirs = recipes[f"{base}-{variant}"], recipes[base]
            assert len([key for key in theirs if ours[key] != theirs[key]]) == 1, variant
    wanted = {"vit-s", *study.study.trainings}
    assert set(study.models_used()) == wanted
    assert {study.models[name].recipe for name in wanted} == {name for name in recipes if name != "small"}
    sized = [m for m in wanted if study.models[m].architecture.given]
    assert {study.models[m].recipe for m in sized} == {"supervised"}
    assert {m for m in wanted if study.models[m].registers} == {"vit-s-r4", "dino-s-r4"}


def test_a_key_given_twice_is_refused_unless_an_anchor_brought_it(tmp_path):
    (tmp_path / "p.yaml").write_text("seed: 1\nseed: 2\n")
    with pytest.raises(InputError, match="line 2: key 'seed' is given twice"):
        params.read_yaml(tmp_path / "p.yaml")
    (tmp_path / "p.yaml").write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n")
    assert params.read_yaml(tmp_path / "p.yaml") == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}}
    (tmp_path / "p.yaml").write_text("a: &a {x: 1}\nb: {<<: *a, y: 3, y: 4}\n")
    with pytest.raises(InputError, match="line 2: key 'y' is given twice"):
        params.read_yaml(tmp_path / "p.yaml")


@pytest.mark.parametrize("text", ["a: [", "- 1\n- 2\n", ""])
def test_files_that_hold_no_mapping_are_refused(tmp_path, text):
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(InputError, match=r"p\.yaml: "):
        params.read_yaml(tmp_path / "p.yaml")


def test_paths_that_are_not_there_are_refused_before_anything_runs():
    study = changed("datasets: {shapes: {kind: folder, path: /no/such/disk}}".replace("shapes", "mine"))
    params.check_paths(study)  # no run uses it
    study = changed("{datasets: {mine: {kind: folder, path: /no/such/disk}}, models: {vit-r0: {dataset: mine}}}")
    with pytest.raises(InputError, match=r"datasets\.mine\.path: no such path '/no/such/disk'"):
        params.check_paths(study)


@pytest.mark.parametrize(
    ("source", "key"),
    [
        ("{kind: voc, path: /no/such/disk}", "path"),
        ("{kind: coco, images: /no/such/disk, annotations: /tmp}", "images"),
        ("{kind: coco, images: /tmp, annotations: /no/such/disk}", "annotations"),
        ("{kind: coco, images: /tmp, annotations: /tmp, list: /no/such/disk}", "list"),
    ],
)
def test_every_path_of_a_data_set_of_objects_is_looked_for(source, key):
    study = changed(f"{{datasets: {{mine: {source}}}, models: {{vit-r0: {{dataset: mine}}}}}}")
    with pytest.raises(InputError, match=rf"datasets\.mine\.{key}: no such path '/no/such/disk'"):
        params.check_paths(study)


def test_the_archive_of_cifar_is_not_looked_for_as_a_clone_with_prepared_data_needs_none():
    params.check_paths(changed("{datasets: {c: {kind: cifar10, path: /no/such}}, models: {vit-r0: {dataset: c}}}"))


def test_snakemake_and_dvc_read_the_same_numbers():
    """DVC reads YAML 1.2 (ruamel), Snakemake YAML 1.1: 1e-3 is a number to one and text to the other."""
    from ruamel.yaml import YAML

    for path in [EMBEDDED, *(ROOT / "params").glob("*.yaml")]:
        ours = params.read_yaml(path)
        theirs = YAML(typ="safe").load(path.read_text())
        assert json.dumps(ours, sort_keys=True) == json.dumps(theirs, sort_keys=True), path


def test_a_slice_changes_with_its_own_params_only():
    before = params.load(EMBEDDED)
    after = changed("probe: {lr: 2.0e-3}")
    for dataset, model in before.pairs():
        assert steps.probe(before, dataset, model) != steps.probe(after, dataset, model)
        for same in (steps.lost, steps.tokens, steps.detect):
            assert same(before, dataset, model) == same(after, dataset, model)
        assert steps.model(before, model) == steps.model(after, model)


def test_slices_survive_their_own_json():
    study = params.load(EMBEDDED)
    for part in (
        steps.prepare(study, "shapes"),
        steps.model(study, "vit-r4"),
        steps.model(study, "planted"),
        steps.model(study, "planted-48-plain"),
        steps.model(study, "vit-tiny"),
        steps.extract(study, "shapes", "planted", ablated=True),
        steps.detect(study, "shapes", "planted"),
        steps.probe(study, "shapes", "planted"),
        steps.lost(study, "shapes", "planted"),
        steps.compare(study, "shapes"),
        steps.view(study),
        steps.report(study),
    ):
        assert type(part).model_validate_json(part.model_dump_json()) == part


def test_an_override_reaches_only_its_model():
    study = changed("detection_overrides: {planted: {threshold: 5.0}}")
    assert steps.detect(study, "shapes", "planted").detection.threshold == 5.0
    assert steps.detect(study, "shapes", "tagged").detection.threshold == 3.0


def test_bases_come_before_what_is_made_from_them():
    used = params.load(EMBEDDED).models_used()
    assert used.index("vit-r0") < used.index("tagged") < used.index("planted") < used.index("planted-48")


def test_a_resized_model_brings_its_base_and_the_training_of_that():
    runs = (
        "study: {runs: [{dataset: shapes, models: [planted-48], interventions: []}], detections: [], comparisons: []}"
    )
    study = changed(runs)
    assert study.models_used() == ["vit-r0", "tagged", "planted", "planted-48"]
    assert study.training_dataset("planted-48") == "shapes"
    study = changed("{models: {big: {kind: timm, name: x}, small: {kind: resized, base: big, image_size: [32, 48]}}}")
    assert steps.model(study, "small").source.size == (32, 48)
    with pytest.raises(InputError, match="not trained by this pipeline"):
        study.training_dataset("small")


def test_another_architecture_is_laid_over_the_recipe_and_changes_its_own_training_only():
    study = params.load(EMBEDDED)
    recipe = study.recipes["small"]
    tiny = steps.model(study, "vit-tiny").recipe
    shape = tiny.architecture
    assert (shape.width, shape.depth, shape.heads) == (64, 4, 1)
    assert (shape.image_size, shape.patch_size) == (recipe.architecture.image_size, recipe.architecture.patch_size)
    assert steps.model(study, "vit-narrow").recipe.architecture.heads == recipe.architecture.heads  # not given
    assert tiny.model_copy(update={"architecture": recipe.architecture}) == recipe
    assert steps.model(study, "vit-r0").recipe == recipe
    after = changed("models: {vit-tiny: {architecture: {width: 32}}}")
    assert steps.model(after, "vit-tiny").recipe.architecture.width == 32
    assert all(steps.model(after, m) == steps.model(study, m) for m in study.models_used() if m != "vit-tiny")
