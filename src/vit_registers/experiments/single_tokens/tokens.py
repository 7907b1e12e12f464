"""Tokens of the images that are probed, and which of their patches are outliers."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vit_registers.core.numerics.patches import patchify
from vit_registers.data.manifest import Manifest
from vit_registers.experiments.single_tokens import neighbours
from vit_registers.experiments.single_tokens.params import Config
from vit_registers.extraction.store import Features
from vit_registers.models.preprocess import Preprocess, load_pixels

Bools = NDArray[np.bool_]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Tokens:
    """Tokens of n images of p patches, of a model as it is.

    ``rows`` (n,) of the manifest, ``labels`` (n,), ``patches`` (n, p, d) after the final norm, ``pixels`` (n, p, k) of
    each patch, ``norms`` (n, p) at the outlier layer, ``outlier`` (n, p), and ``special`` tokens by kind: [CLS] (n, d),
    registers (n, r, d).
    """

    rows: Rows
    labels: NDArray[Any]
    patches: Tensor
    pixels: Tensor
    norms: NDArray[np.float32]
    outlier: Bools
    special: dict[str, NDArray[Any]]

    @property
    def both(self) -> Bools:
        """Images (n,) that have outlier and normal patches."""
        return np.asarray(self.outlier.any(axis=1) & ~self.outlier.all(axis=1))

    def outlier_and_normal(self, draw: np.random.Generator) -> dict[str, NDArray[Any]]:
        """An outlier and a normal patch (n, d) of every image, drawn; where an image has no such patch, any."""
        luck = draw.random(self.outlier.shape)
        chosen = {"outlier": self.outlier, "normal": ~self.outlier}
        return {group: self._at(np.where(where, luck, -1.0).argmax(axis=1)) for group, where in chosen.items()}

    def highest(self) -> NDArray[Any]:
        """The patch (n, d) of the largest norm of every image."""
        return self._at(self.norms.argmax(axis=1))

    def other(self, draw: np.random.Generator) -> NDArray[Any]:
        """A patch (n, d) of every image, drawn among all but that of the largest norm."""
        luck = draw.random(self.norms.shape)
        luck[np.arange(len(luck)), self.norms.argmax(axis=1)] = -1.0
        return self._at(luck.argmax(axis=1))

    def register(self, draw: np.random.Generator) -> NDArray[Any]:
        """A register (n, d) of every image, drawn."""
        registers = self.special["registers"]
        return np.asarray(registers[np.arange(len(registers)), draw.integers(registers.shape[1], size=len(registers))])

    def _at(self, patches: Rows) -> NDArray[Any]:
        return self.patches.numpy()[np.arange(len(patches)), patches]


@dataclass(frozen=True)
class Probed:
    """Tokens that train probes and tokens that test them; ``artifacts``: whether outliers are artifacts.

    ``grid``: height and width in patches; ``cosines`` (m, p, 4) of test patches with their neighbours, where kept.
    """

    train: Tokens
    test: Tokens
    artifacts: bool
    grid: tuple[int, int]
    cosines: NDArray[Any] | None


def load(cfg: Config, features: Features, manifest: Manifest, detected: dict[str, Any]) -> Probed:
    """What is cached of a model as it is: training images whose tokens were kept, and the first dense images.

    The block is that of detection, so is the threshold where it found artifacts; else a percentile of the norms of the
    training images.
    """
    layout, arrays, layer = features.layout, features.index["arrays"], int(detected["outlier_layer"])
    count = min(cfg.settings.images, len(features.dense_rows))
    norms = {
        "train": np.asarray(features.array("train_norms")[:, layer, layout.patch_slice]),
        "test": np.asarray(features.array("norms")[:count, layer, layout.patch_slice]),
    }
    rows = {"train": np.asarray(features.array("train_rows")), "test": features.dense_rows[:count]}
    patches = {"train": features.array("train_patches"), "test": features.array("patches")[:count]}
    artifacts = bool(detected["found"])
    limit = detected["threshold"] if artifacts else np.percentile(norms["train"], cfg.settings.high_percentile)
    preprocess = Preprocess.from_json(features.index["preprocess"])
    special = {name: features.array(name) for name in ("cls", "registers") if name in arrays}
    made = {
        split: Tokens(
            rows=rows[split],
            labels=manifest.table["label"].to_numpy()[rows[split]],
            patches=_floats(patches[split]),
            pixels=patchify(preprocess.normalise(load_pixels(manifest, rows[split], preprocess)[0]), features.patch),
            norms=norms[split],
            outlier=norms[split] > limit,
            special={name: np.array(array[rows[split]]) for name, array in special.items()},
        )
        for split in rows
    }
    kept = "neighbours" in arrays
    cosines = neighbours.of_each(np.asarray(features.array("neighbours")[:count]), layout.grid) if kept else None
    return Probed(made["train"], made["test"], artifacts, layout.grid, cosines)


def of_reference(features: Features, probed: Probed) -> tuple[Tensor, Tensor]:
    """Patches of the same training and test images in another model of the same grid: (n, p, d) and (m, p, d)."""
    assert np.array_equal(features.array("train_rows"), probed.train.rows)  # one extraction for all models
    return _floats(features.array("train_patches")), _floats(features.array("patches")[: len(probed.test.rows)])


def _floats(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.asarray(array, dtype=np.float32))
