"""The public Python API: what it computes is what the pipeline computes, and the model is left as it was."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch

import vit_registers
from helpers import by_hand
from helpers.interventions import assert_untouched, move, passed, weights_of
from helpers.passes import FAMILIES, NORM_AFTER_POOLING, TINY, make_backbone
from helpers.studies import ROOT
from vit_registers.core.errors import InputError
from vit_registers.doctor import command
from vit_registers.doctor.examine import Settings
from vit_registers.doctor.model import Asked
from vit_registers.forward.hooks import second_linear
from vit_registers.interventions.base import applied
from vit_registers.models import backbone as backbones
from vit_registers.models.preprocess import load_pixels
from vit_registers.registers.neuron_file import Neurons

PLACES = ((1, 5), (0, 7), (1, 2))


def some(backbone, places=PLACES) -> Neurons:
    return Neurons.of(backbone, [(*place, 1.0) for place in places], 3.0, {})


def enter(*arguments, **options):
    """Enter the context and leave it."""
    with vit_registers.test_time_registers(*arguments, **options):
        pass


def features(model, pixels):
    with torch.inference_mode():
        return model.forward_features(pixels)


@pytest.mark.parametrize("family", [*FAMILIES, *NORM_AFTER_POOLING])
@pytest.mark.parametrize("tokens", [0, 1, 3])
def test_it_is_the_pipelines_intervention_byte_for_byte(family: str, tokens: int, pixels) -> None:
    backbone = make_backbone(family)
    before = features(backbone.module, pixels)
    with applied(backbone, move(PLACES, tokens)):
        expected = features(backbone.module, pixels)
    weights = weights_of(backbone)
    with vit_registers.test_time_registers(backbone.module, some(backbone), tokens, keep_tokens=True) as model:
        assert model is backbone.module
        assert torch.equal(features(model, pixels), expected)
    with vit_registers.test_time_registers(backbone.module, some(backbone), tokens):
        found = features(backbone.module, pixels)
    assert torch.equal(found, expected[:, : before.shape[1]])
    assert not torch.equal(found, before)
    assert_untouched(backbone, weights)
    assert torch.equal(features(backbone.module, pixels), before)


def test_a_head_that_pools_reads_no_appended_token(pixels) -> None:
    model = timm.create_model("vit_base_patch16_224", **(TINY | {"num_classes": 3}), global_pool="avg").eval()
    backbone = backbones.Backbone("m", model, make_backbone("dinov2").layout, make_backbone("dinov2").preprocess, {})
    with vit_registers.test_time_registers(model, some(backbone), tokens=4), torch.inference_mode():
        tokens = model.forward_features(pixels)
        assert torch.equal(model(pixels), model.forward_head(tokens))
        expected = model.head(model.fc_norm(tokens[:, 1:].mean(1)))
        torch.testing.assert_close(model(pixels), expected)


def test_the_model_is_restored_after_an_exception(pixels) -> None:
    backbone = make_backbone("dinov2_reg4")
    weights, before = weights_of(backbone), features(backbone.module, pixels)
    stack = vit_registers.test_time_registers(backbone.module, some(backbone))
    stack.__enter__()
    assert not torch.equal(features(backbone.module, pixels), before)
    error = ZeroDivisionError()
    assert stack.__exit__(ZeroDivisionError, error, None) is False
    assert_untouched(backbone, weights)
    assert torch.equal(features(backbone.module, pixels), before)


def test_intermediate_outputs_are_refused_while_tokens_are_appended(pixels) -> None:
    backbone = make_backbone("dinov2_reg4")
    names = set(vars(backbone.module))
    with vit_registers.test_time_registers(backbone.module, some(backbone)):
        with pytest.raises(InputError, match="forward_intermediates: would take test-time registers for patches"):
            backbone.module.forward_intermediates(pixels)
        with pytest.raises(InputError, match="forward_intermediates"):
            backbone.module.get_intermediate_layers(pixels)
    assert set(vars(backbone.module)) == names
    with vit_registers.test_time_registers(backbone.module, some(backbone), tokens=0), torch.inference_mode():
        cleared = backbone.module.forward_intermediates(pixels, intermediates_only=True, output_fmt="NLC")
    assert cleared[-1].shape == (5, 24, 32)


def test_modes_of_modules_are_left_alone(pixels) -> None:
    backbone = make_backbone("dinov2")
    backbone.module.train()
    backbone.blocks[1].eval()
    before = [module.training for module in backbone.module.modules()]
    with vit_registers.test_time_registers(backbone.module, some(backbone)):
        features(backbone.module, pixels)
    assert [module.training for module in backbone.module.modules()] == before


def test_gradients_pass(pixels) -> None:
    backbone = make_backbone("dinov2")
    images = pixels.clone().requires_grad_()
    with vit_registers.test_time_registers(backbone.module, some(backbone)):
        backbone.module.forward_features(images).sum().backward()
    assert float(images.grad.abs().sum()) > 0.0


@pytest.mark.parametrize("changed", [{"depth": 2}, {"embed_dim": 16}, {"mlp_ratio": 2.0}])
def test_a_model_of_other_blocks_is_refused(changed: dict[str, object]) -> None:
    neurons = some(make_backbone("dinov2"))
    other = timm.create_model("vit_small_patch14_dinov2", **(TINY | changed)).eval()
    with pytest.raises(InputError, match="these were found in 'dinov2', which has 3 of 128: find those of this model"):
        enter(other, neurons, other_weights=True)


def test_a_neuron_that_is_not_there_is_refused() -> None:
    backbone = make_backbone("dinov2")
    neurons = some(backbone)
    beyond = Neurons(**{**vars(neurons), "neurons": ((1, 128, 1.0),)})
    with pytest.raises(InputError, match="has no neuron 128 in layer 1; detect them again"):
        enter(backbone.module, beyond, other_weights=True)


def test_other_weights_are_refused_unless_they_are_meant(pixels) -> None:
    backbone = make_backbone("dinov2")
    neurons = some(backbone)
    second_linear(backbone, 0).weight[3, 4] += 1e-3
    with pytest.raises(InputError, match=r"has other weights than 'dinov2' had.*or pass other_weights=True"):
        enter(backbone.module, neurons)
    with vit_registers.test_time_registers(backbone.module, neurons, other_weights=True):
        features(backbone.module, pixels)


def test_weights_behind_the_neurons_may_differ_and_so_may_positions_and_head() -> None:
    backbone = make_backbone("dinov2")
    neurons = some(backbone)
    second_linear(backbone, 2).weight.zero_()
    backbone.module.pos_embed.zero_()
    with vit_registers.test_time_registers(backbone.module, neurons):
        pass


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_same_weights_in_half_precision_are_the_same(dtype: torch.dtype) -> None:
    backbone = make_backbone("dinov2")
    neurons = some(backbone)
    backbone.module.to(dtype)
    neurons.check(backbone)
    second_linear(backbone, 0).weight[3, 4] += 1.0
    with pytest.raises(InputError, match="has other weights"):
        neurons.check(backbone)
    backbone.module.double()
    with pytest.raises(InputError, match="is in float64, for which there is no checksum"):
        neurons.check(backbone)


def test_images_of_another_size_are_refused_and_not_taken_for_registers() -> None:
    model = timm.create_model("vit_small_patch14_dinov2", **TINY, dynamic_img_size=True).eval()
    backbone = backbones.Backbone("m", model, make_backbone("dinov2").layout, make_backbone("dinov2").preprocess, {})
    with vit_registers.test_time_registers(model, some(backbone), 2):
        features(model, torch.zeros(1, 3, 32, 48))
        with pytest.raises(InputError, match="an image gave 17 tokens, 25 were expected; make the model for images of"):
            features(model, torch.zeros(1, 3, 32, 32))


def test_what_is_no_vit_is_refused() -> None:
    neurons = some(make_backbone("dinov2"))
    with pytest.raises(InputError, match="is a ResNet; expected timm's VisionTransformer or Eva"):
        enter(timm.create_model("resnet18"), neurons)
    with pytest.raises(InputError, match="tokens: -1; expected 0 or more"):
        enter(make_backbone("dinov2").module, neurons, -1)


def test_neurons_come_back_from_their_file(tmp_path: Path) -> None:
    neurons = Neurons.of(make_backbone("dinov2"), [(1, 5, 2.5), (0, 7, 1.25)], 3.0, {"seed": 0})
    neurons.save(tmp_path / "registers.json")
    assert vit_registers.load_neurons(tmp_path / "registers.json") == neurons
    assert len(neurons) == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not valid JSON"),
        ("[]", "not 'vit-registers neurons, version 1'; expected what `vit-registers doctor --save` writes"),
        ("{}", "not 'vit-registers neurons, version 1'"),
    ],
)
def test_a_file_that_holds_something_else_is_refused(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "registers.json").write_text(content)
    with pytest.raises(InputError, match=re.escape(said)):
        vit_registers.load_neurons(tmp_path / "registers.json")


@pytest.mark.parametrize("neurons", [[], [[1, 2]], [["a", 1, 2.0]], 3])
def test_neurons_of_another_form_are_refused(neurons: object, tmp_path: Path) -> None:
    path = tmp_path / "registers.json"
    some(make_backbone("dinov2")).save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"neurons": neurons}))
    with pytest.raises(InputError, match=r"registers\.json: neurons: "):
        vit_registers.load_neurons(path)
    with pytest.raises(InputError, match="no such file"):
        vit_registers.load_neurons(tmp_path / "gone.json")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("api")
    by_hand.write_images(root, 0)
    for name in ("planted", "plain"):
        by_hand.write_model(root / name, name == "planted")
    return root


def images_of(root: Path, backbone) -> torch.Tensor:
    from vit_registers.doctor import pictures

    manifest = pictures.read(root / "images", 50).manifest
    import numpy as np

    manifest.table["label"] = 0
    return backbone.preprocess.normalise(load_pixels(manifest, np.arange(14), backbone.preprocess)[0])


def test_neurons_that_are_found_are_those_of_the_doctor(tiny: Path, tmp_path: Path) -> None:
    backbone = backbones.load(tiny / "planted")
    found = vit_registers.find_register_neurons(backbone.module, images_of(tiny, backbone))
    command.run(Asked(str(tiny / "planted"), device="cpu"), tiny / "images", Settings(), tmp_path, tmp_path / "r.json")
    saved = vit_registers.load_neurons(tmp_path / "r.json")
    assert sorted(found.places) == sorted(saved.places) == [(1, 3), (1, 40)]
    assert found.weights == saved.weights
    assert found.threshold == pytest.approx(saved.threshold)
    images = images_of(tiny, backbone)
    with vit_registers.test_time_registers(backbone.module, saved):
        outputs, _ = passed(backbone, images, of=list(range(14)))
    assert float(outputs[:, -1, 2:18].norm(dim=-1).max()) < saved.threshold


def test_where_none_can_be_found_it_says_why(tiny: Path) -> None:
    backbone = backbones.load(tiny / "plain")
    images = images_of(tiny, backbone)
    with pytest.raises(InputError, match=r"no outlier patches found: 0\.00% of the patches exceed"):
        vit_registers.find_register_neurons(backbone.module, images)
    with pytest.raises(InputError, match=r"images: \(16, 32\) pixels; the model was made for \(32, 32\)"):
        vit_registers.find_register_neurons(backbone.module, images[:, :, :16])
    with pytest.raises(InputError, match=r"images: shape \(3, 32, 32\); expected \(n, 3, h, w\)"):
        vit_registers.find_register_neurons(backbone.module, images[0])
    with pytest.raises(InputError, match="neurons: 101; expected 1 to 100, or None"):
        vit_registers.find_register_neurons(backbone.module, images, neurons=101)


def test_the_example_of_the_page_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixels: torch.Tensor
) -> None:
    """With a small model in place of the one that it names, and images of its size."""
    page = (ROOT / "docs" / "your_own_model.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    backbone = make_backbone("dinov2_reg4")
    some(backbone).save(tmp_path / "registers.json")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: backbone.module)
    names = {"images": pixels}
    exec(code, names)
    assert names["features"].shape == (5, 29, 32)
    assert len(code.splitlines()) <= 10


def test_the_package_is_imported_without_torch_and_knows_what_it_has() -> None:
    code = (
        "import sys, vit_registers, vit_registers.cli\n"
        "print('torch' in sys.modules, 'test_time_registers' in dir(vit_registers))\n"
        "try:\n    vit_registers.nonsense\nexcept AttributeError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False True\nmodule 'vit_registers' has no attribute 'nonsense'\n"
    assert vit_registers.InputError is InputError
    assert all(getattr(vit_registers, name) for name in vit_registers.__all__)
