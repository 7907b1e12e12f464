"""Judges of the patches nearest to each register."""

from vit_registers.claims.finding import Finding
from vit_registers.claims.judging import Entries, agree, held, judges, listed, mean
from vit_registers.claims.published.numbers import DINOV3, model_of, places, published, similarity


@judges("parodi2026-patch-size")
def patch_size(claim: str, entries: Entries) -> Finding:
    """Sizes of patches in the file of nearest patches."""
    sizes = {model: content["patch_size"] for model, content in published()["nearest_patches"].items()}
    grids = {model: content["grid"] for model, content in published()["nearest_patches"].items()}
    return Finding(
        claim,
        held(set(sizes.values()) == {int(entries.number(claim))}),
        float(sizes[DINOV3]),
        ", ".join(f"{model} {size} pixels, grid {grids[model][0]}x{grids[model][1]}" for model, size in sizes.items()),
        "True of DINOv2 only: the models differ in their number of patches.",
    )


@judges("parodi2026-gallery-neighbours")
def neighbours(claim: str, entries: Entries) -> Finding:
    """Nearest patches per register."""
    counts = {content["top_k"] for content in published()["nearest_patches"].values()}
    text = f"nearest patches {sorted(counts)}, printed {entries.number(claim):g}"
    return Finding(claim, held(counts == {entries.number(claim)}), float(max(counts)), text, "The file says so.")


GALLERY = {
    "parodi2026-dinov2reg-gallery-r2-cosine": (("r2",), 1),
    "parodi2026-dinov2reg-gallery-others-cosine": (("r1", "r3", "r4"), 2),
    "parodi2026-dinov3-r4-cosine": (("r4",), 2),
    "parodi2026-dinov3-gallery-others-cosine": (("r1", "r2", "r3"), 1),
}


@judges(*GALLERY)
def gallery_cosine(claim: str, entries: Entries) -> Finding:
    """Means over the nearest patches, or the nearest one, to the decimals of a number that is printed as about."""
    registers, decimals = GALLERY[claim]
    rows = {register: similarity(model_of(claim), register) for register in registers}
    fits = [
        any(agree(value, entries.number(claim), decimals) for value in (mean(row), max(row))) for row in rows.values()
    ]
    return Finding(
        claim,
        held(all(fits)),
        mean(mean(row) for row in rows.values()),
        "; ".join(f"{register} {listed(row, 3)}, mean {mean(row):.2f}" for register, row in rows.items())
        + f"; printed about {entries.number(claim):g}",
        f"True of {sum(fits)} of {len(fits)} registers." if len(fits) > 1 else "As far as about tells.",
    )


@judges("parodi2026-dinov3-r1-texture")
def same_patches(claim: str, entries: Entries) -> Finding:
    """Whether R1 and R2 have different nearest patches."""
    first, second = set(places(DINOV3, "r1")), set(places(DINOV3, "r2"))
    shared, images = len(first & second), {image for image, _, _ in first | second}
    return Finding(
        claim,
        "contradicted" if first == second else "inconclusive",
        f"{shared} of {len(first)} shared",
        f"nearest patches of R1 and R2: {shared} of {len(first)} are the same, all from {len(images)} of "
        f"{published()['nearest_patches'][DINOV3]['images']} images",
        "The same patches cannot be dark backgrounds for one and homogeneous areas for the other.",
    )


@judges("parodi2026-dinov3-r4-texture")
def ground(claim: str, entries: Entries) -> Finding:
    """Images that R4's nearest patches are from."""
    images = [image for image, _, _ in places(DINOV3, "r4")]
    largest = max(images.count(image) for image in images)
    return Finding(
        claim,
        "inconclusive",
        f"{largest} of {len(images)} from one image",
        f"nearest patches of R4: {len(images)} from {len(set(images))} images, {largest} of them from one",
        "Ground here, green vegetation in the note of the gallery; patches of so few images tell no texture.",
    )
