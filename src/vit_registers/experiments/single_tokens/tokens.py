"""Tokens of the images that are probed, and which of their patches are outliers."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vit_registers.core.patches import patchify
from vit_registers.data.manifest import Manifest
from vit_registers.experiments.single_tokens.params import Config
from vit_registers.extraction.store import Features
from vit_registers.models.preprocess import Preprocess, load_pixels

Bools = NDArray[np.bool_]


class Tokens:
    """What is cached of the first ``images`` dense images, n of p patches, of a model as it is.

    ``rows`` (n,) of the manifest, ``labels`` (n,), ``patches`` (n, p, d) after the final norm, ``pixels`` (n, p, k) of
    each patch, ``outlier`` (n, p), ``cosines`` (n, p) with neighbouring patches where they were kept, and ``special``
    tokens by kind with a row for every image of the data set.
    """

    def __init__(self, cfg: Config, features: Features, manifest: Manifest, detected: dict[str, Any]) -> None:
        """The block is that of detection, so is the threshold where it found artifacts; else a percentile."""
        layout = features.layout
        count = min(cfg.settings.images, len(features.dense_rows))
        self.rows = features.dense_rows[:count]
        self.grid, self.patch = layout.grid, features.patch
        self.patches = torch.from_numpy(np.asarray(features.array("patches")[:count], dtype=np.float32))
        norms = np.asarray(features.array("norms")[:count, int(detected["outlier_layer"]), layout.patch_slice])
        self.artifacts = bool(detected["found"])
        limit = detected["threshold"] if self.artifacts else np.percentile(norms, cfg.settings.high_percentile)
        self.outlier: Bools = norms > limit
        arrays = features.index["arrays"]
        self.cosines = np.asarray(features.array("neighbours")[:count]) if "neighbours" in arrays else None
        self.special = {name: np.array(features.array(name)) for name in ("cls", "registers") if name in arrays}
        self.labels = manifest.table["label"].to_numpy()[self.rows]
        preprocess = Preprocess.from_json(features.index["preprocess"])
        self.pixels = patchify(preprocess.normalise(load_pixels(manifest, self.rows, preprocess)[0]), self.patch)

    @property
    def groups(self) -> dict[str, Bools]:
        """Which patches (n, p) are of which group."""
        return {"outlier": self.outlier, "normal": ~self.outlier}

    @property
    def both(self) -> Bools:
        """Images (n,) that have outlier and normal patches."""
        return np.asarray(self.outlier.any(axis=1) & ~self.outlier.all(axis=1))

    def drawn(self, draw: np.random.Generator) -> dict[str, NDArray[Any]]:
        """A token (n, d) of each kind for every image; where an image has no such patch, any."""
        images = np.arange(len(self.rows))
        luck = draw.random(self.outlier.shape)
        chosen: dict[str, NDArray[Any]] = {}
        for group, where in self.groups.items():
            chosen[group] = self.patches.numpy()[images, np.where(where, luck, -1.0).argmax(axis=1)]
        if "cls" in self.special:
            chosen["cls"] = self.special["cls"][self.rows]
        if "registers" in self.special:
            registers = self.special["registers"][self.rows]
            chosen["registers"] = registers[images, draw.integers(registers.shape[1], size=len(images))]
        return chosen
