"""Models at another input size as models of their own: their metadata, their weights, and what they compute."""

import numpy as np
import pytest
import torch
from PIL import Image

from vit_registers.core.errors import InputError
from vit_registers.core.files import read_json, sha256
from vit_registers.models import backbone as backbones
from vit_registers.models import fetch, resize
from vit_registers.models.position_embedding import resampled
from vit_registers.models.preprocess import Preprocess
from vit_registers.models.resampling import PositionResampling
from vit_registers.models.sources.resized import ResizedModel
from vit_registers.models.sources.timm_hub import TimmModel
from vit_registers.models.supported import layout_of
from vit_registers.pipeline.configs import FetchConfig, ResizeConfig

ARCHITECTURE = {
    "img_size": 32,
    "patch_size": 8,
    "embed_dim": 16,
    "depth": 2,
    "num_heads": 2,
    "num_classes": 3,
    "reg_tokens": 2,
    "no_embed_class": True,
}
PLAIN = {"antialias": False, "offset": 0.1}
PLANTED = {"block": 1, "neurons": [[1, 5]], "positions": [0, 3]}


def write_base(folder, **metadata):
    torch.manual_seed(0)
    module = backbones.build(ARCHITECTURE).requires_grad_(False)
    module.pos_embed.normal_()
    whole = {
        "name": "base",
        "kind": "planted",
        "architecture": ARCHITECTURE,
        "layout": layout_of(module, "base").to_json(),
        "preprocess": Preprocess((32, 32), (40, 40), "bicubic", (0.5,) * 3, (0.2,) * 3).to_json(),
        "parameters": sum(p.numel() for p in module.parameters()),
        "planted": PLANTED,
    }
    backbones.save(folder, module, whole | metadata)
    return module


def step(size, positions=None, base="base"):
    source = {"kind": "resized", "base": base, "image_size": size, "positions": positions or {}}
    return ResizeConfig(name="other", source=ResizedModel.model_validate(source))


@pytest.mark.parametrize("positions", [{}, {"antialias": False}, PLAIN])
@pytest.mark.parametrize(("size", "grid"), [(24, (3, 3)), ((48, 16), (6, 2)), (32, (4, 4))])
def test_it_is_the_base_with_positions_resampled_as_said(tmp_path, positions, size, grid):
    base = write_base(tmp_path / "base")
    resize.run(step(size, positions), tmp_path / "base", tmp_path / "other")
    found = backbones.load(tmp_path / "other")
    assert found.layout.grid == grid
    expected = (
        resampled(base.pos_embed, 0, (4, 4), grid, PositionResampling(**positions))
        if grid != (4, 4)
        else base.pos_embed
    )
    assert torch.equal(found.module.pos_embed, expected)
    for name, weights in base.state_dict().items():
        assert name == "pos_embed" or torch.equal(weights, found.module.state_dict()[name]), name
    assert found.module(torch.randn(1, 3, 8 * grid[0], 8 * grid[1])).shape == (1, 3)
    assert found.metadata["parameters"] == sum(p.numel() for p in found.module.parameters())
    assert (found.metadata["name"], found.metadata["kind"]) == (found.name, "resized") == ("other", "resized")


def test_antialiasing_and_offset_make_other_models_of_the_same_weights(tmp_path):
    write_base(tmp_path / "base")
    found = []
    for i, positions in enumerate(({}, {"antialias": False}, PLAIN)):
        resize.run(step(16, positions), tmp_path / "base", tmp_path / str(i))
        found.append(backbones.load(tmp_path / str(i)))
    pixels = torch.randn(2, 3, 16, 16)
    outputs = [model.module(pixels) for model in found]
    assert not any(torch.equal(a, b) for i, a in enumerate(outputs) for b in outputs[:i])
    assert len({model.metadata["weights"]["sha256"] for model in found}) == 1


def test_the_metadata_keep_what_is_known_of_the_base_and_where_it_came_from(tmp_path):
    write_base(tmp_path / "base")
    resize.run(step(24, PLAIN), tmp_path / "base", tmp_path / "other")
    metadata, base = (read_json(tmp_path / name / "model.json") for name in ("other", "base"))
    assert metadata["planted"] == PLANTED
    assert metadata["base"] == {"name": "base", "sha256": base["weights"]["sha256"]}
    assert metadata["weights"] == base["weights"]
    assert metadata["weights"]["sha256"] == sha256(tmp_path / "other" / "model.safetensors")
    assert (metadata["image_size"], metadata["positions"]) == ([24, 24], PLAIN)
    assert metadata["layout"] == {"cls": 1, "registers": 2, "grid": [3, 3], "appended": 0}


def test_it_sees_the_same_share_of_an_image(tmp_path):
    """A picture that is one colour where the base looks and another outside: all of one colour to both."""
    write_base(tmp_path / "base")
    resize.run(step((64, 16)), tmp_path / "base", tmp_path / "other")
    found = backbones.load(tmp_path / "other").preprocess
    assert (found.size, found.resize) == ((64, 16), (80, 20))
    resize.run(step(24), tmp_path / "base", tmp_path / "square")
    picture = np.zeros((200, 200, 3), dtype=np.uint8)
    picture[20:180, 20:180] = 200  # four fifths
    for name in ("base", "square"):
        pixels = backbones.load(tmp_path / name).preprocess.pixels(Image.fromarray(picture))
        inner = pixels[:, 2:-2, 2:-2]
        assert inner.min() > 150
        assert pixels[:, 0, 0].max() > 50


def test_a_base_at_a_size_of_its_own_is_not_resampled_twice(tmp_path):
    base = write_base(tmp_path / "base", image_size=[56, 56], positions={"antialias": True, "offset": 0.0})
    resize.run(step(24), tmp_path / "base", tmp_path / "other")
    expected = resampled(base.pos_embed, 0, (4, 4), (3, 3), PositionResampling())
    assert torch.equal(backbones.load(tmp_path / "other").module.pos_embed, expected)


def test_a_base_whose_weights_are_had_from_a_name_has_them_from_there_again(tmp_path):
    source = TimmModel(kind="timm", name="test_vit", weights="random")
    fetch.run(FetchConfig(seed=0, name="base", source=source), tmp_path / "base")
    resize.run(step(64, PLAIN), tmp_path / "base", tmp_path / "other")
    base, found = (backbones.load(tmp_path / name) for name in ("base", "other"))
    assert sorted(path.name for path in (tmp_path / "other").iterdir()) == [".lock", "model.json"]
    expected = resampled(base.module.pos_embed, 1, base.layout.grid, (4, 4), PositionResampling(**PLAIN))
    assert torch.equal(found.module.pos_embed, expected)


@pytest.mark.parametrize("size", [30, (32, 20)])
def test_half_a_patch_is_refused_by_the_name_of_the_model_that_was_asked_for(tmp_path, size):
    write_base(tmp_path / "base")
    with pytest.raises(InputError, match=r"model 'other': an input of .* is not whole patches of 8x8; give multiples"):
        resize.run(step(size), tmp_path / "base", tmp_path / "other")
    assert not (tmp_path / "other" / "model.json").exists()


def test_a_copy_of_the_weights_that_was_changed_is_refused(tmp_path):
    write_base(tmp_path / "base")
    resize.run(step(24), tmp_path / "base", tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").write_bytes(b"something else")
    with pytest.raises(InputError, match="not the weights that"):
        backbones.load(tmp_path / "other")
