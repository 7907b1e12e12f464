"""Whether registers look at different regions, as slots would, although nothing makes them (darcet2024, Fig. 9)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vit_registers.data.manifest import Manifest
from vit_registers.data.targets import covered, has_boxes, target_boxes
from vit_registers.data.transforms import Floats, Transform
from vit_registers.extraction.store import Features
from vit_registers.models.layout import TokenLayout


@dataclass(frozen=True)
class Slot:
    """One number of every image (m,), to be averaged."""

    metric: str
    of_images: Floats
    unit: str


def winners(maps: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The register, from 0, that attends most to each patch; of equal ones the first: (m, r, p) -> (m, p)."""
    return maps.argmax(axis=1).astype(np.uint8)


def objects(manifest: Manifest, cached: Features) -> Floats | None:
    """Share of each patch of the dense images that is object (m, p), from the true boxes; None where there are none."""
    dense = cached.dense_rows
    truth = target_boxes(manifest, dense)
    if not has_boxes(manifest, dense, truth):
        return None
    sizes = manifest.table[["height", "width"]].to_numpy()[dense]
    ways = [Transform.of(cached.index, int(height), int(width)) for height, width in sizes]
    grid = cached.layout.grid
    return np.stack([covered(boxes, way, grid).ravel() for boxes, way in zip(truth, ways, strict=True)])


def on_object(maps: NDArray[np.float32], inside: Floats) -> Floats:
    """Of the attention (m, s, p) of special tokens to patches, the share (m, s) on the object ``inside`` (m, p)."""
    paid = maps.astype(np.float64)
    return np.einsum("msp,mp->ms", paid, inside) / np.maximum(paid.sum(axis=2), 1e-12)


def slots(maps: NDArray[np.float32], inside: Floats | None, layout: TokenLayout) -> list[Slot]:
    """What is measured of maps (m, cls + r, p) at one block of a model with registers.

    ``winning``: registers that attend most to a patch or more. Where the object is known, its share of the patches
    (``object_area``), the share of each token's attention that is on it, registers counted from 1, and the spread of
    these over registers, largest less smallest. Spread is never negative and grows with the number of registers, so it
    is measured again with the maps of the next image over the object of this one, which know nothing of it.
    """
    registers = maps[:, layout.register_slice]
    won = winners(registers)
    count = np.array([len(np.unique(image)) for image in won], dtype=np.float64)
    found = [Slot("winning", count, "registers")]
    if inside is None:
        return found
    names = [*["cls"] * layout.cls, *(str(i + 1) for i in range(layout.registers))]
    shares, strange = on_object(maps, inside), on_object(np.roll(maps, -1, axis=0), inside)
    found.append(Slot("object_area", inside.mean(axis=1), "fraction"))
    found += [Slot(f"object_attention[{name}]", shares[:, i], "fraction") for i, name in enumerate(names)]
    for metric, of in (("object_spread", shares), ("object_spread_next_image", strange)):
        found.append(Slot(metric, np.ptp(of[:, layout.register_slice], axis=1), "fraction"))
    return found
