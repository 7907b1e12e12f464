"""scikit-learn's handwritten digits: real scans that come with the package, so that nothing is downloaded."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from PIL import Image
from pydantic import Field

from vit_registers.core.prose import key, percent
from vit_registers.core.seeds import generator
from vit_registers.data import manifest, splits
from vit_registers.params.bases import DatasetSource

SIDE, GREYS = 8, 16  # of a scan, as published
SOURCE = "scikit-learn's load_digits, the test set of UCI's Optical Recognition of Handwritten Digits"
LICENCE = "CC BY 4.0"


class Digits(DatasetSource):
    """1,797 scans of handwritten digits (8x8 pixels, 17 grey levels), enlarged by bicubic resampling; labels alone.

    ``size``: side of the images written. ``test_share`` of each class is held out for the test.
    """

    kind: Literal["digits"]
    size: Annotated[int, Field(ge=SIDE, le=256)] = 32
    test_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.4

    def prepare(self, name: str, seed: int, out: Path) -> None:
        """Write every scan as a PNG, named by its place in scikit-learn's array, and the manifest of a drawn split."""
        from sklearn.datasets import load_digits

        read = load_digits()
        classes = [str(digit) for digit in read.target_names]
        test = splits.stratified(read.target, self.test_share, generator(seed, "split", name), classes, name)
        (out / "images").mkdir(parents=True, exist_ok=True)
        rows = []
        for i, (scan, label) in enumerate(zip(read.images, read.target, strict=True)):
            path = f"images/{i:04d}.png"
            enlarged(scan, self.size).save(out / path, compress_level=1)
            rows.append({"image_id": f"{i:04d}", "path": path, "split": "test" if test[i] else "train",
                         "label": int(label), "width": self.size, "height": self.size})  # fmt: skip
        table = manifest.check(pd.DataFrame(rows), classes, out, name, read_images=False)
        manifest.write(out, table, classes, name, ".", SOURCE, LICENCE)

    def sentence(self, name: str) -> str:
        """What the scans are and what was done to them."""
        return (
            f"{key(name)} is the 1{{,}}797 scans of handwritten digits that come with scikit-learn, ${SIDE} \\times "
            f"{SIDE}$ pixels, enlarged to ${self.size} \\times {self.size}$ by bicubic resampling; "
            f"{percent(self.test_share)} of each class are held out for the test (licence: {LICENCE})."
        )


def enlarged(scan: "np.ndarray", size: int) -> Image.Image:
    """A scan (8, 8) of grey levels 0 to 16 as an RGB image of ``size`` x ``size`` pixels."""
    pixels = Image.fromarray(np.round(scan * (255.0 / GREYS)).astype(np.uint8))
    return pixels.resize((size, size), Image.Resampling.BICUBIC).convert("RGB")
