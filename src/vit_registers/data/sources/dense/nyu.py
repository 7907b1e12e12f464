"""NYU Depth v2 (Silberman et al. 2012), frames and lists of BTS (Lee et al. 2019). The images stay where they are."""

from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import NonNegativeInt

from vit_registers.core.doors import read_text
from vit_registers.core.errors import InputError
from vit_registers.core.prose import escape, key
from vit_registers.data import manifest
from vit_registers.data.depth import DepthScale
from vit_registers.data.published.versions import FolderOfVersion
from vit_registers.params.bases import Published

PER_METRE, NEAREST, FARTHEST = 1000.0, 0.001, 10.0  # stored values in a metre; metres that are scored


class Nyu(FolderOfVersion):
    """NYU Depth v2: ``path`` holds nyu_train.txt and nyu_test.txt, and the files that they list.

    A line is ``rgb depth focal``: an image, a 16-bit PNG of depths in millimetres, and the focal length, which nothing
    needs here. Depths from 0.001 to 10 m are scored, inside ``crop`` (x0, y0, x1, y1 in pixels): that of Eigen et al.
    (2014), here of training images as well.
    """

    kind: Literal["nyu"]
    crop: tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt, NonNegativeInt] | None = (41, 45, 601, 471)

    def published(self) -> Published:
        """Its two lists."""
        return Published("nyu", self.path, {"train": ("train",), "test": ("test",)})

    def prepare(self, name: str, seed: int, out: Path) -> None:
        """A row per line of both lists, with its depth map."""
        root = Path(self.path)
        rows = [row for split in ("train", "test") for row in self._rows(root, split)]
        table = manifest.check(pd.DataFrame(rows), [], root, str(root))
        scale = DepthScale(per_metre=PER_METRE, nearest=NEAREST, farthest=FARTHEST, window=self.crop)
        manifest.write(out, table, [], name, **self.origin(), depth_scale=scale)

    def _rows(self, root: Path, split: str) -> list[dict[str, str]]:
        path = root / f"nyu_{split}.txt"
        lines = read_text(path, "a list of images", "restore the file", self.where()).splitlines()
        rows = []
        for number, line in enumerate(lines, start=1):
            parts = line.split()
            if len(parts) != 3:
                raise InputError(f"{path}: line {number}: '{line}' is not: image, depth map, focal length; correct it")
            image, depth = (part.lstrip("/") for part in parts[:2])  # BTS's training list begins them with a slash
            for what, file in (("image", image), ("depth map", depth)):
                if not (root / file).is_file():
                    raise InputError(
                        f"{path}: line {number}: no {what} '{file}' in {root}; restore it or drop the line"
                    )
            rows.append({"image_id": image, "path": image, "split": split, "depth": depth})
        return rows

    def sentence(self, name: str) -> str:
        """Its depths and what of them is scored."""
        crop = "" if self.crop is None else ", inside the crop of Eigen et al."
        return (
            f"{key(name)} is NYU Depth v2 in the frames and lists of BTS; depths from {NEAREST:g} to {FARTHEST:g} "
            f"metres are scored{crop} (licence: {escape(self.licence)})."
        )
