import numpy as np
import pytest

from vit_registers.data.shapes.write import draw as generate


@pytest.fixture(scope="module")
def images():
    return generate.generate(np.random.default_rng([0, 0]), 250, 64)


def test_the_same_seed_gives_the_same_bytes(images):
    again = generate.generate(np.random.default_rng([0, 0]), 250, 64)
    other = generate.generate(np.random.default_rng([0, 1]), 250, 64)
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
    assert set(images.label) == set(range(len(generate.CLASSES)))
    for i in np.flatnonzero(images.label == generate.CLASSES.index("bright green"))[:5]:
        red, green, blue = images.rgb[i][images.mask[i]].mean(0)
        assert green > red
        assert green > blue


def test_hsv_agrees_with_the_standard_library():
    import colorsys

    rng = np.random.default_rng(0)
    h, s, v = rng.random((3, 50))
    slow = [colorsys.hsv_to_rgb(*color) for color in zip(h, s, v, strict=True)]
    assert np.allclose(generate.hsv_to_rgb(h, s, v), slow)


def test_the_pair_matrix_carries_the_mask_onto_the_warped_mask(images):
    matrices = generate.similarities(np.random.default_rng(1), 250, 64)
    warped = generate.warp(images.mask[..., None].astype(np.uint8) * 255, matrices)[..., 0] > 127
    overlaps = []
    for mask, moved, matrix in zip(images.mask, warped, matrices, strict=True):
        y, x = np.nonzero(mask)
        points = matrix @ np.stack([x + 0.5, y + 0.5, np.ones_like(x)])
        inside = ((points > 1) & (points < 63)).all(0)
        at = np.floor(points[:, inside]).astype(int)
        overlaps.append(moved[at[1], at[0]].mean() if inside.any() else 1.0)
    assert np.mean(overlaps) > 0.93


def test_the_identity_warps_nothing(images):
    matrix = np.tile(np.array([[1.0, 0, 0], [0, 1.0, 0]]), (3, 1, 1))
    assert np.array_equal(generate.warp(images.rgb[:3], matrix), images.rgb[:3])


def test_grey_pictures_keep_their_brightness_and_lose_their_colour(images):
    grey = generate.grey(images.rgb)
    assert (grey == grey[..., :1]).all()
    pixel = images.rgb[3, 20, 30].astype(float)
    assert abs(grey[3, 20, 30, 0] - (0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2])) <= 0.5
