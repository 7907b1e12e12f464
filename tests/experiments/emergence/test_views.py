"""Tables and figures of emergence over rows that the measure itself made of made-up trainings."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from helpers.measuring import job_of, study_of, written
from vit_registers.core.files import write_json
from vit_registers.experiments.emergence import figures, figures_attention, measure, tables
from vit_registers.experiments.emergence.params import Config
from vit_registers.params.statistics import Statistics
from vit_registers.pipeline.paths import Paths
from vit_registers.views import style
from vit_registers.views.arrays import Arrays
from vit_registers.views.latex_text import number

EPOCHS, BLOCKS = 7, 6
REGISTERS = {"r0": 0, "r2": 2, "r4": 4, "narrow": 0}
TRAINED = ("norms_by_epoch", "register_cosine_by_epoch", "attention_by_epoch", "focus_by_epoch")
AT = Paths("views")


def train(folder, name, registers, epochs=EPOCHS):
    """Norms of 10 times epoch times block; in the model r0 two in a thousand patches stand out once."""
    rng = np.random.default_rng(registers)
    rows = []
    for epoch in range(1, epochs + 1):
        for block in range(BLOCKS):
            above = 0.002 if (name, epoch, block) == ("r0", 5, 3) else 0.0
            rows.append([epoch, block, *(factor * epoch * (block + 1) for factor in (10.0, 12.0, 17.0)), above])
    folder.mkdir(parents=True)
    columns = ["epoch", "layer", "norm_median", "norm_p99", "norm_max", "share_above"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "norms.csv", index=False)
    pd.DataFrame({"loss": np.ones(2 * epochs)}).to_csv(folder / "training.csv", index=False)
    training = {"dataset": "shapes", "monitored": 20, "test_top1": 0.8, "tested": 100}
    write_json(folder / "model.json", {"parameters": 1000 + registers, "training": training})
    attention = {"cls_register_cosine": rng.random((epochs, 20))} if registers else {}
    if registers > 1:
        attention["register_cosine"] = rng.random((epochs, 20))
    attention |= {name: rng.random((epochs, BLOCKS, 20)) for name in ("norm_max", "share_above")}
    attention["maps"] = rng.random((epochs, 2, 1 + registers, 4, 4))
    attention["focus"] = rng.random((epochs, 1 + registers, 4, 4))
    np.savez(folder / "attention.npz", images=rng.integers(256, size=(2, 32, 32, 3), dtype=np.uint8), **attention)


def measured(root, registers, epochs=EPOCHS):
    """The rows of all trainings, their arrays where the pipeline has them."""
    made, at = [], Paths("views", root)
    for name, count in registers.items():
        train(root / name / "model", name, count, epochs)
        job = job_of("emergence", root / name, model=name)
        job.out = at.measure("emergence", name)
        measure.run(Config(seed=0, model=name, statistics=Statistics(confidence=0.9, resamples=100)), job)
        made.append(written(job, "emergence"))
    return made, at


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    rows, at = measured(tmp_path_factory.mktemp("emergence"), REGISTERS)
    study = study_of(rows, ["r0"], REGISTERS, other_size=["narrow"])
    return study, Arrays(at, ("emergence",))


def draw(name, made):
    module = figures_attention if hasattr(figures_attention, name) else figures
    with style.styled():
        return getattr(module, name)(*made)


def texts(figure):
    return [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]


def test_a_training_shows_when_and_where_most_patches_stood_out(made):
    table = tables.emergence(made[0])
    frame = table.frame().set_index("model")
    assert frame.index.tolist() == ["r0", "r2", "r4", "narrow"]
    peak = ["share_above_peak", "share_above_peak_epoch", "share_above_peak_layer"]
    assert frame.loc["r0", peak].tolist() == [0.002, 5, 3]
    others = frame.drop(index="r0")
    assert (others["share_above_peak"] == 0).all()
    assert others[peak[1:]].isna().all(axis=None)  # nothing: nowhere
    assert (frame["norm_ratio_peak"] == 1.7).all()
    assert frame[["norm_ratio_peak_epoch", "norm_ratio_peak_layer"]].drop_duplicates().to_numpy().tolist() == [[1, 0]]
    assert frame["parameters"].tolist() == [1000, 1002, 1004, 1000]
    assert frame["top1"].tolist() == [0.8] * 4
    assert "0.200" in table.latex()
    assert "1{,}000" in table.latex()


def test_every_epoch_and_block_of_every_training_is_in_the_grid(made):
    frame = tables.emergence_grid(made[0]).frame()
    assert len(frame) == len(REGISTERS) * EPOCHS * BLOCKS
    above = frame[frame["share_above"] > 0]
    assert above[["model", "epoch", "layer"]].to_numpy().tolist() == [["r0", 5, 3]]
    assert frame.set_index(["model", "epoch", "layer"]).loc[("r2", 3, 4), "norm_max"] == 17.0 * 3 * 5


@pytest.mark.parametrize("name", ["emergence", "emergence_grid"])
def test_a_study_that_trains_nothing_says_so(name):
    assert "no model of this study was trained" in getattr(tables, name)(study_of([], ["r0"])).latex()


@pytest.mark.parametrize("name", TRAINED)
def test_a_study_that_trains_nothing_has_figures(name):
    figure = draw(name, (study_of([], ["r0"]), Arrays(AT, ("emergence",))))
    assert "no model of this study was trained" in texts(figure)[0].get_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_figures_are_legible_at_the_width_of_the_page(name, made, tmp_path):
    figure = draw(name, made)
    assert figure.get_size_inches()[0] <= style.WIDTH + 1e-9
    assert figure.get_size_inches()[1] <= 8.0
    assert min(text.get_fontsize() for text in texts(figure)) >= 7
    for once in ("first", "second"):
        with style.styled():
            style.save(draw(name, made), tmp_path / once, name)
    assert (tmp_path / "first" / f"{name}.pdf").read_bytes() == (tmp_path / "second" / f"{name}.pdf").read_bytes()


@pytest.mark.slow
def test_many_trainings_fit_on_a_page_and_each_shows_its_epochs(tmp_path):
    registers = {f"t{i}": 2 for i in range(23)}
    rows, at = measured(tmp_path, registers)
    made = study_of(rows, ["t0"], registers), Arrays(at, ("emergence",))
    for name in TRAINED:
        figure = draw(name, made)
        assert figure.get_size_inches()[1] <= 8.0, name
        figure.draw_without_rendering()
        if name == "norms_by_epoch":
            shown = [[text.get_text() for text in axes.get_xticklabels()] for axes in figure.axes]
            assert len(shown) == 23
            assert all(set(labels) & {"2", "4", "6"} for labels in shown)


def test_norms_by_epoch_are_those_of_the_last_block(made):
    axes = draw("norms_by_epoch", made).axes
    assert [panel.get_title() for panel in axes] == list(REGISTERS)
    for line, factor in zip(axes[1].get_lines(), (10.0, 12.0, 17.0), strict=True):
        np.testing.assert_allclose(line.get_ydata(), [factor * epoch * BLOCKS for epoch in range(1, EPOCHS + 1)])


@pytest.mark.slow
def test_attention_by_epoch_has_every_epoch_of_a_token_on_one_scale(made):
    figure = draw("attention_by_epoch", made)
    assert [text.get_text() for text in figure.texts] == ["ViT r0", "ViT r4"] * 2
    axes = iter(figure.axes)
    for image in range(2):
        for name, tokens in (("r0", 1), ("r4", 5)):
            content = made[1].of_model(name)
            for token in range(tokens):
                shown, label = next(axes), next(axes)
                assert bool(shown.get_images()) == (token == 0)
                assert label.texts[0].get_text() == (f"register {token}" if token else "[CLS]")
                for epoch in range(EPOCHS):
                    drawn = next(axes).get_images()[0]
                    np.testing.assert_allclose(drawn.get_array(), content["maps"][epoch, image, token])
                    assert drawn.get_clim() == (0, pytest.approx(content["maps"][:, image, token].max()))
    assert next(axes, None) is None


def test_focus_by_epoch_shows_the_mean_maps(made):
    axes = iter(draw("focus_by_epoch", made).axes)
    for name, tokens in (("r0", 1), ("r4", 5)):
        content = made[1].of_model(name)["focus"]
        for token in range(tokens):
            next(axes)
            for epoch in range(EPOCHS):
                np.testing.assert_allclose(next(axes).get_images()[0].get_array(), content[epoch, token])


def test_cosines_by_epoch_are_those_measured_with_their_intervals(made):
    panels = draw("register_cosine_by_epoch", made).axes
    for axes, metric in zip(panels, ("register_cosine", "cls_register_cosine"), strict=True):
        for name, line, band in zip(("r2", "r4"), axes.get_lines(), axes.collections, strict=True):
            rows = made[0].metric_rows(f"training_{metric}", model=name).sort_values("epoch")
            np.testing.assert_allclose(line.get_ydata(), rows["value"].astype(float))
            corners = band.get_paths()[0].vertices[:, 1]
            assert (corners.min(), corners.max()) == pytest.approx((rows["low"].min(), rows["high"].max()))
        assert {line.get_linestyle() for line in axes.get_lines()} == {"--" if metric.startswith("cls") else "-"}


def test_shares_are_printed_in_percent(made):
    assert number(0.002, "percent", decimals=3) in tables.emergence_grid(made[0]).latex()
