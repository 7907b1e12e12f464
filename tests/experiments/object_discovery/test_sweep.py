"""LOST under every setting in one pass, against one run of extraction and LOST per setting."""

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from helpers.studies import load
from vit_registers.core.errors import InputError
from vit_registers.core.numerics.boxes import best_iou
from vit_registers.core.stats import mcnemar_exact, wilson
from vit_registers.data.manifest import Manifest
from vit_registers.data.targets import target_boxes
from vit_registers.experiments.object_discovery import measure, sweep
from vit_registers.experiments.object_discovery.params import Config, DinoSeg, Lost, LostSweep, SweepConfig
from vit_registers.extraction import extract
from vit_registers.extraction.store import Features
from vit_registers.models import backbone as backbones
from vit_registers.models.preprocess import Preprocess
from vit_registers.models.supported import layout_of
from vit_registers.params.passes import Extraction
from vit_registers.params.statistics import Gallery, Statistics
from vit_registers.pipeline.configs import ExtractConfig

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
SWEEP = {"excluded": [], "features": ["q", "k", "v"], "layers": [-1, 0], "centre": [False, True], "bias": [-0.2, 0.0]}
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
    return Extraction(
        batch_size=4, precision="fp32", dense_split="test", dense_images=22, memory_mb=500,
        projections_size=size, **{"projections": {"k": [-1]}, **more},
    )  # fmt: skip


def step(size="model", chosen_on=0.5, statistics=None, **changes):
    return SweepConfig(
        seed=0, device="cpu", dataset="tiny", model="m", extraction=reads(size), lost=Lost(**LOST),
        sweep=LostSweep(**{**SWEEP, "chosen_on": chosen_on, **changes}),
        statistics=Statistics(confidence=0.9, resamples=200),
    )  # fmt: skip


@pytest.fixture
def run(study, model, job):
    """Function that sweeps, and gives the rows."""

    def run(cfg):
        done = job("lost_settings")
        sweep.run(cfg, done)
        return done.rows.frame()

    return run


def hits_one_by_one(study, model, size):
    """Hits (22,) of every setting by extraction and LOST with that setting alone."""
    cfg = ExtractConfig(
        seed=0, device="cpu", dataset="tiny", model="m", interventions={"baseline": None},
        extraction=reads(size, projections={kind: [0, 1, 2] for kind in "qkv"}),
    )  # fmt: skip
    extract.run(cfg, study.data, model, study.features, None)
    manifest = Manifest.load(study.data)
    cached = Features.open(study.folder("baseline"))
    truth = target_boxes(manifest, cached.dense_rows)
    found = {}
    for setting in [*sweep.settings(step().sweep, 3), sweep.default(Lost(**LOST), 3)]:
        wanted = {name: getattr(setting, name) for name in ("feature", "layer", "centre", "normalise", "bias")}
        single = Config(
            seed=0, dataset="tiny", model="m", conditions=["baseline"], lost=Lost(**{**wanted, "k": 3}),
            dino_seg=DinoSeg(mass=0.6, head=None, skip_last_component=False), gallery=Gallery(images=1),
            statistics=Statistics(confidence=0.9, resamples=10),
        )  # fmt: skip
        name = measure._array(cached, setting.feature, setting.layer)
        boxes = measure.boxes_of(measure.Views(cached, manifest, name), single, np.array([0]))[1]
        found[setting] = best_iou(boxes, truth) >= 0.5
    return found


AXES = ["feature", "layer", "centred", "normalised", "bias"]


@pytest.mark.slow
@pytest.mark.parametrize("size", ["model", "native"])
def test_every_setting_hits_what_it_hits_alone(study, model, run, size):
    table = run(step(size))
    alone = hits_one_by_one(study, model, size)
    assert len(alone) == 3 * 2 * 2 * 3 + 1  # feature, layer, centre; raw and two biases; and the default
    order = sweep.generator(0, "sweep", "tiny", 22).permutation(22)
    choice, rest = np.sort(order[:11]), np.sort(order[11:])
    by_setting = table[table["metric"] == "corloc_at_setting"].set_index(AXES)["value"]
    for setting, hits in alone.items():
        assert by_setting[tuple(setting.axes[axis] for axis in AXES)] == pytest.approx(hits[choice].mean())
    assert len({tuple(hits) for hits in alone.values()}) >= 10  # else equality would say little
    best = max(alone, key=lambda setting: alone[setting][choice].mean())
    whole = table[table["metric"] == "corloc_of_choice"]
    plain = whole[whole["reference_group"].isna()].set_index("group")
    default = sweep.default(Lost(**LOST), 3)
    for group, rows, setting in (("chosen", rest, best), ("chosen on", choice, best), ("default", rest, default)):
        hits, row = alone[setting][rows], plain.loc[group]
        assert row["value"] == pytest.approx(hits.mean())
        assert row["n"] == 11
        assert (row["low"], row["high"]) == pytest.approx(wilson(hits.sum(), 11, 0.9))
        assert {axis: row[axis] for axis in AXES} == setting.axes
    a, b = alone[best][rest], alone[default][rest]
    gain = whole[whole["reference_group"] == "default"].iloc[0]
    assert gain["value"] == pytest.approx(a.mean() - b.mean())
    assert gain["p"] == pytest.approx(mcnemar_exact(a, b))


def test_settings_differ_and_raw_ones_have_no_bias():
    every = sweep.settings(LostSweep(**SWEEP, chosen_on=0.5), 3)
    assert len({tuple(s.axes.values()) for s in every}) == len(every) == 36
    assert {s.bias for s in every if not s.normalise} == {0.0}
    assert sweep.settings(LostSweep(**{**SWEEP, "layers": [-1, 2]}, chosen_on=0.5), 3) == [
        s for s in every if s.layer == 2
    ]


def test_without_boxes_there_is_nothing_to_choose_on(study, run):
    study.table = study.table.drop(columns="boxes")
    study.write_manifest()
    table = run(step())
    assert table["metric"].tolist() == ["corloc_of_choice"]
    assert table["note"].tolist() == ["the data set has no boxes"]


def test_a_layer_that_the_model_lacks_is_refused(run):
    with pytest.raises(InputError, match=r"sweep\.layers: -4 for model 'm' of 3 blocks; expected -3 to 2"):
        run(step(layers=[-4]))


def test_one_image_at_least_is_left_on_either_side(run):
    table = run(step(chosen_on=0.001, features=["k"]))
    counts = table[table["reference_group"].isna()].set_index("group")["n"]
    assert counts["chosen"] == 21
    assert counts["chosen on"] == 1


def test_the_overlay_of_bach2025_reaches_the_setting_of_lost_that_its_code_has():
    """Values, centred, normalised, .05 added (``LOST_DeiT3/object_discovery.py``); and jiang2025's biases, to -1."""
    study = load("bach2025")
    settings, depth = study.settings("object_discovery"), 12
    mine = sweep.default(settings.lost, depth)
    assert mine == sweep.Setting("v", 11, centre=True, normalise=True, bias=0.05)
    assert settings.lost.layer in study.extraction_of("voc07").projections[settings.lost.feature]
    swept = sweep.settings(settings.sweep, depth)
    assert mine in swept
    assert sweep.Setting("k", 11, centre=False, normalise=False, bias=0.0) in swept  # simeoni2021's
    assert {s.bias for s in swept} >= {-1.0, -0.4, 0.0, 0.05}
    default = load("embedded").settings("object_discovery").sweep
    assert min(default.bias) == -0.4
