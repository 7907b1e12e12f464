"""Classes told by their names, against OpenCLIP's own way from pixels and prompts to cosines."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import open_clip
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from vit_registers.core.errors import InputError
from vit_registers.core.seeds import derive
from vit_registers.data.manifest import Manifest
from vit_registers.experiments.zero_shot import EXPERIMENT, measure
from vit_registers.experiments.zero_shot.params import Config, ZeroShot
from vit_registers.extraction import store
from vit_registers.models import backbone, fetch
from vit_registers.models.openclip import text
from vit_registers.models.preprocess import load_pixels
from vit_registers.models.sources.openclip import OpenClipModel
from vit_registers.models.sources.trained import TrainedModel
from vit_registers.params.statistics import Statistics
from vit_registers.pipeline.configs import FetchConfig

SOURCE = OpenClipModel(kind="openclip", name="tiny-clip", pretrained=None)
# A real architecture of OpenCLIP, made small; its random embeddings are scaled up so that images differ.
CONFIG = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
TEMPLATES = ["a photo of a {}.", "art of the {}.", "{}, of which a {} is one"]
REASON = "no artifacts found: 0.00% of the patches exceed 12"


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-clip", CONFIG)


def config(conditions=("baseline", "append-2", "ttr-4"), **changes):
    values = {"seed": 0, "dataset": "tiny", "model": "m", "conditions": list(conditions), "device": "cpu"}
    settings, statistics = ZeroShot(templates=TEMPLATES), Statistics(confidence=0.9, resamples=300)
    return Config(**{**values, "source": SOURCE, "settings": settings, "statistics": statistics, **changes})


@pytest.fixture
def made(study):
    """The model, and [CLS] as the pass through timm's module leaves it; in ``append-2`` that of other images."""
    fetch.run(FetchConfig(seed=0, name="m", source=SOURCE), study.root / "model")
    loaded = backbone.load(study.root / "model")
    data = Manifest.load(study.data)
    pixels, _ = load_pixels(data, np.arange(len(study.table)), loaded.preprocess)
    with torch.inference_mode():
        tokens = loaded.module.forward_features(loaded.preprocess.normalise(pixels))
    cls = tokens[:, loaded.layout.cls_slice].squeeze(1).numpy()
    study.write_features("baseline", {"cls": cls}, study.rows("test"))
    study.write_features("append-2", {"cls": np.roll(cls, 1, axis=0)}, study.rows("test"))
    store.write_not_applicable(study.folder("ttr-4"), "key", REASON)
    return study


@pytest.fixture
def run(made, job):
    """Function that measures: its rows, and the values by image."""

    def run(cfg=None, out="out"):
        one = job("zero_shot", out)
        measure.run(cfg or config(), one)
        one.write(images=True, arrays=False)
        return one.rows.frame(), pd.read_parquet(one.out / "images.parquet")

    return run


def end_to_end(study, templates):
    """Cosines (m, classes) by OpenCLIP alone: encode_image of pixels, encode_text of one prompt at a time."""
    with torch.random.fork_rng():
        torch.manual_seed(derive(0, "weights", "m"))
        model = open_clip.create_model("tiny-clip", pretrained=None).eval()
    tokenizer, data = open_clip.get_tokenizer("tiny-clip"), Manifest.load(study.data)
    preprocess = backbone.load(study.root / "model").preprocess
    pixels, labels = load_pixels(data, data.rows("test"), preprocess)
    cosines = []
    with torch.inference_mode():
        image = model.encode_image(preprocess.normalise(pixels))
        for name in data.classes:
            units = []
            for template in templates:
                one = model.encode_text(tokenizer([template.replace("{}", name)]))[0]
                units.append(one / one.norm())
            mean = torch.stack(units).mean(0)
            cosines.append((image @ (mean / mean.norm())) / image.norm(dim=1))
    return torch.stack(cosines, dim=1), labels


def test_the_way_through_cached_features_is_that_of_openclip_from_end_to_end(made, run):
    cosines, labels = end_to_end(made, TEMPLATES)
    clip = SOURCE.both_towers("m", derive(0, "weights", "m"))
    with torch.inference_mode():
        tokenizer = open_clip.get_tokenizer("tiny-clip")
        classes = text.class_embeddings(clip, tokenizer, ["a", "b", "c"], TEMPLATES)
        cls = torch.from_numpy(store.Features.open(made.folder("baseline")).array("cls")[made.rows("test")])
        ours = text.image_embeddings(clip, cls, "m") @ classes.T
        found = measure.probabilities(clip, cls, classes, "m")
    assert torch.allclose(ours, cosines, atol=1e-5)
    assert cosines.std() > 1e-3
    assert torch.allclose(found, (cosines.double() / 0.07).softmax(1), atol=1e-4)  # CLIP starts at a temperature of .07
    rows, images = run()
    predicted = cosines.argmax(1)
    top1 = rows[(rows["intervention"] == "baseline") & (rows["metric"] == "zero_shot_top1")].iloc[0]
    assert top1["value"] == pytest.approx(float((predicted == labels).double().mean()))
    assert (top1["n"], top1["unit"]) == (30, "share")
    assert top1["low"] <= top1["value"] <= top1["high"]
    mine = images[images["intervention"] == "baseline"].set_index("image_id")["value"]
    ids = made.table["image_id"][made.rows("test")]
    assert mine.loc[ids].tolist() == (predicted == labels).double().tolist()


def test_openclips_own_zero_shot_classifier_gives_the_same_classes():
    clip = SOURCE.both_towers("m", 3)
    tokenizer, names = open_clip.get_tokenizer("tiny-clip"), ["dark red", "bright blue"]
    theirs = open_clip.build_zero_shot_classifier(clip, tokenizer, names, open_clip.OPENAI_IMAGENET_TEMPLATES)
    with torch.inference_mode():
        ours = text.class_embeddings(clip, tokenizer, names, "openai")
    assert torch.allclose(ours, theirs.T, atol=1e-5)
    assert not torch.allclose(ours[0], ours[1], atol=1e-3)


def test_prompts():
    assert len(text.prompts("openai", "cat")) == 80
    assert len(text.prompts("simple", "cat")) == 7
    assert text.prompts(["{x} of a {}"], "polar_bear") == ["{x} of a polar bear"]


def test_every_condition_has_its_numbers_or_says_why_not(run):
    rows, images = run()
    assert rows.loc[rows["intervention"] == "ttr-4", "note"].tolist() == [REASON]
    measured = rows[rows["value"].notna()]
    assert set(measured["intervention"]) == {"baseline", "append-2"}
    assert measured["low"].notna().all()
    assert set(measured["metric"]) == {metric.name for metric in EXPERIMENT.measures[0].metrics}
    assert set(images["intervention"]) == {"baseline", "append-2"}
    plain, other = (images.loc[images["intervention"] == name, "value"].tolist() for name in ("baseline", "append-2"))
    assert plain != other


def test_same_params_same_bytes(made, run):
    run(out="a")
    run(out="b")
    for name in ("rows.csv", "images.parquet"):
        assert (made.root / "a" / name).read_bytes() == (made.root / "b" / name).read_bytes()


def test_a_text_tower_that_does_not_belong_to_the_features_is_refused(made, run):
    with pytest.raises(InputError, match=r"model\.safetensors: not the weights that OpenCLIP gives for this model now"):
        run(config(seed=1))
    (made.root / "model/model.safetensors").unlink()
    with pytest.raises(InputError, match=r"model\.safetensors: no such file"):
        run()


def test_a_tower_that_does_not_take_cls_is_refused():
    clip = SOURCE.both_towers("m", 0)
    clip.visual.pool_type = "avg"
    with pytest.raises(InputError, match=r"models\.m: its OpenCLIP tower pools 'avg'; zero-shot needs one that takes"):
        text.image_embeddings(clip, torch.zeros(1, 64), "m")


def test_images_are_found_where_only_test_images_were_passed(made, run, monkeypatch):
    whole, _ = run(out="whole")
    test = made.rows("test")
    cls = np.array(store.Features.open(made.folder("append-2")).array("cls"))[test]
    made.write_features("append-2", {"cls": cls}, test)
    monkeypatch.setattr(
        store.Features, "rows", property(lambda cached: test if cached.folder.name == "append-2" else np.arange(90))
    )
    part, _ = run(out="part")
    pd.testing.assert_frame_equal(part, whole)


def test_a_model_without_a_text_tower_has_no_such_job():
    trained = TrainedModel(kind="trained", dataset="shapes", recipe="small", registers=0)
    study = SimpleNamespace(models={"clip": SOURCE, "vit-r0": trained})
    where = EXPERIMENT.measures[0].where
    assert where(study, "clip")
    assert not where(study, "vit-r0")
    with pytest.raises(InputError, match=r"models\.vit-r0: has no text tower; zero-shot needs an openclip model"):
        Config.pick(study, ZeroShot(templates="simple"), dataset="shapes", model="vit-r0")


@pytest.mark.parametrize("templates", ["imagenet", [], ["a photo of it"]])
def test_prompts_that_are_none_are_refused(templates):
    with pytest.raises(ValidationError, match="expected openai, simple, or a list of prompts"):
        ZeroShot(templates=templates)


def test_classes_of_imagenet_are_named_by_openclip(study):
    data = Manifest.load(study.data)
    assert text.class_names(data, "dataset") == data.classes
    with pytest.raises(InputError, match=r"names: imagenet has 1000 classes, data set 'tiny'"):
        text.class_names(data, "imagenet")
    wnids = replace(data, classes=[f"n{i:08d}" for i in range(1000)])
    assert text.class_names(wnids, "imagenet")[:2] == ["tench", "goldfish"]
