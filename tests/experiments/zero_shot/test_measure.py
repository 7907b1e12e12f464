"""Classes told by their names, against OpenCLIP's own way from pixels and prompts to cosines."""

import numpy as np
import open_clip
import pandas as pd
import pytest
import torch

from vit_registers import params
from vit_registers.core import table as metrics
from vit_registers.core.errors import InputError
from vit_registers.core.seeds import derive
from vit_registers.data.manifest import Manifest
from vit_registers.experiments.zero_shot import measure as zero_shot
from vit_registers.extraction import store
from vit_registers.models import backbone, fetch
from vit_registers.models import openclip_text as text
from vit_registers.models.preprocess import load_pixels
from vit_registers.pipeline import configs as steps
from vit_registers.pipeline.configs import FetchConfig, ZeroShotStep

SOURCE = params.OpenClipModel(kind="openclip", name="tiny-clip", pretrained=None)
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


def step(conditions=("baseline", "append-2", "ttr-4"), templates=TEMPLATES):
    return ZeroShotStep(
        seed=0, dataset="tiny", model="m", conditions=list(conditions), device="cpu", source=SOURCE,
        zero_shot=params.ZeroShot(templates=templates), statistics=params.Statistics(confidence=0.9, resamples=300),
    )  # fmt: skip


@pytest.fixture
def made(study):
    """The model's card, and [CLS] as the pass through timm's module leaves it; in ``append-2`` that of other images."""
    fetch.run(FetchConfig(seed=0, name="m", source=SOURCE), study.root / "m")
    loaded = backbone.load(study.root / "m")
    data = Manifest.load(study.data)
    pixels, _ = load_pixels(data, np.arange(len(study.table)), loaded.preprocess)
    with torch.inference_mode():
        tokens = loaded.module.forward_features(loaded.preprocess.normalise(pixels))
    cls = tokens[:, loaded.layout.cls_slice].squeeze(1).numpy()
    study.write_features("baseline", {"cls": cls}, study.rows("test"))
    study.write_features("append-2", {"cls": np.roll(cls, 1, axis=0)}, study.rows("test"))
    store.write_not_applicable(study.folder("ttr-4"), "key", REASON)
    return study


def run(study, cfg=None, out="out"):
    zero_shot.run(cfg or step(), study.data, study.root / "m", study.features, study.root / out)
    return metrics.read(study.root / out / "m.zero_shot.csv"), pd.read_parquet(
        study.root / out / "m.zero_shot.images.parquet"
    )


def end_to_end(study, templates):
    """Cosines (m, classes) by OpenCLIP alone: encode_image of pixels, encode_text of one prompt at a time."""
    with torch.random.fork_rng():
        torch.manual_seed(derive(0, "weights", "m"))
        model = open_clip.create_model("tiny-clip", pretrained=None).eval()
    tokenizer, data = open_clip.get_tokenizer("tiny-clip"), Manifest.load(study.data)
    preprocess = backbone.load(study.root / "m").preprocess
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


def test_the_way_through_cached_features_is_that_of_openclip_from_end_to_end(made):
    cosines, labels = end_to_end(made, TEMPLATES)
    clip = SOURCE.both_towers("m", derive(0, "weights", "m"))
    with torch.inference_mode():
        tokenizer = open_clip.get_tokenizer("tiny-clip")
        classes = text.class_embeddings(clip, tokenizer, ["a", "b", "c"], step().zero_shot.templates)
        cls = torch.from_numpy(store.Features.open(made.folder("baseline")).array("cls")[made.rows("test")])
        ours = text.image_embeddings(clip, cls, "m") @ classes.T
        found = zero_shot.probabilities(clip, cls, classes, "m")
    assert torch.allclose(ours, cosines, atol=1e-5)
    assert cosines.std() > 1e-3
    assert torch.allclose(found, (cosines.double() / 0.07).softmax(1), atol=1e-4)  # CLIP starts at a temperature of .07
    rows, images = run(made)
    told = cosines.argmax(1)
    top1 = rows[(rows["intervention"] == "baseline") & (rows["metric"] == "top1")].iloc[0]
    assert top1["value"] == pytest.approx(float((told == labels).double().mean()))
    assert (top1["n"], top1["readout"]) == (30, "zero_shot")
    assert top1["low"] <= top1["value"] <= top1["high"]
    mine = images[images["intervention"] == "baseline"].set_index("image_id")["value"]
    ids = made.table["image_id"][made.rows("test")]
    assert mine.loc[ids].tolist() == (told == labels).double().tolist()


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


def test_every_condition_has_its_numbers_or_says_why_not(made):
    rows, images = run(made)
    assert rows.loc[rows["intervention"] == "ttr-4", "note"].tolist() == [REASON]
    measured = rows[rows["value"].notna()]
    assert set(measured["intervention"]) == {"baseline", "append-2"}
    assert measured["low"].notna().all()
    assert set(images["intervention"]) == {"baseline", "append-2"}
    plain, other = (images.loc[images["intervention"] == name, "value"].tolist() for name in ("baseline", "append-2"))
    assert plain != other


def test_same_params_same_bytes(made):
    run(made, out="a")
    run(made, out="b")
    for name in ("m.zero_shot.csv", "m.zero_shot.images.parquet"):
        assert (made.root / "a" / name).read_bytes() == (made.root / "b" / name).read_bytes()


def test_a_text_tower_that_does_not_belong_to_the_features_is_refused(made):
    with pytest.raises(InputError, match=r"model\.safetensors: not the weights that OpenCLIP gives for this model now"):
        zero_shot.run(step().model_copy(update={"seed": 1}), made.data, made.root / "m", made.features, made.root)
    (made.root / "m/model.safetensors").unlink()
    with pytest.raises(InputError, match=r"model\.safetensors: no such file"):
        run(made)


def test_a_tower_that_does_not_take_cls_is_refused():
    clip = SOURCE.both_towers("m", 0)
    clip.visual.pool_type = "avg"
    with pytest.raises(InputError, match=r"models\.m: its OpenCLIP tower pools 'avg'; zero-shot needs one that takes"):
        text.image_embeddings(clip, torch.zeros(1, 64), "m")


def test_a_model_without_a_text_tower_has_no_such_step():
    study = params.load("params.yaml")
    assert study.text_pairs() == []
    with pytest.raises(InputError, match=r"models\.vit-r0: kind 'trained' has no text tower"):
        steps.zero_shot(study, "shapes", "vit-r0")
