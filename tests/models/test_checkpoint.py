"""Checkpoints from files: every wrapping that occurs gives the same model, and wrong ones are refused in one line."""

import pickle

import pytest
import timm
import torch
from safetensors.torch import save_file

from vit_registers.core.errors import InputError
from vit_registers.models import backbone, fetch
from vit_registers.models.sources.checkpoint import FileModel
from vit_registers.pipeline.configs import FetchConfig

ARGUMENTS = {"depth": 2, "img_size": 64, "reg_tokens": 2}
NAME = "deit3_small_patch16_224"


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(3)
    return timm.create_model(NAME, num_classes=10, **ARGUMENTS).eval()


def fetched(path, out, **changes):
    source = FileModel(**{"kind": "file", "path": str(path), "name": NAME, "arguments": ARGUMENTS, **changes})
    fetch.run(FetchConfig(seed=0, name="mine", source=source), out)
    return backbone.load(out)


WRAPPED = {
    "bare": lambda state: state,
    "timm": lambda state: {"epoch": 3, "state_dict": state},
    "model": lambda state: {"model": state},
    "parallel": lambda state: {"model": {f"module.{key}": tensor for key, tensor in state.items()}},
    "teacher": lambda state: {"teacher": {f"backbone.{key}": tensor for key, tensor in state.items()}, "step": 5},
    "moving average": lambda state: {
        "model": {key: torch.zeros_like(tensor) for key, tensor in state.items()},
        "model_ema": state,
    },
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_every_usual_wrapping_gives_the_model(module, tmp_path, wrap):
    torch.save(wrap(module.state_dict()), tmp_path / "w.pth")
    loaded = fetched(tmp_path / "w.pth", tmp_path / "out")
    pixels = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(loaded.module.forward_features(pixels), module.forward_features(pixels))
    assert (loaded.layout.cls, loaded.layout.registers, loaded.layout.grid) == (1, 2, (4, 4))
    assert loaded.metadata["source"] == f"w.pth ({NAME})"
    (tmp_path / "w.pth").unlink()
    assert backbone.load(tmp_path / "out").layout == loaded.layout  # the file is not needed again


def test_safetensors_at_another_size_with_its_own_normalisation(module, tmp_path):
    save_file(module.state_dict(), tmp_path / "w.safetensors")
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    loaded = fetched(
        tmp_path / "w.safetensors",
        tmp_path / "out",
        image_size=(48, 80),
        mean=mean,
        std=std,
        crop_pct=0.8,
        interpolation="bilinear",
    )
    assert loaded.layout.grid == (3, 5)
    found = loaded.preprocess
    assert (found.size, found.resize, found.mean, found.std) == ((48, 80), (60, 100), mean, std)
    assert found.interpolation == "bilinear"


class Unpickled:
    def __reduce__(self):
        return (print, ("code of a file that was to be read as data",))


def broken(kind, module, path):
    state = module.state_dict()
    if kind == "code":
        path.write_bytes(pickle.dumps({"model": Unpickled()}, protocol=2))  # as torch.save does
    elif kind == "text":
        path.write_text("not weights at all")
    elif kind == "list":
        torch.save([1, 2], path)
    elif kind == "missing":
        torch.save({key: tensor for key, tensor in state.items() if key != "blocks.1.mlp.fc2.bias"}, path)
    elif kind == "unknown":
        torch.save({**state, "adapter.weight": torch.zeros(3)}, path)
    elif kind == "other":
        torch.save(timm.create_model(NAME, num_classes=0, **{**ARGUMENTS, "embed_dim": 192}).state_dict(), path)
    else:
        torch.save(timm.create_model(NAME, num_classes=0, **{**ARGUMENTS, "img_size": 96}).state_dict(), path)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("code", "cannot be read as weights"),
        ("text", "cannot be read as weights"),
        ("list", "holds no tensors by name; expected a state dict"),
        ("missing", r"not the weights of 'deit3_small_patch16_224': missing 'blocks\.1\.mlp\.fc2\.bias'; correct name"),
        ("unknown", r"unexpected 'adapter\.weight'"),
        ("other", r"'\S+' is \[.*\] where \[.*\] was expected"),
        ("grid", r"has 36 position embeddings where the model has 16 patches; .*\{img_size: 96\}"),
    ],
)
def test_what_is_not_this_model_is_refused_in_one_line_with_its_file(module, tmp_path, capsys, kind, expected):
    broken(kind, module, tmp_path / "w.pth")
    with pytest.raises(InputError, match=expected) as refused:
        fetched(tmp_path / "w.pth", tmp_path / "out")
    assert str(refused.value).startswith(f"models.mine.path: {tmp_path / 'w.pth'}: ")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()
    assert "code of a file" not in capsys.readouterr().out


def test_arguments_that_the_architecture_does_not_take_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"models\.mine\.arguments: '.*' refuses \{'registers': 4\}"):
        fetched(tmp_path / "w.pth", tmp_path / "out", arguments={"registers": 4})
