"""CIFAR from made-up archives in the form of the published ones: as many files, the same keys, smaller."""

import hashlib
import io
import pickle
import tarfile
import urllib.error
import urllib.request
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

from helpers.layouts.classification import CIFAR, cifar
from vit_registers.core.errors import InputError
from vit_registers.data import prepare
from vit_registers.data.manifest import Manifest
from vit_registers.data.sources.classification.cifar import Cifar
from vit_registers.pipeline.configs import PrepareConfig


def run(root, out, kind="cifar10", seed=0, **changes):
    source = Cifar(kind=kind, path=str(root), **changes)
    prepare.run(PrepareConfig(seed=seed, name="small", source=source), out)
    return Manifest.load(out)


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def made_up(root, kind, monkeypatch, of_each=8):
    """Write an archive of ``of_each`` training and two test images of each class, and its checksums to torchvision."""
    archive, folder = CIFAR[kind][0], cifar(root, kind, of_each)
    for name in ("train_list", "test_list"):
        monkeypatch.setattr(archive, name, [[file, md5(folder / file)] for file, _ in getattr(archive, name)])
    monkeypatch.setitem(archive.meta, "md5", md5(folder / archive.meta["filename"]))
    return root


def as_published(root, kind, split):
    """Pixels and label of every image, as its authors describe it: 1,024 red bytes by rows, then green, then blue."""
    archive, key, _ = CIFAR[kind]
    found = []
    for file, _ in archive.train_list if split == "train" else archive.test_list:
        entry = pickle.loads((root / archive.base_folder / file).read_bytes())
        for values, label in zip(entry["data"], entry[key], strict=True):
            pixels = np.zeros((32, 32, 3), np.uint8)
            for channel in range(3):
                for y in range(32):
                    pixels[y, :, channel] = values[1024 * channel + 32 * y :][:32]
            found.append((pixels, label))
    return found


@pytest.fixture
def root(tmp_path, monkeypatch):
    return made_up(tmp_path / "raw", "cifar10", monkeypatch)


@pytest.fixture
def no_network(monkeypatch):
    """As Python says it where there is none."""

    def fail(*_, **__):
        raise urllib.error.URLError("[Errno -2] Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", fail)


@pytest.mark.parametrize("kind", CIFAR)
def test_every_image_has_its_pixels_its_label_and_its_split(tmp_path, monkeypatch, kind):
    made_up(tmp_path / "raw", kind, monkeypatch, of_each=2)
    made = run(tmp_path / "raw", tmp_path / "out", kind)
    assert made.classes == [f"thing {i}" for i in range(CIFAR[kind][2])]
    assert made.root == (tmp_path / "out").resolve()
    for split in ("train", "test"):
        rows, expected = made.rows(split), as_published(tmp_path / "raw", kind, split)
        assert len(rows) == len(expected)
        for number, (row, (pixels, label)) in enumerate(zip(rows, expected, strict=True)):
            assert made.table["image_id"].iloc[row] == f"{split}-{number:05d}"
            assert made.table["label"].iloc[row] == label
            with Image.open(made.file(row)) as picture:
                assert (picture.format, picture.mode) == ("PNG", "RGB")
                np.testing.assert_array_equal(np.asarray(picture), pixels)
    assert (made.table[["width", "height"]] == 32).all(axis=None)
    assert made.table[["boxes", "mask", "depth", "semantic", "correspondence"]].isna().all(axis=None)


def test_a_subset_is_stratified_the_same_again_and_part_of_a_larger_one(root, tmp_path):
    whole = run(root, tmp_path / "whole")
    small = run(root, tmp_path / "small", train=20, test=10)
    assert set(small.table.groupby(["split", "label"]).size()["train"]) == {2}
    assert set(small.table.groupby(["split", "label"]).size()["test"]) == {1}
    uneven = run(root, tmp_path / "uneven", train=25, test=10).table
    assert Counter(uneven["label"][uneven["split"] == "train"].value_counts()) == {3: 5, 2: 5}
    assert set(small.table["image_id"]) < set(uneven["image_id"])
    labels, files = whole.table.set_index("image_id")["label"], tmp_path / "whole"
    for image_id, path, label in zip(*(small.table[c] for c in ("image_id", "path", "label")), strict=True):
        assert labels[image_id] == label
        assert (tmp_path / "small" / path).read_bytes() == (files / path).read_bytes()
    assert len(list((tmp_path / "small").rglob("*.png"))) == 30
    assert run(root, tmp_path / "again", train=20, test=10).sha256 == small.sha256
    assert run(root, tmp_path / "other", seed=1, train=20, test=10).sha256 != small.sha256


def test_what_is_missing_is_refused_unless_it_may_be_fetched(root, tmp_path):
    expected = (
        r"raw/cifar-100-python/train: no such file; .*cifar-100-python\.tar\.gz .*datasets\.small\.download to true"
    )
    with pytest.raises(InputError, match=expected) as refused:
        run(root, tmp_path / "out", "cifar100")
    assert "\n" not in str(refused.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["raw"]


@pytest.mark.parametrize("file", ["data_batch_3", "test_batch", "batches.meta"])
def test_a_damaged_file_is_refused_by_its_name(root, tmp_path, file):
    path = root / "cifar-10-batches-py" / file
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(
        InputError, match=rf"{file}: not the published file \(its checksum differs\); unpack"
    ) as refused:
        run(root, tmp_path / "out")
    assert "\n" not in str(refused.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["raw"]


@pytest.mark.usefixtures("no_network")
def test_without_network_a_download_is_refused_in_one_line_and_what_is_there_is_enough(root, tmp_path):
    assert len(run(root, tmp_path / "out", download=True).table) == 100
    with pytest.raises(
        InputError, match=r"cifar-10-python\.tar\.gz cannot be fetched \(.*not known.*connect"
    ) as refused:
        run(tmp_path / "empty", tmp_path / "none", download=True)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "none").exists()


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("file", ["data_batch_3", "batches.meta"])
def test_a_download_restores_a_damaged_file_from_the_archive_that_is_there(root, tmp_path, monkeypatch, file):
    archive = root / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(root / "cifar-10-batches-py", "cifar-10-batches-py")
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(archive))
    (root / "cifar-10-batches-py" / file).write_bytes(b"half of it")
    assert len(run(root, tmp_path / "out", download=True).table) == 100


def test_only_the_published_archive_is_unpacked_and_a_wrong_one_is_fetched_again(root, tmp_path, monkeypatch):
    packed = tmp_path / "packed.tar.gz"
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(root / "cifar-10-batches-py", "cifar-10-batches-py")
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(packed))
    served = [packed.read_bytes()[:-1]]

    class Response(io.BytesIO):
        url, length = None, None

    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: Response(served[0]))
    with pytest.raises(InputError, match=r"cifar-10-python\.tar\.gz: fetched, but not the published archive"):
        run(tmp_path / "empty", tmp_path / "out", download=True)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "empty" / "cifar-10-batches-py").exists()
    served[0] = packed.read_bytes()
    assert run(tmp_path / "empty", tmp_path / "out", download=True).sha256 == run(root, tmp_path / "other").sha256
