"""How much tokens depend on the image, against loops over pairs of images and where it is known."""

import itertools

import numpy as np
import pytest

from helpers.measuring import study_of
from vit_registers.experiments.decoupling import figures, image_dependence, tables
from vit_registers.experiments.decoupling.params import Decoupling, ImagesConfig
from vit_registers.params.statistics import Statistics
from vit_registers.views.study import select

CFG = ImagesConfig(
    seed=0,
    statistics=Statistics(confidence=0.9, resamples=300),
    dataset="tiny",
    model="m",
    settings=Decoupling(episodes=60, groups=6, largest_dimensions=2),
)
REGISTERS, D, LAYERS = 2, 6, 3


@pytest.fixture
def made(study):
    """Register 2 is the same long direction for all images and a little of each; register 1 is noise."""
    rng, n, test = np.random.default_rng(1), len(study.table), study.rows("test")
    specials = rng.normal(size=(n, LAYERS, 1 + REGISTERS, D)).astype(np.float32)
    specials[:, :, 2] += np.array([40.0, -30.0, 0.0, 0.0, 0.0, 0.0])
    specials[:, 0, 0] = 5.0 * specials[:, -1, 0]  # [CLS] points to its end from the first block on
    normed = specials[:, 1] * np.array([0.01, 0.01, 1.0, 1.0, 1.0, 1.0], dtype=np.float32)
    tokens = 1 + REGISTERS + 16
    attention = rng.random(size=(len(test), LAYERS, 1 + REGISTERS, tokens)).astype(np.float16)
    arrays = {"specials": specials, "specials_normed": normed}
    norms = rng.random(size=(len(test), LAYERS, tokens)).astype(np.float32)
    norms[:, 1, 2] = 10.0
    study.write_features("baseline", {**arrays, "attention": attention, "norms": norms}, test, registers=REGISTERS)
    return study, {**arrays, "attention": attention, "norms": norms}


@pytest.fixture
def one(made, job):
    one = job("image_dependence")
    image_dependence.run(CFG, one)
    one.rows.check()
    return one


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_pairwise_cosines_are_the_mean_over_pairs(made, one):
    study, arrays = made
    test, rows = study.rows("test"), one.rows.frame()
    entering = arrays["specials"][test, 1].astype(float)
    for token, axes in enumerate(
        [{"group": "cls", "item": None}, *({"group": "registers", "item": i} for i in (1, 2))]
    ):
        raw = entering[:, token]
        states = {"raw": raw, "normed": arrays["specials_normed"][test, token], "centred": raw - raw.mean(axis=0)}
        for state, values in states.items():
            slow = np.mean([cosine(a, b) for a, b in itertools.combinations(values.astype(float), 2)])
            found = select(rows, metric="pairwise_cosine", state=state, **axes).iloc[0]
            assert found["value"] == pytest.approx(slow, abs=1e-6)
            assert found["low"] < found["value"] < found["high"]


def test_a_direction_common_to_all_images_is_seen_before_the_norm_alone(one):
    rows = one.rows.frame()
    found = select(rows, metric="pairwise_cosine", item=2).set_index("state")["value"]
    assert found["raw"] > 0.99
    assert abs(found["normed"]) < 0.2
    assert abs(found["centred"]) < 0.2
    largest = select(rows, metric="largest_dimensions", item=2).set_index("state")["value"]
    assert largest["raw"] > 0.99
    assert largest["normed"] < 0.2
    assert select(rows, metric="longest_register", item=2)["value"].iloc[0] == 1.0
    assert one.arrays["baseline/longest_register"] == [2]
    assert np.abs(one.arrays["baseline/largest_raw"]) == pytest.approx([40.0, 30.0], abs=1.0)


def test_the_longest_register_is_put_against_all_other_tokens(made, one):
    norms = made[1]["norms"][:, 1]
    slow = [row[2] / np.mean([row[i] for i in range(len(row)) if i != 2]) for row in norms.astype(float)]
    found = select(one.rows.frame(), metric="longest_register_ratio").iloc[0]
    assert found["item"] == 2
    assert found["value"] == pytest.approx(np.mean(slow), rel=1e-5)


def test_attention_is_split_between_registers_and_patches_of_each_image(made, one):
    given = made[1]["attention"][:, -1, 0].astype(float)
    shares = [row[1:3].sum() / (row[1:3].sum() + row[3:].sum()) for row in given]
    rows = one.rows.frame()
    assert select(rows, metric="register_share")["value"].iloc[0] == pytest.approx(np.mean(shares))
    assert select(rows, metric="register_share_sd")["value"].iloc[0] == pytest.approx(np.std(shares, ddof=1))
    assert select(rows, metric="register_share_uniform")["value"].iloc[0] == pytest.approx(2 / 18)
    np.testing.assert_allclose(one.arrays["baseline/register_share"], shares, rtol=1e-6)


def test_cls_is_followed_to_its_end(one):
    found = select(one.rows.frame(), metric="cls_cosine_to_last").set_index("layer")["value"]
    assert found[0] == pytest.approx(1.0)
    assert abs(found[1]) < 0.3
    assert found[2] == pytest.approx(1.0)


def test_what_was_not_kept_is_said(study, job):
    study.write_features("baseline", {"cls": np.ones((len(study.table), D), np.float32)}, study.rows("test"))
    one = job("image_dependence")
    image_dependence.run(CFG, one)
    assert {row["metric"] for row in one.rows.rows} == {"pairwise_cosine", "cls_cosine_to_last"}
    assert all("a model of one block" in row["note"] for row in one.rows.rows)


class FromJob:
    """Arrays of one job, as figures get them."""

    def __init__(self, arrays):
        self.arrays = arrays

    def of(self, condition):
        return {name.split("/", 1)[1]: array for name, array in self.arrays.items()}


def test_views_have_each_token_and_each_model(one):
    study = study_of([one.rows.frame().assign(dataset="shapes")], ["m"])
    frame = tables.image_dependence(study).frame()
    assert frame["token"].tolist() == ["[CLS]", "register 1", "register 2"]
    assert frame.loc[2, "longest"] == 1.0
    assert frame["ratio"].notna().tolist() == [False, False, True]
    assert tables.attention_split(study).frame()["share"].notna().tolist() == [True]
    arrays = FromJob(one.arrays)
    (panel,) = figures.attention_split(study, arrays).axes
    assert sum(bar.get_height() for bar in panel.patches) == pytest.approx(1.0)
    (panel,) = figures.largest_dimensions(study, arrays).axes
    assert [round(bar.get_height(), 1) for bar in panel.patches[:2]] == [1.0, 0.8]
    left, _ = figures.cls_and_skip(study, arrays).axes
    assert left.get_lines()[0].get_ydata()[0] == pytest.approx(1.0)
    assert figures.attention_split(study_of([], ["m"]), arrays).texts
