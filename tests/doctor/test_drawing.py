"""What the page draws is what was given, up to the step of a byte."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from vit_registers.doctor import drawing
from vit_registers.doctor.drawing import Line, Scale
from vit_registers.views.scenes import encode


def decoded(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype=np.uint8)


def test_bytes_of_a_map_stand_for_its_values() -> None:
    scale = Scale(0.5, 40.0)
    values = np.geomspace(0.5, 40.0, 1000).reshape(10, 100)
    back = 0.5 * 80.0 ** (decoded(scale.bytes_of(values)) / 255.0)
    np.testing.assert_allclose(back, values.ravel(), rtol=80.0 ** (0.51 / 255) - 1)
    assert decoded(scale.bytes_of(np.array([0.0, 0.1, 0.5, 40.0, 99.0]))).tolist() == [0, 0, 0, 255, 255]


def test_bits_are_the_flags_in_order() -> None:
    flags = np.random.default_rng(0).random((3, 7)) < 0.5
    assert np.unpackbits(decoded(drawing.bits(flags)))[:21].astype(bool).tolist() == flags.ravel().tolist()


def test_a_picture_is_the_image_no_larger_than_it_has_to_be() -> None:
    pixels = np.zeros((3, 400, 800), dtype=np.uint8)
    pixels[0], pixels[1, :, :400] = 200, 100
    made = drawing.picture(pixels)
    kind, content = made["source"].split(",")
    assert kind == "data:image/webp;base64"
    image = Image.open(io.BytesIO(base64.b64decode(content)))
    assert image.size == (made["width"], made["height"]) == (320, 160)
    near = np.asarray(image.convert("RGB"), dtype=int)
    assert np.abs(near[80, 40] - [200, 100, 0]).max() < 12
    assert np.abs(near[80, 280] - [200, 0, 0]).max() < 12


def test_colours_go_from_dark_to_light() -> None:
    table = decoded(encode.colours()).reshape(256, 3).astype(int)
    assert (np.diff(table @ [0.299, 0.587, 0.114]) > -1.0).all()


@pytest.mark.parametrize("logarithmic", [False, True])
def test_lines_of_a_chart_are_where_ticks_say_they_are(logarithmic: bool) -> None:
    values = [1.0, 10.0, 100.0, 55.0]
    made = drawing.chart([Line("a", values)], ["0", "1", "2", "3"], logarithmic)
    points = [tuple(map(float, point.split(","))) for point in made["lines"][0]["points"].split()]
    marks = [(y, float(text.replace(",", ""))) for y, text in made["y"]]
    assert len(marks) >= 3
    assert [x for x, _ in points] == [x for x, _ in made["x"]]
    # Between any two ticks the axis is a line, of the values or of their logarithms.
    (y0, a), (y1, b) = marks[0], marks[-1]
    for (_, y), value in zip(points, values, strict=True):
        share = np.log(value / a) / np.log(b / a) if logarithmic else (value - a) / (b - a)
        assert y == pytest.approx(y0 + share * (y1 - y0), abs=0.3)
    assert all(0.0 <= y <= made["bottom"] for _, y in points)


@pytest.mark.parametrize("values", [[0.0, 0.0], [1e-5, 1e-5], [3.0], [0.0001, 12345.0]])
@pytest.mark.parametrize("logarithmic", [False, True])
def test_any_values_can_be_drawn(values: list[float], logarithmic: bool) -> None:
    made = drawing.chart([Line("a", values)], [str(i) for i in range(len(values))], logarithmic)
    assert len(made["lines"][0]["points"].split()) == len(values)
    assert "nan" not in str(made)
