"""Effective rank, cosine to the model as it is, and colours, on features whose geometry is known."""

import numpy as np
import pytest

from helpers.jobs import job as job_of
from helpers.measuring import study_of, written
from helpers.tokens import DENSE, GRID, M, Made
from vit_registers.core.numerics.linalg import jensen_shannon
from vit_registers.experiments.geometry import figures, figures_divergence, measure, tables
from vit_registers.experiments.geometry.params import Config
from vit_registers.models.layout import TokenLayout
from vit_registers.params.statistics import Gallery, Statistics
from vit_registers.views import style
from vit_registers.views.study import select

WIDTH, CONDITIONS = 5, ["baseline", "append-2", "ttr-4"]
CFG = Config(
    seed=0,
    statistics=Statistics(confidence=0.95, resamples=200),
    dataset="tiny",
    model="m",
    conditions=CONDITIONS,
    gallery=Gallery(images=2, candidates=1),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Job and rows: patches in half precision as a pass leaves them; test-time registers do not apply."""
    root = tmp_path_factory.mktemp("geometry")
    features = Made(root)
    rng = np.random.default_rng(0)
    patches = rng.normal(size=(M, GRID[0] * GRID[1], WIDTH)) * [4.0, 2.0, 1.0, 0.5, 0.1] + 7.0
    for condition, appended in (("baseline", 0), ("append-2", 2)):
        layout = TokenLayout(1, 0, GRID, appended=appended)
        features.layouts["m", condition] = layout
        given = patches if condition == "baseline" else patches * [1.0, 1.0, 1.0, 1.0, -1.0]
        features.write("m", condition, {"patches": given.astype(np.float16)})
        features.arrays["m", condition]["patches"] = given.astype(np.float16).astype(float)
    features.add("m", "ttr-4", None)
    job = job_of("geometry", root, dataset="tiny", model="m")
    measure.run(CFG, job)
    return features, job, written(job, "geometry")


def slow_rank(patches, of_singular_values):
    """From the singular values of the centred matrix, one by one."""
    values = [float(value) for value in np.linalg.svd(patches - patches.mean(0), compute_uv=False)]
    values = values if of_singular_values else [value**2 for value in values]
    shares = [value / sum(values) for value in values]
    return float(np.exp(-sum(share * np.log(share) for share in shares if share > 1e-14)))


@pytest.mark.parametrize("spectrum", ["singular values", "eigenvalues"])
def test_ranks_are_those_of_singular_values_image_by_image_and_of_all_patches(made, spectrum):
    features, _, rows = made
    of_singular_values = spectrum == "singular values"
    patches = features.arrays["m", "baseline"]["patches"]
    slow = [slow_rank(image, of_singular_values) for image in patches]
    mine = select(rows, metric="effective_rank", intervention="baseline", spectrum=spectrum).iloc[0]
    assert mine["value"] == pytest.approx(np.mean(slow), rel=1e-6)
    assert mine["low"] < mine["value"] < mine["high"]
    assert mine["n"] == M
    pooled = select(rows, metric="pooled_effective_rank", intervention="baseline", spectrum=spectrum).iloc[0]
    assert pooled["value"] == pytest.approx(slow_rank(patches.reshape(-1, WIDTH), of_singular_values), rel=1e-6)
    assert "an interval" in pooled["note"]


def test_values_by_image_are_kept_for_comparisons_under_the_names_of_the_images(made):
    features, job, _ = made
    kept = job.images[0]
    assert kept["image_id"].tolist() == [f"i{row}" for row in DENSE]
    slow = [slow_rank(image, True) for image in features.arrays["m", "baseline"]["patches"]]
    np.testing.assert_allclose(kept["value"], slow, rtol=1e-6)


def test_the_cosine_is_to_the_same_patch_of_the_model_as_it_is(made):
    features, _, rows = made
    a, b = (features.arrays["m", name]["patches"] for name in ("append-2", "baseline"))
    a, b = a.reshape(-1, WIDTH), b.reshape(-1, WIDTH)
    slow = np.mean([x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(a, b, strict=True)])
    cosine = select(rows, metric="intact_cosine")
    assert cosine["intervention"].tolist() == ["append-2"]
    assert cosine["value"].iloc[0] == pytest.approx(slow, abs=1e-4)


def test_what_does_not_apply_says_why(made):
    rows = select(made[2], intervention="ttr-4")
    assert rows["value"].isna().all()
    assert rows["note"].str.contains("no artifacts found").all()


def test_colours_are_projections_onto_components_of_the_model_as_it_is(made):
    features, job, _ = made
    patches = features.arrays["m", "baseline"]["patches"]
    flat = patches.reshape(-1, WIDTH)
    axes = np.linalg.svd(flat - flat.mean(0))[2][:3]  # rows, largest first; their sign is free
    for axis in axes:
        axis *= np.sign(axis[np.abs(axis).argmax()])
    projected = (flat - flat.mean(0)) @ axes.T
    low, high = np.percentile(projected, [2, 98], axis=0)
    chosen = [0, 2]  # the first image of each of the first classes
    for name in ("baseline", "append-2"):
        mine = (features.arrays["m", name]["patches"] - flat.mean(0)) @ axes.T
        expected = np.clip((mine - low) / (high - low), 0, 1)[chosen].reshape(2, *GRID, 3)
        np.testing.assert_allclose(job.arrays[f"{name}/colours"], expected, atol=2e-3)
    assert job.arrays["images"].shape[0] == 2


def test_table_and_figure_show_every_condition_that_was_measured(made):
    _, job, rows = made
    rows = rows.assign(dataset="shapes")
    study = study_of([rows], ["m"], interventions=["append-2", "ttr-4"])
    frame = tables.effective_rank(study).frame()
    assert frame["condition"].tolist() == CONDITIONS
    assert frame["rank"].notna().tolist() == [True, True, False]

    class Kept:
        def of(self, condition):
            common = {name: job.arrays[name] for name in ("images", "groups", "outliers")}
            return common | {"colours": job.arrays[f"{condition.name}/colours"]}

    with style.styled():
        figure = figures.patch_components(study, Kept())
    headings = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert headings == ["input", "as it is", "append-2"]
    assert figure.get_size_inches()[0] <= style.WIDTH + 1e-9


def test_attention_is_put_against_that_of_the_model_as_it_is_where_tokens_are_the_same(tmp_path):
    features, rng, layout = Made(tmp_path), np.random.default_rng(0), TokenLayout(1, 0, GRID)
    patches = rng.normal(size=(M, GRID[0] * GRID[1], WIDTH)).astype(np.float16)
    for condition in ("baseline", "append-2", "zero-cls"):
        features.layouts["m", condition] = layout.with_appended(2 if condition == "append-2" else 0)
        tokens = features.layouts["m", condition].length
        attention = rng.dirichlet(np.ones(tokens), size=(M, 3, tokens - 6)).astype(np.float16)
        features.write("m", condition, {"patches": patches, "attention": attention})
        features.arrays["m", condition]["attention"] = attention
    job = job_of("geometry", tmp_path, dataset="tiny", model="m")
    measure.run(CFG.model_copy(update={"conditions": ["baseline", "append-2", "zero-cls"]}), job)
    rows = select(job.rows.frame(), metric="attention_divergence")
    assert rows["intervention"].unique().tolist() == ["zero-cls"]
    given = [features.arrays["m", name]["attention"][:, :, 0].astype(float) for name in ("zero-cls", "baseline")]
    assert rows["value"].tolist() == pytest.approx(jensen_shannon(*given).mean(axis=0).tolist())
    study = study_of([job.rows.frame().assign(dataset="shapes")], ["m"], interventions=["append-2", "zero-cls"])
    figure = figures_divergence.attention_divergence(study, None)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["zero-cls"]
    assert len(figure.axes[0].get_lines()) == 1
