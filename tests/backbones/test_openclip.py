"""OpenCLIP's towers in timm: the same numbers, QuickGELU where its weights were trained with it, or a refusal."""

from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import open_clip
import pytest
import torch
from open_clip.transformer import LayerNorm, QuickGELU
from open_clip.transformer import VisionTransformer as Tower
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor, nn

from vit_registers.backbones import backbone, fetch, openclip
from vit_registers.backbones.layout import TokenLayout
from vit_registers.errors import InputError
from vit_registers.files import read_json
from vit_registers.params import OpenClipModel
from vit_registers.steps import FetchStep

TINY = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 3, "heads": 4, "mlp_ratio": 4.0, "output_dim": 16}
REAL = {"image_size": 224, "patch_size": 16, "width": 768, "layers": 12, "heads": 12, "mlp_ratio": 4.0}
SMALL = "ViT-S-32-alt"


def step(seed: int = 0, name: str = "clip", **source: Any) -> FetchStep:
    given = {"kind": "openclip", "pretrained": None, **source}
    return FetchStep(seed=seed, name=name, source=OpenClipModel.model_validate(given))


def tower(shape: dict[str, Any], quick: bool = False, **others: Any) -> Tower:
    """A random tower whose every weight matters: OpenCLIP starts norms at 1 and 0, which would hide a swap."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = Tower(**shape, act_layer=QuickGELU if quick else nn.GELU, **others).eval()
        for module in made.modules():
            if isinstance(module, LayerNorm):
                nn.init.normal_(module.weight, 1.0, 0.2)
                nn.init.normal_(module.bias, 0.0, 0.2)
        for name, weight in made.named_parameters():
            if name.endswith("bias") and "ln_" not in name:
                nn.init.normal_(weight, 0.0, 0.1)
    return made.requires_grad_(False)


def tokens(made: Tower, images: Tensor) -> Tensor:
    """All tokens after the tower's last norm, in OpenCLIP's own computation."""
    return made.ln_post(made.transformer(made._embeds(images)))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "shape", [TINY, {**TINY, "mlp_ratio": 2.0, "patch_size": 16}, REAL], ids=["tiny", "wide", "B-16"]
)
@pytest.mark.parametrize("quick", [False, True], ids=["GELU", "QuickGELU"])
def test_timms_module_computes_what_the_tower_computes(shape: dict[str, Any], quick: bool) -> None:
    theirs = tower(shape, quick)
    ours = openclip.to_timm(theirs, "tiny").eval()
    images = torch.randn(2, 3, shape["image_size"], shape["image_size"], generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = tokens(theirs, images)
        torch.testing.assert_close(ours.forward_features(images), expected, rtol=1e-5, atol=1e-5)  # type: ignore[operator]
        torch.testing.assert_close(ours(images) @ theirs.proj, theirs(images), rtol=1e-5, atol=1e-5)
    assert backbone.layout_of(ours, "tiny").prefix == 1


def test_the_activation_makes_a_difference_that_the_equality_would_show() -> None:
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        difference = (tokens(tower(TINY, True), images) - tokens(tower(TINY, False), images)).abs().max()
    assert difference > 1e-3


def test_a_tower_is_fetched_loaded_and_equal_to_openclips(tmp_path: Path) -> None:
    fetch.run(step(name=SMALL), tmp_path)
    loaded = backbone.load(tmp_path)
    assert loaded.layout == TokenLayout(1, 0, (7, 7))
    theirs = open_clip.create_model(SMALL, pretrained=None).visual.eval()
    converted = openclip.convert(theirs.state_dict())
    assert converted.keys() == loaded.module.state_dict().keys()
    back = {name: loaded.module.state_dict()[name] for name in converted}
    images = torch.randn(1, 3, 224, 224)
    # The other way round: what was fetched, put into OpenCLIP's tower, computes the same there.
    state = theirs.state_dict()
    for name, tensor in state.items():
        if name != "proj":
            state[name] = back[next(iter(openclip.convert({name: tensor})))].reshape(tensor.shape)
    theirs.load_state_dict(state)
    with torch.no_grad():
        torch.testing.assert_close(loaded.module.forward_features(images), tokens(theirs, images), rtol=1e-5, atol=1e-5)  # type: ignore[operator]


def test_untrained_towers_depend_on_seed_and_name_alone(tmp_path: Path) -> None:
    for i, (seed, name) in enumerate([(0, "a"), (0, "a"), (1, "a"), (0, "b")]):
        torch.rand(i)
        fetch.run(step(seed, name, name=SMALL), tmp_path / str(i))
    digests = [read_json(tmp_path / str(i) / "model.json")["weights"]["sha256"] for i in range(4)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


@pytest.mark.parametrize(
    ("name", "pretrained", "quick"),
    [
        ("ViT-B-16", "laion2b_s34b_b88k", False),
        ("ViT-B-16", "openai", True),  # the weights were trained with QuickGELU, the name does not say so
        ("ViT-B-16-quickgelu", "openai", True),
        ("ViT-B-16-quickgelu", None, True),
        ("ViT-B-16", None, False),
    ],
)
def test_quickgelu_follows_the_name_and_the_weights(name: str, pretrained: str | None, quick: bool) -> None:
    source = OpenClipModel(kind="openclip", name=name, pretrained=pretrained)
    with torch.device("meta"):
        made = openclip._create(source, "clip", pretrained=None, device="meta").visual
    architecture = openclip.architecture_of(made, name)
    assert architecture == {
        "clip": True,
        "quick_gelu": quick,
        "img_size": 224,
        "patch_size": 16,
        "embed_dim": 768,
        "depth": 12,
        "num_heads": 12,
        "mlp_ratio": 4.0,
    }


@pytest.mark.parametrize("size", [None, 64])
def test_preprocessing_is_openclips_own(tmp_path: Path, size: int | None) -> None:
    fetch.run(step(name=SMALL, image_size=size), tmp_path)
    loaded = backbone.load(tmp_path)
    theirs: Any = image_transform_v2(PreprocessCfg(size=size or 224), is_train=False)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (211, 307, 3), dtype=np.uint8))
    torch.testing.assert_close(loaded.preprocess(image), theirs(image), rtol=0, atol=1e-6)


REFUSED = [
    ({"name": "ViT-B16"}, "OpenCLIP has no 'ViT-B16'; close are ViT-B-16"),
    ({"name": "ViT-B-16", "pretrained": "nope"}, "unknown tag 'nope'; known are openai"),
    ({"name": "RN50"}, "is a ModifiedResNet; expected its VisionTransformer"),
    ({"name": "ViT-B-16-SigLIP"}, "is a TimmModel"),
    ({"name": "coca_ViT-B-32"}, "'attn_pool.* has no counterpart"),  # pools by attention
    ({"name": "ViT-L-14-CLIPA"}, "'norm_pre.* has no counterpart"),  # no norm before the blocks
    ({"name": "ViT-M-16-alt"}, "ls_1.* has no counterpart"),  # scales its layers
]


@pytest.mark.parametrize(("source", "message"), REFUSED)
def test_what_is_no_plain_tower_is_refused_before_its_weights_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: dict[str, Any], message: str
) -> None:
    create = open_clip.create_model

    def without_storage(*arguments: Any, **options: Any) -> Any:
        assert options["device"] == "meta", "weights were fetched"
        return create(*arguments, **options)

    monkeypatch.setattr(open_clip, "create_model", without_storage)
    with pytest.raises(InputError, match=message) as caught:
        fetch.run(step(**source), tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "model.json").exists()


def test_an_activation_or_epsilon_that_timm_would_not_have_is_refused() -> None:
    with pytest.raises(InputError, match="SiLU and a LayerNorm epsilon of 1e-05"):
        openclip.architecture_of(Tower(**TINY, act_layer=nn.SiLU), "odd")
    odd = tower(TINY)
    odd.ln_post.eps = 1e-6
    with pytest.raises(InputError, match="epsilon of 1e-06"):
        openclip.architecture_of(odd, "odd")


def test_no_network_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(InputError, match="OpenCLIP cannot give 'ViT-B-32', weights 'laion2b_s34b_b79k'") as caught:
        fetch.run(step(name="ViT-B-32", pretrained="laion2b_s34b_b79k"), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
