"""Counted operations against the sum written out, and the table of them."""

import pytest

from helpers.measuring import job_of, study_of, written
from vit_registers.core.errors import InputError
from vit_registers.experiments.register_cost import measure
from vit_registers.experiments.register_cost.params import Config, CountedArchitecture, RegisterCost
from vit_registers.experiments.register_cost.tables import register_cost
from vit_registers.params.statistics import Statistics


def by_hand(patches, registers, width, depth, patch):
    """Two operations for every product in a plain ViT: embedding, q k v, attention, output, MLP of four widths."""
    tokens = 1 + registers + patches
    block = 2 * tokens * width * 3 * width + 2 * (2 * tokens * tokens * width) + 2 * tokens * width * width
    block += 2 * (2 * tokens * width * 4 * width)
    return 2 * patches * 3 * patch**2 * width + depth * block


def run(root, registers, **architectures):
    settings = RegisterCost(registers=registers, architectures=architectures)
    job = job_of("register_cost", root)
    measure.run(Config(seed=0, statistics=Statistics(confidence=0.9, resamples=10), settings=settings), job)
    return written(job, "register_cost")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments", "width", "depth", "patch", "side"),
    [
        ("deit3_small_patch16_224", {}, 384, 12, 16, 14),
        ("vit_large_patch14_dinov2", {"img_size": 224, "no_embed_class": True}, 1024, 24, 14, 16),
        ("vit_base_patch16_224", {"img_size": [96, 160]}, 768, 12, 16, None),
    ],
)
def test_operations_and_parameters_are_those_written_out(tmp_path, name, arguments, width, depth, patch, side):
    rows = run(tmp_path, [4, 1], it=CountedArchitecture(name=name, arguments=arguments))
    height, wide = (side * patch, side * patch) if side else (96, 160)
    assert set(zip(rows["image_height"], rows["image_width"], strict=True)) == {(height, wide)}
    table = rows.set_index(["registers", "metric"])["value"]
    patches = side**2 if side else 6 * 10
    plain = by_hand(patches, 0, width, depth, patch)
    for registers in (0, 1, 4):
        expected = by_hand(patches, registers, width, depth, patch)
        assert table[registers, "flops"] * 1e9 == pytest.approx(expected, rel=1e-9)
        assert table[registers, "flops_increase"] == pytest.approx(expected / plain - 1)
        assert table[registers, "architecture_patches"] == patches
        extra = table[registers, "architecture_parameters"] - table[0, "architecture_parameters"]
        learnt = 1 if arguments.get("no_embed_class") or "deit3" in name else 2  # a position for each, where it has one
        assert extra == registers * width * learnt
        increase = table[registers, "architecture_parameters_increase"]
        assert increase == pytest.approx(extra / table[0, "architecture_parameters"])


def test_an_architecture_that_is_not_there_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"register_cost\.architectures: resnet18 cannot be built"):
        run(tmp_path, [1], it=CountedArchitecture(name="resnet18"))


def test_the_table_has_small_architectures_first_and_every_number_of_registers(tmp_path):
    sizes = {"img_size": [32, 48], "patch_size": 8, "depth": 2, "num_heads": 2}
    small, large = (
        CountedArchitecture(name="vit_tiny_patch16_224", arguments={**sizes, "embed_dim": width}) for width in (16, 32)
    )
    rows = run(tmp_path, [2], **{"A large": large, "B small": small})
    table = register_cost(study_of([rows], ["m"]))
    frame, tex = table.frame(), table.latex()
    assert frame["architecture"].tolist() == ["B small", "", "A large", ""]
    assert frame["registers"].tolist() == [0, 2, 0, 2]
    assert frame["input"].tolist() == ["32x48", "", "32x48", ""]
    of = rows.set_index(["architecture", "registers", "metric"])["value"]
    assert frame["flops"].tolist() == [of[name, n, "flops"] for name in ("B small", "A large") for n in (0, 2)]
    assert frame["parameters_increase"].tolist()[0] == 0
    assert tex.count(r"\midrule") == 2
    assert "nothing was counted" in register_cost(study_of([], ["m"])).latex()
