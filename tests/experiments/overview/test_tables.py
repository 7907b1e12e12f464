"""The table of models."""

import pytest

from helpers.measuring import study_of
from helpers.studies import Measured
from vit_registers.experiments import overview
from vit_registers.experiments.overview import tables
from vit_registers.params.study import Run
from vit_registers.report.templates import plain


def made(datasets=("shapes",)):
    measured, models = Measured(), ["vit-r0", "clip"]
    for dataset in datasets:
        for model, value in zip(models, (0.6, 0.7), strict=True):
            for condition, less in (("baseline", 0.0), ("append-1", 0.1)):
                at = {"dataset": dataset, "model": model, "intervention": condition}
                measured.add("top1", value - less, feature="cls", head="refitted", **at)
                measured.add("top1", 0.9, feature="cls", head="refitted", seed=0, **at)
                measured.add("top1", value - less - 0.1, feature="patch_mean", head="refitted", **at)
                measured.add("top1", value - less - 0.2, feature="cls", head="knn", **at)
                measured.add("top1", 0.05, feature="cls", head="frozen", **at)
        for head, value in (("lost", 0.4), ("dino_seg", 0.3)):
            measured.add("corloc", value, head=head, dataset=dataset, model="vit-r0", intervention="baseline")
    return study_of(
        [measured.frame()],
        models,
        runs=[Run(dataset=dataset, models=models, interventions=["append-1"]) for dataset in datasets],
        conditions={"baseline": "baseline", "append-1": "1 zero token"},
        made={"vit-r0": "trained here", "clip": "released (OpenCLIP)"},
    )


def test_every_model_as_it_is_with_where_its_weights_come_from():
    frame = tables.models(made()).frame().set_index("model")
    assert frame["condition"].tolist() == ["baseline", "baseline"]
    assert frame["made"].tolist() == ["trained here", "released (OpenCLIP)"]
    columns = ["top1_cls", "top1_patch_mean", "knn_cls"]
    assert frame.loc["vit-r0", columns].tolist() == pytest.approx([0.6, 0.5, 0.4])
    assert frame.loc["clip", columns].tolist() == pytest.approx([0.7, 0.6, 0.5])
    assert frame.loc["vit-r0", "corloc"] == 0.4
    assert frame["corloc"].isna().tolist() == [False, True]


def test_several_data_sets_are_named():
    latex = tables.models(made(("photos", "shapes"))).latex()
    assert "ViT clip on photos & released (OpenCLIP)" in latex
    assert "ViT clip on shapes & released (OpenCLIP)" in latex


def test_the_caption_can_be_filled_in():
    (table,) = overview.EXPERIMENT.tables
    known = {"dense_images": "the first 9 images", "estimates": "Brackets."}
    caption = plain(table.caption, datasets=["photos", "shapes"], **known)
    assert caption.startswith("The models as they are, on photos and shapes; CorLoc on the first 9 images.")
