"""Operations are counted once for blocks that are alike, and are those of the whole model all the same."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vit_registers.models.operations import count, with_registers


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch16_dinov3", "eva02_tiny_patch14_224"])
@pytest.mark.parametrize("registers", [0, 4])
def test_blocks_counted_once_give_what_all_of_them_give(name: str, registers: int) -> None:
    module = with_registers(name, {}, registers)
    size = tuple(module.patch_embed.img_size)
    depth = len(module.blocks)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module.forward_features(torch.empty(1, 3, *size, device="meta"))
    parameters, operations = count(module, size)
    assert operations == counter.get_total_flops()
    assert parameters == sum(parameter.numel() for parameter in module.parameters())
    assert len(module.blocks) == depth


def test_blocks_of_different_width_are_counted_one_by_one() -> None:
    module = with_registers("vit_tiny_patch16_224", {"depth": 4}, 0)
    module.blocks[2].mlp.fc1 = torch.nn.Linear(192, 100, device="meta")
    module.blocks[2].mlp.fc2 = torch.nn.Linear(100, 192, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module.forward_features(torch.empty(1, 3, 224, 224, device="meta"))
    assert count(module, (224, 224))[1] == counter.get_total_flops()
