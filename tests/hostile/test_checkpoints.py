"""Checkpoints that are none, that mean harm, or that are damaged: one line with file and key, nothing kept."""

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

NAME = "deit3_small_patch16_224"
ARGUMENTS = {"img_size": 64, "embed_dim": 64, "depth": 2, "num_heads": 2}
MODEL = {"kind": "file", "path": "w.pth", "name": NAME, "arguments": ARGUMENTS}


class Harm:
    def __reduce__(self):
        return os.system, ("touch ran",)


@pytest.fixture(scope="module")
def state() -> dict[str, Any]:
    torch.manual_seed(0)
    return dict(timm.create_model(NAME, num_classes=0, **ARGUMENTS).state_dict())


@pytest.fixture
def fetch(command, base, tmp_path):
    """Fetch a model of some params, called ``mine``."""

    def called(**source: Any):
        (tmp_path / "mine.json").write_text(json.dumps({"models": {"mine": {**MODEL, **source}}}))
        return command("fetch", "--model", "mine", "--params", str(base), "--params", "mine.json")

    return called


def saved(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path, Any], Any]:
    """A checkpoint of what is made of the right weights."""

    def save(path: Path, state: Any) -> None:
        torch.save(change(dict(state)), path)

    return save


def raw(content: bytes) -> Callable[[Path, Any], Any]:
    return lambda path, state: path.write_bytes(content)


def changed(key: str, value: Callable[[torch.Tensor], Any]) -> Callable[[Path, Any], Any]:
    return saved(lambda state: {**state, key: value(state[key])})


def cut(path: Path, state: Any) -> None:
    torch.save(dict(state), path)
    path.write_bytes(path.read_bytes()[:-5000])


def zipped(path: Path, state: Any) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../ran", "x")
        archive.writestr("archive/data.pkl", pickle.dumps(Harm()))


FILES: dict[str, tuple[Callable[[Path, Any], Any], str]] = {
    "A9-text": (raw(b"these are no weights\n"), "cannot be read as weights"),
    "A9-empty": (raw(b""), "cannot be read as weights"),
    "A9-list": (saved(lambda state: [1, 2]), "holds no tensors by name"),
    "A9-teacher-list": (saved(lambda state: {"teacher": [1, 2]}), "holds no tensors by name"),
    "A9-model-list": (saved(lambda state: {"model": [1]}), "holds no tensors by name|cannot be read"),
    "A9-state-dict-number": (saved(lambda state: {"state_dict": 5}), "holds no tensors by name|cannot be read"),
    "A9-tensor": (saved(lambda state: torch.zeros(3)), "holds no tensors by name|cannot be read"),
    "A9-number": (saved(lambda state: 5), "holds no tensors by name|cannot be read"),
    "A9-keys-numbers": (saved(lambda state: {1: torch.zeros(3)}), "holds no tensors by name|cannot be read"),
    "A9-missing": (lambda path, state: None, "no such path|no such file"),
    "A9-folder": (lambda path, state: path.mkdir(), "is no file"),
    "A9-pipe": (lambda path, state: os.mkfifo(path), "is no file"),
    "A9-zeros": (raw(bytes(100_000)), "cannot be read as weights"),
    "A9-binary": (raw(bytes(range(256)) * 50), "cannot be read as weights"),
    "A9-zip": (zipped, "cannot be read as weights"),
    "code": (raw(pickle.dumps(Harm())), "no code of a file is run|cannot be read as weights"),
    "code-old-pickle": (raw(pickle.dumps({"a": Harm()}, protocol=2)), "cannot be read as weights"),
    "code-of-torch": (saved(lambda state: {**state, "x": Harm()}), "neither safetensors nor a pickle of tensors alone"),
    "cut": (cut, "cannot be read as weights"),
    "key-missing": (saved(lambda state: {k: v for k, v in state.items() if k != "norm.bias"}), "missing 'norm.bias'"),
    "key-unknown": (saved(lambda state: {**state, "more": torch.zeros(1)}), "unexpected 'more'"),
    "shape": (changed("norm.bias", lambda t: t[:-1]), "'norm.bias' is .* where"),
    "shape-none": (changed("norm.bias", lambda t: t[0]), "'norm.bias' is .* where"),
    "B3-nan": (changed("norm.bias", lambda t: t * float("nan")), "'norm.bias' holds NaN or infinity"),
    "B3-infinity": (changed("norm.weight", lambda t: t / 0.0), "'norm.weight' holds NaN or infinity"),
    "integers": (changed("norm.weight", lambda t: t.long()), "'norm.weight' is torch.int64 where torch.float32"),
    "grid": (changed("pos_embed", lambda t: torch.cat([t, t], 1)), "position embeddings|is .* where"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "said"), FILES.values(), ids=FILES)
def test_a_file_that_is_no_checkpoint(fetch, state, tmp_path, make, said):
    make(tmp_path / "w.pth", state)
    fetch().refused(r"w\.pth", said)
    assert not list(tmp_path.rglob("ran"))


def test_safetensors_that_lie(fetch, state, tmp_path):
    save_file({"a": torch.zeros(4)}, tmp_path / "w.safetensors")
    whole = (tmp_path / "w.safetensors").read_bytes()
    for damaged in (whole[:-4], b"\xff" * 8 + whole[8:], whole[:8] + b"{" * len(whole), whole[:4]):
        (tmp_path / "w.safetensors").write_bytes(damaged)
        fetch(path="w.safetensors").refused(r"w\.safetensors: cannot be read as weights")


def test_the_right_file_is_taken(fetch, state, tmp_path):
    torch.save(state, tmp_path / "w.pth")
    assert fetch().status == 0
    fetch(sha256="0" * 64).refused(r"models\.mine\.sha256: w\.pth: expected 0+, found")


VALUES = {
    "name": ({"name": "vit_smal_patch16_224"}, r"models\.mine\.name: timm has no model .*did you mean"),
    "name-empty": ({"name": ""}, r"models\.mine\.name"),
    "name-no-vit": ({"name": "resnet18", "arguments": {}}, "resnet18"),
    "A4-width-0": ({"arguments": {"embed_dim": 0}}, r"models\.mine\.arguments"),
    "A4-heads": ({"arguments": {"embed_dim": 64, "num_heads": 3}}, r"models\.mine\.arguments"),
    "A4-channels": ({"arguments": {"in_chans": 1}}, r"arguments\.in_chans: images have three colours"),
    "A4-image": ({"arguments": {"img_size": 10_000_000}}, r"arguments\.img_size: expected at most"),
    "E15-depth": ({"arguments": {"depth": 100_000}}, r"arguments\.depth: expected at most 1000"),
    "depth-text": ({"arguments": {"depth": "two"}}, r"models\.mine\.arguments"),
    "unknown": ({"arguments": {"no": 1}}, r"models\.mine\.arguments: .*refuses"),
    "nested": ({"arguments": {"img_size": {"a": 1}}}, r"models\.mine\.arguments"),
    "patch-0": ({"arguments": {"patch_size": 0}}, r"models\.mine\.arguments"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "said"), VALUES.values(), ids=VALUES)
def test_an_architecture_that_cannot_be(fetch, tmp_path, change, said):
    (tmp_path / "w.pth").write_bytes(b"")
    fetch(**change).refused(said)
