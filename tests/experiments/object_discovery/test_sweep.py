"""LOST under every setting in one pass, against one run of extraction and LOST per setting."""

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from vit_registers import params
from vit_registers.core import table as metrics
from vit_registers.core.boxes import best_iou
from vit_registers.core.errors import InputError
from vit_registers.core.stats import wilson
from vit_registers.data.manifest import Manifest
from vit_registers.data.targets import target_boxes
from vit_registers.experiments.object_discovery import measure as corloc
from vit_registers.experiments.object_discovery import sweep
from vit_registers.extraction import extract
from vit_registers.models import backbone as backbones
from vit_registers.models.preprocess import Preprocess
from vit_registers.models.supported import layout_of
from vit_registers.pipeline.slices import ExtractStep, LostStep, SweepStep

ARCHITECTURE = {
    "img_size": 16,
    "patch_size": 4,
    "embed_dim": 16,
    "depth": 3,
    "num_heads": 2,
    "num_classes": 0,
    "reg_tokens": 2,
    "no_embed_class": True,
    "dynamic_img_size": False,
}
SWEEP = {"features": ["q", "k", "v"], "layers": [-1, 0], "centre": [False, True], "bias": [-0.2, 0.0]}
LOST = {"feature": "k", "layer": -2, "k": 3, "normalise": True, "centre": True, "bias": -0.3}


@pytest.fixture
def model(study):
    """A small random ViT; every image has five boxes, so that boxes of any setting hit now and then."""
    rng = np.random.default_rng(5)
    low = rng.uniform(0, 16, (90, 5, 2)) * [1.5, 0.7]
    boxes = np.concatenate([low, np.minimum(low + rng.uniform(6, 26, (90, 5, 2)), [40.0, 24.0])], axis=2)
    study.table["boxes"] = boxes.tolist()
    study.write_manifest()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = VisionTransformer(**ARCHITECTURE).eval().requires_grad_(False)
    card = {
        "name": "m",
        "kind": "trained",
        "architecture": ARCHITECTURE,
        "layout": layout_of(module, "m").to_json(),
        "preprocess": Preprocess.square(16, 20, "bicubic", (0.5,) * 3, (0.25,) * 3).to_json(),
    }
    backbones.save(study.root / "model", module, card)
    return study.root / "model"


def reads(size="model", **more):
    return params.Extraction(
        batch_size=4, precision="fp32", dense_split="test", dense_images=22, memory_mb=500,
        projections_size=size, **{"projections": {"k": [-1]}, **more},
    )  # fmt: skip


def step(size="model", chosen_on=0.5, statistics=None, **changes):
    return SweepStep(
        seed=0, device="cpu", dataset="tiny", model="m", extraction=reads(size), lost=params.Lost(**LOST),
        sweep=params.LostSweep(**{**SWEEP, "chosen_on": chosen_on, **changes}),
        statistics=params.Statistics(confidence=0.9, resamples=200),
    )  # fmt: skip


def run(study, model, cfg):
    sweep.run(cfg, study.data, model, study.root / "sweep.csv")
    return metrics.read(study.root / "sweep.csv")


def hits_one_by_one(study, model, size):
    """Hits (22,) of every setting by extraction and LOST with that setting alone."""
    cfg = ExtractStep(
        seed=0, device="cpu", dataset="tiny", model="m", interventions={"baseline": None},
        extraction=reads(size, projections={kind: [0, 1, 2] for kind in "qkv"}),
    )  # fmt: skip
    extract.run(cfg, study.data, model, study.features, None)
    manifest = Manifest.load(study.data)
    cached = corloc.Features.open(study.folder("baseline"))
    truth = target_boxes(manifest, cached.dense_rows)
    found = {}
    for setting in [*sweep.settings(step().sweep, 3), sweep.default(params.Lost(**LOST), 3)]:
        wanted = {name: getattr(setting, name) for name in ("feature", "layer", "centre", "normalise", "bias")}
        single = LostStep(
            seed=0, dataset="tiny", model="m", conditions=["baseline"], lost=params.Lost(**{**wanted, "k": 3}),
            dino_seg=params.DinoSeg(mass=0.6, head=None, skip_last_component=False), gallery=params.Gallery(images=1),
            statistics=params.Statistics(confidence=0.9, resamples=10),
        )  # fmt: skip
        name = corloc._array(cached, setting.feature, setting.layer)
        boxes = corloc.boxes_of(corloc.Views(cached, manifest, name), single, np.array([0]))[1]
        found[setting] = best_iou(boxes, truth) >= 0.5
    return found


@pytest.mark.parametrize("size", ["model", "native"])
def test_every_setting_hits_what_it_hits_alone(study, model, size):
    table = run(study, model, step(size))
    alone = hits_one_by_one(study, model, size)
    assert len(alone) == 3 * 2 * 2 * 3 + 1  # feature, layer, centre; raw and two biases; and the default
    order = sweep.generator(0, "sweep", "tiny", 22).permutation(22)
    choice, rest = np.sort(order[:11]), np.sort(order[11:])
    by_name = table.set_index(["metric", "layer"])["value"]
    for setting, hits in alone.items():
        assert by_name[f"corloc[{setting.name}]", setting.layer] == pytest.approx(hits[choice].mean())
    assert len({tuple(hits) for hits in alone.values()}) >= 10  # else equality would say little
    best = max(alone, key=lambda setting: alone[setting][choice].mean())
    whole = table[table["layer"].isna()].set_index("metric")
    default = sweep.default(params.Lost(**LOST), 3)
    for metric, rows, setting in (
        ("corloc", rest, best),
        ("corloc_on_choice", choice, best),
        ("corloc_default", rest, default),
    ):
        hits = alone[setting][rows]
        assert whole.loc[metric, "value"] == pytest.approx(hits.mean())
        assert whole.loc[metric, "n"] == 11
        assert (whole.loc[metric, "low"], whole.loc[metric, "high"]) == pytest.approx(wilson(hits.sum(), 11, 0.9))
        assert whole.loc[metric, "note"] == f"block {setting.layer}: {setting.name}"
    a, b = alone[best][rest], alone[default][rest]
    assert whole.loc["corloc_gain", "value"] == pytest.approx(a.mean() - b.mean())
    assert whole.loc["corloc_gain", "p"] == pytest.approx(sweep.mcnemar_exact(a, b))


def test_settings_are_named_apart_and_raw_ones_have_no_bias():
    every = sweep.settings(params.LostSweep(**SWEEP, chosen_on=0.5), 3)
    assert len({(s.name, s.layer) for s in every}) == len(every) == 36
    assert {s.bias for s in every if not s.normalise} == {0.0}
    assert sweep.settings(params.LostSweep(**{**SWEEP, "layers": [-1, 2]}, chosen_on=0.5), 3) == [
        s for s in every if s.layer == 2
    ]
    assert every[1].name == "q, normalised, -0.2"
    assert every[3].name == "q, centred, 0"


def test_without_boxes_there_is_nothing_to_choose_on(study, model):
    study.table = study.table.drop(columns="boxes")
    study.write_manifest()
    table = run(study, model, step())
    assert table["metric"].tolist() == ["corloc"]
    assert table["note"].tolist() == ["the data set has no boxes"]


def test_a_layer_that_the_model_lacks_is_refused(study, model):
    with pytest.raises(InputError, match=r"lost_sweep\.layers: -4 for model 'm' of 3 blocks; expected -3 to 2"):
        run(study, model, step(layers=[-4]))


def test_one_image_at_least_is_left_on_either_side(study, model):
    table = run(study, model, step(chosen_on=0.001, features=["k"])).set_index("metric")
    assert table.loc["corloc", "n"] == 21
    assert table.loc["corloc_on_choice", "n"] == 1
