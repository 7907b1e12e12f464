"""Sentences of parodi2026 that its published data do not reach: what printed numbers and passages say about them."""

from vit_registers.claims.finding import Finding
from vit_registers.claims.judging import Entries, disagreement, judges


@judges("parodi2026-erank-gram")
def gram_anchoring(claim: str, entries: Entries) -> Finding:
    """How much of the fall of the rank registers have without Gram anchoring."""
    names = ("parodi2026-erank-dinov2", "parodi2026-erank-dinov2-reg", "parodi2026-erank-dinov3")
    plain, registers, third = (entries.number(name) for name in names)
    share = (plain - registers) / (plain - third)
    return Finding(
        claim,
        "inconclusive",
        share,
        f"rank {plain:g} to {registers:g} with registers alone, to {third:g} in DINOv3: "
        f"{share:.0%} of the fall without Gram "
        "anchoring",
        "DINOv3 also differs in data, size of patches and training: its cause is not isolated.",
    )


WORDING = (
    disagreement(
        "parodi2026-dino-artifacts",
        "contradicted",
        "darcet2024, from which the finding comes, has DINO as the model without artifacts.",
        cites="darcet2024-dino-clean",
    ),
    disagreement(
        "parodi2026-registers-discarded",
        "contradicted",
        "Only their outputs are unused: they take part in attention, or zeroing them could not matter.",
        cites="parodi2026-zero-registers-hurts-all",
    ),
    disagreement(
        "parodi2026-dinov3-citation",
        "contradicted",
        "The name of the first author is wrong.",
        says="from beyond the source: DINOv3 is by Simeoni et al. (2025)",
    ),
    disagreement(
        "parodi2026-random-control-outcome",
        "inconclusive",
        "No outcome is printed; the second version of the text (arXiv 2604.14433) has at most 1 point.",
        cites="parodi2026-random-control-definition",
    ),
    disagreement(
        "parodi2026-mean-preserves-accuracy",
        "inconclusive",
        "The control is of classification from CLS only: what registers hold may matter elsewhere, "
        "as other passages say.",
        cites="parodi2026-takeaway-keep-registers",
    ),
    disagreement(
        "parodi2026-takeaway-keep-registers",
        "inconclusive",
        "If their content for the image does not matter, they add nothing to features.",
        cites="parodi2026-mean-preserves-accuracy",
    ),
)
