"""Weights in the Hugging Face hub: of which commit, in which file, with which checksum.

Downloads, the cache, ``HF_ENDPOINT`` and ``HF_HUB_OFFLINE`` are huggingface_hub's. It goes on where a connection was
cut, some times over; of a download that ends for good it keeps nothing. Here a file is pinned to one commit and checked
by its content, and what goes wrong is said in one line.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from vit_registers.core.errors import InputError, reason
from vit_registers.core.files import sha256


@dataclass(frozen=True)
class Pin:
    """What is asked for: a branch, tag or commit (None: the hub's default), and the file's SHA-256 (None: any)."""

    revision: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class HubFile:
    """A file of the hub in the cache of this machine, its content checked. ``revision`` is a commit."""

    repository: str
    revision: str
    name: str
    sha256: str
    path: Path

    def __str__(self) -> str:
        """File, repository and commit, as messages name it."""
        return f"'{self.name}' of {self.repository} at {self.revision[:12]}"

    def to_json(self) -> dict[str, Any]:
        """What :func:`recorded` needs to have the same bytes again."""
        hub = {"repository": self.repository, "revision": self.revision, "file": self.name}
        return {"hub": hub, "sha256": self.sha256}


def download(repository: str, names: Sequence[str], pin: Pin, where: str) -> HubFile:
    """The first of ``names`` that ``repository`` has at the revision of ``pin``, from the cache if it is there.

    :class:`InputError`, opened by the key ``where``, if it cannot be had or is not what was asked for. A file that is
    not what the hub itself says is removed from the cache: it would be taken for good ever after.
    """
    api, commit = HfApi(), pin.revision
    try:
        commit = api.resolve_revision(repository, revision=pin.revision).resolved
        name, path = _first(api, repository, names, commit)
    except Exception as error:  # errors of its HTTP client pass through it, and have no root in common with its own
        raise InputError(_in_words(error, repository, names, commit, where)) from None
    found = HubFile(repository, commit, name, sha256(path), path)
    _refuse_damaged(found, where)
    if pin.sha256 not in (None, found.sha256):
        raise InputError(
            f"{where}.sha256: {found}: expected {pin.sha256}, found {found.sha256} ({path}); correct the checksum or "
            "the revision, or remove the file if it was changed there"
        )
    return found


def recorded(weights: Mapping[str, Any], where: str) -> HubFile:
    """The file that :meth:`HubFile.to_json` recorded at first use, with the same bytes."""
    hub = weights["hub"]
    return download(hub["repository"], [hub["file"]], Pin(hub["revision"], weights["sha256"]), where)


def _first(api: HfApi, repository: str, names: Sequence[str], commit: str) -> tuple[str, Path]:
    """The first of ``names`` that is there. Without the hub only the cache can tell, for all names alike."""
    failed: EntryNotFoundError | None = None
    for name in names:
        unreachable = isinstance(failed, LocalEntryNotFoundError)
        try:
            return name, Path(api.hf_hub_download(repository, name, revision=commit, local_files_only=unreachable))
        except EntryNotFoundError as error:
            failed = failed if unreachable else error
    raise failed or ValueError("no file was asked for")


def _in_words(error: Exception, repository: str, names: Sequence[str], revision: str | None, where: str) -> str:
    at = f"{constants.ENDPOINT}/{repository}"
    match error:
        case GatedRepoError():
            return f"{where}: {repository} is gated; accept its terms at {at} and log in with `hf auth login`"
        case RepositoryNotFoundError():
            return (
                f"{where}: {constants.ENDPOINT} has no repository {repository}, or shows it to others alone; take "
                "another model, or log in with `hf auth login`"
            )
        case RevisionNotFoundError():
            return f"{where}.revision: {repository} has no '{revision}'; give a branch, a tag or a whole commit of it"
        case RemoteEntryNotFoundError():
            return f"{where}: {repository} has no {' and no '.join(names)} at {revision}; give another revision"
    why = reason(error.__cause__ if isinstance(error.__cause__, Exception) else error)
    return f"{where}: its weights cannot be had from {at} ({why}); connect, or fill the cache"


def _refuse_damaged(found: HubFile, where: str) -> None:
    """Compare a file with the name of its blob in the cache: the hub's SHA-256 of every large file."""
    if not found.path.is_symlink():
        return
    blob = found.path.parent / os.readlink(found.path)
    if re.fullmatch("[0-9a-f]{64}", blob.name) and blob.name != found.sha256:
        found.path.unlink()
        blob.unlink(missing_ok=True)
        raise InputError(
            f"{where}: {found}: expected the hub's sha256 {blob.name}, found {found.sha256}; the damaged file was "
            "removed from the cache, run again"
        )
