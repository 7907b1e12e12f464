"""What registers cost in the architectures of darcet2024, counted."""

from functools import cache

# timm's names; the DINOv2 models at the 224 pixels of the paper, with the positions that its registers lack.
DINOV2 = {"img_size": 224, "no_embed_class": True}
ARCHITECTURES = {
    "DeiT-III B/16": ("deit3_base_patch16_224", {}),
    "OpenCLIP B/16": ("vit_base_patch16_clip_224", {}),
    "DINOv2 L/14": ("vit_large_patch14_dinov2", DINOV2),
    "DINOv2 g/14": ("vit_giant_patch14_dinov2", DINOV2),
}
# The same width and depth with the patches of a deck that lists 32 pixels for DeiT-III.
PATCH_32 = "vit_base_patch32_224"


@cache
def _operations(name: str, registers: int) -> int:
    from vit_registers.models.operations import count, with_registers  # imports torch: only where it is counted

    arguments = dict(ARCHITECTURES.values()).get(name, {})
    return count(with_registers(name, arguments, registers), (224, 224))[1]


def increase(name: str, registers: int) -> float:
    """Increase of the operations of one image of 224 pixels over no registers, in percent; ``name`` is timm's."""
    return 100 * (_operations(name, registers) / _operations(name, 0) - 1)


def increases(registers: int) -> dict[str, float]:
    """The increase of each architecture."""
    return {label: increase(name, registers) for label, (name, _) in ARCHITECTURES.items()}
