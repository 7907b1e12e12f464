"""Do registers specialise to regions, like slots, without being trained to (darcet2024, Fig. 9)?"""

import numpy as np
from numpy.typing import NDArray

from vit_registers.data.manifest import Manifest
from vit_registers.data.targets import NO_BOXES, box_shares
from vit_registers.data.transforms import Floats
from vit_registers.experiments.token_statistics.tokens import Arrays, Tokens
from vit_registers.extraction.store import Features


def winners(maps: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The register, from 0, that attends most to each patch; of equal ones the first: (m, r, p) -> (m, p)."""
    return maps.argmax(axis=1).astype(np.uint8)


def objects(manifest: Manifest, cached: Features) -> Floats | None:
    """Share of each patch of the dense images that is object (m, p), from the true boxes; None where there are none."""
    return box_shares(manifest, cached.dense_rows, cached.index, cached.layout.grid)


def on_object(maps: NDArray[np.float32], inside: Floats) -> Floats:
    """Of the attention (m, s, p) of special tokens to patches, the share (m, s) on the object ``inside`` (m, p)."""
    paid = maps.astype(np.float64)
    return np.einsum("msp,mp->ms", paid, inside) / np.maximum(paid.sum(axis=2), 1e-12)


def measure(tokens: Tokens, inside: Floats | None) -> None:
    """What registers look at, at the last block of a model that has some.

    ``winning_registers``: those that attend most to a patch or more. Where the object is known, ``inside`` (m, p), its
    share of the patches and that of each token's attention to patches. The spread of these shares over registers,
    largest less smallest, is never negative and grows with the number of registers, so it is measured again with the
    maps of the next image over the object of this one, which know nothing of it.
    """
    last, layout = tokens.last_maps(), tokens.layout
    won = winners(last[:, layout.register_slice])
    tokens.mean("winning_registers", np.array([len(np.unique(image)) for image in won]))
    if inside is None:
        tokens.rows.absent(["object_area"], NO_BOXES, intervention=tokens.condition)
        return
    shares, mismatched = on_object(last, inside), on_object(np.roll(last, -1, axis=0), inside)
    tokens.mean("object_area", inside.mean(axis=1))
    if layout.cls:
        tokens.mean("object_attention", shares[:, 0], group="cls")
    for register, of_images in enumerate(shares[:, layout.register_slice].T, start=1):
        tokens.mean("object_attention", of_images, group="registers", item=register)
    own, next_image = (np.ptp(of_tokens[:, layout.register_slice], axis=1) for of_tokens in (shares, mismatched))
    tokens.mean("object_spread", own)
    tokens.mean("object_spread_next_image", next_image)
    tokens.difference("object_spread", own - next_image, reference_group="next image")


def maps(tokens: Tokens, chosen: NDArray[np.int64]) -> Arrays:
    """``focus``: mean maps over images on the grid (cls + r, h, w); ``winners`` of the ``chosen`` images (g, h, w)."""
    last, layout = tokens.last_maps(), tokens.layout
    focus = last.mean(axis=0, dtype=np.float64).astype(np.float32)
    won = winners(last[chosen][:, layout.register_slice])
    return {"focus": focus.reshape(-1, *layout.grid), "winners": won.reshape(-1, *layout.grid)}
