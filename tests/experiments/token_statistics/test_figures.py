"""Figures of token statistics show what was measured."""

import importlib
import re

import matplotlib.text
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from helpers.tokens import GRID, L
from vit_registers.experiments.token_statistics import EXPERIMENT, figures_maps
from vit_registers.views import style
from vit_registers.views.study import Condition, Study

FIGURES = {figure.name: figure.draw for figure in EXPERIMENT.figures}
MOVED = {
    "control": Condition("tiny", "planted", "append-2"),
    "before": Condition("tiny", "planted"),
    "after": Condition("tiny", "planted", "ttr-2"),
}
NATURAL = ("vit-r0", "vit-r2")


def draw(name, made):
    module, _, function = FIGURES[name].partition(":")
    drawing = getattr(importlib.import_module(f"vit_registers.experiments.token_statistics.{module}"), function)
    with style.styled():
        return drawing(made.study, made.arrays)


def visible(figure):
    return [axes for axes in figure.axes if axes.get_visible()]


def texts(figure):
    found = " ".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))
    return found.replace("\n", " ")


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_it_can_be_drawn_and_fits_the_page(views, name, tmp_path):
    figure = draw(name, views())
    width, height = figure.get_size_inches()
    assert width <= style.WIDTH + 1e-6
    assert height <= 8.1
    with style.styled():
        style.save(figure, tmp_path, name)
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.pdf", f"{name}.png"}


@pytest.mark.parametrize("name", FIGURES)
def test_a_study_without_artifacts_has_it_too(views, name):
    assert not re.search("before|after|Planted", texts(draw(name, views(NATURAL))))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["norms_by_layer", "norms_by_size", "cls_attention_by_layer", "norm_distributions", "attention_distributions"],
)
def test_no_legend_lies_over_data(views, name):
    figure = draw(name, views())
    figure.draw_without_rendering()
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]
    assert legends
    for legend in legends:
        for axes in figure.axes:
            assert not legend.get_window_extent().overlaps(axes.get_window_extent())


def test_norms_by_layer_shows_the_measured_norms(views):
    made = views()
    usual, other, planted = draw("norms_by_layer", made).axes
    drawn = [tuple(line.get_ydata()) for line in planted.get_lines()]
    for condition in MOVED.values():
        for metric in ("norm_median", "norm_p99", "norm_max"):
            assert tuple(made.study.series(condition, metric)) in drawn
    assert len(drawn) == 9
    assert len(usual.get_lines()) == 3 * 3
    assert len(other.get_lines()) == 2 * 3  # one trained, one resized


def test_attention_bars_add_up_to_one_and_are_the_measured_shares(views):
    made = views()
    axes = next(a for a in draw("cls_attention_by_layer", made).axes if a.get_title() == "ViT with 2 registers")
    heights = np.array([[bar.get_height() for bar in container] for container in axes.containers])
    np.testing.assert_allclose(heights.sum(axis=0), 1.0, atol=2e-3)
    condition = Condition("tiny", "vit-r2")
    for row, target in zip(heights, ("patches", "registers", "appended", "cls"), strict=True):
        np.testing.assert_allclose(row, made.study.series(condition, "attention", group="cls", target=target))
    (peak,) = axes.get_lines()
    np.testing.assert_allclose(peak.get_ydata(), made.study.series(condition, "cls_attention_peak"))


def test_norms_by_size_stand_at_the_parameters_of_models_without_registers(views):
    made = views()
    figure = draw("norms_by_size", made)
    drawn = {
        (line.get_xdata()[0], line.get_ydata()[0]) for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 1
    }
    expected = {
        (7_000_000, made.study.series(Condition("tiny", model), metric)[1])  # the outlier layer, not the last
        for model in ("vit-r0", "vit-tiny")
        for metric in ("norm_median", "norm_p99", "norm_max")
    }
    assert drawn == expected
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[3:] == ["ViT without registers (7 M)", "ViT 64 wide, 4 deep (7 M)"]


def test_distributions_are_shares_of_all_tokens_with_the_threshold(views):
    made = views()
    axes = next(a for a in draw("norm_distributions", made).axes if a.get_title() == "Planted\nbaseline")
    shares, edges, _ = axes.patches[0].get_data()
    arrays = made.arrays.of(MOVED["before"])
    counts = arrays["histogram/norm/patches"]
    first = np.searchsorted(arrays["edges_norm"], edges[0])
    np.testing.assert_array_equal(edges, arrays["edges_norm"][first : first + len(edges)])
    np.testing.assert_allclose(shares, counts[first : first + len(shares)] / counts.sum())
    assert (shares[1:-1] == 0.0).any()  # bins without tokens
    assert shares[0] > 0
    assert shares[-1] > 0
    assert shares.sum() == pytest.approx(1.0)
    assert axes.get_lines()[0].get_xdata()[0] == 12.0


def test_distributions_have_a_panel_for_each_condition_shown_and_a_line_for_each_kind_of_token(views):
    titles = {axes.get_title(): len(axes.patches) for axes in draw("attention_distributions", views()).axes}
    assert titles == {
        "ViT without\nregisters": 1,
        "ViT with 2 registers": 2,
        "ViT with 10\nregisters": 2,
        "ViT 64 wide,\n4 deep": 1,
        "Planted at 48 px": 1,
        "Planted\n2 zero tokens": 2,
        "Planted\nbaseline": 1,
        "Planted\n2 test-time registers": 2,
    }


def test_positions_are_drawn_on_one_scale_with_a_bar(views):
    made = views()
    *panels, bar = visible(draw("artifact_positions", made))
    rates = [made.arrays.of(Condition("tiny", name))["artifact_rate"] for name in ("planted", "planted-48")]
    for panel, rate in zip(panels, rates, strict=True):
        np.testing.assert_array_equal(panel.images[0].get_array(), rate)
        assert panel.images[0].get_clim() == (0.0, max(r.max() for r in rates))
        assert panel.get_xlabel() == f"at most {rate.max():.2g}"
    assert bar.get_ylabel() == "share of images"
    assert [panel.get_title() for panel in panels] == ["Planted", "Planted at 48 px"]


def test_norms_by_position_are_drawn_for_every_model_with_their_range(views):
    made = views()
    panels = visible(draw("norms_by_position", made))
    for panel, condition in zip(panels, made.study.baselines, strict=True):
        norm = made.arrays.of(condition)["norm_by_position"]
        np.testing.assert_array_equal(panel.images[0].get_array(), norm)
        assert panel.get_xlabel() == f"{norm.min():.3g} to {norm.max():.3g}"


def test_the_focus_of_cls_and_of_eight_registers_at_most(views):
    made = views()
    axes = iter(draw("positional_focus", made).axes)
    for model, shown in (("vit-r2", 3), ("vit-r10", 9)):
        focus = made.arrays.of(Condition("tiny", model))["focus"]
        line = [next(axes) for _ in range(9)]
        assert [panel.get_title() for panel in line[:shown]] == ["[CLS]", *map(str, range(1, shown))]
        assert not any(panel.get_visible() for panel in line[shown:])
        for panel, one in zip(line[:shown], focus, strict=False):
            np.testing.assert_array_equal(panel.images[0].get_array(), one)
            assert panel.images[0].get_clim() == (0.0, focus[:9].max())


def test_attention_by_block_shows_every_block_of_each_side_on_one_scale(views):
    made = views()
    figure = draw("attention_by_block", made)
    sides = [made.arrays.of(condition)["cls"] for condition in MOVED.values()]
    assert len(figure.axes) == 3 * 2 * (1 + L)
    for side, content in enumerate(sides):
        for row in range(2):
            for layer in range(L):
                shown = figure.axes[(2 * side + row) * (1 + L) + 1 + layer].get_images()[0]
                np.testing.assert_allclose(shown.get_array(), content[row, layer])
                assert shown.get_clim() == (0, pytest.approx(max(other[row, layer].max() for other in sides)))


def test_maps_of_one_kind_share_a_scale_within_a_row(views):
    made = views()
    line = draw("attention_maps", made).axes[:7]  # the first row
    arrays = {side: made.arrays.of(condition) for side, condition in MOVED.items()}
    np.testing.assert_array_equal(line[0].images[0].get_array(), arrays["before"]["images"][0])
    attention = [arrays[side]["cls"][0, -1] for side in ("control", "before", "after")]
    norms = [arrays[side]["norms"][0] for side in ("before", "after")]
    register = [arrays["after"]["appended"][0, -1, 0]]
    shown = iter(axes.images[0] for axes in line[1:])
    for kind in (attention, norms, register):
        for one in kind:
            image = next(shown)
            np.testing.assert_allclose(image.get_array(), one)
            assert image.get_clim() == (0.0, pytest.approx(max(other.max() for other in kind)))


def test_without_artifacts_the_attention_of_every_model_stands_beside_the_picture(views):
    made = views(NATURAL)
    figure = draw("attention_maps", made)
    assert len(figure.axes) == 3 * 3
    for column, model in enumerate(NATURAL, start=1):
        cls = made.arrays.of(Condition("tiny", model))["cls"]
        for row in range(3):
            np.testing.assert_allclose(figure.axes[3 * row + column].images[0].get_array(), cls[row, -1])


def test_the_winner_of_a_patch_has_the_colour_of_its_frame(views):
    made = views()
    axes = iter(draw("register_slots", made).axes)
    for name, registers in (("vit-r2", 2), ("vit-r10", 8)):
        content = made.arrays.of(Condition("tiny", name))
        for row in range(3):
            line = [next(axes) for _ in range(3 + registers)]
            frames = [panel.spines["left"].get_edgecolor()[:3] for panel in line[2:-1]]
            assert len(set(frames)) == registers
            for i, panel in enumerate(line[2:-1]):
                np.testing.assert_allclose(panel.get_images()[0].get_array(), content["registers"][row, -1, i])
            drawn = line[-1].get_images()[1].get_array()
            for y, x in np.ndindex(GRID):
                winner = content["winners"][row, y, x]
                expected = frames[winner] if winner < registers else to_rgb(figures_maps.OTHERS)
                np.testing.assert_allclose(drawn[y, x], expected)
    assert next(axes, None) is None


@pytest.mark.slow
def test_models_whose_tokens_were_not_measured_are_left_out(views):
    """An experiment need not run on every model of a study: there is no file of arrays to miss."""
    made = views()
    rows = made.study.rows
    gone = (rows["model"] == "vit-r2") & (rows["experiment"] == "token_statistics")
    made.study = Study(made.study.plan, rows[~gone])
    for name in FIGURES:
        assert "2 registers" not in texts(draw(name, made)), name
