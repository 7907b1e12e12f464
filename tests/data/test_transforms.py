"""Resizing and cropping to the model's input, against torchvision's resize and against boxes painted into images."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import functional

from vit_registers.core.numerics.boxes import iou
from vit_registers.data.transforms import Transform, covering
from vit_registers.models.preprocess import Preprocess, whole_patches

SIZES = [(64, 64), (64, 97), (131, 64), (500, 333), (333, 500), (224, 225)]  # height, width
INPUTS = [((64, 64), (64, 64)), ((64, 64), (48, 48)), ((73, 73), (64, 64)), ((60, 90), (48, 80)), ((40, 40), (33, 33))]


def preprocess(resize, crop, interpolation="bilinear"):
    return Preprocess(crop, resize, interpolation, (0.0,) * 3, (1.0,) * 3)


@given(st.integers(1, 2000), st.integers(1, 2000), st.integers(1, 600))
def test_a_square_is_covered_as_torchvision_resizes_the_shorter_side(height, width, side):
    expected = functional._compute_resized_output_size((height, width), [side])
    assert list(covering(height, width, (side, side))) == [max(side, x) for x in expected]


@given(st.integers(1, 2000), st.integers(1, 2000), st.integers(1, 600), st.integers(1, 600))
def test_a_rectangle_is_covered_and_one_side_is_exact(height, width, target_height, target_width):
    resized = covering(height, width, (target_height, target_width))
    assert resized[0] >= target_height
    assert resized[1] >= target_width
    assert resized[0] == target_height or resized[1] == target_width
    # the aspect is kept up to the pixel that the longer side is cut to
    assert abs(resized[0] * width - resized[1] * height) <= max(height, width)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("resize", "crop"), INPUTS)
def test_target_through_the_model_input_and_back_is_itself(size, resize, crop):
    transform = Transform(*size, resize=resize, size=crop)
    height, width = crop
    inside = np.array([[1.0, 2.0, width - 3.0, height - 1.0], [0.0, 0.0, width, height], [5.5, 4.25, 9.0, 20.0]])
    target = transform.to_image(inside)
    np.testing.assert_allclose(transform.to_input(target), inside, atol=1e-9)
    again = transform.to_image(transform.to_input(target))
    np.testing.assert_allclose(iou(again, target), 1.0)
    assert (again >= 0).all()
    assert (again <= np.tile(size[::-1], 2)).all()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("resize", "crop"), [*INPUTS[:4], ((224, 224), (224, 224))])
def test_a_painted_box_is_where_the_transform_says_in_what_the_model_sees(size, resize, crop):
    transform = Transform(*size, resize, crop)
    target = np.round(transform.to_image(np.array([0.2, 0.35, 0.7, 0.9]) * np.tile(crop[::-1], 2)))
    seen = preprocess(resize, crop).pixels(Image.fromarray(painted(size, target))).numpy()[0] > 127
    np.testing.assert_allclose(transform.to_input(target), extent(seen), atol=0.51)


def painted(size, box):
    image = np.zeros((*size, 3), dtype=np.uint8)
    x0, y0, x1, y1 = box.astype(int)
    image[y0:y1, x0:x1] = 255
    return image


def extent(seen):
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


@pytest.mark.parametrize("size", [(33, 40), (40, 33), (33, 38), (37, 33), (36, 33)])
def test_the_crop_takes_away_exactly_the_margin_that_the_model_input_lacks(size):
    height, width = size
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    coordinates = np.stack([x, y, x], axis=-1).astype(np.uint8)
    first = preprocess((33, 33), (32, 32), "bicubic").pixels(Image.fromarray(coordinates)).numpy()[:2, 0, 0]
    np.testing.assert_array_equal(Transform(height, width, (33, 33), (32, 32)).offset, first)


@pytest.mark.parametrize("size", SIZES)
def test_an_image_at_its_own_size_is_padded_at_the_bottom_and_the_right_alone(size):
    patch = (14, 16)
    padded = whole_patches(size, patch)
    assert all(p % side == 0 and 0 <= p - s < side for p, s, side in zip(padded, size, patch, strict=True))
    transform = Transform(*size, None, padded)
    box = np.array([3.0, 5.0, 20.0, 33.0])
    np.testing.assert_array_equal(transform.to_input(box), box)
    np.testing.assert_array_equal(transform.to_image(np.array([2.0, 1.0, padded[1], padded[0]])), [2, 1, *size[::-1]])
    preprocessing = Preprocess((8, 8), (8, 8), "bicubic", (0.2, 0.3, 0.4), (0.5, 0.6, 0.7))
    pixels = torch.from_numpy(painted(size, box)).permute(2, 0, 1)
    seen = preprocessing.padded(pixels, patch)
    assert seen.shape == (3, *padded)
    assert torch.equal(seen[:, : size[0], : size[1]], preprocessing.normalise(pixels))
    assert seen[:, size[0] :].abs().sum() + seen[:, :, size[1] :].abs().sum() == 0  # zeros after normalisation


def test_a_box_that_leaves_the_image_is_clipped_to_it():
    transform = Transform(40, 80, resize=(40, 40), size=(40, 40))
    np.testing.assert_allclose(transform.to_image(np.array([-30.0, -5.0, 70.0, 45.0])), [0, 0, 80, 40])


def test_an_absent_box_stays_absent():
    assert np.isnan(Transform(40, 80, (40, 40), (40, 40)).to_image(np.full(4, np.nan))).all()
