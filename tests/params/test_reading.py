"""Params from files: what is valid, what is refused and in which words, and which job gets what."""

import json

import pytest
import yaml

from helpers.studies import ROOT, STUDIES, load, only
from vit_registers.core.errors import InputError
from vit_registers.params import reading
from vit_registers.params.study import Params
from vit_registers.pipeline import configs, experiment
from vit_registers.pipeline.steps import steps

EMBEDDED = ROOT / "params.yaml"


def changed(text: str) -> Params:
    return load("embedded", yaml.safe_load(text))


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_of_the_repository_is_valid_and_has_a_folder_of_its_own(name):
    study = load(name)
    assert study.study.name == name
    assert len(study.models_used()) == len(set(study.models_used()))


@pytest.mark.parametrize(
    ("name", "said"),
    [("vit-r99", "study.trainings: unknown model 'vit-r99'"), ("planted", "study.trainings: 'planted' is not trained")],
)
def test_what_cannot_be_trained_is_refused_as_a_training(name, said):
    with pytest.raises(InputError, match=said):
        load("embedded", {"study": {"trainings": [name]}})


def test_models_that_are_only_trained_are_made_after_those_of_the_runs():
    runs = [{"dataset": "shapes", "models": ["planted"], "interventions": []}]
    parsed = load("embedded", only({"trainings": ["vit-tiny", "vit-r2"], "runs": runs}))
    assert parsed.models_used() == ["vit-r0", "tagged", "planted", "vit-tiny", "vit-r2"]
    assert parsed.pairs() == [("shapes", "planted")]


@pytest.mark.parametrize("name", ["embedded", "extended", "smoke"])
def test_what_cls_takes_from_some_tokens_is_compared_with_what_it_takes_without_its_skip(name):
    """Not with the model as it is: then the loss of the skip connection would be taken for that of the tokens."""
    study = load(name)
    restricted = {
        (model, condition)
        for dataset, model in study.pairs()
        for condition in study.conditions(dataset, model)[1:]
        if study.interventions[condition].kind == "restrict_cls_attention"
        and not study.interventions[condition].skip
        and condition != "skip-dropped"
    }
    compared = {(c.a.model, c.a.intervention): c.b for c in study.study.comparisons}
    assert restricted
    assert {str(compared[each]) for each in restricted} == {f"{model}/skip-dropped" for model, _ in restricted}
    whole = study.interventions["skip-dropped"]
    assert (whole.to, whole.cls, whole.skip) == ("all", "keep", False)


def test_the_overlay_of_bach2025_is_the_published_run():
    """Table 3 of the paper, and the registers, data sets and seeds of its text."""
    study = load("bach2025")
    trained = {name: study.models[name] for name in study.models_used() if study.models[name].kind == "trained"}
    assert [model.registers for model in trained.values()] == [0, 2, 4, 8, 16]
    assert {model.dataset for model in trained.values()} == {"imagenet"}
    assert study.seed == 0
    recipe = configs.train(study, "deit3-r4").recipe
    assert recipe.architecture.name == "deit3_small_patch16_224"
    published = {"epochs": 800, "batch_size": 256, "lr": 4e-3, "weight_decay": 0.05, "warmup_epochs": 5}
    published |= {"warmup_lr": 1e-6, "drop_path": 0.05, "mixup": 0.8, "cutmix": 1.0, "color_jitter": 0.3}
    assert published.items() <= recipe.model_dump().items()
    assert (recipe.micro_batches, recipe.repeats) == (4, 3)
    assert study.detection.threshold_rule == "percentile"
    assert (study.detection.threshold, study.settings("single_tokens").high_percentile) == (98, 98)
    assert {run.dataset for run in study.study.runs} == {"imagenette", "caltech101", "flowers102", "cifar10", "voc07"}
    tokens = study.settings("single_tokens")
    assert (len(tokens.seeds), tokens.hidden, tokens.epochs) == (3, 1536, 5)


PROBE = "experiments: {classification: {probe: {%s}}}"
RUN = (
    "study: {detections: [], comparisons: [{question: x, a: vit-r0/ttr-4, b: vit-r0/baseline}], "
    "runs: [{dataset: shapes, models: [vit-r0], interventions: [ttr-4], experiments: %s}]}"
)
SHOWING = {name for name, (_, each) in experiment.measures().items() if "gallery" in each.config.model_fields}
SWEEP = "experiments: {object_discovery: {sweep: {excluded: %s}}}"


@pytest.mark.parametrize(
    ("change", "key", "expected"),
    [
        ("experiments: {clasification: {}}", "experiments.clasification", "unknown key"),
        ("extraction: {cls_blocks: 1}", "experiments.classification.linear_evaluation.blocks", "raise it"),
        ("study: {name: a/b}", "study.name", "pattern"),
        (RUN % "[register_neurons]", "study.comparisons", "no run has the experiment 'comparisons'; add it"),
        (PROBE % "lrr: 1", "experiments.classification.probe.lrr", "unknown key"),
        (PROBE % "lr: 1e-2", "experiments.classification.probe.lr", "write 1.0e-02"),
        (PROBE % "lr: -1.0", "experiments.classification.probe.lr", "greater than 0"),
        (PROBE % "epochs: 2.5", "experiments.classification.probe.epochs", "integer"),
        (
            "experiments: {dense_prediction: {train_share: 1.0}}",
            "experiments.dense_prediction.train_share",
            "less than 1",
        ),
        (
            "experiments: {zero_shot: {templates: all}}",
            "experiments.zero_shot.templates",
            "expected openai, simple, or a list",
        ),
        (
            "experiments: {zero_shot: {templates: [a photo]}}",
            "experiments.zero_shot.templates",
            "with {} in each, got ['a photo']",
        ),
        ("experiments: {object_discovery: {lost: {centre: 1}}}", "experiments.object_discovery.lost.centre", "boolean"),
        (SWEEP % "[nobody]", "experiments.object_discovery.sweep.excluded", "no model is called nobody"),
        ("seed: zero", "seed", "integer"),
        ("models: {vit-r0: {registers: many}}", "models.vit-r0.registers", "integer"),
        ("models: {vit-r0: {recipe: large}}", "models.vit-r0.recipe", "unknown recipe 'large'"),
        ("models: {a/b: {kind: timm, name: x}}", "models.a/b", "pattern"),
        ("models: {a: {kind: timmy}}", "models.a", "'file', 'openclip', 'pixels', 'planted'"),
        ("models: {planted: {base: vit-r0}}", "models.planted.base", "tagged model"),
        ("datasets: {a: {kind: voc, path: x, train: null}}", "datasets.a.train", "valid string, got None"),
        ("datasets: {a: {kind: coco, images: x, annotations: y, rare: keep}}", "datasets.a.rare", "'refuse' or 'drop'"),
        ("datasets: {a: {kind: cifar10, download: 1}}", "datasets.a.download", "boolean"),
        ("datasets: {a: {kind: cifar10, train: 50001}}", "datasets.a.train", "less than or equal to 50000"),
        ("datasets: {a: {kind: cifar100, train: 199}}", "datasets.a", "train: expected at least 200 images for 100"),
        ("datasets: {a: {kind: cifar10, test: 9}}", "datasets.a", "test: expected at least 10 images for 10 classes"),
        ("models: {planted-48: {base: nobody}}", "models.planted-48.base", "unknown model 'nobody'"),
        ("models: {planted-48: {base: planted-48-plain}}", "models.planted-48.base", "is resized itself"),
        ("models: {planted-48: {base: planted-48}}", "models.planted-48.base", "is made from itself"),
        ("models: {planted-48: {positions: {offset: 0.1}}}", "models.planted-48.positions", "take one of them"),
        ("models: {a: {kind: resized, base: planted}}", "models.a.image_size", "missing"),
        (
            "models: {vit-tiny: {architecture: {patch_size: 4}}}",
            "models.vit-tiny.architecture.patch_size",
            "unknown key",
        ),
        ("models: {vit-tiny: {architecture: {width: 0}}}", "models.vit-tiny.architecture.width", "greater than"),
        ("interventions: {baseline: {kind: append, tokens: 1}}", "interventions.baseline", "taken"),
        ("recipes: {small: {monitored_maps: 251}}", "recipes.small", "monitored_maps: expected at most the 250"),
        ("recipes: {small: {augmentation: mixup}}", "recipes.small.augmentation", "'dihedral', 'mirror', 'crop'"),
        (
            "recipes: {small: {architecture: {layer_scale: 0.0}}}",
            "recipes.small.architecture.layer_scale",
            "greater than 0",
        ),
        ("recipes: {small: {kind: dinov2}}", "recipes.small", "'deit3', 'dino', 'late_register', 'small'"),
        (
            "study: {runs: [{dataset: shapes, models: [planted], interventions: [ttr-4-again]}], comparisons: []}",
            "study.runs[0].interventions",
            "'ttr-4-again' moves neurons of 2 rounds of detection, 'planted' has 1; set detection_overrides.planted",
        ),
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
    content = reading.read_yaml(EMBEDDED)
    del content["experiments"]["classification"]["probe"]["lr"]
    with pytest.raises(InputError, match=r"^params\.yaml: experiments\.classification\.probe\.lr: missing"):
        reading.parse(content)


def test_the_search_changes_one_thing_at_a_time():
    study = load("emergence")
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
    assert {study.models[name].recipe for name in wanted} == recipes.keys() - load("embedded").recipes.keys()
    sized = [m for m in wanted if study.models[m].architecture.given]
    assert {study.models[m].recipe for m in sized} == {"supervised"}
    assert {m for m in wanted if study.models[m].registers} == {"vit-s-r4", "dino-s-r4"}


def test_a_key_given_twice_is_refused_unless_an_anchor_brought_it(tmp_path):
    (tmp_path / "p.yaml").write_text("seed: 1\nseed: 2\n")
    with pytest.raises(InputError, match="line 2: key 'seed' is given twice"):
        reading.read_yaml(tmp_path / "p.yaml")
    (tmp_path / "p.yaml").write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n")
    assert reading.read_yaml(tmp_path / "p.yaml") == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}}
    (tmp_path / "p.yaml").write_text("a: &a {x: 1}\nb: {<<: *a, y: 3, y: 4}\n")
    with pytest.raises(InputError, match="line 2: key 'y' is given twice"):
        reading.read_yaml(tmp_path / "p.yaml")


@pytest.mark.parametrize("text", ["a: [", "- 1\n- 2\n", ""])
def test_files_that_hold_no_mapping_are_refused(tmp_path, text):
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(InputError, match=r"p\.yaml: "):
        reading.read_yaml(tmp_path / "p.yaml")


def test_paths_that_are_not_there_are_refused_before_anything_runs():
    study = changed("datasets: {shapes: {kind: folder, path: /no/such/disk}}".replace("shapes", "mine"))
    reading.check_paths(study)  # no run uses it
    study = changed("{datasets: {mine: {kind: folder, path: /no/such/disk}}, models: {vit-r0: {dataset: mine}}}")
    with pytest.raises(InputError, match=r"datasets\.mine\.path: no such path '/no/such/disk'"):
        reading.check_paths(study)


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
        reading.check_paths(study)


def test_the_archive_of_cifar_is_not_looked_for_as_a_clone_with_prepared_data_needs_none():
    reading.check_paths(changed("{datasets: {c: {kind: cifar10, path: /no/such}}, models: {vit-r0: {dataset: c}}}"))


def test_snakemake_and_dvc_read_the_same_numbers():
    """DVC reads YAML 1.2 (ruamel), Snakemake YAML 1.1: 1e-3 is a number to one and text to the other."""
    from ruamel.yaml import YAML

    for path in [EMBEDDED, *(ROOT / "params").glob("*.yaml")]:
        ours = reading.read_yaml(path)
        theirs = YAML(typ="safe").load(path.read_text())
        assert json.dumps(ours, sort_keys=True) == json.dumps(theirs, sort_keys=True), path


def test_the_params_that_a_study_writes_for_its_jobs_are_read_as_they_were(tmp_path):
    """JSON writes 1e-05, which YAML 1.1 would read as text."""
    study = load("embedded")
    (tmp_path / "params.json").write_text(json.dumps(study.model_dump(mode="json")))
    assert reading.load([tmp_path / "params.json"]) == study
    (tmp_path / "params.json").write_text('{"seed": 1,\n}')
    with pytest.raises(InputError, match=r"params\.json: line 2: not valid JSON"):
        reading.load([tmp_path / "params.json"])


def jobs(study):
    return {
        (name, *axes.values()): step.config(study, **axes)
        for name, step in steps().items()
        for axes in step.jobs(study)
    }


@pytest.mark.parametrize(
    ("change", "redone"),
    [
        (PROBE % "lr: 2.0e-3", {"classification"}),
        ("experiments: {single_tokens: {hidden: 7}}", {"single_tokens"}),
        ("experiments: {object_discovery: {sweep: {layers: [-1]}}}", {"lost_settings"}),
        ("detection: {bootstrap: 7}", {"detect"}),
        ("extraction: {dense_images: 77}", {"extract", "ablate", "lost_settings"}),
        ("recipes: {small: {epochs: 1}}", {"train"}),
        ("models: {vit-r4: {registers: 3}}", {"train"}),
        ("plantings: {background: {images: 7}}", {"plant"}),
        ("study: {title: Another}", set()),
        (SWEEP % "[planted-cls, tagged-late, planted-late, vit-r8]", set()),
        ("processes: 4", set()),
        (
            "gallery: {images: 3}",
            {n for n, (_, m) in experiment.measures().items() if "gallery" in m.config.model_fields},
        ),
    ],
)
def test_a_change_reaches_the_jobs_whose_own_params_have_it(change, redone):
    before, after = jobs(load("embedded")), jobs(changed(change))
    assert before.keys() == after.keys()
    assert {key[0] for key in before if before[key] != after[key]} == redone


def test_a_study_has_the_experiments_that_a_run_has():
    assert changed(RUN % "[comparisons, register_neurons]").experiment_names == ["register_neurons", "comparisons"]
    assert set(changed(RUN % "null").experiment_names) == set(load("embedded").experiment_names)


def test_lost_is_not_swept_on_models_that_are_excluded():
    def swept(study):
        return {key[2] for key in jobs(study) if key[0] == "lost_settings"}

    assert swept(load("embedded")) - swept(changed(SWEEP % "[planted]")) == {"planted"}
    assert "planted-late" in swept(changed(SWEEP % "[]"))


@pytest.mark.parametrize("name", STUDIES)
def test_configs_survive_their_own_json(name):
    for key, config in jobs(load(name)).items():
        assert type(config).model_validate_json(config.model_dump_json()) == config, key


def test_an_override_reaches_only_its_model():
    study = changed("detection_overrides: {planted: {threshold: 5.0}}")
    assert configs.detect(study, "shapes", "planted").detection.threshold == 5.0
    assert configs.detect(study, "shapes", "tagged").detection.threshold == 3.0


def test_bases_come_before_what_is_made_from_them():
    used = load("embedded").models_used()
    assert used.index("vit-r0") < used.index("tagged") < used.index("planted") < used.index("planted-48-plain")


def test_a_resized_model_brings_its_base_and_the_training_of_that():
    study = load("embedded", only({"runs": [{"dataset": "shapes", "models": ["planted-48"], "interventions": []}]}))
    assert study.models_used() == ["vit-r0", "tagged", "planted", "planted-48"]
    assert study.training_dataset("planted-48") == "shapes"
    study = changed("{models: {big: {kind: timm, name: x}, small: {kind: resized, base: big, image_size: [32, 48]}}}")
    assert configs.resize(study, "small").source.size == (32, 48)
    with pytest.raises(InputError, match="not trained by this pipeline"):
        study.training_dataset("small")


def test_another_architecture_is_laid_over_the_recipe_and_changes_its_own_training_only():
    study = load("embedded")
    recipe = study.recipes["small"]
    tiny = configs.train(study, "vit-tiny").recipe
    shape = tiny.architecture
    assert (shape.width, shape.depth, shape.heads) == (64, 4, 1)
    assert (shape.image_size, shape.patch_size) == (recipe.architecture.image_size, recipe.architecture.patch_size)
    assert configs.train(study, "vit-narrow").recipe.architecture.heads == recipe.architecture.heads  # not given
    assert tiny.model_copy(update={"architecture": recipe.architecture}) == recipe
    assert configs.train(study, "vit-r0").recipe == recipe
    after = changed("models: {vit-tiny: {architecture: {width: 32}}}")
    assert configs.train(after, "vit-tiny").recipe.architecture.width == 32
    trained = [m for m in study.models_used() if study.models[m].step == "train" and m != "vit-tiny"]
    assert all(configs.train(after, m) == configs.train(study, m) for m in trained)


COMPARED = {"question": "why", "a": "vit-r4/baseline", "b": "vit-r0/baseline"}


@pytest.mark.parametrize(
    ("compared", "said"),
    [
        ([COMPARED, COMPARED], r"comparisons\[1\]: vit-r4/baseline is compared with vit-r0/baseline already; drop one"),
        ([{**COMPARED, "trainings": True}], r"comparisons\[0\]\.trainings: expected two or more trainings of 'vit-r4'"),
        ([{**COMPARED, "before": "planted/cleared"}], r"comparisons\[0\]: no run has 'planted/cleared'"),
        (
            [{**COMPARED, "trainings": True, "before": "vit-r0/baseline"}],
            r"comparisons\[0\]: before is of one training",
        ),
    ],
)
def test_comparisons_that_cannot_be_made_are_refused(compared, said):
    runs = [{"dataset": "shapes", "models": ["vit-r0", "vit-r4"], "interventions": []}]
    with pytest.raises(InputError, match=said):
        load("embedded", {"study": {"runs": runs, "comparisons": compared, "detections": []}})


def test_a_margin_of_a_metric_that_nothing_measures_is_refused():
    change = {"experiments": {"comparisons": {"margins": {"corlock": 0.1}}}}
    with pytest.raises(InputError, match=r"experiments\.comparisons\.margins: unknown metric 'corlock'; known are "):
        load("embedded", change)


def test_trainings_alike_differ_in_their_draws_alone():
    models = {f"vit-r{r}-x": {"kind": "trained", "dataset": "shapes", "recipe": "small", "registers": r, "draws": "x"}
              for r in (0, 4)}  # fmt: skip
    models["vit-r0-y"] = {**models["vit-r0-x"], "draws": "y"}  # without a pair
    models["vit-r4-own"] = {**models["vit-r4-x"], "draws": "vit-r0"}  # of which vit-r0 is the pair
    models["wide-x"] = {**models["vit-r4-x"], "architecture": {"width": 96}}
    names = ["vit-r0", "vit-r4", "vit-tiny", *models]
    runs = [{"dataset": "shapes", "models": names, "interventions": []}]
    study = {"runs": runs, "comparisons": [{**COMPARED, "trainings": True}], "detections": []}
    params = load("embedded", {"models": models, "study": study})
    alike = params.trained_alike("shapes", params.study.comparisons[0])
    assert alike == [("vit-r4-x", "vit-r0-x"), ("vit-r4-own", "vit-r0")]
    assert [params.origin(name) for name in ("planted-48", "tagged", "vit-r4")] == ["vit-r0", "vit-r0", "vit-r4"]


@pytest.mark.parametrize("change", ["workers: 9", "ahead: 7"])
def test_how_images_are_loaded_is_in_no_job_that_snakemake_compares(change):
    before, after = load("embedded"), changed(f"extraction: {{{change}}}")
    ours, theirs = jobs(before), jobs(after)
    assert {key[0] for key in ours if ours[key] != theirs[key]} >= {"extract", "ablate", "detect", "calibrate"}
    assert all(configs.tracked(ours[key]) == configs.tracked(theirs[key]) for key in ours)


def test_what_snakemake_compares_is_all_else_of_a_job():
    study = load("embedded")
    for job in jobs(study).values():
        whole, kept = job.model_dump(mode="json"), configs.tracked(job)
        for section in (whole, whole.get("extraction", {})):
            for name in ("workers", "ahead", "shards"):
                section.pop(name, None)
        assert kept == whole


def test_jobs_of_a_data_set_in_shards():
    """Its shards, and what joins them, in place of one job; another data set passes as before."""
    study = load("embedded", {"extraction_overrides": {"mosaic": {"shards": 3}}})
    found, before = jobs(study), jobs(load("embedded"))
    sharded = {key for key in before if key[0] in ("extract", "ablate") and key[1] == "mosaic"}
    assert before.keys() - found.keys() == sharded
    shards = [f"{n}-of-3" for n in (1, 2, 3)]
    assert found.keys() - before.keys() == {
        *((f"{name}_join", *pair) for name, *pair in sharded),
        *((f"{name}_shard", *pair, shard) for name, *pair in sharded for shard in shards),
    }
    for name, *pair in sharded:
        joined, whole = found[f"{name}_join", *pair], before[name, *pair]
        assert configs.tracked(joined) == configs.tracked(whole)  # Snakemake sees the same
        for shard in shards:
            assert configs.tracked(found[f"{name}_shard", *pair, shard]) == {**configs.tracked(whole), "shard": shard}


def test_a_shard_that_params_do_not_have_is_refused():
    study = load("embedded", {"extraction": {"shards": 3}})
    with pytest.raises(InputError, match=r"shard '4-of-3': params share data set 'shapes' among 3 .*1-of-3 to 3-of-3"):
        configs.extract_shard(study, "shapes", "vit-r0", "4-of-3")
