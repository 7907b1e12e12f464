"""The figure of the steps of LOST shows what was kept, model by model."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from helpers.measuring import study_of
from helpers.studies import Measured
from vit_registers.experiments.object_discovery import figures_steps
from vit_registers.interventions.kinds.test_time_registers import TestTimeRegisters
from vit_registers.pipeline.paths import Paths
from vit_registers.views import style
from vit_registers.views.arrays import Arrays

MODELS = ("planted", "vit-r0", "vit-r4", "colour")
SIZE, GRID, IMAGES = (12, 16), (3, 4), 4


def kept(seed):
    """Steps of four images; the third is smaller than the arrays that hold it, and has no box."""
    rng = np.random.default_rng(seed)
    arrays = {
        "degree": rng.integers(0, 12, size=(IMAGES, *GRID)),
        "kept": rng.random((IMAGES, *GRID)) < 0.3,
        "mask": rng.random((IMAGES, *GRID)) < 0.5,
        "seed": rng.integers(0, 6, size=IMAGES),
        "box": np.array([[2.0, 1.0, 9.0, 8.0]] * IMAGES) + seed,
    }
    arrays["box"][2] = np.nan
    return arrays


COMMON = {
    "images": np.random.default_rng(0).integers(0, 256, size=(IMAGES, *SIZE, 3), dtype=np.uint8),
    "sizes": np.array([SIZE, SIZE, (8, 16), SIZE]),
    "grids": np.array([GRID, GRID, (2, 4), GRID]),
    "groups": np.arange(IMAGES),
    "outliers": np.zeros(IMAGES, int),
    "truth": np.array([[[1.0, 1.0, 5.0, 6.0], [np.nan] * 4]] * IMAGES),
}


@pytest.fixture
def made(tmp_path):
    """``made(models)``: a study of some models; neurons are moved in ``planted``, LOST was not run on ``bare``."""
    at = Paths("made", tmp_path)
    for i, model in enumerate((*MODELS, "bare")):
        folder = at.measure("object_discovery", "shapes", model)
        folder.mkdir(parents=True)
        arrays = {f"baseline/{name}": array for name, array in kept(i).items()}
        if model == "planted":
            arrays |= {f"ttr-4/{name}": array for name, array in kept(9).items()}
        np.savez(folder / "arrays.npz", **COMMON, **arrays)

    def of(models=(*MODELS, "bare")):
        measured = Measured()
        for model in models:
            where = {"dataset": "shapes", "model": model}
            measured.add("artifacts_found", float(model == "planted"), intervention="baseline", **where)
            if model != "bare":
                measured.add("corloc", 0.5, intervention="baseline", head="lost", **where)
            if model == "planted":
                measured.add("corloc", 0.6, intervention="ttr-4", head="lost", **where)
        study = study_of([measured.frame()], models, interventions=["ttr-4"])
        study.plan = study.plan.model_copy(update={"interventions": {"ttr-4": TestTimeRegisters(tokens=4)}})
        return study, Arrays(at, ("object_discovery",))

    return of


def draw(study, arrays):
    with style.styled():
        figure = figures_steps.lost_steps(study, arrays)
        figure.draw_without_rendering()
    return figure


def titles(figure):
    bold = [text for text in figure.axes[0].texts if text.get_weight() == "bold"]
    return [text.get_text().replace("\n", " ") for text in bold]


def test_models_with_artifacts_and_without_stand_side_by_side_and_repaired_ones_beside_them(made):
    figure = draw(*made())
    assert titles(figure) == [
        "ViT planted, artifacts found",
        "ViT planted, ttr-4",
        "ViT vit-r0",
        "ViT vit-r4",
        "ViT colour",
    ]
    shown = iter(figure.axes[0].images)
    for seed in (0, 9, 1, 2, 3):
        steps = kept(seed)
        for row in range(2):
            picture, degree, *chosen, last = (next(shown).get_array() for _ in range(5))
            np.testing.assert_array_equal(picture, COMMON["images"][row])
            np.testing.assert_array_equal(degree, steps["degree"][row])
            np.testing.assert_array_equal(last, COMMON["images"][row])
            for name, one in zip(("kept", "mask"), chosen, strict=True):
                for y, x in np.ndindex(SIZE):
                    grey = 0.35 + 0.65 * COMMON["images"][row, y, x].mean() / 255
                    blue = 0.4 * grey + 0.6 * np.array(to_rgb(style.AFTER))
                    expected = blue if steps[name][row, y // 4, x // 4] else [grey] * 3
                    np.testing.assert_allclose(one[y, x], expected, err_msg=name)
    assert next(shown, None) is None


def test_boxes_and_seeds_stand_where_they_were_found(made):
    """One model: as many images as there are, of which the third has a smaller picture and no box."""
    figure = draw(*made(("vit-r0",)))
    axes, steps = figure.axes[0], kept(0 + 1)
    places = [image.get_extent() for image in axes.images]
    boxes, stars = [patch for patch in axes.patches if isinstance(patch, Rectangle)], axes.get_lines()
    assert [box.get_linestyle() for box in boxes] == ["--", "-", "--", "-", "--", "--", "-"]
    assert len(stars) == IMAGES
    np.testing.assert_array_equal(axes.images[10].get_array(), COMMON["images"][2][:8])
    found = iter(boxes)
    for row in range(IMAGES):
        height, width = COMMON["sizes"][row]
        left, right, bottom, top = places[5 * row + 4]
        for box in (COMMON["truth"][row, 0], steps["box"][row]):
            if np.isnan(box).any():
                continue
            one = next(found)
            assert one.get_x() == pytest.approx(left + box[0] / width * (right - left))
            assert one.get_y() == pytest.approx(top + box[1] / height * (bottom - top))
            assert one.get_width() == pytest.approx((box[2] - box[0]) / width * (right - left))
            assert one.get_height() == pytest.approx((box[3] - box[1]) / height * (bottom - top))
        left, right, bottom, top = places[5 * row + 2]
        rows, columns = COMMON["grids"][row]
        y, x = divmod(int(steps["seed"][row]), int(columns))
        assert stars[row].get_xdata()[0] == pytest.approx(left + (x + 0.5) / columns * (right - left))
        assert stars[row].get_ydata()[0] == pytest.approx(top + (y + 0.5) / rows * (bottom - top))


def test_a_study_without_lost_says_so(made):
    assert draw(*made(("bare",))).texts[0].get_text() == "LOST was not run"
