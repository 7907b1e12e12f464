"""Arrays as plain data that a page without network draws: pictures, maps as bytes with their scale, and charts."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vit_registers.views.scenes import encode

SIDE = 320  # pixels of the longer side of a picture, at most
WIDTH, HEIGHT, LEFT, BELOW = 520, 200, 58, 26  # of a chart, and what is left for its labels


def picture(pixels: NDArray[np.uint8]) -> dict[str, Any]:
    """An RGB image (3, h, w) as WebP, no larger than it has to be."""
    image = Image.fromarray(np.ascontiguousarray(np.moveaxis(pixels, 0, 2)))
    image.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    image.save(file, "WEBP", quality=80)
    source = f"data:image/webp;base64,{encode.text(file.getvalue())}"
    return {"width": image.width, "height": image.height, "source": source}


@dataclass(frozen=True)
class Scale:
    """What 0 and 255 of a map stand for; between them logarithmic. One for all maps that are to be compared."""

    low: float
    high: float

    def bytes_of(self, values: NDArray[Any]) -> str:
        """Values of any shape, row-major, one byte each; those beyond the ends are at the ends."""
        safe = np.clip(np.asarray(values, dtype=float), self.low, self.high)
        return encode.text(np.rint(255.0 * np.log(safe / self.low) / self._span).astype(np.uint8).tobytes())

    @property
    def _span(self) -> float:
        return math.log(self.high / self.low)

    def to_json(self, unit: str) -> dict[str, Any]:
        """Its ends, and what a value of 1 is."""
        return {"low": self.low, "high": self.high, "unit": unit}


def bits(flags: NDArray[np.bool_]) -> str:
    """Flags of any shape, row-major, eight in a byte, the first one highest."""
    return encode.text(np.packbits(flags.ravel()).tobytes())


@dataclass(frozen=True)
class Line:
    """A line of a chart: a value for each block, or of each number of neurons."""

    label: str
    values: Sequence[float]
    dashed: bool = False


def ticks(low: float, high: float, logarithmic: bool) -> list[float]:
    """Round numbers on an axis, from four to a dozen or so."""
    if logarithmic:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        steps = [step * 10.0**decade for decade in decades for step in (1, 2, 5)]
        inside = [step for step in steps if low <= step <= high]
        return inside if len(inside) < 8 else [s for s in inside if f"{s:e}".startswith("1")]
    step = 10.0 ** math.floor(math.log10((high - low) or 1.0))
    while (high - low) / step < 4:
        step /= 2.0
    return [round(low + i * step, 9) for i in range(int((high - low) / step + 1e-9) + 1)]


def chart(lines: Sequence[Line], places: Sequence[str], logarithmic: bool, percent: bool = False) -> dict[str, Any]:
    """Lines over ``places`` as points of an SVG of :data:`WIDTH` x :data:`HEIGHT`, with ticks of both axes."""
    every = [value for line in lines for value in line.values]
    low = max(min(every), 1e-9) / 1.2 if logarithmic else 0.0
    high = max(*every, low * 2.0 if logarithmic else 1e-3) * (1.2 if logarithmic else 1.05)

    def x(i: int) -> float:
        return LEFT + (WIDTH - LEFT - 12) * (i + 0.5) / len(places)

    def y(value: float) -> float:
        reach = HEIGHT - BELOW - 10
        if logarithmic:
            return 10 + reach * (1.0 - math.log(max(value, low) / low) / math.log(high / low))
        return 10 + reach * (1.0 - value / high)

    every_nth = -(-len(places) // 14)
    marks = ticks(low, high, logarithmic)
    written = [f"{100 * mark:.10g} %" if percent else f"{mark:,.10g}" for mark in marks]
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": WIDTH - 12,
        "bottom": HEIGHT - BELOW,
        "x": [(round(x(i), 1), name) for i, name in enumerate(places) if i % every_nth == 0],
        "y": [(round(y(mark), 1), text) for mark, text in zip(marks, written, strict=True)],
        "lines": [
            {
                "label": line.label,
                "dashed": line.dashed,
                "points": " ".join(f"{x(i):.1f},{y(value):.1f}" for i, value in enumerate(line.values)),
                "dots": [] if line.dashed else [(round(x(i), 1), round(y(v), 1)) for i, v in enumerate(line.values)],
            }
            for line in lines
        ],
    }
