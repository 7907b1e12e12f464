"""Published data sets: how many images each has, where it is had and where it goes (``versions.csv`` beside this file).

What was prepared is compared with what was published; where files are missing, the error says which are wanted.
"""

import csv
import logging
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from vit_registers.core.errors import InputError
from vit_registers.params.bases import DatasetSource, Published

log = logging.getLogger(__name__)

FILE = Path(__file__).with_name("versions.csv")


@dataclass(frozen=True)
class Version:
    """A line of versions.csv.

    ``counts``: images by published split; those in ``from_memory`` were not looked up. ``archives``: files with their
    checksums, as they are had from ``source``; ``layout``: what has to be in the folder once they are unpacked.
    """

    name: str
    counts: dict[str, int]
    from_memory: frozenset[str]
    archives: str
    licence: str
    layout: str
    source: str

    def wanted(self, folder: str) -> str:
        """Which files are wanted in ``folder``, and where they are had."""
        files = ", ".join(archive.split(" md5 ")[0].split(" sha256 ")[0] for archive in _items(self.archives))
        return f"wanted in {folder}: {self.layout}; to be had (unpack {files}) from {self.source}"


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(";") if item.strip()]


@cache
def versions() -> dict[str, Version]:
    """All lines, by name."""
    with open(FILE, encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    return {line["name"]: _version(line) for line in lines}


def _version(line: Mapping[str, str]) -> Version:
    counts = {}
    for item in _items(line["counts"]):
        split, number = item.rsplit(" ", 1)
        counts[split] = int(number)
    return Version(
        line["name"], counts, frozenset(_items(line["from_memory"])), line["archives"], line["licence"],
        line["layout"], line["source"],
    )  # fmt: skip


def version(name: str) -> Version:
    """The line of a name, or :class:`InputError`."""
    try:
        return versions()[name]
    except KeyError:
        raise InputError(f"no published data set '{name}'; known are {', '.join(versions())}") from None


def differences(published: Published, images: Mapping[str, int]) -> str | None:
    """Where ``images`` by our split are not as many as published, in one line; None where all are.

    A split of which versions.csv has no number is not compared.
    """
    known = version(published.name)
    odd = []
    for split, ours in published.splits.items():
        found, expected = sum(images.get(each, 0) for each in ours), known.counts.get(split)
        if expected is not None and found != expected:
            memory = " (a number from memory)" if split in known.from_memory else ""
            odd.append(f"{split} has {found:,} images, published are {expected:,}{memory}")
    return f"differs from {known.name} as published: {'; '.join(odd)}" if odd else None


def compare(name: str, published: Published | None, images: Mapping[str, int]) -> None:
    """Say in one line of the log where the data set ``name`` has not as many images as published."""
    odd = None if published is None else differences(published, images)
    if odd:
        log.warning("data set '%s' %s", name, odd)


class PublishedSource(DatasetSource):
    """A data set of versions.csv, or one that may be: which it is, and what to do where its files are missing."""

    @abstractmethod
    def published(self) -> Published | None:
        """Its name, its folder and its splits as published; None where it is none of them."""

    def where(self) -> str:
        """Which files are wanted, where they are had and where they go."""
        published = self.published()
        return super().where() if published is None else version(published.name).wanted(published.folder)

    def counted(self) -> dict[str, int] | None:
        """As many as were published; where a published split becomes several here, in equal parts of what is known."""
        published = self.published()
        if published is None:
            return None
        counts, found = version(published.name).counts, dict[str, int]()
        for given, ours in sorted(published.splits.items(), key=lambda item: len(item[1])):
            unknown = [split for split in ours if split not in found]
            left = counts.get(given, 0) - sum(found.get(split, 0) for split in ours)
            found |= {split: left // len(unknown) for split in unknown}
        return found

    def missing(self, path: Path, what: str = "file") -> InputError:
        """What is raised where a file or a folder of it is not there."""
        return InputError(f"{path}: no such {what}; {self.where()}")


class FolderOfVersion(PublishedSource):
    """A data set of versions.csv in a folder, ``path``, as unpacked; the files stay where they are."""

    path: str

    def paths(self) -> dict[str, str]:
        """The folder."""
        return {"path": self.path}

    @abstractmethod
    def published(self) -> Published:
        """Its name, its folder and its splits as published."""

    @property
    def licence(self) -> str:
        """As versions.csv has it."""
        return version(self.published().name).licence

    def origin(self) -> dict[str, Any]:
        """What the manifest says of where it is from."""
        return {"root": str(Path(self.path).resolve()), "source": f"{self.published().name} {self.path}",
                "licence": self.licence}  # fmt: skip
