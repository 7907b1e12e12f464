"""timm's models by name: the same weights every time, timm's own preprocessing, and one line for what cannot be had."""

from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform

from vit_registers.backbones import backbone, fetch
from vit_registers.backbones.layout import TokenLayout
from vit_registers.errors import InputError
from vit_registers.files import read_json
from vit_registers.params import TimmModel, TrainedModel
from vit_registers.steps import FetchStep


def step(seed: int = 0, name: str = "model", **source: Any) -> FetchStep:
    return FetchStep(seed=seed, name=name, source=TimmModel.model_validate({"kind": "timm", **source}))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network and an empty cache, at once and without retries."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


def test_random_weights_depend_on_seed_and_name_alone(tmp_path: Path) -> None:
    digests = []
    for i, (seed, name) in enumerate([(0, "a"), (0, "a"), (1, "a"), (0, "b")]):
        torch.rand(i)  # the state of the general generator does not matter
        fetch.run(step(seed, name, name="test_vit", weights="random"), tmp_path / str(i))
        digests.append(read_json(tmp_path / str(i) / "model.json")["weights"]["sha256"])
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
    assert (tmp_path / "0" / "model.json").read_bytes() == (tmp_path / "1" / "model.json").read_bytes()


def test_a_fetched_model_loads_and_is_timms(tmp_path: Path) -> None:
    fetch.run(step(name="test_vit.r160_in1k", weights="random", image_size=96), tmp_path)
    loaded = backbone.load(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.json"]
    assert loaded.layout == TokenLayout(1, 0, (6, 6))
    theirs = timm.create_model("test_vit", num_classes=0, img_size=96).eval()
    theirs.load_state_dict(loaded.module.state_dict())
    images = torch.randn(2, 3, 96, 96)
    assert torch.equal(loaded.module(images), theirs(images))


def test_dinov3_is_fetched_and_loaded(tmp_path: Path) -> None:
    fetch.run(step(name="vit_small_patch16_dinov3", weights="random", image_size=64), tmp_path)
    loaded = backbone.load(tmp_path)
    assert loaded.layout == TokenLayout(1, 4, (4, 4))
    assert loaded.module.forward_features(torch.randn(1, 3, 64, 64)).shape == (1, 21, 384)  # type: ignore[operator]


@pytest.mark.parametrize("size", [64, 128, 160])
def test_preprocessing_is_timms_own(tmp_path: Path, size: int) -> None:
    """At 128 pixels the resized side is 134.7: timm rounds it down."""
    fetch.run(step(name="test_vit.r160_in1k", weights="random", image_size=size), tmp_path)
    loaded = backbone.load(tmp_path)
    config = resolve_data_config({"input_size": (3, size, size)}, model=loaded.module)
    theirs: Any = create_transform(**config)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (211, 307, 3), dtype=np.uint8))
    torch.testing.assert_close(loaded.preprocess(image), theirs(image), rtol=0, atol=1e-6)
    assert "note" not in loaded.card


def test_a_model_of_squashed_images_says_that_it_gets_crops(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fetch.run(step(name="vit_small_patch16_lingbot", weights="random", image_size=32), tmp_path)
    assert "resized by 'squash'" in read_json(tmp_path / "model.json")["note"]
    assert "resized by 'squash'" in caplog.text


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"name": "vit_smal_patch16_224"}, r"timm has no model 'vit_smal_patch16_224'; did you mean vit_small_patch16_224"),
    ({"name": "qqqqqqqq"}, r"see timm\.list_models\(\)"),
    ({"name": "test_vit.nope"}, "timm has no weights 'test_vit.nope'; known are r160_in1k"),
    ({"name": "test_vit.nope", "weights": "random"}, "known are r160_in1k"),
    ({"name": "vit_base_patch32_plus_256"}, "timm has no weights for 'vit_base_patch32_plus_256'"),
    ({"name": "resnet18"}, "is a ResNet; expected timm's VisionTransformer or Eva"),
    ({"name": "resnet18", "image_size": 64}, "'resnet18' takes none"),
    ({"name": "beit_base_patch16_224"}, "is a Beit"),
    ({"name": "deit_tiny_distilled_patch16_224"}, "neither .CLS. nor registers"),
    ({"name": "test_vit", "image_size": 100}, "100x100 pixels in patches of 16x16"),
]


@pytest.mark.parametrize(("source", "message"), REFUSED)
def test_what_cannot_run_is_refused_before_its_weights_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(backbone, "from_hub", lambda *_: pytest.fail("weights were fetched"))
    with pytest.raises(InputError, match=message) as caught:
        fetch.run(step(**source), tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "model.json").exists()


@pytest.mark.usefixtures("offline")
def test_no_network_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"model 'test_vit\.r160_in1k': its weights cannot be had \(.*\); connect"
    ) as caught:
        fetch.run(step(name="test_vit.r160_in1k"), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "model.json").exists()


def test_a_model_that_is_trained_is_not_fetched(tmp_path: Path) -> None:
    source = TrainedModel(kind="trained", dataset="shapes", recipe="small", registers=0)
    with pytest.raises(InputError, match="kind 'trained' is not fetched"):
        fetch.run(FetchStep(seed=0, name="mine", source=source), tmp_path)
