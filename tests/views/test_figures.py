import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from vit_registers.core.errors import InputError
from vit_registers.experiments.emergence import figures_maps as figures_watched
from vit_registers.experiments.token_statistics import figures_slots
from vit_registers.views import arrays, figures, needs, style
from vit_registers.views.study import Condition, Study

NATURAL_ONLY = {
    "study": {"runs": [{"dataset": "shapes", "models": ["vit-r0", "vit-r4"], "interventions": ["ttr-4"]}],
              "detections": [], "comparisons": []},
    "gallery": {"images": 4}}  # fmt: skip


def _draw(name: str, made: Any) -> Figure:
    with style.styled():
        return figures.FIGURES[name](Study(made.view, made.rows), made.readouts)


def _texts(figure: Figure) -> Iterator[Text]:
    for artist in figure.findobj(Text):
        if isinstance(artist, Text) and artist.get_text().strip() and artist.get_visible():
            yield artist


def test_the_figures_are_those_that_the_workflow_knows() -> None:
    assert list(figures.FIGURES) == list(needs.FIGURES)


@pytest.mark.parametrize("name", figures.FIGURES)
def test_a_figure_needs_no_more_than_it_says_and_is_the_same_every_time(
    name: str, embedded: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readouts, patterns = needs.FIGURES[name]
    read: set[str] = set()
    existing = arrays._existing
    monkeypatch.setattr(arrays, "_existing", lambda path: read.add(str(path)) or existing(path))
    figures.run(name, embedded.view, embedded.tables, embedded.readouts, tmp_path / "all")
    paths = [embedded.root / "metrics" / f"{readout}.csv" for readout in readouts]
    figures.run(name, embedded.view, paths, embedded.readouts, tmp_path / "some")
    for suffix in ("pdf", "png"):
        everything, some = ((tmp_path / folder / f"{name}.{suffix}").read_bytes() for folder in ("all", "some"))
        assert everything == some
    allowed = {
        str(embedded.readouts / pattern.format(dataset=dataset, model=model))
        for pattern in patterns
        for dataset, model in embedded.params.pairs()
    }
    assert read <= allowed
    assert bool(read) == bool(patterns)


@pytest.mark.parametrize("name", figures.FIGURES)
def test_figures_are_legible_at_the_width_of_the_page(name: str, embedded: Any, tmp_path: Path) -> None:
    figure = _draw(name, embedded)
    assert figure.get_size_inches()[0] <= style.WIDTH + 1e-9
    assert figure.get_size_inches()[1] <= 8.0
    assert min(text.get_fontsize() for text in _texts(figure)) >= 7
    style.save(figure, tmp_path, name)
    assert b"/CreationDate" not in (tmp_path / f"{name}.pdf").read_bytes()
    with Image.open(tmp_path / f"{name}.png") as image:
        pixels = np.asarray(image.convert("L"))
        assert image.size == pytest.approx([s * style.DPI for s in figure.get_size_inches()], abs=1)
    assert len(np.unique(pixels)) > 10


def test_many_trainings_fit_on_a_page_and_each_shows_its_epochs(make_study: Callable[..., Any]) -> None:
    trained = {"kind": "trained", "dataset": "shapes", "recipe": "small", "registers": 2}
    names = [f"t{i}" for i in range(21)]
    study = {"trainings": names, "runs": NATURAL_ONLY["study"]["runs"], "detections": [], "comparisons": []}
    made = make_study({"models": dict.fromkeys(names, trained), "study": study})
    for name in ("norms_by_epoch", "register_cosine_by_epoch", "attention_by_epoch", "focus_by_epoch"):
        figure = _draw(name, made)
        assert figure.get_size_inches()[1] <= 8.0, name
        figure.draw_without_rendering()
        shown = [[text.get_text() for text in axes.get_xticklabels()] for axes in figure.axes]
        if name == "norms_by_epoch":
            assert len(shown) == 23
            assert all(set(labels) & {"2", "4", "6"} for labels in shown)


@pytest.mark.parametrize(
    "name",
    [
        "norms_by_layer",
        "norms_by_size",
        "cls_attention_by_layer",
        "norm_distributions",
        "register_cosine_by_epoch",
        "attention_distributions",
        "register_count",
    ],
)
def test_no_legend_lies_over_data(name: str, embedded: Any) -> None:
    figure = _draw(name, embedded)
    figure.draw_without_rendering()
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]
    for legend in legends:
        for axes in figure.axes:
            assert not legend.get_window_extent().overlaps(axes.get_window_extent())


def test_norms_by_layer_shows_the_measured_norms(embedded: Any) -> None:
    study = Study(embedded.view, embedded.rows)
    natural, other, planted, *_ = _draw("norms_by_layer", embedded).axes
    drawn = [tuple(line.get_ydata()) for line in planted.get_lines()]
    for condition in (("planted", "baseline"), ("planted", "ttr-4"), ("tagged", "append-4")):
        for metric in ("norm_median", "norm_p99", "norm_max"):
            assert tuple(study.series(Condition("shapes", *condition), "norms", metric)) in drawn
    assert len(drawn) == 9
    assert len(natural.get_lines()) == 7 * 3
    assert len(other.get_lines()) == 4 * 3  # two trained, two resized


def test_attention_bars_add_up_to_one_and_are_the_measured_shares(embedded: Any) -> None:
    study = Study(embedded.view, embedded.rows)
    axes = next(a for a in _draw("cls_attention_by_layer", embedded).axes if a.get_title() == "ViT with 8 registers")
    heights = np.array([[bar.get_height() for bar in container] for container in axes.containers])
    np.testing.assert_allclose(heights.sum(axis=0), 1.0)
    for row, metric in zip(heights, ("cls_to_patches", "cls_to_registers"), strict=False):
        np.testing.assert_allclose(row, study.series(Condition("shapes", "vit-r8"), "attention", metric))


def test_positions_are_drawn_on_one_scale_with_a_bar(embedded: Any) -> None:
    figure = _draw("artifact_positions", embedded)
    *panels, bar = figure.axes
    panels = [panel for panel in panels if panel.get_visible()]
    names = ["planted", "planted-cls", "planted-cls-raw", "planted-48", "planted-48-plain"]
    rates = [arrays.maps(embedded.readouts, Condition("shapes", name))["artifact_rate"] for name in names]
    for panel, rate in zip(panels, rates, strict=True):
        np.testing.assert_array_equal(panel.images[0].get_array(), rate)
        assert panel.images[0].get_clim() == (0.0, max(r.max() for r in rates))
        assert panel.get_xlabel() == f"at most {rate.max():.2g}"
    assert bar.get_ylabel() == "share of images"
    assert [panel.get_title().replace("\n", " ") for panel in panels][3:] == [
        "Planted at 48 px",
        "Planted at 48 px, plain",
    ]


def test_norms_by_position_are_drawn_for_every_model_with_their_range(embedded: Any) -> None:
    panels = [panel for panel in _draw("norms_by_position", embedded).axes if panel.get_visible()]
    pairs = embedded.params.pairs()
    for panel, pair in zip(panels, pairs, strict=True):
        norm = arrays.maps(embedded.readouts, Condition(*pair))["norm_by_position"]
        np.testing.assert_array_equal(panel.images[0].get_array(), norm)
        assert panel.get_xlabel() == f"{norm.min():.3g} to {norm.max():.3g}"


def test_norms_by_size_stand_at_the_parameters_of_models_without_registers(embedded: Any) -> None:
    study = Study(embedded.view, embedded.rows)
    figure = _draw("norms_by_size", embedded)
    drawn = {
        (line.get_xdata()[0], line.get_ydata()[0]) for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 1
    }
    expected = set()
    for model in ("vit-r0", "vit-tiny", "vit-narrow"):
        condition = Condition("shapes", model)
        size = study.estimate(condition, "detection", "parameters").value
        for metric in ("norm_median", "norm_p99", "norm_max"):
            expected.add((size, study.series(condition, "norms", metric)[4]))  # the outlier layer, not the last
    assert drawn == expected
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[3:] == ["ViT without registers (7 M)", "ViT 64 wide, 4 deep (9 M)", "ViT 96 wide, 5 deep (11 M)"]


def test_distributions_are_shares_of_all_tokens_with_the_threshold(embedded: Any) -> None:
    figure = _draw("norm_distributions", embedded)
    axes = next(a for a in figure.axes if a.get_title() == "Planted\nbaseline")
    values, edges, _ = axes.patches[0].get_data()
    table = arrays.histogram(embedded.readouts, Condition("shapes", "planted"), "norm")
    table = table[table["token"] == "patches"]
    assert (table["bin_left"].to_numpy()[1:] > table["bin_right"].to_numpy()[:-1]).any()  # bins without tokens
    total = 0.0
    for value, left, right in zip(values, edges[:-1], edges[1:], strict=True):
        row = table[(table["bin_left"] == left) & (table["bin_right"] == right)]
        assert value == (row["count"].iloc[0] / table["count"].sum() if len(row) else 0.0)
        total += value
    assert total == pytest.approx(1.0)
    assert axes.get_lines()[0].get_xdata()[0] == 51.0


def test_attention_by_block_shows_every_block_of_each_side_on_one_scale(embedded: Any) -> None:
    figure = _draw("attention_by_block", embedded)
    sides = [Condition("shapes", "tagged", "append-4"), Condition("shapes", "planted"),
             Condition("shapes", "planted", "ttr-4")]  # fmt: skip
    depth = arrays.maps(embedded.readouts, sides[0])["cls"].shape[1]
    assert len(figure.axes) == 3 * 2 * (1 + depth)
    for side, condition in enumerate(sides):
        content = arrays.maps(embedded.readouts, condition)["cls"]
        for row in range(2):
            for layer in range(depth):
                shown = figure.axes[(2 * side + row) * (1 + depth) + 1 + layer].get_images()[0]
                np.testing.assert_allclose(shown.get_array(), content[row, layer])
                others = [arrays.maps(embedded.readouts, c)["cls"][row, layer].max() for c in sides]
                assert shown.get_clim() == (0, pytest.approx(max(others)))


def test_maps_of_one_kind_share_a_scale_within_a_row(embedded: Any) -> None:
    figure = _draw("attention_maps", embedded)
    first = figure.axes[:7]  # one row of the first block
    maps = [axes.images[0] for axes in first[1:]]
    assert [image.get_clim() for image in maps[:3]] == [(0.0, pytest.approx(0.1))] * 3
    np.testing.assert_array_equal(maps[1].get_array()[0, 0], 0.1)
    assert maps[2].get_array()[0, 0] < 0.05


def test_boxes_and_truth_stand_where_they_were_measured(embedded: Any) -> None:
    figure = _draw("lost_steps", embedded)
    content = arrays.lost_steps(embedded.readouts, Condition("shapes", "planted", "ttr-4"))
    after = figure.axes[8]
    truth, box = after.patches
    x0, y0, x1, y1 = content["box"][0]
    assert (*box.get_xy(), box.get_width(), box.get_height()) == (x0, y0, x1 - x0, y1 - y0)
    assert truth.get_xy() == tuple(content["truth"][0, 0, :2])
    star = figure.axes[6].get_lines()[0]
    row, column = divmod(int(content["seed"][0]), 8)
    assert (star.get_xdata()[0], star.get_ydata()[0]) == (8 * column + 4, 8 * row + 4)


def test_register_counts_with_intervals(embedded: Any) -> None:
    study = Study(embedded.view, embedded.rows)
    axes = _draw("register_count", embedded).axes[2]
    points = axes.containers[0].lines[0].get_ydata()
    cells = [study.estimate(Condition("shapes", f"vit-r{r}"), "lost", "corloc") for r in (0, 1, 2, 4, 8, 16)]
    np.testing.assert_allclose(np.array(points, dtype=float), [100 * c.value for c in cells])
    segments = axes.containers[0].lines[2][0].get_segments()
    ends = np.array([segment[:, 1] for segment in segments], dtype=float)
    np.testing.assert_allclose(ends, [[100 * c.low, 100 * c.high] for c in cells])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "2", "4", "8", "16"]


def test_attention_by_epoch_has_every_epoch_of_a_token_on_one_scale(embedded: Any) -> None:
    figure = _draw("attention_by_epoch", embedded)
    assert [text.get_text() for text in figure.texts] == ["ViT without registers", "ViT with 4 registers"] * 2
    axes = iter(figure.axes)
    for image in range(2):
        for name, tokens in (("vit-r0", 1), ("vit-r4", 5)):
            content = arrays.watched(embedded.readouts, name)
            for token in range(tokens):
                shown, label = next(axes), next(axes)
                assert bool(shown.get_images()) == (token == 0)
                assert label.texts[0].get_text() == (f"register {token}" if token else "[CLS]")
                for epoch in range(7):
                    drawn = next(axes).get_images()[0]
                    np.testing.assert_allclose(drawn.get_array(), content["maps"][epoch, image, token])
                    assert drawn.get_clim() == (0, pytest.approx(content["maps"][:, image, token].max()))
    assert next(axes, None) is None


def test_focus_by_epoch_shows_the_mean_maps(embedded: Any) -> None:
    axes = iter(_draw("focus_by_epoch", embedded).axes)
    for name, tokens in (("vit-r0", 1), ("vit-r4", 5)):
        content = arrays.watched(embedded.readouts, name)["focus"]
        for token in range(tokens):
            next(axes)
            for epoch in range(7):
                np.testing.assert_allclose(next(axes).get_images()[0].get_array(), content[epoch, token])


@pytest.mark.parametrize("epochs", [1, 2, 7, 8, 15, 800])
def test_of_many_epochs_seven_are_shown_the_first_and_the_last_among_them(epochs: int) -> None:
    shown = figures_watched._shown(epochs)
    assert (shown[0], shown[-1], len(shown)) == (0, epochs - 1, min(epochs, 7))
    steps = np.diff(shown)
    assert len(steps) == 0 or (steps.min() >= 1 and steps.max() - steps.min() <= 1)


def test_cosines_by_epoch_are_those_measured_with_their_intervals(embedded: Any) -> None:
    study = Study(embedded.view, embedded.rows)
    models = ["vit-r2", "vit-r4", "vit-r8", "vit-r16"]
    for axes, metric in zip(
        _draw("register_cosine_by_epoch", embedded).axes, ("register_cosine", "cls_register_cosine"), strict=True
    ):
        for name, line, band in zip(models, axes.get_lines(), axes.collections, strict=True):
            cells = [study.estimate(Condition("shapes", name, f"epoch {e}"), "training", metric) for e in range(1, 8)]
            np.testing.assert_allclose(line.get_ydata(), [cell.value for cell in cells])
            corners = band.get_paths()[0].vertices[:, 1]
            assert (corners.min(), corners.max()) == pytest.approx((cells[-1].low, cells[0].high))
        assert {line.get_linestyle() for line in axes.get_lines()} == {"--" if metric.startswith("cls") else "-"}


def test_the_winner_of_a_patch_has_the_colour_of_its_frame(embedded: Any) -> None:
    figure = _draw("register_slots", embedded)
    axes = iter(figure.axes)
    for name, registers in (("vit-r1", 1), ("vit-r2", 2), ("vit-r4", 4), ("vit-r8", 8), ("vit-r16", 8)):
        content = arrays.maps(embedded.readouts, Condition("shapes", name))
        for row in range(2):
            line = [next(axes) for _ in range(3 + registers)]
            frames = [panel.spines["left"].get_edgecolor()[:3] for panel in line[2:-1]]
            assert len(set(frames)) == registers
            for i, panel in enumerate(line[2:-1]):
                np.testing.assert_allclose(panel.get_images()[0].get_array(), content["registers"][row, -1, i])
            drawn = line[-1].get_images()[1].get_array()
            for y, x in np.ndindex(8, 8):
                winner = content["winners"][row, y, x]
                expected = frames[winner] if winner < registers else to_rgb(figures_slots.OTHERS)
                np.testing.assert_allclose(drawn[y, x], expected)
    assert next(axes, None) is None


@pytest.mark.parametrize("name", figures.FIGURES)
def test_a_study_without_artifacts_has_figures(name: str, make_study: Callable[..., Any], tmp_path: Path) -> None:
    made = make_study(NATURAL_ONLY)
    figures.run(name, made.view, made.tables, made.readouts, tmp_path)
    texts = " ".join(text.get_text() for text in _texts(_draw(name, made)))
    assert not re.search("before|after|Planted", texts)


def test_maps_of_several_data_sets_stand_beside_their_own_images(make_study: Callable[..., Any]) -> None:
    model = "a_released_model_with-a_long_name"
    change = {
        "datasets": {"photos": {"kind": "generated", "train": 100, "test": 100, "size": 64}},
        "models": {model: {"kind": "timm", "name": "vit_small_patch16_224"}},
        "study": {
            "runs": [
                {"dataset": "photos", "models": [model, "vit-r0"], "interventions": []},
                {"dataset": "shapes", "models": [model], "interventions": []},
            ],
            "detections": [],
            "comparisons": [],
        },
        "gallery": {"images": 4},
    }
    figure = _draw("attention_maps", make_study(change))
    assert len(figure.axes) == 4 * 3 + 4 * 2
    assert [text.get_text() for text in figure.texts] == ["photos", "shapes"]
    figure.draw_without_rendering()
    boxes = [axes.title.get_window_extent() for axes in figure.axes if axes.get_title()]
    boxes += [text.get_window_extent() for text in figure.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1 for box in boxes)


def test_nothing_measured_is_said_in_words(make_study: Callable[..., Any]) -> None:
    made = make_study({"study": {"runs": [{"dataset": "shapes", "models": ["tagged"], "interventions": []}],
                                 "detections": [], "comparisons": []}, "gallery": {"images": 4}})  # fmt: skip
    figure = _draw("register_count", made)
    assert "no model of this study" in next(_texts(figure)).get_text()


def test_a_missing_file_is_named(embedded: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"planted\.steps\.npz: no such file"):
        figures.run("lost_steps", embedded.view, embedded.tables, tmp_path, tmp_path)


def test_an_unknown_figure_is_refused(embedded: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no figure 'norm'; figures are norms_by_layer"):
        figures.run("norm", embedded.view, embedded.tables, embedded.readouts, tmp_path)


def test_views_never_load_torch() -> None:
    code = (
        "import sys, vit_registers.views.figures, vit_registers.views.tables, vit_registers.report.numbers, "
        "vit_registers.report.build; assert not {'torch', 'timm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    light = "import sys, vit_registers.views.needs; assert not {'pandas', 'matplotlib', 'seaborn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", light], check=True)
