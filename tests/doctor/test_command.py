"""The whole command: what it prints and writes, and that nothing is written where it fails."""

import json
import logging
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vit_registers import cli
from vit_registers.doctor import command
from vit_registers.doctor.examine import Settings
from vit_registers.doctor.model import Asked
from vit_registers.registers import neuron_file


def called(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Exit status of ``vit-registers doctor``."""
    monkeypatch.setattr(sys, "argv", ["vit-registers", "doctor", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


@pytest.fixture
def images(made: Path, tmp_path: Path) -> Path:
    """The fourteen images with two that are broken."""
    root = tmp_path / "photos"
    shutil.copytree(made / "images", root)
    (root / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    (root / "empty.png").write_bytes(b"")
    return root


def test_a_verdict_a_json_a_page_and_the_neurons(
    made: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    out, save = tmp_path / "out", tmp_path / "registers.json"
    caplog.set_level(logging.INFO)
    options = ["--out", out, "--save", save, "--device", "cpu", "--threads", 1]
    assert called(monkeypatch, made / "models" / "planted", images, *options) == 0
    printed = capsys.readouterr().out
    said = json.loads((out / "planted.json").read_text(), parse_constant=pytest.fail)
    assert printed == said["verdict"] + "\n"
    assert printed.startswith("planted has outlier tokens at 32x32 pixels: ")
    assert sorted(path.name for path in out.iterdir()) == ["planted.html", "planted.json"]
    named = [record.message for record in caplog.records if record.message.startswith("left out: ")]
    assert [Path(line.removeprefix("left out: ").partition(": ")[0]).name for line in named] == [
        "broken.jpg",
        "empty.png",
    ]
    assert [f"left out: {line}" for line in said["images"]["left_out"]] == named
    assert (said["images"]["examined"], said["images"]["found"]) == (14, 16)
    assert sorted(neuron_file.load(save).places) == [(1, 3), (1, 40)]
    assert [each["name"] for each in said["effects"]][:2] == ["Median patch norm", "99th percentile of patch norms"]


def test_the_same_call_writes_the_same_bytes(made: Path, tmp_path: Path) -> None:
    for name in ("once", "twice"):
        asked = Asked(str(made / "models" / "planted"), device="cpu")
        command.run(asked, made / "images", Settings(), tmp_path / name, tmp_path / name / "r.json", cores=1)
    for name in ("planted.json", "planted.html", "r.json"):
        assert (tmp_path / "once" / name).read_bytes() == (tmp_path / "twice" / name).read_bytes()


def test_without_register_neurons_no_file_is_written_and_that_is_said(
    made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save = tmp_path / "registers.json"
    asked = Asked(str(made / "models" / "plain"), device="cpu")
    written = command.run(asked, made / "images", Settings(), tmp_path / "out", save, cores=1)
    assert "plain has no outlier tokens at 32x32 pixels: the largest patch norm is 2." in written.verdict
    assert [file.name for file in written.files] == ["plain.json", "plain.html"]
    assert not save.exists()
    assert f"{save} is not written: there are no register neurons" in caplog.messages


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["swin_tiny_patch4_window7_224"],
            "model 'swin_tiny_patch4_window7_224' is a SwinTransformer; expected timm's",
        ),
        (["resnet18"], "model 'resnet18' is a ResNet; expected timm's VisionTransformer or Eva"),
        (["vit_tiny_patch16_224", "--architecture", "x"], "--architecture: does not go with a model by name"),
        (["vit_tiny_patch16_224", "--argument", "reg_tokens"], "--argument: expected <key>=<value>, as reg_tokens=4"),
        (["gone.pth"], "gone.pth: no such file or folder; correct the path"),
    ],
)
def test_what_cannot_be_done_is_one_line_status_2_and_no_file(
    arguments: list[str], said: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert called(monkeypatch, arguments[0], made / "images", *arguments[1:]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"error: {said}")
    assert errors.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_only_broken_images_are_one_line_and_status_2(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_text("no image")
    assert called(monkeypatch, made / "models" / "plain", tmp_path / "photos") == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'photos'}: none of 1 image can be read: ")
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


@pytest.mark.parametrize(
    "options",
    [
        ["--images", "0"],
        ["--neurons", "101"],
        ["--tokens", "0"],
        ["--weights", "none"],
        ["--device", "tpu"],
        ["--nonsense"],
    ],
)
def test_options_out_of_range_are_refused(
    options: list[str], made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert called(monkeypatch, made / "models" / "plain", made / "images", *options) == 2
    assert options[0] in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_photographs_of_libraries_serve_where_no_images_are_given(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, made / "models" / "plain", "--out", tmp_path, "--device", "cpu") == 0
    said = json.loads((tmp_path / "plain.json").read_text())
    assert said["images"]["source"] == "example photographs"
    assert len(said["images"]["credits"]) == said["images"]["examined"] >= 2
    assert "example photographs" in (tmp_path / "plain.html").read_text()


def test_a_random_vit_has_no_outliers(made: Path, tmp_path: Path) -> None:
    small = {"img_size": 64, "patch_size": 8, "embed_dim": 64, "depth": 4, "num_heads": 2}
    asked = Asked("vit_tiny_patch16_224", random=True, arguments=small, device="cpu")
    written = command.run(asked, made / "images", Settings(), tmp_path, cores=1)
    assert written.verdict.startswith("vit_tiny_patch16_224 has no outlier tokens at 64x64 pixels: ")
    said = json.loads((tmp_path / "vit_tiny_patch16_224.json").read_text())
    assert "The weights are random: this says nothing about a trained model." in said["cautions"]
    assert said["model"]["random"] is True


@pytest.mark.parametrize("name", ["a/b", "<x>", "..", "vit.tag"])
def test_a_file_is_called_as_its_model_as_far_as_files_can_be(name: str) -> None:
    found = command._file_name(name)
    assert found
    assert Path(found).name == found
    assert found == (name if name == "vit.tag" else found)


@pytest.mark.long
@pytest.mark.parametrize("size", [224, 518])
def test_a_random_dinov2_small(size: int, tmp_path: Path) -> None:
    """Fifty images; -rA shows what it took."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(50):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        coarse.resize((640, 480), Image.Resampling.BICUBIC).save(tmp_path / "photos" / f"{i:02d}.jpg")
    wall, cpu = time.perf_counter(), time.process_time()
    asked = Asked("vit_small_patch14_dinov2", random=True, size=size, device="cpu")
    written = command.run(asked, tmp_path / "photos", Settings(), tmp_path / "out")
    took = f"{time.perf_counter() - wall:.1f} s, {time.process_time() - cpu:.1f} s of all cores together"
    print(f"{size} pixels: {took}; {written.verdict}")
    assert written.verdict.startswith(f"vit_small_patch14_dinov2 has no outlier tokens at {size}x{size} pixels: ")
