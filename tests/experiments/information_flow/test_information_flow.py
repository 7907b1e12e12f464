"""Tokens block by block: a model in which one register carries the class, and loops where numbers are means."""

import numpy as np
import pytest
import torch

from helpers.measuring import study_of
from vit_registers.core.numerics.neighbours import directions
from vit_registers.experiments.information_flow import figures, figures_nearest, measure, nearest, tables
from vit_registers.experiments.information_flow.params import Config, InformationFlow
from vit_registers.params.statistics import Statistics
from vit_registers.views.study import select

CFG = Config(
    seed=0,
    statistics=Statistics(confidence=0.9, resamples=300),
    dataset="tiny",
    model="m",
    settings=InformationFlow(training_images=50, nearest=3, nearest_images=20),
)
REGISTERS, D, LAYERS, PATCHES = 2, 6, 3, 16


@pytest.fixture
def made(study):
    """From the second block on register 2 carries the class of its image, and nothing else does anywhere."""
    rng, n, test = np.random.default_rng(1), len(study.table), study.rows("test")
    labels = study.table["label"].to_numpy()
    specials = rng.normal(size=(n, LAYERS, 1 + REGISTERS, D)).astype(np.float32)
    specials[:, 1:, 2] += 6.0 * np.eye(D, dtype=np.float32)[labels][:, None]
    registers = rng.normal(size=(n, REGISTERS, D)).astype(np.float32)
    tokens = 1 + REGISTERS + PATCHES
    attention = np.full((len(test), LAYERS, 1 + REGISTERS, tokens), 0.9 / tokens, np.float16)
    attention[:, 2, 0, 2] += (0.2 + 0.01 * rng.random(len(test))).astype(np.float16)
    patches = rng.normal(size=(len(test), PATCHES, D)).astype(np.float16)
    patches[:, 5] = registers[test, 0]  # register 1 is a patch of its image
    arrays = {
        "specials": specials,
        "registers": registers,
        "attention": attention,
        "patch_attention": rng.random(size=(len(test), LAYERS, 1 + REGISTERS)).astype(np.float32),
        "patches": patches,
    }
    study.write_features("baseline", arrays, test, registers=REGISTERS)
    return study, arrays


@pytest.fixture
def one(made, job):
    one = job("information_flow")
    measure.run(CFG, one)
    one.rows.check()
    return one


def test_the_register_that_carries_the_class_has_its_accuracy_and_no_other_token_has(one):
    rows = one.rows.frame()
    for metric in ("token_probe", "token_recall_at_1"):
        found = select(rows, metric=metric).set_index(["group", "item", "layer"])["value"].astype(float)
        assert (found["registers", 2][[1, 2]] > 0.95).all()
        others = [found["registers", 2][0], *found["registers", 1], *select(rows, metric=metric, group="cls")["value"]]
        assert max(others) < 0.6  # a third is chance
    onset = select(rows, metric="content_onset")
    assert select(onset, item=2)["value"].tolist() == [1.0]
    assert select(rows, metric="token_probe_chance")["value"].tolist() == [pytest.approx(1 / 3)]


def test_recall_is_that_of_the_nearest_other_image_one_by_one(made, one):
    study, arrays = made
    test, labels = study.rows("test"), study.table["label"].to_numpy()
    tokens = arrays["specials"][test, 1, 2].astype(float)
    right = []
    for i, query in enumerate(tokens):
        cosines = [query @ x / np.linalg.norm(query) / np.linalg.norm(x) for x in tokens]
        cosines[i] = -2.0
        right.append(labels[test[int(np.argmax(cosines))]] == labels[test[i]])
    found = select(one.rows.frame(), metric="token_recall_at_1", item=2, layer=1)["value"].iloc[0]
    assert found == pytest.approx(np.mean(right))


def test_attention_to_each_register_is_the_mean_over_images_and_arrives_where_it_is_above_uniform(made, one):
    rows, arrays = one.rows.frame(), made[1]
    for register in range(REGISTERS):
        for layer in range(LAYERS):
            axes = {"metric": "attention_to_register", "item": register + 1, "layer": layer}
            from_cls = arrays["attention"][:, layer, 0, 1 + register].astype(float).mean()
            assert select(rows, group="cls", **axes)["value"].iloc[0] == pytest.approx(from_cls)
            from_patches = arrays["patch_attention"][:, layer, 1 + register].mean()
            assert select(rows, group="patches", **axes)["value"].iloc[0] == pytest.approx(from_patches, rel=1e-5)
    onset = select(rows, metric="attention_onset", group="cls").set_index("item")
    assert onset.loc[2, "value"] == 2.0
    assert onset.loc[1, "note"] == measure.NEVER
    assert select(rows, metric="attention_to_one_uniform")["value"].tolist() == [pytest.approx(1 / 19)]


def test_registers_are_compared_pair_by_pair(made, one):
    study, arrays = made
    held = arrays["registers"][study.rows("test")].astype(float)
    slow = np.mean([a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in held])
    row = select(one.rows.frame(), metric="register_token_cosine").iloc[0]
    assert (row["item"], row["other_item"]) == (1, 2)
    assert row["value"] == pytest.approx(slow, abs=1e-6)


def test_a_register_that_is_a_patch_of_its_image_is_found_there(one):
    own = select(one.rows.frame(), metric="nearest_patch_own").set_index("item")["value"]
    assert own[1] == 1.0
    assert own[2] < 0.5
    assert select(one.rows.frame(), metric="nearest_patch_own_chance")["value"].tolist() == [pytest.approx(1 / 20)]
    assert one.arrays["baseline/nearest_pictures"].shape[:2] == (REGISTERS, 3)
    assert (one.arrays["baseline/nearest_cells"] < 4).all()


def test_the_nearest_patches_are_those_of_a_full_sort():
    draw = torch.Generator().manual_seed(0)
    queries, patches = (directions(torch.randn(n, 4, generator=draw).numpy()) for n in (70, 200))
    expected = np.argsort(-(queries @ patches.T).numpy(), axis=1)[:, :5]
    assert (nearest.nearest_patches(queries, patches, 5) == expected).all()


def test_of_the_nearest_patches_one_of_an_image_is_kept():
    draw = torch.Generator().manual_seed(0)
    query, patches = (directions(torch.randn(n, 4, generator=draw).numpy()) for n in (1, 60))
    found, images = [], set()
    for place in np.argsort(-(patches @ query[0]).numpy()):
        if place // 6 not in images and len(found) < 5:
            images.add(place // 6)
            found.append(int(place))
    assert nearest.one_of_an_image(query, patches, 6, 5).tolist() == found


def test_a_model_without_registers_has_its_cls_alone(study, job):
    n, rng = len(study.table), np.random.default_rng(0)
    arrays = {"specials": rng.normal(size=(n, LAYERS, 1, D)).astype(np.float32)}
    study.write_features("baseline", arrays, study.rows("test"))
    one = job("information_flow")
    measure.run(CFG, one)
    assert {row["metric"] for row in one.rows.rows} == {
        *("token_probe", "token_probe_chance", "token_recall_at_1", "content_onset")
    }
    assert figures.attention_and_content(study_of([one.rows.frame().assign(dataset="shapes")], ["m"]), None).texts


class FromJob:
    """Arrays of one job, as figures get them."""

    def __init__(self, arrays):
        self.arrays = arrays

    def of(self, condition):
        return {name.split("/", 1)[1]: array for name, array in self.arrays.items()}


def test_views_have_each_token(one):
    study = study_of([one.rows.frame().assign(dataset="shapes")], ["m"], registers={"m": 2})
    frame = tables.registers_one_by_one(study).frame()
    assert frame["token"].tolist() == ["[CLS]", "register 1", "register 2"]
    assert frame["from_cls"].notna().tolist() == [False, True, True]
    assert frame.loc[2, "probe"] > 0.95
    assert tables.register_cosines(study).frame()["pair"].tolist() == ["1 and 2"]
    above, below = figures.attention_and_content(study, None).axes
    rings = [line for line in above.get_lines() if line.get_marker() == "o" and line.get_markersize() == 6]
    assert [float(ring.get_xdata()[0]) for ring in rings] == [2.0]
    assert len([line for line in below.get_lines() if line.get_markersize() == 2]) == 3
    drawn = figures_nearest.nearest_patches(study, FromJob(one.arrays))
    assert len(drawn.axes) == REGISTERS * 3
