"""The list of published data sets: whole, and compared with what was prepared."""

import csv

import pytest
from pydantic import TypeAdapter

from vit_registers.core.errors import InputError
from vit_registers.data.published.versions import FILE, differences, version, versions
from vit_registers.params.bases import DatasetSource, Published
from vit_registers.params.kinds import kinds

KINDS = kinds("vit_registers.data.sources", DatasetSource)


def lines():
    with open(FILE, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_line_is_whole_and_its_kind_is_there():
    assert len(versions()) == len(lines())
    for line in lines():
        known = version(line["name"])
        assert line["kind"] in KINDS
        assert known.counts
        assert all(number > 0 for number in known.counts.values())
        assert known.from_memory <= set(known.counts)
        assert all((known.licence, known.layout, known.archives))
        assert "http" in known.source
        for archive in known.archives.split("; "):
            name, _, checksum = archive.partition(" md5 ") if " md5 " in archive else archive.partition(" sha256 ")
            assert name
            assert len(checksum) in (0, 32, 64)
            assert set(checksum) <= set("0123456789abcdef")


def given(kind, **fields):
    return TypeAdapter(KINDS[kind]).validate_python({"kind": kind, **fields})


@pytest.mark.parametrize(
    "source",
    [
        given("voc", path="VOCdevkit/VOC2007"),
        given("voc", path="VOCdevkit/VOC2012", train="train", test="val"),
        given("coco", images="coco/train2014", annotations="a.json", list="coco/coco_20k_filenames.txt"),
        given("folder", path="imagenet", version="imagenet"),
        given("folder", path="imagenette2", version="imagenette"),
        given("cifar10"), given("cifar100"),
        *(given(kind, path="x") for kind in ("caltech101", "flowers102", "aircraft", "ade20k", "nyu", "spair", "aptos",
                                             "pacemaker", "orthonet", "inaturalist")),
        given("inaturalist", path="x", year=2021), given("inaturalist", path="x", year=2021, mini=True),
    ],
    ids=str,
)  # fmt: skip
def test_what_a_kind_is_published_as_is_listed_with_these_splits(source):
    published = source.published()
    assert set(published.splits) <= set(version(published.name).counts)
    assert source.where().startswith(f"wanted in {published.folder}: ")


def test_a_folder_of_its_own_and_a_part_of_cifar_are_not_compared():
    assert given("folder", path="photos").published() is None
    assert given("voc", path="mine").published() is None
    assert given("coco", images="i", annotations="a", list="mine.txt").published() is None
    assert given("folder", path="photos").where() == "correct it or mount the disk"
    assert given("cifar10", train=100).published().splits == {"test": ("test",)}
    with pytest.raises(InputError, match=r"no published data set 'imagenet2'; known are voc2007, "):
        given("folder", path="photos", version="imagenet2").where()


def test_differences_name_the_splits_that_differ_in_one_line():
    splits = {"train": ("train",), "val": ("val",), "test": ("test",)}
    assert differences(Published("flowers102", "x", splits), {"train": 1020, "val": 1020, "test": 6149}) is None
    said = differences(Published("flowers102", "x", splits), {"train": 1019, "test": 6149})
    assert said == (
        "differs from flowers102 as published: train has 1,019 images, published are 1,020; val has 0 images, "
        "published are 1,020"
    )
    parts = Published("pacemaker", "x", {"Train": ("train", "val"), "Test": ("test",)})
    assert differences(parts, {"train": 1161, "val": 290, "test": 225}) is None
    assert "a number from memory" in str(differences(Published("aptos", "x", splits), {"train": 1}))
    assert differences(Published("nyu", "x", {"other": ("train",)}), {"train": 3}) is None
