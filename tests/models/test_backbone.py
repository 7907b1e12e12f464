import numpy as np
import open_clip
import pytest
import timm
import torch
from open_clip.transformer import QuickGELU
from open_clip.transformer import VisionTransformer as Tower
from PIL import Image
from torchvision import transforms

from vit_registers.core.errors import InputError
from vit_registers.core.files import read_json
from vit_registers.models import backbone, fetch
from vit_registers.models.openclip import towers as openclip_towers
from vit_registers.models.preprocess import Preprocess
from vit_registers.models.sources.openclip import OpenClipModel
from vit_registers.models.sources.timm_hub import TimmModel
from vit_registers.models.supported import layout_of
from vit_registers.pipeline.configs import FetchConfig

TINY = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 0}


def metadata(module, architecture):
    preprocess = Preprocess.square(32, 32, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)).to_json()
    layout = layout_of(module, "m").to_json()
    return {"name": "m", "kind": "timm", "architecture": architecture, "preprocess": preprocess, "layout": layout}


@pytest.mark.parametrize("size", [(80, 60), (60, 80), (64, 64)])
def test_preprocess_is_torchvisions_resize_crop_and_normalisation(size):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size[::-1], 3)).astype(np.uint8))
    ours = Preprocess.square(48, 56, "bicubic", (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    theirs = transforms.Compose(
        [
            transforms.Resize(56, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(48),
            transforms.ToTensor(),
            transforms.Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)),
        ]
    )
    assert torch.allclose(ours(image), theirs(image), atol=1e-6)
    assert Preprocess.from_json(ours.to_json()) == ours


@pytest.mark.parametrize(
    ("arguments", "cls", "registers"),
    [({}, 1, 0), ({"reg_tokens": 4}, 1, 4), ({"class_token": False, "global_pool": "avg"}, 0, 0)],
)
def test_layouts_of_vision_transformers(arguments, cls, registers):
    layout = layout_of(backbone.build({**TINY, **arguments}), "m")
    assert (layout.cls, layout.registers, layout.grid, layout.appended) == (cls, registers, (4, 4), 0)


def test_layout_of_dinov3():
    layout = layout_of(timm.create_model("vit_small_patch16_dinov3", img_size=64, depth=1), "m")
    assert (layout.cls, layout.registers, layout.grid) == (1, 4, (4, 4))


def test_what_cannot_be_laid_out_or_measured_is_refused_by_name():
    with pytest.raises(InputError, match="model 'net' is a ResNet; expected timm's VisionTransformer or Eva"):
        layout_of(timm.create_model("test_resnet"), "net")
    module = backbone.build(TINY)
    module.blocks[1].attn.fused_attn = False
    with pytest.raises(
        InputError, match=r"model 'net' has 1 self-attentions over all 17 tokens in its 2 blocks \(Block\)"
    ):
        layout_of(module, "net")


def test_a_stem_that_norms_over_all_pixels_is_refused_in_one_line():
    """Behind GroupNorm a patch depends on the whole image; BatchNorm's statistics are fixed."""
    with torch.device("meta"):
        hybrid, fixed = timm.create_model("vit_tiny_r_s16_p8_224"), timm.create_model("vit_base_resnet50d_224")
    with pytest.raises(
        InputError, match="model 'r' embeds patches through GroupNormAct, which norms over all pixels"
    ) as e:
        layout_of(hybrid, "r")
    assert "\n" not in str(e.value)
    assert layout_of(fixed, "bn").grid == (7, 7)
    small = timm.create_model("vit_tiny_r_s16_p8_224", img_size=64).patch_embed.eval()
    image = torch.zeros(1, 3, 64, 64)
    image[..., -8:, -8:] = 1.0  # the last patch
    changed = (small(image) - small(torch.zeros_like(image))).abs().amax(-1)
    assert changed.flatten()[0] > 0  # what the refusal says


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="'cuda' is not available here"):
        backbone.pick_device("cuda")
    assert backbone.pick_device("cpu") == torch.device("cpu")


def test_a_model_loads_as_it_was_saved_and_not_once_it_was_changed(tmp_path):
    module = backbone.build(TINY)
    backbone.save(tmp_path, module, metadata(module, TINY))
    loaded = backbone.load(tmp_path)
    pixels = torch.randn(2, 3, 32, 32)
    assert torch.equal(loaded.module(pixels), module(pixels))
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match=r"model\.safetensors: missing, or not the weights that model\.json records"):
        backbone.load(tmp_path)


def fetched(out, called="mine", **source):
    kind = OpenClipModel if source["kind"] == "openclip" else TimmModel
    fetch.run(FetchConfig(seed=0, name=called, source=kind(**source)), out)
    return read_json(out / "model.json")


def test_random_weights_are_drawn_from_the_models_own_seed(tmp_path):
    source = {"kind": "timm", "name": "test_vit", "weights": "random"}
    first = fetched(tmp_path / "a", **source)
    assert fetched(tmp_path / "b", **source) == first
    assert fetched(tmp_path / "c", called="other", **source)["weights"]["sha256"] != first["weights"]["sha256"]
    loaded = backbone.load(tmp_path / "a")
    assert loaded.layout.to_json() == first["layout"]
    assert backbone.state_digest(loaded.module) == first["weights"]["sha256"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"kind": "timm", "name": "vit_smal_patch16_224", "weights": "random"}, "did you mean .*vit_small_patch16_224"),
        ({"kind": "timm", "name": "test_resnet", "weights": "random"}, "is a ResNet"),
        ({"kind": "timm", "name": "vit_tiny_patch16_224"}, "its weights cannot be had .*; connect"),
        (
            {"kind": "openclip", "name": "ViT-B-17", "pretrained": None},
            "OpenCLIP has no 'ViT-B-17'; close are ViT-B-16",
        ),
        ({"kind": "openclip", "name": "ViT-B-16", "pretrained": "laion"}, "unknown tag 'laion'; known are openai"),
        ({"kind": "openclip", "name": "RN50", "pretrained": None}, "tower of 'RN50' is a ModifiedResNet; expected its"),
        (
            {"kind": "timm", "name": "vit_tiny_patch16_224.nobody", "weights": "random"},
            "has no weights",
        ),
        ({"kind": "timm", "name": "test_vit", "weights": "random", "image_size": 100}, "is not whole patches of 16x16"),
        (
            {"kind": "timm", "name": "test_vit", "weights": "random", "arguments": {"r": 4}},
            "'test_vit' refuses",
        ),
        (
            {"kind": "timm", "name": "vit_relpos_small_patch16_224", "weights": "random"},
            "expected timm's",
        ),
    ],
)
def test_wrong_names_and_missing_weights_are_refused_in_one_line(tmp_path, monkeypatch, source, expected):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "empty"))
    with pytest.raises(InputError, match=expected) as refused:
        fetched(tmp_path / "out", **source)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out/model.json").exists()


def same_as_timm(tower, pixels):
    """[CLS] after the final norm, projected to the text space, against OpenCLIP's own output."""
    tower.eval()
    with torch.inference_mode():
        tokens = openclip_towers.to_timm(tower, "tower").forward_features(pixels)
        assert torch.allclose(tokens[:, 0] @ tower.proj, tower(pixels), atol=1e-5)


@pytest.mark.parametrize("activation", [torch.nn.GELU, QuickGELU])
def test_a_small_openclip_tower_computes_the_same_in_timm(activation):
    torch.manual_seed(0)
    tower = Tower(32, 8, width=24, layers=3, heads=2, mlp_ratio=3.0, output_dim=10, act_layer=activation)
    assert openclip_towers.architecture_of(tower, "tower")["quick_gelu"] == (activation is QuickGELU)
    same_as_timm(tower, torch.randn(3, 3, 32, 32))


@pytest.mark.parametrize("name", ["ViT-B-16", "ViT-B-32-quickgelu"])
def test_openclips_towers_compute_the_same_in_timm(name):
    torch.manual_seed(0)
    model = open_clip.create_model(name, pretrained=None)
    same_as_timm(model.visual, torch.randn(2, 3, 224, 224))


@pytest.mark.slow
def test_the_huge_openclip_tower_has_a_place_in_timm_for_every_weight():
    """H/14 on torch's meta device: 32 blocks of 1280 channels would take minutes to compute."""
    with torch.device("meta"):
        tower = open_clip.create_model("ViT-H-14", pretrained=None, device="meta").visual
        module = openclip_towers.to_timm(tower, "ViT-H-14")
    layout = layout_of(module, "ViT-H-14")
    assert (len(module.blocks), module.embed_dim, layout.grid) == (32, 1280, (16, 16))


def test_a_tower_that_computes_otherwise_is_refused():
    tower = Tower(32, 8, width=24, layers=1, heads=2, mlp_ratio=3.0, output_dim=10, act_layer=torch.nn.ReLU)
    with pytest.raises(InputError, match="OpenCLIP tower of 'odd': ReLU and a LayerNorm epsilon of 1e-05; expected"):
        openclip_towers.architecture_of(tower, "odd")
    tower = Tower(32, 8, width=24, layers=1, heads=2, mlp_ratio=3.0, output_dim=10, no_ln_pre=True)
    with pytest.raises(InputError, match=r"OpenCLIP tower of 'odd': its 'norm_pre\.bias' has no counterpart"):
        openclip_towers.to_timm(tower, "odd")


@pytest.mark.slow
def test_quick_gelu_is_what_the_tag_demands_and_not_the_name():
    """OpenAI's weights were trained with QuickGELU and are also had under the plain name."""
    plain, openai = (openclip_towers._create("ViT-B-32", tag, "models.m") for tag in ("laion2b_s34b_b79k", "openai"))
    assert not openclip_towers.architecture_of(plain.visual, "m")["quick_gelu"]
    assert openclip_towers.architecture_of(openai.visual, "m")["quick_gelu"]


@pytest.mark.slow
def test_quick_gelu_is_forced_on_weights_that_were_trained_without_where_that_is_asked_for():
    """As jiang2025's code does: the same weights, another activation, other features."""
    source = {"kind": "openclip", "name": "ViT-S-16", "pretrained": None}
    plain, forced = (OpenClipModel(**source, quick_gelu=how) for how in ("as_trained", "forced"))
    one, other = plain.load("m", 3), forced.load("m", 3)
    assert (one.architecture["quick_gelu"], other.architecture["quick_gelu"]) == (False, True)
    weights = one.module.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in other.module.state_dict().items())
    pixels = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        features = [found.module.forward_features(pixels) for found in (one, other)]
    assert (features[0] - features[1]).abs().max() > 1e-3
    assert "QuickGELU forced on them" in forced.sentence("m", None)
    assert "QuickGELU" not in plain.sentence("m", None)


@pytest.mark.slow
def test_untrained_openclip_weights_are_drawn_from_the_models_own_seed(tmp_path):
    source = {"kind": "openclip", "name": "ViT-S-16", "pretrained": None, "image_size": (64, 96)}
    first = fetched(tmp_path / "a", **source)
    assert fetched(tmp_path / "b", **source)["weights"] == first["weights"]
    assert fetched(tmp_path / "c", called="other", **source)["weights"]["sha256"] != first["weights"]["sha256"]
    loaded = backbone.load(tmp_path / "a")
    assert loaded.layout.grid == (4, 6)
    assert loaded.preprocess.size == loaded.preprocess.resize == (64, 96)


def test_the_resize_before_the_crop_is_what_timm_does(tmp_path):
    """crop_pct .9 of 224 is 248 by timm's floor, not 249."""
    source = {"kind": "timm", "name": "test_vit", "weights": "random"}
    found = fetched(tmp_path / "a", **source)
    config = timm.data.resolve_data_config({}, model=timm.create_model("test_vit"))
    assert found["preprocess"]["resize"] == [int(160 / config["crop_pct"])] * 2
    transform = timm.data.create_transform(**config)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 210, 3)).astype(np.uint8))
    assert torch.allclose(backbone.load(tmp_path / "a").preprocess(image), transform(image), atol=1e-6)
