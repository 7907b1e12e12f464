"""What heads a run fits decides under which conditions training images pass."""

import pytest

from helpers.studies import load
from vit_registers.core.errors import InputError
from vit_registers.pipeline import configs

RUN = {"dataset": "shapes", "models": ["vit-r0"], "interventions": ["append-4", "ttr-4"]}


def study(heads, **changes):
    runs = [{**RUN, "heads": heads}]
    return load("embedded", {"study": {"runs": runs, "detections": [], "comparisons": []}, **changes})


@pytest.mark.parametrize(
    ("heads", "of_baseline", "of_interventions"),
    [("refitted", False, [False, False]), ("frozen", False, [True, True]), ("none", True, [True, True])],
)
def test_training_images_pass_where_heads_are_fitted(heads, of_baseline, of_interventions):
    params = study(heads)
    left_out = configs.extract(params, dataset="shapes", model="vit-r0").extraction.frozen_only
    assert ("baseline" in left_out) == of_baseline
    left_out = configs.ablate(params, dataset="shapes", model="vit-r0").extraction.frozen_only
    assert [name in left_out for name in RUN["interventions"]] == of_interventions


def test_what_one_run_leaves_out_is_no_matter_of_another():
    params = load("embedded")
    heads = {(run.dataset, model): run.heads for run in params.study.runs for model in run.models}
    assert set(heads.values()) == {"refitted", "frozen", "none"}
    for (dataset, model), of_run in heads.items():
        left_out = configs.extract(params, dataset=dataset, model=model).extraction.frozen_only
        assert ("baseline" in left_out) == (of_run == "none"), model


def test_second_views_pass_where_an_experiment_of_the_run_reads_them():
    runs = [
        {**RUN, "experiments": ["overview", "correspondence"]},
        {**RUN, "models": ["vit-r4"], "experiments": ["overview", "geometry"]},
        {**RUN, "models": ["tagged"]},  # all that there are settings of
    ]
    change = {"study": {"runs": runs, "detections": [], "comparisons": []}, "extraction": {"pairs": 7}}
    params = load("embedded", change)
    found = {
        model: {
            step(params, dataset="shapes", model=model).extraction.pairs for step in (configs.extract, configs.ablate)
        }
        for model in ("vit-r0", "vit-r4", "tagged")
    }
    assert found == {"vit-r0": {7}, "vit-r4": {0}, "tagged": {7}}


@pytest.mark.parametrize("heads", ["frozen", "none"])
def test_dense_images_of_the_training_split_have_to_pass(heads):
    split = {"extraction": {"dense_split": "train", "train_dense_images": 0, "frozen_only": []}}
    off = {"experiments": {"single_tokens": None}}
    with pytest.raises(InputError, match=rf"study\.runs\[0\]\.heads: '{heads}' leaves out images of split train"):
        study(heads, **split, **off)


def test_the_baseline_is_left_out_by_run_alone():
    with pytest.raises(InputError, match=r"extraction\.frozen_only: heads are fitted to baseline; take it out"):
        load("embedded", {"extraction": {"frozen_only": ["baseline"]}})
