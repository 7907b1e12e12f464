"""The generated images of the embedded study: class, box, mask and depth of every image are known.

Sky gradient with low-frequency shade; in most images a noise-textured ground below a wavy horizon; plain distractors;
one object. By colour, its class is told by hue and brightness, with shape and texture that agree most of the time; by
shape, its class is its shape, of which colour and texture say nothing. By count or by place, the class is one of the
whole image, which no patch holds: how many distractors are visible, or whether the object is between two. A larger
object, and one that stands lower in the image, is nearer. Everything is vectorised over chunks of images, and every
chunk draws from a generator of its own, so that the bytes of an image depend on its place alone.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vit_registers.core.colour import LUMA, hsv_to_rgb
from vit_registers.core.numerics.boxes import tight

CHUNK = 250
HUES = (0.0, 0.14, 0.36, 0.58, 0.83)  # red, yellow, green, blue, magenta
HUE_NAMES = ("red", "yellow", "green", "blue", "magenta")
VALUES = (0.42, 0.82)
VALUE_NAMES = ("dark", "bright")
CLASSES = [f"{value} {hue}" for hue in HUE_NAMES for value in VALUE_NAMES]
SHAPES = ("disk", "square", "triangle", "star", "cross")
COUNTS = ("none", "one", "two", "three", "four")
PLACES = ("beside", "between")
Classes = Literal["colour", "shape", "count", "place"]  # what tells the class of an image
CLASSES_BY: dict[Classes, list[str]] = {
    "colour": CLASSES,
    "shape": list(SHAPES),
    "count": list(COUNTS),
    "place": list(PLACES),
}

RADII = (10.0, 17.0)  # of the object, in pixels of an image of 64
NEAR, FAR = 0.1, 0.5  # depth of the largest object at the bottom, and of the smallest at the top
SIZE_SHARE = 0.6  # of this range that its size decides; its height in the image decides the rest
DEPTH_NOISE = 0.02  # at most: what nothing in the image tells

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Images:
    """A chunk of n images of side s."""

    rgb: NDArray[np.uint8]  # (n, s, s, 3)
    label: NDArray[np.int64]  # (n,) index into the names of CLASSES_BY
    mask: NDArray[np.bool_]  # (n, s, s) the object
    boxes: NDArray[np.int64]  # (n, 4) x0, y0, x1, y1, half-open
    depth: Floats  # (n, s, s) in [0, 1], 0 is near


def signed_distance(shape: NDArray[np.int64], x: Floats, y: Floats) -> Floats:
    """Distance to the outline of unit shapes, negative inside; ``shape`` (n,), ``x`` and ``y`` (n, s, s) in radii."""
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    disk = radius - 1.0
    square = np.maximum(np.abs(x), np.abs(y)) - 0.85
    triangle = np.maximum(np.abs(x) * 0.866 + y * 0.5, -y) - 0.55
    star = radius - (0.72 + 0.28 * np.cos(5.0 * angle))
    cross = np.minimum(np.maximum(np.abs(x) - 0.33, np.abs(y) - 1.0), np.maximum(np.abs(x) - 1.0, np.abs(y) - 0.33))
    return np.choose(shape[:, None, None], [disk, square, triangle, star, cross])


def _smooth_noise(rng: np.random.Generator, n: int, size: int, cells: int) -> Floats:
    """Bilinear upsampling of (n, cells, cells) normal draws to (n, size, size)."""
    coarse = rng.normal(size=(n, cells, cells))
    at = (np.arange(size) + 0.5) / size * (cells - 1)
    low = np.minimum(at.astype(int), cells - 2)
    share = at - low
    rows = coarse[:, low] * (1 - share)[:, None] + coarse[:, low + 1] * share[:, None]
    return rows[:, :, low] * (1 - share) + rows[:, :, low + 1] * share


def _background(rng: np.random.Generator, n: int, size: int) -> tuple[Floats, Floats]:
    """Sky and ground: RGB (n, s, s, 3) and depth (n, s, s)."""
    y, x = np.mgrid[:size, :size] / size
    top = rng.uniform(0.45, 0.9, (n, 1, 1, 3))
    bottom = np.clip(top + rng.normal(0.0, 0.12, (n, 1, 1, 3)), 0.2, 1.0)
    rgb = top * (1 - y)[None, ..., None] + bottom * y[None, ..., None]
    rgb = rgb + 0.03 * _smooth_noise(rng, n, size, 4)[..., None]

    has_ground = rng.random(n) < 0.7
    level = rng.uniform(0.55, 0.9, (n, 1, 1))
    wave = 0.03 * np.sin(2 * np.pi * (rng.uniform(0.5, 2.0, (n, 1, 1)) * x + rng.random((n, 1, 1))))
    ground = has_ground[:, None, None] & (y[None] > level + wave)
    tone = rng.uniform(0.15, 0.55, (n, 1, 1, 3))
    texture = 0.10 * rng.normal(size=(n, size, size)) + 0.06 * _smooth_noise(rng, n, size, 8)
    rgb = np.where(ground[..., None], tone + texture[..., None], rgb)
    near = np.clip((y[None] - level) / np.maximum(1 - level, 1e-6), 0.0, 1.0)
    return rgb, np.where(ground, 0.9 - 0.5 * near, 1.0)


@dataclass(frozen=True)
class Distractors:
    """Four small disks per image, of which some are there: pixels (4, n, s, s) and centres (4, n, 2), x and y."""

    pixels: NDArray[np.bool_]
    centres: Floats

    def visible(self, objects: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which (4, n) show half of their pixels or more, below those painted later and ``objects`` (n, s, s)."""
        seen, above = np.zeros(self.pixels.shape[:2], dtype=bool), objects.copy()
        for i in reversed(range(len(self.pixels))):
            there = self.pixels[i].sum(axis=(1, 2))
            seen[i] = (there > 0) & (2 * (self.pixels[i] & ~above).sum(axis=(1, 2)) >= there)
            above |= self.pixels[i]
        return seen


def _distractors(rng: np.random.Generator, rgb: Floats, depth: Floats) -> Distractors:
    """Up to four plain small disks of any colour, painted in place."""
    n, size = rgb.shape[:2]
    y, x = np.mgrid[:size, :size]
    pixels, centres = [], []
    for _ in range(4):
        present = np.less(rng.random(n), 0.6)
        centre = rng.uniform(0, size, (2, n, 1, 1))
        radius = rng.uniform(2.0, 4.0, (n, 1, 1))
        inside = present[:, None, None] & (np.hypot(x - centre[0], y - centre[1]) < radius)
        colour = rng.uniform(0.1, 0.95, (n, 1, 1, 3))
        rgb[:] = np.where(inside[..., None], colour, rgb)
        depth[:] = np.where(inside, 0.7, depth)
        pixels.append(inside)
        centres.append(centre[:, :, 0, 0].T)
    return Distractors(np.stack(pixels), np.stack(centres))


def object_depth(radius: Floats, height: Floats) -> Floats:
    """Depth (n,) of objects of ``radius`` (n,), in pixels of an image of 64, whose centres are at ``height`` (n,).

    ``height`` is that of the centre in the image, 0 at the top and 1 at the bottom of where centres can be.
    """
    small = (RADII[1] - radius) / (RADII[1] - RADII[0])
    return NEAR + (FAR - NEAR) * (SIZE_SHARE * small + (1 - SIZE_SHARE) * (1 - height))


def generate(rng: np.random.Generator, n: int, size: int, classes: Classes = "colour") -> Images:
    """Draw ``n`` images of ``size`` x ``size`` pixels; sizes other than 64 scale the object, not the textures."""
    scale = size / 64.0
    label = rng.integers(len(CLASSES), size=n)
    hue_index, value_index = label // 2, label % 2
    rgb, depth = _background(rng, n, size)
    distractors = _distractors(rng, rgb, depth)

    radius = rng.uniform(*RADII, n) * scale
    centre = rng.uniform(radius, size - radius, (2, n))
    angle = rng.uniform(0.0, 2 * np.pi, n)
    agrees = rng.random(n) < (0.8 if classes == "colour" else 0.0)
    shape = np.where(agrees, hue_index, rng.integers(len(SHAPES), size=n))
    y, x = np.mgrid[:size, :size] + 0.5
    dx = (x[None] - centre[0][:, None, None]) / radius[:, None, None]
    dy = (y[None] - centre[1][:, None, None]) / radius[:, None, None]
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    mask = signed_distance(shape, cos * dx + sin * dy, cos * dy - sin * dx) < 0.0

    hue = (np.array(HUES)[hue_index] + rng.normal(0.0, 0.04, n)) % 1.0
    value = np.clip(np.array(VALUES)[value_index] + rng.normal(0.0, 0.07, n), 0.1, 1.0)
    checked = np.where(rng.random(n) < 0.9, value_index, rng.integers(2, size=n)).astype(bool)
    period = rng.uniform(4.0, 7.0, (n, 1, 1)) * scale
    stripe = np.sign(np.sin(2 * np.pi * x[None] / period))
    check = stripe * np.sign(np.sin(2 * np.pi * y[None] / period))
    texture = rng.uniform(0.15, 0.30, (n, 1, 1)) * np.where(checked[:, None, None], check, stripe)
    colour = hsv_to_rgb(hue, rng.uniform(0.65, 0.95, n), value)[:, None, None]
    rgb = np.where(mask[..., None], colour * (1.0 + texture[..., None]), rgb)
    known = object_depth(radius / scale, (centre[1] - radius) / (size - 2 * radius))
    unknown = rng.uniform(-DEPTH_NOISE, DEPTH_NOISE, (n, 1, 1))
    depth = np.where(mask, known[:, None, None] + unknown, depth)

    rgb = rgb + rng.uniform(0.01, 0.05, (n, 1, 1, 1)) * rng.normal(size=rgb.shape)
    if classes == "shape":
        label = shape
    elif classes != "colour":
        label = _of_distractors(classes, distractors, mask, centre.T)
    return Images(
        (np.clip(rgb, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8), label, mask, tight(mask).astype(np.int64), depth
    )


def _of_distractors(
    classes: Classes, distractors: Distractors, objects: NDArray[np.bool_], centres: Floats
) -> NDArray[np.int64]:
    """Classes (n,) by count or by place; ``centres`` (n, 2) of the ``objects`` (n, s, s).

    An object is between two visible distractors that it sees at more than a right angle: so it is in a mirror as well.
    """
    seen = distractors.visible(objects)
    if classes == "count":
        return np.asarray(seen.sum(axis=0))
    towards = np.where(seen[..., None], distractors.centres - centres, 0.0)
    products = np.einsum("inc,jnc->ijn", towards, towards)
    return (products < 0.0).any(axis=(0, 1)).astype(np.int64)


def grey(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images (..., 3) without their colour: luma by ITU-R BT.601 in all three channels."""
    luma = rgb @ np.array(LUMA)
    return np.repeat((luma + 0.5).astype(np.uint8)[..., None], 3, axis=-1)
