"""Counted operations against the sum written out."""

import pytest

from vit_registers import params
from vit_registers.core import table as metrics
from vit_registers.core.errors import InputError
from vit_registers.experiments.register_cost import measure as cost
from vit_registers.pipeline.configs import CostStep


def by_hand(patches, registers, width, depth, patch):
    """Two operations for every product in a plain ViT: embedding, q k v, attention, output, MLP of four widths."""
    tokens = 1 + registers + patches
    block = 2 * tokens * width * 3 * width + 2 * (2 * tokens * tokens * width) + 2 * tokens * width * width
    block += 2 * (2 * tokens * width * 4 * width)
    return 2 * patches * 3 * patch**2 * width + depth * block


@pytest.mark.parametrize(
    ("name", "arguments", "width", "depth", "patch", "side"),
    [
        ("deit3_small_patch16_224", {}, 384, 12, 16, 14),
        ("vit_large_patch14_dinov2", {"img_size": 224, "no_embed_class": True}, 1024, 24, 14, 16),
        ("vit_base_patch16_224", {"img_size": [96, 160]}, 768, 12, 16, None),
    ],
)
def test_operations_and_parameters_are_those_written_out(tmp_path, name, arguments, width, depth, patch, side):
    cfg = CostStep(registers=[4, 1], architectures={"it": params.CountedArchitecture(name=name, arguments=arguments)})
    cost.run(cfg, tmp_path / "cost.csv")
    table = metrics.read(tmp_path / "cost.csv").set_index(["intervention", "metric"])["value"]
    patches = side**2 if side else 6 * 10
    plain = by_hand(patches, 0, width, depth, patch)
    for registers in (0, 1, 4):
        key = f"{registers} registers"
        expected = by_hand(patches, registers, width, depth, patch)
        assert table[key, "flops"] * 1e9 == pytest.approx(expected, rel=1e-9)
        assert table[key, "flops_increase"] == pytest.approx(expected / plain - 1)
        assert table[key, "patches"] == patches
        extra = table[key, "parameters"] - table["0 registers", "parameters"]
        learnt = 1 if arguments.get("no_embed_class") or "deit3" in name else 2  # a position for each, where it has one
        assert extra == registers * width * learnt
        assert table[key, "parameters_increase"] == pytest.approx(extra / table["0 registers", "parameters"])


def test_an_architecture_that_is_not_there_is_refused_by_name(tmp_path):
    cfg = CostStep(registers=[1], architectures={"it": params.CountedArchitecture(name="resnet18")})
    with pytest.raises(InputError, match=r"cost\.architectures: resnet18 cannot be built"):
        cost.run(cfg, tmp_path / "cost.csv")
