"""Which model is meant, by name, file or folder; what cannot be measured is refused in the words of the pipeline."""

from pathlib import Path

import pytest
import timm
import torch

from vit_registers.core.errors import InputError
from vit_registers.doctor.model import Asked, load
from vit_registers.models import backbone as backbones
from vit_registers.models.supported import layout_of

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
NAME = "vit_tiny_patch16_224"


def refused(**asked: object) -> str:
    with pytest.raises(InputError) as error:
        load(Asked(**asked))  # type: ignore[arg-type]
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("prefix", ["", "timm/", "hf-hub:timm/", "hf_hub:timm/"])
def test_a_name_of_timm_with_or_without_the_hub(prefix: str) -> None:
    found = load(Asked(prefix + NAME, random=True, arguments=SMALL, device="cpu"))
    again = load(Asked(NAME, random=True, arguments=SMALL, device="cpu"))
    assert (found.name, found.depth, found.layout.grid) == (NAME, 2, (4, 4))
    assert backbones.state_digest(found.module) == backbones.state_digest(again.module)
    assert found.metadata["weights"]["seed"] == again.metadata["weights"]["seed"]
    other = load(Asked(NAME, random=True, arguments=SMALL, seed=1, device="cpu"))
    assert backbones.state_digest(other.module) != backbones.state_digest(found.module)


def test_a_size_is_that_of_the_input() -> None:
    found = load(Asked(NAME, random=True, arguments=SMALL, size=48, device="cpu"))
    assert (found.layout.grid, found.preprocess.size) == ((6, 6), (48, 48))
    assert refused(model=NAME, random=True, arguments=SMALL, size=50) == (
        f"model '{NAME}': an input of 50x50 is not whole patches of 8x8; give multiples of 8 and 8"
    )


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "resnet18"])
def test_what_cannot_be_measured_is_refused_in_the_pipelines_words_before_weights_are_fetched(name: str) -> None:
    with torch.device("meta"), pytest.raises(InputError) as error:
        layout_of(timm.create_model(name, num_classes=0), name)
    assert refused(model=name) == str(error.value)


def test_a_checkpoint_of_ones_own(tmp_path: Path) -> None:
    module = timm.create_model(NAME, reg_tokens=2, num_classes=3, **SMALL)
    torch.save({"model": module.state_dict()}, tmp_path / "mine.pth")
    found = load(
        Asked(str(tmp_path / "mine.pth"), architecture=NAME, arguments={"reg_tokens": 2, **SMALL}, device="cpu")
    )
    assert (found.name, found.layout.registers) == ("mine", 2)
    assert torch.equal(found.module.blocks[1].mlp.fc2.weight, module.blocks[1].mlp.fc2.weight)  # type: ignore[union-attr, index]
    assert set(found.metadata["weights"]) == {"file", "sha256"}
    assert refused(model=str(tmp_path / "mine.pth")).startswith("--architecture: missing for the checkpoint")
    wrong = refused(model=str(tmp_path / "mine.pth"), architecture=NAME, arguments=SMALL)
    assert wrong.startswith(f"{tmp_path / 'mine.pth'}: has 19 position embeddings where the model has 16 patches; ")
    assert wrong.endswith("as in --argument img_size=32, and --size for another one")


def test_a_model_of_a_study_at_its_own_size_and_at_another(made: Path) -> None:
    folder = made / "models" / "planted"
    own, other = (load(Asked(str(folder), size=size, device="cpu")) for size in (None, 48))
    assert (own.name, own.layout.grid, other.layout.grid) == ("planted", (4, 4), (6, 6))
    assert (other.preprocess.size, other.preprocess.resize) == ((48, 48), (48, 48))
    assert own.metadata["planted"] == other.metadata["planted"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            {"model": "vit_smal_patch16_224"},
            "vit_smal_patch16_224: timm has no model 'vit_smal_patch16_224'; did",
        ),
        ({"model": f"{NAME}.nonsense"}, f"{NAME}.nonsense: timm has no weights '{NAME}.nonsense'; known are "),
        (
            {"model": "hf-hub:somebody/model"},
            "hf-hub:somebody/model: of the hub only repositories of timm can be named",
        ),
        ({"model": "gone/mine.pth"}, "gone/mine.pth: no such file or folder; correct the path"),
        ({"model": "./gone"}, "gone: no such file or folder; correct the path"),
        ({"model": NAME, "architecture": NAME}, "--architecture: does not go with a model by name"),
        ({"model": NAME, "arguments": {"nonsense": 1}}, f"{NAME}: '{NAME}' refuses {{'nonsense': 1}}"),
        ({"model": NAME, "device": "mps"}, "--device: 'mps' is not available here; write auto or cpu"),
    ],
)
def test_what_is_wrong_is_said_by_the_model_and_the_option(asked: dict[str, object], said: str) -> None:
    assert refused(**asked).startswith(said)


@pytest.mark.slow
def test_a_model_of_openclip_wants_a_tag_for_its_weights() -> None:
    assert refused(model="ViT-B-32").startswith("--pretrained: missing for OpenCLIP's ViT-B-32; its weights are openai")
    assert refused(model="ViT-B-32", pretrained="nonsense").startswith(
        "ViT-B-32: unknown tag 'nonsense'; known are openai"
    )
    assert refused(model="ViT-B-32", pretrained="openai", random=True).startswith(
        "--pretrained: does not go with random weights"
    )
    assert refused(model="ViT-B-32", random=True, arguments={"a": 1}).startswith(
        "--argument: does not go with a model of OpenCLIP"
    )


def test_options_that_do_not_go_with_a_model_of_a_study(made: Path) -> None:
    folder = str(made / "models" / "plain")
    assert refused(model=folder, random=True).startswith("--weights random: does not go with a model of a study")
    assert refused(model=folder, architecture=NAME).startswith("--architecture: does not go with a model of a study")
    assert refused(model=str(made)).startswith(f"{made}: a folder without model.json; expected one of results/<study>")
