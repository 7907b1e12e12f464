import numpy as np
import pytest
from scipy import ndimage

from vit_registers.data.shapes import draw


@pytest.fixture(scope="module")
def images():
    return draw.generate(np.random.default_rng([0, 0]), 250, 64)


def test_the_same_seed_gives_the_same_bytes(images):
    again = draw.generate(np.random.default_rng([0, 0]), 250, 64)
    other = draw.generate(np.random.default_rng([0, 1]), 250, 64)
    assert np.array_equal(images.rgb, again.rgb)
    assert not np.array_equal(images.rgb, other.rgb)


def test_boxes_are_tight_and_objects_inside_the_image(images):
    for mask, (x0, y0, x1, y1) in zip(images.mask, images.boxes, strict=True):
        rows, columns = np.nonzero(mask)
        assert (x0, y0, x1, y1) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    side = images.boxes[:, 2:] - images.boxes[:, :2]
    assert side.min() >= 8
    assert side.max() <= 44


def test_more_than_half_of_the_patches_are_uniform_background(images):
    grey = images.rgb.mean(3) / 255.0
    tiles = grey.reshape(250, 8, 8, 8, 8).transpose(0, 1, 3, 2, 4).reshape(250, 64, 64)
    objects = images.mask.reshape(250, 8, 8, 8, 8).transpose(0, 1, 3, 2, 4).reshape(250, 64, 64).any(2)
    share = ((tiles.std(2) < 10 / 255) & ~objects).mean()
    assert 0.45 < share < 0.7
    assert 0.75 < (~objects).mean() < 0.9


def test_every_class_appears_and_the_object_has_its_colour(images):
    assert set(images.label) == set(range(len(draw.CLASSES)))
    for i in np.flatnonzero(images.label == draw.CLASSES.index("bright green"))[:5]:
        red, green, blue = images.rgb[i][images.mask[i]].mean(0)
        assert green > red
        assert green > blue


def test_grey_pictures_keep_their_brightness_and_lose_their_colour(images):
    grey = draw.grey(images.rgb)
    assert (grey == grey[..., :1]).all()
    pixel = images.rgb[3, 20, 30].astype(float)
    assert abs(grey[3, 20, 30, 0] - (0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2])) <= 0.5


def test_larger_and_lower_objects_are_nearer_and_nothing_else_is_drawn_otherwise(images, monkeypatch):
    """Depth follows from what the image shows, up to a little noise; pixels do not depend on it."""
    rows = np.mgrid[:64, :64][0]
    for i in range(250):
        of_object = images.depth[i][images.mask[i]]
        assert np.ptp(of_object) == 0
        assert draw.NEAR - draw.DEPTH_NOISE <= of_object[0] <= draw.FAR + draw.DEPTH_NOISE
    of_objects = np.array([depth[mask][0] for depth, mask in zip(images.depth, images.mask, strict=True)])
    area = images.mask.sum((1, 2))
    row = np.array([rows[mask].mean() for mask in images.mask])
    assert np.corrcoef(of_objects, area)[0, 1] < -0.4
    assert np.corrcoef(of_objects, row)[0, 1] < -0.3
    monkeypatch.setattr(draw, "object_depth", lambda radius, height: np.zeros_like(radius))
    other = draw.generate(np.random.default_rng([0, 0]), 250, 64)
    assert np.array_equal(other.rgb, images.rgb)
    assert not np.array_equal(other.depth, images.depth)


@pytest.mark.parametrize(
    ("radius", "height", "depth"), [(17.0, 1.0, 0.1), (10.0, 0.0, 0.5), (10.0, 1.0, 0.34), (13.5, 0.5, 0.3)]
)
def test_depth_of_objects_by_hand(radius, height, depth):
    assert draw.object_depth(np.array([radius]), np.array([height]))[0] == pytest.approx(depth)


def by_nearest_colour(images):
    """Share of images whose class is that of the image with the closest mean colour of the object."""
    colours = np.array([rgb[mask].mean(0) for rgb, mask in zip(images.rgb, images.mask, strict=True)])
    right = 0
    for i, colour in enumerate(colours):
        away = np.square(colours - colour).sum(1)
        away[i] = np.inf
        right += images.label[away.argmin()] == images.label[i]
    return right / len(colours)


@pytest.mark.slow
def test_classes_by_shape_cannot_be_told_by_colour():
    by_colour = draw.generate(np.random.default_rng([0, 0]), 1000, 64)
    by_shape = draw.generate(np.random.default_rng([0, 0]), 1000, 64, "shape")
    assert set(by_shape.label) == set(range(len(draw.SHAPES)))
    assert by_nearest_colour(by_colour) > 0.9
    assert by_nearest_colour(by_shape) < 0.25  # chance: 0.2


@pytest.mark.slow
def test_classes_by_shape_are_the_shapes_that_are_drawn():
    """Turned at random, they are told by the share that they fill of the circle around their centre of mass.

    A disk fills it; a square of side a has the radius a / sqrt(2), so 2 / pi; an equilateral triangle 3 sqrt(3) / 4 pi.
    """
    images = draw.generate(np.random.default_rng([0, 0]), 1000, 64, "shape")
    rows, columns = np.mgrid[:64, :64]
    compact = []
    for shape in range(len(draw.SHAPES)):
        values = []
        for mask in images.mask[images.label == shape]:
            away = np.hypot(rows[mask] - rows[mask].mean(), columns[mask] - columns[mask].mean())
            values.append(mask.sum() / (np.pi * away.max() ** 2))
        compact.append(np.median(values))
    disk, square, triangle, star, cross = compact
    assert disk == pytest.approx(1.0, abs=0.03)
    assert square == pytest.approx(2 / np.pi, abs=0.06)
    assert triangle == pytest.approx(3 * 3**0.5 / (4 * np.pi), abs=0.06)
    assert triangle < star < cross < square


def test_classes_of_the_whole_image_change_no_picture():
    by_shape, *others = (draw.generate(np.random.default_rng([0, 0]), 50, 64, c) for c in ("shape", "count", "place"))
    for images in others:
        assert np.array_equal(images.rgb, by_shape.rgb)
        assert np.array_equal(images.depth, by_shape.depth)


def test_the_count_is_that_of_the_regions_at_the_depth_of_distractors():
    """Those that touch are one region here, of which a rest that shows is one more; a few pixels are none."""
    images = draw.generate(np.random.default_rng([0, 0]), 500, 64, "count")
    regions = [np.bincount(ndimage.label(depth == 0.7)[0].ravel())[1:] for depth in images.depth]
    differ = np.asarray([(sizes >= 6).sum() for sizes in regions]) - images.label
    assert np.abs(differ).max() <= 1
    assert np.mean(differ == 0) > 0.85
    assert set(images.label) == set(range(len(draw.COUNTS)))


def test_distractors_count_when_half_of_their_pixels_show():
    """One disk over half of another, one over more than half of a third, and one that is not there."""
    pixels = np.zeros((4, 1, 1, 8), dtype=bool)
    pixels[0, 0, 0, :4] = pixels[1, 0, 0, 2:5] = True  # two of its four pixels are below the next
    objects = np.zeros((1, 1, 8), dtype=bool)
    objects[0, 0, 3:5] = True  # and two of three of that one are below the object
    pixels[2, 0, 0, 6:] = True
    shown = draw.Distractors(pixels, np.zeros((4, 1, 2))).visible(objects)
    assert shown[:, 0].tolist() == [True, False, True, False]


@pytest.mark.parametrize(
    ("centres", "between"),
    [
        ([(10, 32), (50, 32)], True),
        ([(10, 32), (10, 40)], False),
        ([(32, 10), (32, 60), (40, 10)], True),
        ([(10, 32)], False),
        ([], False),
    ],
)
def test_an_object_is_between_two_that_it_sees_at_more_than_a_right_angle(centres, between):
    pixels, at = np.zeros((4, 1, 64, 64), dtype=bool), np.zeros((4, 1, 2))
    for i, (x, y) in enumerate(centres):
        pixels[i, 0, y - 2 : y + 2, x - 2 : x + 2] = True
        at[i, 0] = x, y
    objects = np.zeros((1, 64, 64), dtype=bool)
    found = draw._of_distractors("place", draw.Distractors(pixels, at), objects, np.array([[32.0, 32.0]]))
    assert found.tolist() == [int(between)]
