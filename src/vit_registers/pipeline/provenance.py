"""Snakemake's own records of a study, kept with its results, so that who pulls these has nothing to redo.

Snakemake keeps a record of every file that it made (with the params and checksums that it was made from) below
``.snakemake/metadata``, for all studies of a folder together. DVC versions those of one study as a folder of its
results. After a checkout or a pull they are put back, once: a later run's own records are not overwritten.
"""

import base64
import shutil
from pathlib import Path

from vit_registers.core.doors import door, read_json
from vit_registers.core.files import digest, sha256, write_json
from vit_registers.pipeline.paths import Paths

RECORDS = Path(".snakemake/metadata")


def _of(at: Paths) -> list[Path]:
    """Records of the files of a study."""
    if not RECORDS.is_dir():
        return []
    own = (f"{at.results}/", f"{at.data}/")
    return sorted(path for path in RECORDS.rglob("*") if path.is_file() and _made(path).startswith(own))


def _made(record: Path) -> str:
    """The file that a record is about: its name, encoded, is that of the record (cut into folders where it is long)."""
    encoded = "".join(part.removeprefix("@") for part in record.relative_to(RECORDS).parts)
    try:
        return base64.urlsafe_b64decode(encoded.encode()).decode()
    except ValueError:
        return ""


def _stamp(at: Paths) -> Path:
    return Path(".snakemake") / f"{at.study}.provenance.json"


def record(at: Paths) -> None:
    """Copy the records of a study to its results."""
    kept = at.results / "provenance"
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    found = {str(path.relative_to(RECORDS)): sha256(path) for path in _of(at)}
    for name in found:
        (kept / "records" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(RECORDS / name, kept / "records" / name)
    content = {"study": at.study, "id": digest(found), "records": found}
    write_json(kept / "provenance.json", content)
    write_json(_stamp(at), {"id": content["id"]})


def restore(at: Paths) -> None:
    """Put the records of a study back where its results were checked out or pulled since the last run."""
    kept = at.results / "provenance" / "provenance.json"
    if not kept.is_file():
        return
    content = read_json(kept, "id", "records", damaged=f"delete {kept.parent} to do without")
    if _stamp(at).is_file() and read_json(_stamp(at), "id")["id"] == content["id"]:
        return
    for path in _of(at):
        path.unlink()
    for name in content["records"]:
        with door(kept.parent / "records" / name, "a record", f"delete {kept.parent} to do without") as record:
            if ".." in Path(name).parts or Path(name).is_absolute():
                raise ValueError("it leaves its folder")
            (RECORDS / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(record, RECORDS / name)
    write_json(_stamp(at), {"id": content["id"]})


def lost(at: Paths) -> bool:
    """Whether results are there, and no record of what they were made from: nothing tells which are still valid."""
    return any(at.results.glob("*/*")) and not _of(at)
