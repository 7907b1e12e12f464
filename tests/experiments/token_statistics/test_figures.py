"""Figures of token statistics show what was measured."""

import importlib
import re

import matplotlib.text
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from helpers.tokens import GRID, L
from vit_registers.experiments.token_statistics import EXPERIMENT
from vit_registers.experiments.token_statistics.figures.slots import OTHERS, SLOT_ROWS
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
    counts = arrays["histogram/norm/patches"]  # at the block that detection looked at
    first = np.searchsorted(arrays["edges_norm"], edges[0])
    np.testing.assert_array_equal(edges, arrays["edges_norm"][first : first + len(edges)])
    np.testing.assert_allclose(shares, counts[first : first + len(shares)] / counts.sum())
    assert (shares[1:-1] == 0.0).any()  # bins without tokens
    assert shares[0] > 0
    assert shares[-1] > 0
    assert shares.sum() == pytest.approx(1.0)
    threshold, median = (line.get_xdata()[0] for line in axes.get_lines())
    assert threshold == 12.0
    assert median == made.study.estimate(MOVED["before"], "token_norm_median", group="patches").value


def test_triangles_stand_at_the_published_statistic_of_each_kind_of_token(views):
    made = views()
    axes = next(a for a in draw("attention_distributions", made).axes if a.get_title().endswith("test-time registers"))
    expected = [
        made.study.estimate(MOVED["after"], "attention_in_any_head", group="cls", target=kind).value
        for kind in ("patches", "appended")
    ]
    assert [line.get_xdata()[0] for line in axes.get_lines()] == expected


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


def tiles(figure):
    """Every picture and map of a figure of tiles, in the order of its sections, rows and columns."""
    return iter(figure.axes[0].images)


def scale(kind, maps):
    """Ends of the scale of some maps: of norms least and largest, of attention zero and the 99th percentile."""
    values = sorted(float(value) for one in maps for value in one.ravel())
    if kind == "norms":
        return pytest.approx(values[0]), pytest.approx(values[-1])
    place = 0.99 * (len(values) - 1)
    low, high = values[int(place)], values[min(int(place) + 1, len(values) - 1)]
    return 0.0, pytest.approx(low + (place - int(place)) * (high - low), rel=1e-5)


def by_outliers(*models):
    """Gallery images by the most outliers in any model, one by one; each is of a class of its own."""
    counts = []
    for i in range(3):
        of_models = []
        for maps in models:
            blocks = [one.ravel() for one in maps["norms"][i]]
            of_models.append(max(sum(value > 3 * np.median(block) for value in block) for block in blocks))
        counts.append(max(of_models))
    return sorted(range(3), key=lambda i: -counts[i])


def test_attention_by_block_shows_every_block_of_each_side_on_one_scale(views):
    made = views()
    shown = tiles(draw("attention_by_block", made))
    arrays = {side: made.arrays.of(condition) for side, condition in MOVED.items()}
    largest = [arrays["before"]["norms"][i].max() for i in range(3)]
    image = largest.index(max(largest))
    np.testing.assert_array_equal(next(shown).get_array(), arrays["before"]["images"][image])
    for kind in ("cls", "norms"):
        for side in MOVED:
            for layer in range(L):
                one = next(shown)
                np.testing.assert_allclose(one.get_array(), arrays[side][kind][image, layer])
                assert one.get_clim() == scale(kind, [other[kind][image, layer] for other in arrays.values()])
    for layer in range(L):
        np.testing.assert_allclose(next(shown).get_array(), arrays["after"]["appended"][image, layer, 0])
    assert next(shown, None) is None


def test_a_control_and_a_model_without_cls_have_norms_alone(views):
    made = views()
    arrays = made.arrays
    arrays.of(MOVED["before"])  # loaded
    for content in arrays._loaded.values():
        for name in [name for name in content if name.endswith("/cls")]:
            del content[name]
    made = type("Views", (), {"study": made.study, "arrays": arrays})
    assert len(list(tiles(draw("attention_by_block", made)))) == 1 + 3 * L + L


def on_image(found):
    """The gallery image in which a norm stands out most from its map, one by one."""
    most = {}
    for i in range(3):
        flat = [maps["norms"][i, layer].ravel() for maps in found.values() for layer in range(L)]
        most[i] = max(norms.max() / np.median(norms) for norms in flat)
    return max(most, key=most.get)


def assert_maps(shown, maps, kind="cls"):
    """The next tiles are these maps by block, each on its own scale."""
    for layer in range(L):
        one = next(shown)
        np.testing.assert_allclose(one.get_array(), maps[layer])
        least = pytest.approx(maps[layer].min()) if kind == "norms" else 0.0
        assert one.get_clim() == (least, pytest.approx(maps[layer].max()))


def test_maps_by_block_has_norms_and_attention_of_every_model_on_one_image(views):
    made = views()
    figure = draw("maps_by_block", made)
    found = {c: made.arrays.of(c) for c in made.study.baselines}
    image, shown = on_image(found), tiles(figure)
    for kind in ("norms", "cls"):
        np.testing.assert_array_equal(next(shown).get_array(), next(iter(found.values()))["images"][image])
        for maps in found.values():
            assert_maps(shown, maps[kind][image], kind)
    assert next(shown, None) is None
    said = texts(figure)
    for condition, maps in found.items():
        assert made.study.model_label(condition) in said
        assert f"{maps['norms'][image, 0].max():.3g}" in said


def test_registers_by_block_has_cls_and_four_registers_at_most(views):
    made = views()
    figure = draw("registers_by_block", made)
    image, shown = on_image({c: made.arrays.of(c) for c in made.study.baselines}), tiles(figure)
    for model, registers in (("vit-r2", 2), ("vit-r10", 4)):
        maps = made.arrays.of(Condition("tiny", model))
        np.testing.assert_array_equal(next(shown).get_array(), maps["images"][image])
        assert_maps(shown, maps["cls"][image])
        for register in range(registers):
            assert_maps(shown, maps["registers"][image, :, register])
    assert next(shown, None) is None
    assert texts(figure).count("register 4") == 1
    assert "no model of this study has registers" in texts(draw("registers_by_block", views(("vit-r0",))))


def test_of_many_blocks_twelve_are_shown_and_models_of_another_depth_stand_apart(views):
    made = views(NATURAL)
    arrays = made.arrays
    for condition, depth in zip(made.study.baselines, (24, 12), strict=True):
        arrays.of(condition)  # loaded
        deep = np.random.default_rng(depth).random((3, depth, *GRID)).astype(np.float32)
        arrays._loaded["token_statistics", "tiny", condition.model] |= {"baseline/cls": deep, "baseline/norms": deep}
    figure = draw("maps_by_block", type("Views", (), {"study": made.study, "arrays": arrays}))
    shown = [text.get_text() for text in figure.axes[0].texts]
    firsts = [i for i, text in enumerate(shown) if text == "block\n0"]
    headings = [tuple(text.removeprefix("block\n") for text in shown[i : i + 12]) for i in firsts]
    every_second = ("0", "2", "4", "6", "8", "10", "13", "15", "17", "19", "21", "23")
    assert headings == [every_second, tuple(map(str, range(12)))] * 2


def test_all_models_stand_side_by_side_with_what_was_done_to_them(views):
    made = views()
    figure = draw("attention_maps", made)
    study, shown = made.study, tiles(figure)
    conditions = [c for before in study.baselines for c in (before, study.after(before)) if c is not None]
    assert [c.name for c in conditions].count("ttr-2") == 1
    found = {c: made.arrays.of(c) for c in conditions}
    for kind in ("cls", "norms"):
        for row in by_outliers(*(found[before] for before in study.baselines)):
            image = next(iter(found.values()))["images"][row]
            np.testing.assert_array_equal(next(shown).get_array(), image)
            for condition, maps in found.items():
                one = next(shown)
                np.testing.assert_allclose(one.get_array(), maps[kind][row, -1])
                beside = [c for c in conditions if kind == "cls" or c.model == condition.model]
                assert one.get_clim() == scale(kind, [found[c][kind][row, -1] for c in beside])
    assert next(shown, None) is None
    assert "Attention of [CLS]" in texts(figure)
    assert "Patch norms" in texts(figure)


def test_before_and_after_stand_beside_the_control_on_one_scale(views):
    made = views()
    shown = tiles(draw("before_and_after", made))
    arrays = {side: made.arrays.of(MOVED[side]) for side in ("before", "after", "control")}
    for image in by_outliers(arrays["before"])[:2]:
        np.testing.assert_array_equal(next(shown).get_array(), arrays["before"]["images"][image])
        for kind in ("norms", "cls"):
            for maps in arrays.values():
                one = next(shown)
                np.testing.assert_allclose(one.get_array(), maps[kind][image, -1])
                assert one.get_clim() == scale(kind, [each[kind][image, -1] for each in arrays.values()])
    assert next(shown, None) is None


def test_models_without_registers_come_before_those_with_most(views):
    figure = draw("register_slots", views())
    titles = [text.get_text() for text in figure.texts]
    assert titles == ["ViT without registers", "ViT with 2 registers", "ViT with 10 registers"]  # of the usual size
    assert [axes.get_title() for axes in figure.axes[:2]] == ["input", "[CLS]"]


def test_the_winner_of_a_patch_has_the_colour_of_its_frame(views):
    made = views()
    axes = iter(draw("register_slots", made).axes)
    plain = made.arrays.of(Condition("tiny", "vit-r0"))
    rows = SLOT_ROWS // 3
    for row in by_outliers(plain)[:rows]:  # of the model without registers: the picture and [CLS]
        next(axes)
        cls = plain["cls"]
        np.testing.assert_allclose(next(axes).get_images()[0].get_array(), cls[row, -1])
    for name, registers in (("vit-r2", 2), ("vit-r10", 8)):
        content = made.arrays.of(Condition("tiny", name))
        for row in by_outliers(content)[:rows]:
            line = [next(axes) for _ in range(3 + registers)]
            frames = [panel.spines["left"].get_edgecolor()[:3] for panel in line[2:-1]]
            assert len(set(frames)) == registers
            for i, panel in enumerate(line[2:-1]):
                np.testing.assert_allclose(panel.get_images()[0].get_array(), content["registers"][row, -1, i])
            drawn = line[-1].get_images()[1].get_array()
            for y, x in np.ndindex(GRID):
                winner = content["winners"][row, y, x]
                expected = frames[winner] if winner < registers else to_rgb(OTHERS)
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
