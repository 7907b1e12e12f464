import numpy as np
import pytest

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


def test_hsv_agrees_with_the_standard_library():
    import colorsys

    rng = np.random.default_rng(0)
    h, s, v = rng.random((3, 50))
    slow = [colorsys.hsv_to_rgb(*color) for color in zip(h, s, v, strict=True)]
    assert np.allclose(draw.hsv_to_rgb(h, s, v), slow)


def test_grey_pictures_keep_their_brightness_and_lose_their_colour(images):
    grey = draw.grey(images.rgb)
    assert (grey == grey[..., :1]).all()
    pixel = images.rgb[3, 20, 30].astype(float)
    assert abs(grey[3, 20, 30, 0] - (0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2])) <= 0.5
